"""Whoever swaps `from torchdiffeq import odeint` for physid's keeps their results within ten times the tolerance."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from physid import ode
from physid.errors import InputError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peer = pytest.importorskip("torchdiffeq")

pytestmark = pytest.mark.peer
TOL = 1e-7
ADAPTIVE = ["dopri8", "dopri5", "bosh3", "fehlberg2", "adaptive_heun"]
FIXED = ["euler", "midpoint", "heun2", "heun3", "rk4"]
LOOSE = {"adaptive_heun": 1e-4, "fehlberg2": 1e-4, "bosh3": 1e-5}  # methods of low order take thousands of steps below
Solver = Callable[..., Any]


class Oscillator(nn.Module):
    """A forced van der Pol oscillator with two unknowns."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.damping = nn.Parameter(torch.tensor(0.5, dtype=dtype))
        self.force = nn.Parameter(torch.tensor([0.3, 0.7], dtype=dtype))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        x, v = y[..., 0], y[..., 1]
        push = self.force[0] * torch.cos(self.force[1] * t)
        return torch.stack([v, self.damping * (1 - x**2) * v - x + push], dim=-1)


class Coupled(nn.Module):
    """A tuple state of parts with different shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(0.4, dtype=torch.float64))

    def forward(self, t: Tensor, y: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        a, b = y
        return -self.rate * a + b.sum(), torch.cos(t) * b - 0.1 * a


def start(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor([1.2, -0.4], dtype=dtype, requires_grad=True)


def times(reverse: bool = False) -> Tensor:
    t = torch.tensor([0.0, 0.3, 0.31, 1.1, 2.0], dtype=torch.float64)
    return (t.flip(0) if reverse else t).requires_grad_()


def flat(y: Any) -> Tensor:
    return torch.cat([part.reshape(-1) for part in y]) if isinstance(y, tuple) else y.reshape(-1)


def run(solver: Solver, f: nn.Module, y0: Any, t: Tensor, **keywords: Any) -> tuple[Tensor, list[Tensor]]:
    """Values, and gradients of a fixed mixture of them with respect to y0, t and the parameters."""
    y = flat(solver(f, y0, t, **keywords))
    loss = (y * torch.linspace(1, 2, len(y), dtype=y.dtype)).sum()
    leaves = [*(y0 if isinstance(y0, tuple) else (y0,)), *f.parameters(), t]
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    return y.detach(), list(torch.autograd.grad(loss, wanted))


def agree(mine: Tensor, theirs: Tensor, tol: float, what: str = "result", truth: Tensor | None = None) -> None:
    """Within ten times the tolerance of the peer, or of the truth where the peer itself is further off."""
    assert mine.shape == theirs.shape
    assert mine.dtype == theirs.dtype
    allowed = 10 * tol * (1 + theirs.abs())
    error = (mine - theirs).abs()
    if truth is not None:
        allowed = torch.maximum(allowed, 2 * (theirs - truth).abs().max())
        error = torch.minimum(error, (mine - truth).abs())
    excess = float((error / allowed).max())
    assert excess <= 1, f"{what}: {excess:.3g} times what is allowed: {mine.tolist()} against {theirs.tolist()}"


def compare(
    f: nn.Module,
    y0: Any,
    t: Tensor,
    tol: float,
    name: str = "odeint",
    theirs: dict[str, Any] | None = None,
    against_truth: bool = False,
    **keywords: Any,
) -> None:
    """Run both with the same keywords; `theirs` replaces some of them for the peer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values, gradients = run(getattr(peer, name), f, y0, t, **(keywords | (theirs or {})))
        jumps = {key: value for key, value in (keywords.get("options") or {}).items() if key == "jump_t"}
        tight: dict[str, Any] = {"method": "dopri5", "rtol": 1e-11, "atol": 1e-11, "options": jumps}
        best = run(peer.odeint, f, y0, t, **tight) if against_truth else None
    have, slopes = run(getattr(ode, name), f, y0, t, **keywords)
    agree(have, values, tol, "values", best and best[0])
    for i, (mine, other) in enumerate(zip(slopes, gradients, strict=True)):
        agree(mine, other, 10 * tol, f"gradient {i}", best and best[1][i])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("method", [*ADAPTIVE, None])
def test_adaptive_methods(method: str | None, reverse: bool) -> None:
    tol = LOOSE.get(str(method), TOL)
    compare(Oscillator(), start(), times(reverse), tol, against_truth=True, method=method, rtol=tol, atol=tol)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("method", FIXED)
