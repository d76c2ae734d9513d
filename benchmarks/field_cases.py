"""Typical right-hand sides: networks, graphs, images, mechanics and their like, as people write them for torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DOUBLE = torch.float64
Field = Callable[[Tensor, Any], Any]


@dataclass(frozen=True)
class Case:
    """f, the initial state, the times, and the tensors whose gradients are taken."""

    f: Field
    y0: Any
    t: Tensor
    params: list[Tensor]


CASES: dict[str, Callable[[], Case]] = {}


def case(name: str) -> Callable[[Callable[[], Case]], Callable[[], Case]]:
    """Enter a case."""

    def enter(make: Callable[[], Case]) -> Callable[[], Case]:
        CASES[name] = make
        return make

    return enter


def times(count: int = 10, end: float = 1.0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Evenly spaced times from 0."""
    return torch.linspace(0, end, count, dtype=dtype)


def mlp(*widths: int, act: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    """Linear layers with an activation between each two."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), act()]
    return nn.Sequential(*layers[:-1])


class Net(nn.Module):
    """dy/dt = net(y), or net(y^3); `tell` is called at every evaluation."""

    def __init__(self, net: nn.Module, cubed: bool = False, tell: Callable[[Any, Tensor], None] | None = None) -> None:
        super().__init__()
        self.net, self.cubed, self.tell = net, cubed, tell
        self.nfe, self.log = 0, list[int]()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        if self.tell is not None:
            self.tell(self, t)
        found: Tensor = self.net(y**3 if self.cubed else y)
        return found


class Module(nn.Module):
    """A function of (module, t, y) with the parts that it is given."""

    def __init__(self, field: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.field = field
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, t: Tensor, y: Any) -> Any:
        return self.field(self, t, y)


def of(f: nn.Module, y0: Any, t: Tensor) -> Case:
    """The case of a module."""
    return Case(f, y0, t, list(f.parameters()))


def _counts(net: Any, t: Tensor) -> None:
    net.nfe += 1


def _logs(net: Any, t: Tensor) -> None:
    net.log.append(1)


def _adds(net: Any, t: Tensor) -> None:
    net.count += 1


def _prints(net: Any, t: Tensor) -> None:
    if float(t.detach()) > 1e9:
        print("late")


CASES["spiral, MLP 2-50-2 of y^3, batch 20"] = lambda: of(Net(mlp(2, 50, 2), True), torch.randn(20, 2), times())
for _name, _tell in {
    "self.nfe += 1": _counts,
    "log.append(1)": _logs,
    "buffer += 1": _adds,
    "a print": _prints,
}.items():
    CASES[f"spiral with {_name}"] = lambda tell=_tell: of(Net(mlp(2, 50, 2), True, tell), torch.randn(20, 2), times())  # type: ignore[misc]
for _name, _parts in {
    "dropout in training": lambda: (nn.Linear(2, 50), nn.Tanh(), nn.Dropout(0.1), nn.Linear(50, 2)),
    "batch norm in training": lambda: (nn.Linear(2, 50), nn.BatchNorm1d(50), nn.Tanh(), nn.Linear(50, 2)),
    "batch norm in eval": lambda: (nn.Linear(2, 50), nn.BatchNorm1d(50).eval(), nn.Tanh(), nn.Linear(50, 2)),
    "layer norm, GELU": lambda: (nn.Linear(2, 50), nn.LayerNorm(50), nn.GELU(), nn.Linear(50, 2)),
    "softplus, SiLU": lambda: (nn.Linear(2, 50), nn.Softplus(), nn.Linear(50, 50), nn.SiLU(), nn.Linear(50, 2)),
}.items():
    CASES[f"MLP, {_name}"] = lambda parts=_parts: of(Net(nn.Sequential(*parts())), torch.randn(20, 2), times())  # type: ignore[misc]
for _width in (64, 256, 1024):
    for _batch in (1, 64, 1024):
        if _width * _batch < 2**20:
            CASES[f"MLP width {_width}, batch {_batch}"] = lambda w=_width, b=_batch: of(  # type: ignore[misc]
                Net(mlp(4, w, w, 4)), torch.randn(b, 4), times()
            )


@case("MLP with t beside y, batch 64")
def _() -> Case:
    def field(own: Any, t: Tensor, y: Tensor) -> Any:
        return own.net(torch.cat([y, t.expand(len(y), 1)], -1))

    return of(Module(field, net=mlp(3, 64, 64, 2)), torch.randn(64, 2), times())


def flow(estimated: bool) -> Case:
    """A continuous normalizing flow: the trace by Hutchinson's estimate or exactly."""

    def field(own: Any, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            z = state[0] if state[0].requires_grad else state[0].requires_grad_()
            dz = own.net(torch.cat([z, t.expand(len(z), 1)], -1))
            if estimated:
                pulled = torch.autograd.grad(dz, z, own.noise, create_graph=True)[0]
                return dz, -(pulled * own.noise).sum(-1, keepdim=True)
            columns = [torch.autograd.grad(dz[:, i].sum(), z, create_graph=True)[0][:, i] for i in range(2)]
        return dz, -(columns[0] + columns[1])[:, None]

    f = Module(field, net=mlp(3, 64, 64, 2), noise=torch.randn(64, 2))
    return of(f, (torch.randn(64, 2), torch.zeros(64, 1)), times(2))


CASES["FFJORD, batch 64"] = lambda: flow(True)
CASES["flow with the exact trace, batch 64"] = lambda: flow(False)
CASES["augmented, MLP 5-64-5 ReLU, batch 64"] = lambda: of(
    Net(mlp(5, 64, 64, 5, act=nn.ReLU)), F.pad(torch.randn(64, 2), (0, 3)), times(2)
)
CASES["latent ODE, MLP 4-20-20-4 ELU, batch 1000"] = lambda: of(
    Net(mlp(4, 20, 20, 4, act=nn.ELU)), torch.randn(1000, 4), times(100)
)


@case("Hamiltonian network by autograd")
def _() -> Case:
    def field(own: Any, t: Tensor, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x if x.requires_grad else x.requires_grad_()
            slope = torch.autograd.grad(own.energy(x).sum(), x, create_graph=True)[0]
        return torch.stack([slope[:, 1], -slope[:, 0]], 1)

    return of(Module(field, energy=mlp(2, 64, 1)), torch.randn(20, 2), times(20))


@case("Hamiltonian network by torch.func")
def _() -> Case:
    def field(own: Any, t: Tensor, x: Tensor) -> Tensor:
        slope = torch.func.vmap(torch.func.grad(lambda z: own.energy(z).sum()))(x)
        return torch.stack([slope[:, 1], -slope[:, 0]], 1)

    return of(Module(field, energy=mlp(2, 64, 1)), torch.randn(20, 2), times(20))


def _adjacency() -> Tensor:
    near = (torch.rand(34, 34) < 0.15).float()
    return near / near.sum(1, keepdim=True).clamp(min=1)


CASES["graph, dense adjacency 34 x 34"] = lambda: of(
    Module(lambda own, t, x: torch.tanh(own.w(own.near @ x)) - x, w=nn.Linear(16, 16), near=_adjacency()),
    torch.randn(34, 16),
    times(),
)


@case("graph, sparse adjacency 34 x 34")
def _() -> Case:
    near, weights = _adjacency().to_sparse(), nn.Linear(16, 16)
    return Case(
        lambda t, x: torch.tanh(weights(torch.sparse.mm(near, x))) - x,
        torch.randn(34, 16),
        times(),
        list(weights.parameters()),
    )


@case("graph, 160 edges by index_add")
def _() -> Case:
    def field(own: Any, t: Tensor, x: Tensor) -> Tensor:
        sent = own.message(torch.cat([x[own.edges[0]], x[own.edges[1]]], -1))
        return torch.zeros_like(x).index_add(0, own.edges[1], sent)

    f = Module(field, message=mlp(8, 32, 4), edges=torch.randint(34, (2, 160)))
    return of(f, torch.randn(34, 4), times())


CASES["convolution, 16 channels 8 x 8, batch 4"] = lambda: of(
    Net(nn.Sequential(nn.GroupNorm(4, 16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1))),
    torch.randn(4, 16, 8, 8),
    times(2),
)
CASES["second order, tuple state"] = lambda: of(
    Module(lambda own, t, s: (s[1], own.a(torch.cat([s[0], s[1]], -1))), a=mlp(4, 32, 2)),
    (torch.randn(20, 2), torch.randn(20, 2)),
    times(20),
)
CASES["GRU cell, hidden 32, batch 20"] = lambda: of(
    Module(lambda own, t, h: own.cell(own.x, h) - h, cell=nn.GRUCell(32, 32), x=torch.zeros(20, 32)),
    torch.randn(20, 32),
    times(),
)
CASES["attention, 2 x 8 tokens of 16"] = lambda: of(
    Module(
        lambda own, t, x: own.look(x, x, x, need_weights=False)[0], look=nn.MultiheadAttention(16, 2, batch_first=True)
    ),
    torch.randn(2, 8, 16),
    times(5),
)


def plain(f: Callable[[Tensor, Tensor, Tensor], Tensor], param: Any, y0: Any, t: Tensor) -> Case:
    """A function of (t, y, p) with one tensor of parameters."""
    p = torch.as_tensor(param, dtype=t.dtype).requires_grad_()
    return Case(lambda t, y: f(t, y, p), torch.as_tensor(y0, dtype=t.dtype), t, [p])


def _kepler(t: Tensor, y: Tensor, p: Tensor) -> Tensor:
    return torch.cat([y[2:], -p * y[:2] / y[:2].norm() ** 3])


def _sir(t: Tensor, y: Tensor, p: Tensor) -> Tensor:
    s, i, _ = y
    caught = p[0] * s * i
    return torch.stack([-caught, caught - p[1] * i, p[1] * i])


def _lorenz96(t: Tensor, y: Tensor, p: Tensor) -> Tensor:
    return (torch.roll(y, -1) - torch.roll(y, 2)) * torch.roll(y, 1) - y + p


def _heat(t: Tensor, y: Tensor, p: Tensor) -> Tensor:
    z = F.pad(y, (1, 1))
    return p * (z[2:] - 2 * z[1:-1] + z[:-2])


def _friction(t: Tensor, y: Tensor, p: Tensor) -> Tensor:
    x, v = y
    return torch.stack([v, -p[0] * x - p[1] * torch.sign(v) + torch.where(x > 0, x.clamp(max=0.5), 0 * x)])


def _tumbling(t: Tensor, y: Tensor, p: Tensor) -> Tensor:
    return torch.linalg.cross(y, p * y) / p + torch.einsum("i,ij,j->i", y, torch.outer(p, p), y) * 0


def _noticed(t: Tensor, y: Tensor, p: Tensor) -> Tensor:
    with torch.no_grad():
        size = y.abs().mean()
    return y @ p / (1 + size)


def _interpolated(t: Tensor, y: Tensor, p: Tensor) -> Tensor:
    knots, values = torch.linspace(0, 1, 11), torch.linspace(-1, 1, 11) ** 2
    i = torch.searchsorted(knots, t.detach().to(knots.dtype)).clamp(1, 10)
    return y @ p + values[i - 1] + (values[i] - values[i - 1]) * (t - knots[i - 1]) * 10


def _controlled(t: Tensor, y: Tensor, p: Tensor) -> Tensor:
    path = torch.linspace(0, 3, 20).sin().view(10, 2)
    return torch.tanh(y @ p).view(-1, 4, 2) @ path[(t.detach() * 9).clamp(0, 9).long()]


def _square(size: int) -> Tensor:
    return torch.randn(size, size)


LONG = {"Kepler": (_kepler, 1.0, [1.0, 0, 0, 1.2], 10.0), "SIR": (_sir, [0.5, 0.1], [0.99, 0.01, 0], 60.0)}
for _name, (_f, _p, _y, _end) in LONG.items():
    CASES[_name] = lambda f=_f, p=_p, y=_y, end=_end: plain(f, p, y, times(100, end, DOUBLE))  # type: ignore[misc]
for _size in (40, 1000):
    CASES[f"Lorenz 96, N = {_size}"] = lambda n=_size: plain(_lorenz96, 8.0, 8 + torch.randn(n), times(50, 1.0, DOUBLE))  # type: ignore[misc]
for _size in (100, 1000):
    CASES[f"heat, N = {_size}"] = lambda n=_size: plain(  # type: ignore[misc]
        _heat, 0.1, torch.linspace(0, 9, n).sin(), times(50, 20.0, DOUBLE)
    )
CASES |= {
    "a branch on the state": lambda: plain(
        lambda t, y, p: y @ p if y.sum() > 0 else -y @ p, _square(2), torch.randn(20, 2), times()
    ),
    "a branch on time": lambda: plain(
        lambda t, y, p: y @ p if t < 0.5 else -y @ p, _square(2), torch.randn(20, 2), times()
    ),
    "no_grad inside": lambda: plain(_noticed, _square(2), torch.randn(20, 2), times()),
    "complex state": lambda: Case(*_complex(), times(), [_WEIGHT]),
    "controlled by a path": lambda: plain(_controlled, torch.randn(4, 8), torch.randn(20, 4), times()),
    "interpolated by searchsorted": lambda: plain(_interpolated, _square(2), torch.randn(20, 2), times()),
    "Fourier multiplier": lambda: plain(
        lambda t, y, p: torch.fft.irfft(torch.fft.rfft(y) * p, n=64), torch.randn(33), torch.randn(4, 64), times()
    ),
    "mass matrix": lambda: plain(
        lambda t, y, p: torch.linalg.solve(p, -y), torch.eye(3) + 0.1 * _square(3), torch.randn(3), times(20)
    ),
    "friction, clamp, where": lambda: plain(_friction, [1.0, 0.1], [1.0, 0.0], times(50, 5)),
    "tumbling body": lambda: plain(_tumbling, [1.0, 2.0, 3.0], torch.randn(3), times(50, 5)),
}
_WEIGHT = (torch.randn(3, 3, dtype=torch.complex64) * 0.3).requires_grad_()


def _complex() -> tuple[Field, Tensor]:
    return lambda t, y: y @ _WEIGHT, torch.randn(20, 3, dtype=torch.complex64)


def cases(only: list[str]) -> Iterator[tuple[str, Case]]:
    """The cases whose names hold any of these words, all without any; each from the same seed."""
    for name, make in CASES.items():
        if not only or any(word in name for word in only):
            torch.manual_seed(0)
            yield name, make()
