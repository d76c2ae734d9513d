"""Whoever swaps `from torchdiffeq import odeint` for physid's keeps their results within ten times the tolerance."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from dropin import TOL, Coupled, Oscillator, Solver, agree, compare, peer, start, times
from torch import Tensor, nn

from physid import ode

pytestmark = pytest.mark.peer
ADAPTIVE = ["dopri8", "dopri5", "bosh3", "fehlberg2", "adaptive_heun"]
FIXED = ["euler", "midpoint", "heun2", "heun3", "rk4"]
BACK = pytest.param(True, marks=pytest.mark.slow)  # backwards in time, where another test goes backwards by default
LOOSE = {"adaptive_heun": 1e-4, "fehlberg2": 1e-4, "bosh3": 1e-5}  # methods of low order take thousands of steps below


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("method", [*ADAPTIVE, None])
def test_adaptive_methods(method: str | None, reverse: bool) -> None:
    tol = LOOSE.get(str(method), TOL)
    compare(Oscillator(), start(), times(reverse), tol, against_truth=True, method=method, rtol=tol, atol=tol)


@pytest.mark.parametrize("reverse", [False, BACK])
@pytest.mark.parametrize("method", FIXED)
@pytest.mark.parametrize("options", [None, {"step_size": 0.07}, {"step_size": 0.07, "interp": "cubic"}])
def test_fixed_methods(method: str, options: dict[str, Any] | None, reverse: bool) -> None:
    """The same steps, so the same numbers; with a step size, there all steps move with t0, here only the first one."""
    t = times(reverse) if options is None else times(reverse).detach()
    compare(Oscillator(), start(), t, 1e-12, method=method, options=options)


@pytest.mark.parametrize(
    ("method", "reverse"),
    [
        *((method, False) for method in FIXED),
        ("rk4", True),
        *(pytest.param(method, True, marks=pytest.mark.slow) for method in FIXED[:-1]),
    ],
)
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
@pytest.mark.parametrize("reverse", [False, BACK])
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


@pytest.mark.parametrize("reverse", [False, BACK])
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
