"""Events, dense output, callbacks and refusals of the drop-in functions, beside torchdiffeq's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from dropin import TOL, Oscillator, agree, peer, start, times
from torch import Tensor, nn

from physid import ode
from physid.errors import InputError

pytestmark = pytest.mark.peer


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
@pytest.mark.parametrize(
    ("reverse", "keywords"),
    [
        (False, {}),
        (True, {"method": "dopri8"}),
        (False, {"method": "rk4", "options": {"step_size": 0.02, "interp": "cubic"}}),
        pytest.param(True, {}, marks=pytest.mark.slow),
        pytest.param(False, {"method": "dopri8"}, marks=pytest.mark.slow),
        pytest.param(
            True, {"method": "rk4", "options": {"step_size": 0.01, "interp": "cubic"}}, marks=pytest.mark.slow
        ),
    ],
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