@pytest.mark.parametrize("options", [None, {"step_size": 0.07}, {"step_size": 0.07, "interp": "cubic"}])
def test_fixed_methods(method: str, options: dict[str, Any] | None, reverse: bool) -> None:
    """The same steps, so the same numbers; with a step size, there all steps move with t0, here only the first one."""
    t = times(reverse) if options is None else times(reverse).detach()
    compare(Oscillator(), start(), t, 1e-12, method=method, options=options)


@pytest.mark.parametrize("method", FIXED)
@pytest.mark.parametrize("reverse", [False, True])
def test_grid_constructor_and_perturb(method: str, reverse: bool) -> None:
    def grid(f: Any, y0: Any, t: Tensor) -> Tensor:
        return torch.linspace(float(t[0]), float(t[-1]), 23, dtype=t.dtype)

    options = {"grid_constructor": grid, "perturb": True}
    compare(Oscillator(), start(), times(reverse).detach(), 1e-12, method=method, options=options)


@pytest.mark.parametrize(
    "options",
    [
        {"first_step": 0.01},
        {"min_step": 1e-4},
        {"max_step": 0.05},
        {"safety": 0.8, "ifactor": 4.0, "dfactor": 0.5},
        {"max_num_steps": 1000},
        {"norm": lambda y: y.abs().max()},
        {"step_t": torch.tensor([0.25, 0.9], dtype=torch.float64)},
        {"jump_t": torch.tensor([0.25, 0.9], dtype=torch.float64)},
        {"dtype": torch.float64},
        {},
    ],
    ids=lambda options: "+".join(options) or "none",
)
@pytest.mark.parametrize("reverse", [False, True])
def test_options_of_adaptive_methods(options: dict[str, Any], reverse: bool) -> None:
    compare(
        Oscillator(),
        start(),
        times(reverse),
        TOL,
        against_truth=True,
        method="dopri5",
        rtol=TOL,
        atol=TOL,
        options=options,
    )


def test_steps_of_a_least_size_are_taken_whatever_the_error() -> None:
    """With min_step = max_step the steps are the same ones, and so are the numbers at their ends."""
    t = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    options = {"min_step": 0.25, "max_step": 0.25, "first_step": 0.25}
    compare(Oscillator(), start(), t, 1e-12, method="dopri5", rtol=1e-12, atol=1e-12, options=options)


