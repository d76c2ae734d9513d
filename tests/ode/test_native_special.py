"""Every operation of the native table at zeros, ties, bounds and not-a-number: values and derivatives are torch's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import native_cases
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from physid.ode import solve
from physid.ode.native.compiler.all_rules import TABLE
from physid.ode.native.compiler.derive import TangentCode, reachable
from physid.ode.native.compiler.interpret import Numbers, products
from physid.ode.native.compiler.ir import SHIFT, STATE
from physid.ode.native.compiler.lower import lower
from physid.ode.native.compiler.trace import trace
from physid.ode.solution import Status

DOUBLE = torch.float64
NAN = math.nan
POINTS = [-20.0, -6.0, -3.0, -2.0, -1.0, -0.5, -0.0, 0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 6.0, 20.0, NAN]
PAIRS = [(a, b) for a in (-1.0, -0.0, 0.0, 0.5, 1.0, NAN) for b in (-1.0, -0.0, 0.0, 0.5, 1.0, NAN)]
ENDS = [(a, b) for a in (-math.inf, -1.0, 0.5, math.inf) for b in (-math.inf, -1.0, 0.5, math.inf)]
# A state is finite, so that a matrix's zero leaves it out; of the others torch's own derivatives beside not-a-number
# depend on how many numbers there are.
NOT_AT_NAN: tuple[str, ...] = ("times zero", "matrix with zeros", "elu", "selu", "celu", "hardtanh", "hardswish")
NOT_AT_NAN += ("hardsigmoid", "relu6", "softshrink", "hardshrink")
FAR: tuple[str, ...] = (
    "prod",
    "cumprod",
    "product of all",
    "prelu",
    "max",
    "amax",
    "norm",
    "norm 1",
    "norm 3",
    "norm 1/2",
    "norm 0",
)
FAR += ("norm -1", "norm of all", "largest", "cdist", "cdist 1", "cdist 3")

PLAIN: tuple[str, ...] = (*native_cases.UNARY, *native_cases.INSIDE, "acosh", "sinc", "nan_to_num", "logit")
LAYERS: tuple[str, ...] = (
    "silu",
    "softplus",
    "selu",
    "celu",
    "gelu",
    "hardtanh",
    "mish",
    "hardswish",
    "hardsigmoid",
    "softsign",
)
LAYERS += ("logsigmoid", "relu6")
TWO: tuple[str, ...] = (*native_cases.BINARY, "pow", "fmod", "remainder", "xlogy", "logaddexp")
UNARY: dict[str, Callable[[Tensor], Tensor]] = {name: getattr(torch, name) for name in PLAIN}
UNARY |= {name: getattr(F, name) for name in LAYERS}
UNARY |= {
    "tanhshrink": F.tanhshrink,
    "softshrink": F.softshrink,
    "hardshrink": F.hardshrink,
    "threshold": lambda x: F.threshold(x, 0.5, 0.1),
    "leaky relu": lambda x: F.leaky_relu(x, 0.1),
    "elu": lambda x: F.elu(x, 0.7),
    "softplus, sharp": lambda x: F.softplus(x, 2.0, 10.0),
    "gelu, tanh": lambda x: F.gelu(x, approximate="tanh"),
    "clamp": lambda x: x.clamp(-0.5, 0.5),
    "clamp low": lambda x: x.clamp(min=0.5),
    "clamp high": lambda x: x.clamp_max(0.5),
    "powers": lambda x: x**2 + x**3 + x**0 + x**1,
    "reciprocal powers": lambda x: x**-1 + x**-2,
    "half powers": lambda x: x**0.5 + x**1.5 + x**2.5,
    "reciprocal root": lambda x: x**-0.5,
    "exponents": lambda x: 2.0**x + 0.0 ** (x * x),
    "mask": lambda x: (x > 0) * x,
    "where": lambda x: torch.where(x > 0, x, -x),
    "masked fill": lambda x: x.masked_fill(x > 0, 1.0),
    "times zero": lambda x: 0 * x,
    "zero times a root": lambda x: (0 * torch.sqrt(x)).detach() + x,
    "zero times a product": lambda x: (0 * (x * x)).detach() + x,
    "remainders": lambda x: x % 0.5 + torch.remainder(x, -0.5) + torch.fmod(x, 0.5) + (0.3 * x) % 0.1,
    "whole quotients": lambda x: (
        torch.div(x, 0.1, rounding_mode="floor") + torch.div(x, 49 * 0.1, rounding_mode="trunc") + x * 0
    ),
    "over zero": lambda x: 1 / x + x / 0,
    "detached": lambda x: x * x.detach(),
    "isnan": lambda x: torch.where(torch.isnan(x), 1.0, x),
    "replaced": lambda x: torch.nan_to_num(1 / x, 2.0, 3.0, -4.0) + torch.nan_to_num(x / 0, posinf=math.inf),
}
BINARY: dict[str, Callable[[Tensor], Tensor]] = {
    name: (lambda x, name=name: getattr(torch, name)(x[0], x[1]))  # type: ignore[misc]
    for name in TWO
}
BINARY |= {
    "where": lambda x: torch.where(x[0] > x[1], x[0], x[1]),
    "clamp between tensors": lambda x: torch.clamp(x[0], x[1], x[1] + 1),
    "clamp the wrong way": lambda x: torch.clamp(x[0], x[1], x[1] - 1),
    "clamp above a tensor": lambda x: torch.clamp(x[0], min=x[1]),
    "clamp below a tensor": lambda x: torch.clamp(x[0], max=x[1]),
    "lerp": lambda x: torch.lerp(x[0], x[1], 0.5) + torch.lerp(x[0], x[1], 0.2),
    "addc": lambda x: torch.addcmul(x[0], x[0], x[1]) + torch.addcdiv(x[0], x[0], x[1]),
    "prod": lambda x: x.prod(0),
    "cumprod": lambda x: x.cumprod(0).flatten(),
    "cumsum": lambda x: x.cumsum(0).flatten(),
    "max of all": lambda x: torch.stack([column.max() for column in x.T]),
    "min of all": lambda x: torch.stack([column.min() for column in x.T]),
    "max": lambda x: x.max(0).values,
    "min": lambda x: x.min(0).values,
    "amax": lambda x: x.amax(0),
    "amin": lambda x: x.amin(0),
    "amax of four": lambda x: torch.cat([x, x]).amax(0) + torch.cat([x, x[:1]]).amin(0),
    "norm": lambda x: x.norm(dim=0),
    "norm 1": lambda x: x.norm(1, dim=0),
    "norm 3": lambda x: x.norm(3, dim=0),
    "norm 1.5": lambda x: x.norm(1.5, dim=0),
    "norm 1/2": lambda x: torch.linalg.vector_norm(x, 0.5, dim=0),
    "norm 0": lambda x: torch.linalg.vector_norm(x, 0, dim=0) + x[0],
    "norm -1": lambda x: torch.linalg.vector_norm(x, -1, dim=0),
    "norm of all": lambda x: torch.stack([torch.linalg.norm(column) + column.norm(1) for column in x.T]),
    "prelu": lambda x: torch.cat([F.prelu(one, slope) for one, slope in zip(*x.unsqueeze(-1), strict=True)]),
    "product of all": lambda x: torch.stack([column.prod() for column in x.T]),
    "largest": lambda x: torch.linalg.vector_norm(x, math.inf, dim=0),
    "smallest": lambda x: torch.linalg.vector_norm(x, -math.inf, dim=0),
    "std": lambda x: x.std(0),
    "var": lambda x: x.var(0),
    "softmax": lambda x: x.softmax(0).flatten(),
    "log softmax": lambda x: x.log_softmax(0).flatten(),
    "logsumexp": lambda x: x.logsumexp(0),
    "normalize": lambda x: F.normalize(x, dim=0).flatten(),
    "cdist": lambda x: torch.cdist(x[0][:, None, None], x[1][:, None, None]).flatten(),
    "cdist 1": lambda x: torch.cdist(x[0][:, None, None], x[1][:, None, None], p=1).flatten(),
    "cdist 3": lambda x: torch.cdist(x[0][:, None, None], x[1][:, None, None], p=3).flatten(),
    "similarity": lambda x: F.cosine_similarity(x, x.flip(0), dim=0),
    "absolute loss": lambda x: F.l1_loss(x[0], x[1], reduction="none"),
    "huber loss": lambda x: F.huber_loss(x[0], x[1], reduction="none", delta=0.5),
    "smooth loss": lambda x: F.smooth_l1_loss(x[0], x[1], reduction="none"),
    "smooth loss, wide": lambda x: F.smooth_l1_loss(x[0], x[1], reduction="none", beta=2.0),
    "var, all": lambda x: x.var(0, correction=0) + x[0],
    "std, all": lambda x: x.std(0, correction=0) + x[0],
    "matrix with zeros": lambda x: (torch.tensor([[0.0, 1.0]], dtype=x.dtype) @ x)[0],
    "written without autograd": lambda x: _written(x[0], x[1]),
}


def _written(x: Tensor, y: Tensor) -> Tensor:
    out = x * y
    with torch.no_grad():
        out += y
        scale = x * 2 + 1
    return out * scale


def traced(f: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Any, Tensor, Any, Tensor]:
    """Value and derivative of the sum of f at x: those of the program, and torch's."""
    shape, flat = x.shape, x.reshape(-1)
    graph = trace(
        lambda t, y: f(y.view(shape)).reshape(-1), torch.zeros((), dtype=DOUBLE), flat, (), TABLE.__contains__
    )
    y = flat.clone().requires_grad_()
    k = f(y.view(shape)).reshape(-1)
    (expected,) = torch.autograd.grad(k.sum(), y, allow_unused=True) if k.requires_grad else (None,)
    c = np.array(graph.numbers())
    found = products(lower(graph), np.zeros(1), flat.numpy(), np.zeros(0), c, np.ones(k.numel()), np.float64)
    return found.k[0], k.detach(), found.gy[0], torch.zeros_like(y) if expected is None else expected.clone()


