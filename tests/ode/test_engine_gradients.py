"""Gradients of a solve against an independent loop that knows nothing but the accepted times."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from variants import some

import physid.ode.eager.pullback_batched
from physid.ode import METHODS, Adjoint, Fixed, Integrator, sensitivities, solve
from physid.ode.methods.catalogue import Tableau

EVERY = pytest.mark.parametrize("name", METHODS)
TYPICAL = ("rk4", "heun_euler", "bosh3", "dopri5", "dopri8")
SOME = pytest.mark.parametrize("name", TYPICAL)
MOST = pytest.mark.parametrize(  # by default those that differ in kind: fixed, without and with a stage that is kept
    "name", [name if name in TYPICAL else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]
)
PATHS = pytest.mark.parametrize("widest", [64, 0], ids=["wide", "stepwise"])
Function = Callable[[Tensor, Tensor], Tensor]
COARSE = {"heun_euler": 1e-2, "fehlberg2": 1e-3, "bosh3": 1e-3}  # so that low orders take no more steps than others
REACH = {"dopri8": 5e-12}  # of slopes at the end of its dense polynomial, whose terms of degree 7 cancel


def loop(f: Function, tableau: Tableau, grid: Tensor, y: Tensor, t: Tensor) -> Tensor:
    """The states at t: steps over the accepted times, whose interior is constant, and the dense polynomials."""
    nodes, rows = [t[0], *grid[1:-1].unbind(), t[-1]], [y]
    width, powers = len(tableau.dense), torch.arange(1, len(tableau.dense[0]) + 1)
    for start, end in itertools.pairwise(nodes):
        h, k = end - start, list[Tensor]()
        for c, a in zip((*tableau.c, *tableau.extra_c), (*tableau.a, *tableau.extra_a), strict=True):
            k.append(f(start + c * h, y + h * sum((x * s for x, s in zip(a, k, strict=True)), torch.zeros_like(y))))
        for time in t[len(rows) :]:
            if (time - end).item() * math.copysign(1, h.item()) <= 0:
                b = ((time - start) / h) ** powers @ torch.tensor(tableau.dense, dtype=torch.float64).T
                rows.append(y + h * torch.einsum("s,s...->...", b[:width].to(y.dtype), torch.stack(k)))
        y = y + h * sum((x * s for x, s in zip(tableau.b, k, strict=False)), torch.zeros_like(y))
    return torch.stack(rows)


def close(found: Sequence[Tensor | None], wanted: Sequence[Tensor | None], tolerance: float = 1e-12) -> None:
    """All pairs agree relative to the largest entry of each."""
    for new, old in zip(found, wanted, strict=True):
        assert new is not None
        assert old is not None
        assert float((new - old).detach().abs().max()) <= tolerance * max(float(old.detach().abs().max()), 1e-3)


def settings(name: str) -> dict[str, Any]:
    adaptive, rtol = METHODS[name].adaptive, COARSE.get(name, 1e-4)
    control = None if adaptive else Fixed(0.21)
    return {"solver": name, "rtol": rtol, "atol": rtol, "control": control, "engine": "eager"}


def weights(y: Tensor) -> Tensor:
    return torch.cos(torch.arange(y.numel(), dtype=torch.float64)).view(y.shape)


def times(reverse: bool = False) -> Tensor:
    t = torch.tensor([0.1, 0.3, 0.3, 0.95, 1.0, 2.2, 2.7], dtype=torch.float64)
    return (t.flip(0) if reverse else t).requires_grad_()


class Field(nn.Module):
    """A small nonlinear, non-autonomous field with a parameter of every kind."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.a = nn.Parameter(torch.randn(3, 3, generator=generator, dtype=torch.float64))
        self.b = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.tanh(self.a @ y) * torch.sin(2 * t * self.b) - 0.4 * y * (1 + y**2).sqrt() + torch.cos(3 * t)


RATE = torch.tensor([0.8, -0.3, 0.5], dtype=torch.float64, requires_grad=True)


def by_global(t: Tensor, y: Tensor) -> Tensor:
    return torch.sin(RATE * y.roll(1)) * (1 + t) - y


def start() -> Tensor:
    return torch.tensor([1.0, -0.5, 0.3], dtype=torch.float64, requires_grad=True)


