"""One use of every operation that native code knows, as functions of four matrices [3, 4]."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Case = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

# a and b have either sign, u lies in (0.2, 0.9), v in (1.2, 2.5)
INDEX = torch.tensor([2, 0, 2])
GRID = torch.tensor([[0, 1, 3, 2], [2, 2, 0, 1]])
EDGES = torch.arange(40).reshape(2, 20) ** 2 % 7 % 3  # from node to node of a graph
SPARSE = torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 0.5]], dtype=torch.float64).to_sparse()
with warnings.catch_warnings():  # torch tells that rows of sparse numbers are new
    warnings.simplefilter("ignore")
    ROWS = SPARSE.to_sparse_csr()
MASK = torch.tensor([[True, False, True, True]]).expand(3, 4)

UNARY: tuple[str, ...] = (
    "neg",
    "exp",
    "expm1",
    "sin",
    "cos",
    "tan",
    "sinh",
    "cosh",
    "tanh",
    "atan",
    "asinh",
    "erf",
    "sigmoid",
    "abs",
)
UNARY += ("sign", "floor", "ceil", "trunc", "round", "square", "exp2", "frac", "relu", "sgn")
INSIDE = ("sqrt", "log", "log1p", "log2", "log10", "asin", "acos", "atanh", "reciprocal", "rsqrt")
BINARY = ("add", "sub", "mul", "div", "maximum", "minimum", "fmax", "fmin", "atan2", "hypot")

POINTWISE: dict[str, Case] = {
    name: (lambda a, b, u, v, name=name: getattr(torch, name)(a))  # type: ignore[misc]
    for name in UNARY
}
POINTWISE |= {
    name: (lambda a, b, u, v, name=name: getattr(torch, name)(u))  # type: ignore[misc]
    for name in INSIDE
}
POINTWISE |= {
    name: (lambda a, b, u, v, name=name: getattr(torch, name)(a, b))  # type: ignore[misc]
    for name in BINARY
}
POINTWISE |= {
    "acosh": lambda a, b, u, v: torch.acosh(v),
    "scalars": lambda a, b, u, v: 2 * a + 3 - (1 - b) / 4 + 5 / v,
    "alpha": lambda a, b, u, v: torch.add(a, b, alpha=0.3) + torch.sub(a, b, alpha=2) + torch.rsub(a, b, alpha=3),
    "div floor": lambda a, b, u, v: torch.div(a, v, rounding_mode="floor") + torch.div(a, v, rounding_mode="trunc") * a,
    "remainder": lambda a, b, u, v: torch.remainder(a, v) + torch.fmod(a, v) + a % 0.7,
    "pow": lambda a, b, u, v: u**b + v**2.5 + v**-1.5 + a**3 + a**-2 + 2**a + u**0.5 + v**-0.5 + u**1.3,
    "lerp": lambda a, b, u, v: torch.lerp(a, b, u) + torch.lerp(a, b, 0.3),
    "addc": lambda a, b, u, v: torch.addcmul(a, b, u, value=2) + torch.addcdiv(a, b, v, value=3),
    "compare": lambda a, b, u, v: torch.where(a > b, a, b) + torch.where(a <= 0, u, v) + torch.where(a >= b, 1.0, b),
    "masks": lambda a, b, u, v: torch.where((a < b) & (u > 0.5) | ~(v != b), a, 2.0) + (a == b) * a + (a > 0) * b,
    "logic": lambda a, b, u, v: torch.where(
        torch.logical_xor(torch.logical_and(a > 0, b > 0), torch.logical_or(a > 1, torch.logical_not(u > 0.5))), a, b
    ),
    "isnan": lambda a, b, u, v: torch.where(torch.isnan(a), b, a) + torch.nan_to_num(b),
    "masked_fill": lambda a, b, u, v: a.masked_fill(MASK, 0.5) + b.masked_fill(b > 0, -1.0),
    "where mask": lambda a, b, u, v: torch.where(MASK, a, b),
    "clamp": lambda a, b, u, v: a.clamp(-0.5, 0.6) + b.clamp(min=0) + b.clamp_max(0.2) + torch.clamp(a, -u, u),
    "activations": lambda a, b, u, v: F.silu(a) + F.softplus(b) + F.softplus(30 * a, 2.0, 10.0) + F.leaky_relu(a, 0.1),
    "units": lambda a, b, u, v: F.elu(a, 0.7) + F.selu(b) + F.gelu(a) + F.gelu(b, approximate="tanh") + F.hardtanh(a),
    "others": lambda a, b, u, v: F.mish(a) + F.hardswish(b) + F.softsign(a) + F.logsigmoid(b) + torch.xlogy(u, v),
    "more units": lambda a, b, u, v: F.celu(a, 0.5) + F.softshrink(b) + F.hardsigmoid(3 * a) + torch.sinc(b),
    "cut": lambda a, b, u, v: a.detach() * b + torch.logit(u),
    "prelu": lambda a, b, u, v: F.prelu(a, u[0]),
}
ARRANGE: dict[str, Case] = {
    "views": lambda a, b, u, v: a.T.reshape(3, 4) + b.flatten()[3:].reshape(9)[:4] + u[:, ::2].repeat(1, 2),
    "expand": lambda a, b, u, v: a[:, :1].expand(3, 4) * b[0] + u.unsqueeze(0).squeeze(0) + v.clone().contiguous(),
    "join": lambda a, b, u, v: (
        torch.cat([a, b[:1]], 0)[1:] + torch.stack([a[0], b[1], u[2]]) + torch.hstack([a, b])[:, 2:6]
    ),
    "unbind": lambda a, b, u, v: (
        torch.stack(a.unbind(1), -1) * torch.cat(b.chunk(2, 1)[::-1], 1) + torch.cat(u.split(1))
    ),
    "turn": lambda a, b, u, v: a.flip(0, 1) + b.roll(1) + u.roll((1, 2), (0, 1)) + v.permute(1, 0).reshape(3, 4),
    "pad": lambda a, b, u, v: F.pad(a, (1, 2, 0, 1), value=0.3)[:3, :4] + F.pad(b, (2, 0))[:, :4],
    "triangles": lambda a, b, u, v: torch.tril(a) + torch.triu(b, 1) + torch.diag_embed(u[:, 0], 1)[:3],
    "diagonal": lambda a, b, u, v: a * a.diagonal()[:, None] + torch.diag_embed(u[0])[:3],
    "index": lambda a, b, u, v: a[INDEX] + b[:, [3, 1, 0, 0]] + u[[0, 1, 2], [1, 1, 3]][:, None] + v[MASK].sum(),
    "select": lambda a, b, u, v: (
        a.index_select(0, INDEX) + b.gather(0, GRID[:1].clamp(max=2)) + u.select(1, 2)[:, None]
    ),
    "gather": lambda a, b, u, v: a[:2].gather(1, GRID).sum(0) * b,
    "put": lambda a, b, u, v: (
        a.index_put((INDEX, torch.tensor([1, 1, 1])), b[:, 0], accumulate=True) + a.index_put((INDEX[:2],), u[:2])
    ),
    "scatter": lambda a, b, u, v: (
        a.scatter_add(1, GRID, b[:2]) + a.scatter(1, GRID[:, :1], u[:2, :1]) + a.scatter(1, GRID[:, 1:2], 2.0)
    ),
    "index_add": lambda a, b, u, v: a.index_add(0, INDEX, b, alpha=0.5) + a.index_copy(0, INDEX[:2], u[:2]),
    "edges": lambda a, b, u, v: (
        torch.zeros_like(a).index_add(0, EDGES[0], b[EDGES[1]] * u[EDGES[0]])
        + a.T.reshape(-1)[EDGES.reshape(-1)].sum() * v
    ),
    "slice_scatter": lambda a, b, u, v: a.slice_scatter(b[:, :2], 1, 1, 3) + a.select_scatter(u[0], 0, 1),
    "filled": lambda a, b, u, v: (
        torch.zeros_like(a)
        + torch.ones_like(b)
        + torch.full_like(u, 0.3) * v
        + a.new_ones(4)
        + a.new_zeros(3, 1)
        + a.new_full((4,), 0.1)
        + torch.linspace(0, 1, 4, dtype=a.dtype)
        + torch.eye(4, dtype=a.dtype)[:3]
    ),
    "in place": lambda a, b, u, v: _in_place(a, b, u, v),
    "literal": lambda a, b, u, v: a * torch.tensor([1.0, 2.0, 0.0, -1.5], dtype=a.dtype) + INDEX[:, None] * b,
}
REDUCE: dict[str, Case] = {
    "sum": lambda a, b, u, v: a.sum() + b.sum(0) + u.sum(-1, keepdim=True) + v.sum((0, 1), keepdim=True),
    "mean": lambda a, b, u, v: a.mean() + b.mean(0) + u.mean(-1, keepdim=True) + v.var(1, keepdim=True) + a.std(),
    "var": lambda a, b, u, v: torch.var(a, 0, correction=0) + torch.var(b) * u,
    "prod": lambda a, b, u, v: a.prod(0) + u.prod() + v.prod(1, keepdim=True),
    "extremes": lambda a, b, u, v: (
        a.amax(0) + b.amin(1, keepdim=True) + u.max() + v.min() + a.max(1, keepdim=True).values + b.min(0).values
    ),
    "logic": lambda a, b, u, v: torch.where((a > -9).all(), a, b) + torch.where((b > 0).any(1, keepdim=True), u, v),
    "norm": lambda a, b, u, v: (
        a.norm() + torch.linalg.vector_norm(b, dim=-1, keepdim=True) + u.norm(1) + v.norm(3, dim=0)
    ),
    "norm inf": lambda a, b, u, v: torch.linalg.vector_norm(a, float("inf"), dim=0) + b.norm(dim=1, keepdim=True),
    "norm 0": lambda a, b, u, v: torch.linalg.vector_norm(a, 0, dim=0) * b + torch.cdist(a, b, p=1).sum() * u,
    "zero norm": lambda a, b, u, v: (a - a).norm(dim=-1, keepdim=True) + b,
    "softmax": lambda a, b, u, v: a.softmax(-1) + b.log_softmax(0) + u.logsumexp(1, keepdim=True) + v.logsumexp((0, 1)),
    "scan": lambda a, b, u, v: a.cumsum(0) + u.cumprod(1),
    "mm": lambda a, b, u, v: a @ b.T @ u + (a[0] @ b.T)[:, None] + a[0] @ u[1] + torch.mv(a, u[0])[:, None],
    "bmm": lambda a, b, u, v: torch.bmm(torch.stack([a, b]), torch.stack([u.T, v.T])).sum(0).repeat(1, 2)[:, :4],
    "addmm": lambda a, b, u, v: torch.addmm(a, b[:, :3], u, beta=0.5, alpha=2) + torch.addmv(a[0], b.T, u[:, 0]),
    "baddbmm": lambda a, b, u, v: torch.baddbmm(a[None], b[None, :, :3], u[None], beta=2, alpha=0.5)[0],
    "outer": lambda a, b, u, v: torch.outer(a[:, 0], b[0]) + torch.addr(u, a[:, 1], b[2]) + torch.vdot(a[0], b[1]),
    "linear": lambda a, b, u, v: F.linear(a, torch.cat([b, u[:1]]), v[0]),
    "einsum": lambda a, b, u, v: torch.einsum("ij,kj,kl->il", a, b, u) + torch.einsum("ij,ij->i", a, v)[:, None],
    "cross": lambda a, b, u, v: (
        torch.linalg.cross(a[:, :3], b[:, 1:]).sum(1, keepdim=True) * u + torch.linalg.cross(a, b, dim=0)
    ),
    "layer_norm": lambda a, b, u, v: F.layer_norm(a, (4,), u[0], b[1]) + F.layer_norm(b, (3, 4)),
    "batch_norm": lambda a, b, u, v: F.batch_norm(
        a, torch.zeros(4).double(), torch.ones(4).double() * 2, u[0], a[1]
    ).view(3, 4),
    "group_norm": lambda a, b, u, v: F.group_norm(a[None].transpose(1, 2), 2)[0].T + F.normalize(b),
    "cosine": lambda a, b, u, v: F.cosine_similarity(a, b)[:, None] + F.mse_loss(a, b) + torch.cdist(a, b).sum() * u,
    "losses": lambda a, b, u, v: (
        F.huber_loss(a, b, reduction="none", delta=0.7) + F.smooth_l1_loss(a, u, beta=0.4) + F.smooth_l1_loss(a, v)
    ),
    "solve": lambda a, b, u, v: (
        torch.linalg.solve(a[:, :3] @ u[:, :3], b)
        + torch.linalg.solve(a @ b.T, v[:, 0])[:, None] * torch.linalg.solve(u[:, 1:], a[:, 1:].T, left=False)[:, :1]
        + torch.linalg.inv(b[:, [1, 0, 3]].expand(2, 3, 3)).sum(0) @ u
    ),
    "attention": lambda a, b, u, v: (
        F.scaled_dot_product_attention(a[None, None], b[None, None], u[None, None])[0, 0]
        + F.scaled_dot_product_attention(a[None, None], u[None, None], v[None, None], is_causal=True)[0, 0]
    ),
    "sparse": lambda a, b, u, v: torch.sparse.mm(SPARSE, a) * b + ROWS @ u,
    "trace": lambda a, b, u, v: (a @ b.T).trace() + torch.kron(a[:, :2], b[:1, :2]) + torch.tensordot(a, b, 2),
}
GROUPS = {"pointwise": POINTWISE, "arrange": ARRANGE, "reduce": REDUCE}


def _in_place(a: Tensor, b: Tensor, u: Tensor, v: Tensor) -> Tensor:
    out = torch.empty_like(a)
    out[0] = a[1]
    out[1:] = b[1:]
    out[:, 1] += u[:, 0]
    out.mul_(v).add_(a, alpha=0.1)
    out[1].zero_()
    out[2, 2:].fill_(0.25)
    out[out > 9.0] = 0.0
    return out.clamp_(min=-3)