class Switch(nn.Module):
    """A force that jumps at t = 0.7."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return -y + torch.where(t < 0.7, 0.0, 1.0) * self.level


@pytest.mark.parametrize("method", ["dopri5", "bosh3", "dopri8"])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_jump_in_f_is_met_exactly(method: str, reverse: bool) -> None:
    options = {"jump_t": torch.tensor([0.7], dtype=torch.float64)}
    t = times(reverse)
    theirs: dict[str, Any] = {"method": "dopri5"} if method == "dopri8" else {}
    compare(
        Switch(), start(), t, TOL, against_truth=True, method=method, rtol=TOL, atol=TOL, options=options, theirs=theirs
    )


@pytest.mark.parametrize("method", ["dopri5", "adaptive_heun", "rk4"])
@pytest.mark.parametrize("reverse", [False, True])
def test_tuple_states(method: str, reverse: bool) -> None:
    y0 = (torch.tensor(1.0, dtype=torch.float64, requires_grad=True), torch.full((2, 3), 0.2, dtype=torch.float64))
    tol = LOOSE.get(method, TOL)
    accuracy = 1e-12 if method == "rk4" else tol
    compare(Coupled(), y0, times(reverse), accuracy, against_truth=method != "rk4", method=method, rtol=tol, atol=tol)
    y = ode.odeint(Coupled(), y0, times(reverse), method=method, rtol=tol, atol=tol)
    assert [part.shape for part in y] == [(5,), (5, 2, 3)]


def test_tuple_states_with_tolerances_and_a_norm_of_their_own() -> None:
    y0 = (torch.tensor(1.0, dtype=torch.float64), torch.full((2, 3), 0.2, dtype=torch.float64))
    seen = []

    def norm(parts: tuple[Tensor, ...]) -> Tensor:
        seen.append([part.shape for part in parts])
        return torch.stack([part.abs().max() for part in parts]).max()

    tolerances: dict[str, Any] = {"rtol": (1e-7, 1e-6), "atol": (1e-8, 1e-7)}
    compare(Coupled(), y0, times(), 1e-6, method="dopri5", options={"norm": norm}, **tolerances)
    assert all(shapes == [(), (2, 3)] for shapes in seen)


def test_tolerance_as_a_tensor() -> None:
    rtol = torch.tensor([1e-7, 1e-6], dtype=torch.float64)
    compare(Oscillator(), start(), times(), 1e-6, method="dopri5", rtol=rtol, atol=rtol)


@pytest.mark.parametrize("method", ["dopri5", "rk4"])
def test_float32_states(method: str) -> None:
    f = Oscillator(torch.float32)
    compare(f, start(torch.float32), times().detach(), 1e-5, method=method, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["dopri5", "rk4"])
def test_complex_states(method: str) -> None:
    class Spin(nn.Module):
        def forward(self, t: Tensor, y: Tensor) -> Tensor:
            assert not t.is_complex()
            turn: Tensor = 1j + torch.sin(t)
            return turn.mul(y)

    y0 = torch.tensor([1.0 + 0.5j, -0.2j], dtype=torch.complex128)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peer.odeint(Spin(), y0, times().detach(), method=method, rtol=TOL, atol=TOL)
    mine = ode.odeint(Spin(), y0, times().detach(), method=method, rtol=TOL, atol=TOL)
    assert mine.dtype == theirs.dtype
    assert torch.allclose(mine, theirs, rtol=1e-6, atol=1e-6)


def test_one_time_gives_the_start() -> None:
    t = torch.tensor([0.3], dtype=torch.float64)
    assert torch.equal(ode.odeint(Oscillator(), start(), t), peer.odeint(Oscillator(), start(), t))


def test_plain_functions_and_closures_carry_gradients() -> None:
    rate = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def loss(solver: Solver) -> Tensor:
        y: Tensor = solver(lambda t, y: -rate * y * t, start(), times(), rtol=TOL, atol=TOL)
        return y[-1].sum()

    mine, theirs = (torch.autograd.grad(loss(solver), [rate])[0] for solver in (ode.odeint, peer.odeint))
    agree(mine, theirs, TOL)


# --- the adjoint


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"adjoint_options": {"norm": "seminorm"}},
        {"adjoint_options": {"norm": lambda state: state[1].abs().max()}},
        {"adjoint_method": "dopri8", "adjoint_rtol": 1e-9, "adjoint_atol": 1e-9},
        {"method": "rk4", "options": {"step_size": 0.01}},
    ],
    ids=["plain", "seminorm", "norm", "other-method", "fixed"],
)
def test_adjoint(keywords: dict[str, Any], reverse: bool) -> None:
    merged: dict[str, Any] = {"method": "dopri5", "rtol": TOL, "atol": TOL} | keywords
    compare(Oscillator(), start(), times(reverse), TOL, "odeint_adjoint", **merged)


def test_adjoint_of_tuple_states() -> None:
    y0 = (torch.tensor(1.0, dtype=torch.float64, requires_grad=True), torch.full((2, 3), 0.2, dtype=torch.float64))
    compare(Coupled(), y0, times(), TOL, "odeint_adjoint", method="dopri5", rtol=TOL, atol=TOL)


def test_adjoint_params_name_what_gets_a_gradient() -> None:
    f, y0, t = Oscillator(), start(), times().detach()
    keywords: dict[str, Any] = {"adjoint_params": (f.damping,), "rtol": TOL, "atol": TOL}
    for module in (ode, peer):
        y = module.odeint_adjoint(f, y0, t, **keywords)
        damping, force = torch.autograd.grad(y.sum(), [f.damping, f.force], allow_unused=True)
        assert damping is not None
        assert force is None


# --- events and dense output


class Ball(nn.Module):
    """A thrown ball, height and speed."""

    def __init__(self) -> None:
        super().__init__()
        self.gravity = nn.Parameter(torch.tensor(9.81, dtype=torch.float64))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.stack([y[1], -self.gravity])


def landed(t: Tensor, y: Tensor) -> Tensor:
    return y[0]


def ball() -> Tensor:
    return torch.tensor([10.0, 1.0], dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("interface", ["odeint", "odeint_adjoint"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "keywords", [{}, {"method": "dopri8"}, {"method": "rk4", "options": {"step_size": 0.01, "interp": "cubic"}}]
)
def test_event_times_and_states_with_gradients(interface: str, reverse: bool, keywords: dict[str, Any]) -> None:
    results = []
    for module in (ode, peer):
        f, y0 = Ball(), ball()
        t0 = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
        time, states = module.odeint_event(
            f,
            y0,
            t0,
            event_fn=landed,
            reverse_time=reverse,
            odeint_interface=getattr(module, interface),
            rtol=1e-8,
            atol=1e-8,
            **keywords,
        )
        leaves = [y0, f.gravity] if interface == "odeint_adjoint" else [y0, f.gravity, t0]
        slopes = torch.autograd.grad(time, leaves, retain_graph=True)
        more = torch.autograd.grad(states[-1].sum(), [y0, f.gravity])
        results.append([time.detach(), states.detach(), *slopes, *more])
    for mine, theirs in zip(*results, strict=True):
        agree(mine, theirs, 1e-7)


def test_event_through_odeint_of_several_components_and_tuple_states() -> None:
    class Pair(nn.Module):
        def forward(self, t: Tensor, y: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            return y[1], -y[0]

    def event(t: Tensor, y: tuple[Tensor, Tensor]) -> Tensor:
        return torch.stack([y[0] - 0.2, t - 5.0])

    y0 = (torch.tensor(1.0, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64))
    t = torch.tensor([0.0, 1.0], dtype=torch.float64)
    results = [module.odeint(Pair(), y0, t, event_fn=event, rtol=1e-8, atol=1e-8) for module in (ode, peer)]
    (time, states), (other, others) = results
    agree(time, other, 1e-8)
    assert [part.shape for part in states] == [part.shape for part in others] == [(2,), (2,)]
    for mine, theirs in zip(states, others, strict=True):
        agree(mine, theirs, 1e-8)


def test_dense_solution() -> None:
    f, y0 = Oscillator(), start()
    t0, t1 = torch.tensor(0.0, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64)
    mine = ode.odeint_dense(f, y0, t0, t1, rtol=TOL, atol=TOL, method="dopri5", options={"max_step": 0.5})
    with torch.no_grad():
        theirs = peer.odeint_dense(f, y0, t0, t1, rtol=TOL, atol=TOL, method="dopri5", options={"max_step": 0.5})
        for t in torch.linspace(0, 1.9, 13, dtype=torch.float64):
            state = mine(t)
            assert isinstance(state, Tensor)
            agree(state.detach(), theirs(t), TOL)


# --- callbacks, times and refusals


class Watched(Oscillator):
    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[float, float]] = []
        self.accepted = self.rejected = 0

    def callback_step(self, t0: Tensor, y0: Tensor, dt: Tensor) -> None:
        self.steps.append((float(t0), float(dt)))

    def callback_accept_step(self, t0: Tensor, y0: Tensor, dt: Tensor) -> None:
        self.accepted += 1

    def callback_reject_step(self, t0: Tensor, y0: Tensor, dt: Tensor) -> None:
        self.rejected += 1


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
@pytest.mark.parametrize("module", [ode, peer], ids=["physid", "torchdiffeq"])
def test_callbacks(module: Any) -> None:
    f = Watched()
    module.odeint(f, start(), times(), method="dopri5", rtol=TOL, atol=TOL)
    assert len(f.steps) == f.accepted + f.rejected
    assert f.accepted > 3
    assert f.steps[0][0] == 0
    assert all(dt > 0 for _, dt in f.steps)
    g = Oscillator()
    seen: list[float] = []
    g.callback_step = lambda t0, y0, dt: seen.append(float(t0))  # type: ignore[assignment]
    module.odeint(g, start(), times(), method="rk4", options={"step_size": 0.5})
    assert seen == [0, 0.5, 1.0, 1.5]


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({"method": "dopri6"}, "Did you mean 'dopri"),
        ({"method": "implicit_adams"}, "nearest is 'rk4'"),
        ({"method": "scipy_solver"}, "nearest is 'dopri8'"),
        ({"method": "dopri5", "options": {"frist_step": 0.1}}, "Did you mean 'first_step'"),
        ({"method": "rk4", "options": {"first_step": 0.1}}, "unknown option of method 'rk4'"),
        ({"method": "rk4", "options": {"step_size": 0.1, "grid_constructor": lambda f, y, t: t}}, "exclude each other"),
        ({"method": "rk4", "options": {"step_size": 0.1, "interp": "quartic"}}, "unknown interp"),
        ({"method": "rk4", "options": {"grid_constructor": lambda f, y, t: t[:-1]}}, "does not run from"),
    ],
    ids=lambda value: "",
)
def test_what_cannot_be_done_is_refused(keywords: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        ode.odeint(Oscillator(), start(), times(), **keywords)
    assert isinstance(caught.value, InputError)


def test_too_many_steps_and_a_repeated_stop_end_with_a_sentence() -> None:
    with pytest.raises(ode.SolveError, match="3 steps reached only"):
        ode.odeint(Oscillator(), start(), times(), method="dopri5", options={"max_num_steps": 3})