def pair(f: Function, name: str, y0: Tensor, t: Tensor, inputs: list[Tensor], **options: Any) -> tuple[Any, Any]:
    """Gradients of a weighted sum of states, by the solve and by the loop on its accepted times."""
    solution = solve(f, y0, t, **settings(name), **options)
    reference = loop(f, METHODS[name], torch.as_tensor(solution.grid), y0, t)
    close([solution.y], [reference])  # type: ignore[list-item]
    assert isinstance(solution.y, Tensor)
    found = torch.autograd.grad((solution.y * weights(solution.y)).sum(), inputs, retain_graph=True)
    return found, torch.autograd.grad((reference * weights(reference)).sum(), inputs)


def ways() -> list[Any]:
    """Every method, path and direction; by default all methods forwards by one path, and some by the other, or back."""
    found = []
    for place, name in enumerate(METHODS):
        for way in ((64, False), (64, True), (0, False), (0, True)):
            default = way == (64, False) or (name in TYPICAL and way != (0, place % 2 == 0))
            found.append(pytest.param(name, *way, marks=[] if default else pytest.mark.slow))
    return found


@pytest.mark.parametrize(("name", "widest", "reverse"), ways())
def test_aca_of_a_module_equals_autograd(
    name: str, widest: int, reverse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(physid.ode.eager.pullback_batched, "WIDEST", widest)
    field, y0, t = Field(), start(), times(reverse)
    close(*pair(field, name, y0, t, [y0, t, *field.parameters()]))


@MOST
@PATHS
def test_aca_of_closures_globals_and_inputs_equals_autograd(
    name: str, widest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(physid.ode.eager.pullback_batched, "WIDEST", widest)
    y0, t = start(), times()
    close(*pair(by_global, name, y0, t, [y0, t, RATE]))
    x = torch.tensor([0.2, 0.4, -1.0], dtype=torch.float64, requires_grad=True)
    drive = x.exp()  # not a leaf
    close(*pair(lambda t, y: torch.sin(drive * t) * y - y**3, name, y0, t, [y0, t, x]))
    hidden = {"rate": x * 2}
    close(*pair(lambda t, y: hidden["rate"] * torch.cos(y + t), name, y0, t, [x], params=[hidden["rate"]]))


@pytest.mark.parametrize("engine", ["eager", "auto"])
@pytest.mark.parametrize("gradient", ["aca", "forward", "naive"])
def test_a_tensor_beside_another_one_made_from_it(gradient: str, engine: str) -> None:
    k = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    for _ in range(2):  # the second time f may be known
        rate = k.exp()
        found = solve(
            lambda t, y, rate=rate: -rate * y + k,
            torch.ones(1, dtype=torch.float64),
            [0.0, 1.0],
            rtol=1e-10,
            atol=1e-10,
            gradient=gradient,
            engine=engine,
        )
        (slope,) = torch.autograd.grad(found.y[-1].sum(), k)
        r, e = math.exp(0.3), math.exp(-math.exp(0.3))
        exact = -r * e + (1 - e) / r + 0.3 * (r * e - (1 - e)) / r
        assert float(slope) == pytest.approx(exact, rel=1e-8)


@SOME
@PATHS
def test_stepping_onto_every_time_moves_only_the_ends(name: str, widest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(physid.ode.eager.pullback_batched, "WIDEST", widest)
    field, y0, t = Field(), start(), times()
    found, wanted = pair(field, name, y0, t, [y0, t, *field.parameters()], exact=True)
    close(found, wanted, REACH.get(name, 1e-12))


@SOME
@PATHS
def test_complex_states_and_tuples(name: str, widest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(physid.ode.eager.pullback_batched, "WIDEST", widest)
    z0 = torch.tensor([1 + 0.5j, -0.2j], dtype=torch.complex128, requires_grad=True)
    w = torch.tensor([0.3 + 1j, -0.5 + 2j], dtype=torch.complex128, requires_grad=True)
    t = times()

    def f(t: Tensor, z: Tensor) -> Tensor:
        return w * z + torch.sin(t) * z.conj() * 0.2

    solution = solve(f, z0, t, **settings(name))
    reference = loop(f, METHODS[name], torch.as_tensor(solution.grid), z0, t)
    assert isinstance(solution.y, Tensor)
    found = torch.autograd.grad(solution.y.abs().square().sum(), [z0, w, t])
    close(found, torch.autograd.grad(reference.abs().square().sum(), [z0, w, t]), REACH.get(name, 1e-12))

    field, y0 = Field(), start()
    parts = (y0[:1].reshape(1, 1), y0[1:])

    def split(t: Tensor, y: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        k = field(t, torch.cat([y[0].reshape(-1), y[1]]))
        return k[:1].reshape(1, 1), k[1:]

    both = solve(split, parts, t, **settings(name))
    joined = torch.cat([both.y[0][..., 0], both.y[1]], 1)
    reference = loop(field, METHODS[name], torch.as_tensor(both.grid), y0, t)
    inputs = [y0, t, *field.parameters()]
    found = torch.autograd.grad((joined * weights(joined)).sum(), inputs)
    close(found, torch.autograd.grad((reference * weights(joined)).sum(), inputs), REACH.get(name, 1e-12))


@pytest.mark.parametrize(("end", "count", "middle"), [(0.3, 4, 2), pytest.param(1.5, 22, 9, marks=pytest.mark.slow)])
@MOST
def test_second_derivatives_by_gradgradcheck(name: str, end: float, count: int, middle: int) -> None:
    grid = torch.linspace(0, end, count, dtype=torch.float64)

    def states(y0: Tensor, p: Tensor, t: Tensor) -> Any:
        def f(t: Tensor, y: Tensor) -> Tensor:
            return torch.sin(p * y.flip(0)) * (1 + t * p[0]) - y**2

        return solve(f, y0, t, solver=name, control=Fixed(None), params=[p]).y[[1, middle, -1]]  # type: ignore[call-overload]

    y0 = torch.tensor([0.5, 0.2], dtype=torch.float64, requires_grad=True)
    p = torch.tensor([0.9, 1.3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(states, (y0, p, grid.requires_grad_()), fast_mode=True)
    assert torch.autograd.gradgradcheck(states, (y0, p, grid), fast_mode=True)


@MOST
def test_second_derivatives_on_an_adaptive_grid(name: str) -> None:
    field, y0, t = Field(), start(), times()
    inputs = [y0, t, *field.parameters()]
    solution = solve(field, y0, t, **settings(name))
    reference = loop(field, METHODS[name], torch.as_tensor(solution.grid), y0, t)
    found = []
    for states in (solution.y, reference):
        assert isinstance(states, Tensor)
        first = torch.autograd.grad((states * weights(states)).square().sum(), inputs, create_graph=True)
        found.append(torch.autograd.grad(sum((g * g.detach().cos()).sum() for g in first), inputs))  # type: ignore[arg-type]
    close(found[0], found[1], 1e-11)


def test_the_second_derivative_that_constant_checkpoints_get_wrong() -> None:
    k = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    solution = solve(lambda t, y: k * y, torch.ones(1, dtype=torch.float64), [0.0, 1.5], rtol=1e-11, atol=1e-11)
    (slope,) = torch.autograd.grad(solution.y[-1].sum(), k, create_graph=True)
    (curve,) = torch.autograd.grad(slope, k)
    assert float(curve) == pytest.approx(1.5**2 * math.exp(0.45), rel=1e-8)


@pytest.mark.parametrize(
    ("name", "rtol"),
    some(
        itertools.product([name for name, tableau in METHODS.items() if tableau.adaptive], [1e-2, 1e-4]),
        *(("heun_euler", 1e-2), ("bosh3", 1e-2), ("dopri5", 1e-4), ("dopri8", 1e-2)),
    ),
)
def test_naive_is_the_derivative_of_the_adaptive_map(name: str, rtol: float) -> None:
    """The step-size search included: finite differences of the whole program see the same, while decisions stay."""

    def last(p: Tensor, gradient: str = "aca") -> Any:
        y0 = torch.tensor([1.2, -0.4], dtype=torch.float64)

        def f(t: Tensor, y: Tensor) -> Tensor:
            return torch.stack([y[1], 4 * p * (1 - y[0] ** 2) * y[1] - y[0] + torch.sin(t)])

        return solve(
            f, y0, [0.0, 3.0], solver=name, rtol=rtol, atol=rtol, gradient=gradient, params=[p], first_step=0.02
        )

    p = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(last(p, "naive").y[-1].sum(), p)
    step, base = 1e-6, last(p).statistics
    sides = [last(p.detach() + sign * step) for sign in (1, -1)]
    assert all((s.statistics.accepted, s.statistics.rejected) == (base.accepted, base.rejected) for s in sides)
    difference = float(sides[0].y[-1].sum() - sides[1].y[-1].sum()) / (2 * step)
    assert float(found) == pytest.approx(difference, rel=1e-5)


@MOST
def test_forward_and_sensitivities_equal_aca(name: str) -> None:
    field, y0, t = Field(), start(), times().detach()
    inputs = [y0, *field.parameters()]
    found = []
    for gradient in ("aca", "forward"):
        states = solve(field, y0, t, **settings(name), gradient=gradient).y
        assert isinstance(states, Tensor)
        found.append(torch.autograd.grad((states * weights(states)).sum(), inputs))
    close(found[1], found[0])
    integrator = Integrator(**settings(name))
    jacobian = sensitivities(field, y0, t, params=list(field.parameters()), integrator=integrator)
    r = weights(torch.empty(len(t), 3))
    products = [torch.tensordot(r, part, 2) for part in (jacobian.y0, *jacobian.params)]
    close(products, found[0])


@pytest.mark.parametrize(
    ("rtols", "last"), some([((1e-2, 1e-4, 1e-6), 1e-3), ((1e-4, 1e-6, 1e-8, 1e-10), 1e-7)], ((1e-2, 1e-4, 1e-6), 1e-3))
)
def test_adjoint_converges_to_aca(rtols: tuple[float, ...], last: float) -> None:
    field, t = Field(), times()
    gaps = []
    for rtol in rtols:
        y0, found = start(), []
        for gradient in ("aca", "adjoint", Adjoint(seminorm=True)):
            states = solve(field, y0, t, solver="dopri8", rtol=rtol, atol=rtol, gradient=gradient).y
            assert isinstance(states, Tensor)
            grads = torch.autograd.grad((states * weights(states)).sum(), [y0, t, *field.parameters()])
            found.append(torch.cat([g.flatten() for g in grads]))
        gaps.append([float((other - found[0]).norm() / found[0].norm()) for other in found[1:]])
    assert max(gaps[-1]) < last
    for before, after in itertools.pairwise(gaps):
        assert all(later < earlier for earlier, later in zip(before, after, strict=True))


def test_float32_gradients_are_good_to_float32() -> None:
    exact = Field()
    single = Field().float()
    grads = []
    for field, dtype in ((exact, torch.float64), (single, torch.float32)):
        y0 = start().detach().to(dtype).requires_grad_()
        states = solve(field, y0, times().detach(), control=Fixed(0.1)).y
        assert isinstance(states, Tensor)
        assert states.dtype == dtype
        grads.append(torch.autograd.grad(states.sum(), [y0, *field.parameters()]))
    close([g.double() for g in grads[1]], grads[0], 3e-4)


def test_a_last_stage_that_round_off_puts_past_the_end_moves_with_it() -> None:
    begin, end = 1.53, 3.9
    assert begin + (end - begin) > end
    for gradient in ("aca", "naive"):
        t = torch.tensor([begin, end], dtype=torch.float64, requires_grad=True)
        one = torch.ones(1, dtype=torch.float64)
        y = solve(lambda t, y: t.sin() * y, one, t, solver="heun_euler", control=Fixed(), gradient=gradient).y
        (first,) = torch.autograd.grad(y[-1, 0], t, create_graph=gradient == "aca")  # type: ignore[call-overload]
        # y = 1 + h (s + e (1 + h s)) / 2 with s, e the sines of both ends and h = end - begin
        s, e, h = math.sin(begin), math.sin(end), end - begin
        slope = (s + e * (1 + h * s)) / 2 + h * (math.cos(end) * (1 + h * s) + e * s) / 2
        assert float(first[1].detach()) == pytest.approx(slope, rel=1e-13)