def agree(name: str, f: Callable[[Tensor], Tensor], points: list[Any]) -> None:
    if name in NOT_AT_NAN:
        points = [point for point in points if not np.isnan(point).any()]
    x = torch.tensor(points, dtype=DOUBLE).movedim(0, -1).contiguous()
    k, value, ours, expected = traced(f, x)
    close: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-13, "equal_nan": True}
    np.testing.assert_allclose(k, value.numpy(), err_msg=f"{name} at {points}", **close)
    theirs = expected.numpy()
    # where torch has no finite derivative, neither have we
    np.testing.assert_array_equal(np.isfinite(ours), np.isfinite(theirs), err_msg=f"{name}: {ours}, torch {theirs}")
    there = np.isfinite(theirs)
    np.testing.assert_allclose(ours[there], theirs[there], err_msg=f"{name} at {points}", **close)


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_number(name: str) -> None:
    agree(name, UNARY[name], POINTS)


@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_numbers(name: str) -> None:
    agree(name, BINARY[name], PAIRS)


@pytest.mark.parametrize("name", [*FAR, *(name for name in BINARY if "loss" in name)])
def test_functions_far_out(name: str) -> None:
    agree(name, BINARY[name], ENDS)


def test_two_factors_of_zero() -> None:
    """Of the products of all, and of one factor after the other."""
    triples = [(a, b, c) for a in (0.0, 0.5, -1.5) for b in (0.0, 2.0) for c in (0.0, -0.5, math.inf)]
    agree("product", lambda x: torch.stack([column.prod() for column in x.T]), triples)
    agree("products", lambda x: x.prod(0), triples)
    agree("running products", lambda x: x.cumprod(0).flatten(), triples)


def steeply(f: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """What has an infinite cotangent for all that f does not leave out."""

    def steep(x: Tensor) -> Tensor:
        value = f(x)
        return torch.sqrt(value - value.detach())

    return steep


@pytest.mark.parametrize("name", [*UNARY, *BINARY])
def test_an_infinite_cotangent_of_what_is_left_out_is_none(name: str) -> None:
    """As in sqrt(clamp(x, min=0)) below the bound: finite where torch's derivative is."""
    steep = steeply(UNARY[name] if name in UNARY else BINARY[name])
    points: Any = [-20.0, -6.0, -1.0, -0.5, 0.0, 0.25, 0.5, 2.0, 3.0, 20.0]
    points = points if name in UNARY else [(a, b) for a in (-1.0, 0.0, 0.5) for b in (-1.0, 0.0, 0.5)]
    _, _, ours, theirs = traced(steep, torch.tensor(points, dtype=DOUBLE).movedim(0, -1).contiguous())
    there = theirs.isfinite().numpy()
    np.testing.assert_allclose(ours[there], theirs.numpy()[there], rtol=1e-12, err_msg=f"{name} at {points}")


def forwards(f: Callable[[Tensor], Tensor], x: Tensor, v: Tensor) -> Any:
    """The derivative of f along v, by the program's tangents."""
    shape, flat = x.shape, x.reshape(-1)
    graph = trace(
        lambda t, y: f(y.view(shape)).reshape(-1), torch.zeros((), dtype=DOUBLE), flat, (), TABLE.__contains__
    )
    program = lower(graph)
    b = program.b
    found = TangentCode(b, {int(program.y[0] >> SHIFT) - 1: b.input("dy", flat.numel(), STATE)}, {})
    for place in reachable(b, program.k, ()):
        if b.deps[place] & STATE:
            found.push(place)
    c = np.array(graph.numbers())
    given = {"t": np.zeros(1), "y": flat.numpy(), "p": np.zeros(0), "c": c, "dy": v.reshape(-1).numpy()}
    return Numbers(b, given, judge=False).of(found.of(program.k))[0]


@pytest.mark.parametrize("name", [*UNARY, *BINARY])
def test_tangents_are_those_that_cotangents_give(name: str) -> None:
    """Where torch's derivative is finite; its tangents are not-a-number where an infinite slope meets a masked zero."""
    one = UNARY[name] if name in UNARY else BINARY[name]
    points: Any = [-6.0, -0.5, 0.0, 0.25, 0.5, 1.0, 2.0]
    points = points if name in UNARY else [(a, b) for a in (-1.0, 0.0, 0.5) for b in (-1.0, 0.0, 0.5)]
    x = torch.tensor(points, dtype=DOUBLE).movedim(0, -1).contiguous()
    v = torch.linspace(0.5, 1.5, x.numel(), dtype=DOUBLE).view(x.shape)
    for f in (one, steeply(one)):
        y = x.clone().requires_grad_()
        k = f(y).reshape(-1)
        if not k.requires_grad:
            continue
        rows = [torch.autograd.grad(part, y, retain_graph=True, allow_unused=True)[0] for part in k]
        slopes = torch.stack([torch.zeros_like(x) if row is None else row for row in rows]).flatten(1)
        there = slopes.isfinite().all(1).numpy()
        expected = (slopes @ v.flatten()).numpy()[there]
        np.testing.assert_allclose(forwards(f, x, v)[there], expected, rtol=1e-11, atol=1e-13, err_msg=name)


def emptied(engine: str, gradient: str = "aca") -> Tensor:
    """The derivative of the ends of two tanks by their outflow."""
    k = torch.tensor(0.8, dtype=DOUBLE, requires_grad=True)
    start = torch.tensor([0.5, 0.03], dtype=DOUBLE)  # the second ends a step below zero
    f = lambda t, y: -k * torch.sqrt(torch.clamp(y, min=0))  # noqa: E731
    y = solve(f, start, [0.0, 1.0], engine=engine, gradient=gradient).y
    assert isinstance(y, Tensor)
    assert y[-1, 1] < 0
    return torch.autograd.grad(y[-1].sum(), k)[0]


def test_a_tank_that_runs_empty() -> None:
    """Both ways: by cotangents, and by the tangents of forward sensitivities."""
    native = emptied("native")
    assert native.isfinite()
    torch.testing.assert_close(native, emptied("eager"), rtol=1e-9, atol=0.0)
    torch.testing.assert_close(emptied("native", "forward"), native, rtol=1e-9, atol=0.0)


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
@pytest.mark.parametrize("spread", [torch.var, torch.std])
def test_the_spread_of_one_number_is_none(spread: Callable[..., Tensor]) -> None:
    k, value, ours, theirs = traced(lambda x: spread(x, 0), torch.ones(1, 2, dtype=DOUBLE))
    assert value.isnan().all()
    assert np.isnan(k).all()
    assert np.isnan(ours).all() == theirs.isnan().all()


def ramp(t: Tensor) -> Tensor:
    """Zero between .395 and .8."""
    return torch.clamp(t - 0.80, min=0) + torch.clamp(0.395 - t, min=0)


def test_gradients_across_a_degenerate_interval() -> None:
    def f(t: Tensor, y: Tensor) -> Tensor:
        z = ramp(t)
        both = torch.stack([p * z, z])
        return -0.1 * y + torch.atan2(p * z, z) + torch.sinc(p * z) + both.std() + torch.stack([p * z, 1.3 * z]).max()

    found = {}
    for engine in ("native", "eager"):
        p = torch.tensor(1.3, dtype=DOUBLE, requires_grad=True)
        y = solve(f, torch.ones(1, dtype=DOUBLE), [0.0, 1.0], engine=engine, max_step=0.05).y
        assert isinstance(y, Tensor)
        found[engine] = float(torch.autograd.grad(y[-1].sum(), p)[0])
    assert abs(found["native"] - found["eager"]) < 1e-9
    assert math.isfinite(found["native"])


def test_not_a_number_is_not_dropped() -> None:
    for engine in ("native", "eager"):
        found = solve(
            lambda t, y: y + 0 * torch.sqrt(20 - y), torch.ones(1, dtype=DOUBLE), [0.0, 4.0], engine=engine, throw=False
        )
        assert found.status is Status.NOT_A_NUMBER, engine
