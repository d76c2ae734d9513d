"""The engine at its edges: grids of the adjoint, buffers of f, starts on surfaces, second derivatives, copies."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from physid import odeint, odeint_adjoint, odeint_event, solve
from physid.errors import InputError
from physid.ode.solution import SolveError, Status


def t64(x: Any) -> Tensor:
    return torch.tensor(x, dtype=torch.float64)


# --- the reverse solve of the adjoint


def test_the_adjoint_uses_the_grid_of_a_constructor_backwards() -> None:
    y0 = torch.ones(1, dtype=torch.float64, requires_grad=True)

    def grid(f: Any, y0: Any, t: Tensor) -> Tensor:
        return torch.linspace(float(t[0]), float(t[-1]), 11, dtype=torch.float64)

    options = {"grid_constructor": grid}
    y = odeint_adjoint(lambda t, y: y, y0, t64([0.0, 1.0]), method="euler", options=options, adjoint_params=())
    y[-1].sum().backward()
    assert y0.grad is not None
    assert y0.grad.item() == pytest.approx(1.1**10, rel=1e-12)


def test_the_adjoint_lands_on_jumps_and_stays_clear_of_them() -> None:
    y0, seen = t64([1.0]).requires_grad_(), []

    def f(t: Tensor, y: Tensor) -> Tensor:
        seen.append(t.item())
        return torch.where(t < 0.3, -y, 2 * y)

    for kind, options in (("dopri5", {"jump_t": t64([0.3])}), ("rk4", {"step_size": 0.1, "perturb": True})):
        seen.clear()
        y = odeint_adjoint(f, y0, t64([0.0, 1.0]), method=kind, options=options, adjoint_params=())
        forward = len(seen)
        (g,) = torch.autograd.grad(y[-1].sum(), y0)
        assert g.item() == pytest.approx(math.exp(-0.3 + 1.4), rel=1e-6 if kind == "dopri5" else 1e-4)
        assert kind == "rk4" or 0.3 not in seen
        assert len(seen) < 4 * forward


class Told:
    """A decay that is told of the steps of the reverse solve."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, int, float]] = []
        self.accepted = 0

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        return -y

    def callback_step_adjoint(self, t: Tensor, y: tuple[Tensor, ...], h: Tensor) -> None:
        self.steps.append((t.item(), len(y), h.item()))

    def callback_accept_step_adjoint(self, t: Tensor, y: tuple[Tensor, ...], h: Tensor) -> None:
        self.accepted += 1


def test_callbacks_of_the_adjoint() -> None:
    f, y0 = Told(), t64([1.0]).requires_grad_()
    y = odeint_adjoint(f, y0, t64([0.0, 1.0]), adjoint_params=())
    assert not f.steps
    y[-1].sum().backward()
    assert f.steps[0][0] == 1.0
    assert all(h > 0 for _, _, h in f.steps)
    assert 3 < f.accepted <= len(f.steps)


# --- f and its results


def pulse(t: Tensor) -> Tensor:
    return (1 + 50 * torch.exp(-(((t - 5) * 4) ** 2))) ** 2


@pytest.mark.parametrize("gradient", ["aca", "adjoint"])
def test_an_f_with_a_buffer_of_its_own_is_as_one_with_fresh_memory(gradient: str) -> None:
    out = torch.zeros(2, dtype=torch.float64)

    def kept(t: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            out[0], out[1] = y[1], -pulse(t) * y[0]
        return out

    def fresh(t: Tensor, y: Tensor) -> Tensor:
        return torch.stack([y[1], -pulse(t) * y[0]])

    a, b = (
        solve(f, t64([1.0, 0.0]), [0.0, 6.0], rtol=1e-4, atol=1e-6, engine="eager", gradient=gradient)
        for f in (kept, fresh)
    )
    assert b.statistics.rejected > 3
    assert a.statistics.rejected == b.statistics.rejected
    assert torch.equal(a.grid, b.grid)  # type: ignore[arg-type]
    assert torch.equal(a.y, b.y)  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["native", "eager"])
def test_perturb_keeps_f_off_the_start_and_the_grid(engine: str) -> None:
    seen: list[float] = []

    def f(t: Tensor, y: Tensor) -> Tensor:
        if not torch.compiler.is_compiling() and engine == "eager":
            seen.append(t.item())
        return y / t

    options = {"perturb": True, "step_size": 0.25}
    y = odeint(f, t64([1.0]), t64([1.0, 2.0]), method="rk4", options=options, engine=engine)
    assert y[-1].item() == pytest.approx(2.0, rel=1e-4)
    assert not {1.0, 1.25, 1.5, 1.75, 2.0} & set(seen)


@pytest.mark.parametrize("engine", ["auto", "eager"])
def test_results_may_be_changed_in_place(engine: str) -> None:
    k = t64(1.0).requires_grad_()
    y = odeint(lambda t, y: -k * y, t64([1.0]), t64([0.0, 1.0]), engine=engine)
    y[0] = 5.0
    y.sum().backward()
    assert k.grad is not None
    assert k.grad.item() == pytest.approx(-math.exp(-1), rel=1e-6)
    c, start = t64(1.0).requires_grad_(), (t64([1.0]), t64([2.0, 3.0]))
    a, b = odeint(lambda t, y: (-c * y[0], c * y[1]), start, t64([0.0, 1.0]), engine=engine)
    a[0], b[1] = 5.0, 2 * b[1]
    (a.sum() + b.sum()).backward()
    assert c.grad is not None
    assert c.grad.item() == pytest.approx(-math.exp(-1) + 10 * math.e, rel=1e-6)


def test_solutions_and_errors_are_pickled() -> None:
    found = solve(lambda t, y: -y, t64([1.0]), [0.0, 1.0])
    again = pickle.loads(pickle.dumps(found))
    assert torch.equal(again.y, torch.as_tensor(found.y))
    assert torch.equal(again.grid, torch.as_tensor(found.grid))
    assert len(again.steps) == found.statistics.accepted
    with pytest.raises(SolveError) as raised:
        solve(lambda t, y: -y, t64([1.0]), [0.0, 1.0], max_steps=2)
    error = pickle.loads(pickle.dumps(raised.value))
    assert str(error) == str(raised.value)
    assert error.solution.status is Status.MAX_STEPS


class Stubborn:
    """An f whose __getattr__ raises what it likes."""

    def __init__(self) -> None:
        self.__dict__["held"] = {"k": 1.0}

    def __getattr__(self, name: str) -> Any:
        return self.held[name]

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        return -float(self.k) * y


def test_an_f_whose_attributes_raise_other_errors() -> None:
    for engine in ("auto", "eager"):
        y = solve(Stubborn(), t64([1.0]), [0.0, 1.0], engine=engine).y
        assert y[-1].item() == pytest.approx(math.exp(-1), rel=1e-6)


# --- events


def ball(t: Tensor, y: Tensor) -> Tensor:
    return torch.stack([y[1], torch.full_like(y[1], -9.81)])


def height(t: Tensor, y: Tensor) -> Tensor:
    return y[0]


@pytest.mark.parametrize("gradient", ["aca", "naive"])
def test_second_derivatives_through_an_event(gradient: str) -> None:
    v = t64(3.0).requires_grad_()
    start = torch.stack([v * 0 + 10.0, v])
    s = solve(ball, start, [0.0, 100.0], event_fn=height, engine="eager", gradient=gradient)
    q = math.sqrt(9 + 2 * 9.81 * 10)
    assert s.event_time is not None
    (d,) = torch.autograd.grad(s.event_time, v, create_graph=True)
    (dd,) = torch.autograd.grad(d, v, retain_graph=True)
    assert d.item() == pytest.approx((1 + 3 / q) / 9.81, rel=1e-10)
    assert dd.item() == pytest.approx((1 / q - 9 / q**3) / 9.81, rel=1e-9)
    (e,) = torch.autograd.grad(s.y[-1][1], v, create_graph=True)
    (ee,) = torch.autograd.grad(e, v)
    assert e.item() == pytest.approx(-3 / q, rel=1e-10)
    assert ee.item() == pytest.approx(-(1 / q - 9 / q**3), rel=1e-9)


def test_a_start_on_the_surface_meets_the_next_crossing() -> None:
    time, y = odeint_event(ball, t64([0.0, 5.0]), t64(0.0), event_fn=height)
    assert time.item() == pytest.approx(10 / 9.81, rel=1e-9)
    again, _ = odeint_event(ball, torch.stack([y[-1, 0], -y[-1, 1]]), time, event_fn=height)
    assert again.item() == pytest.approx(20 / 9.81, rel=1e-9)


def test_direction_of_an_event_and_lists_of_events() -> None:
    def one(t: Tensor, y: Tensor) -> Tensor:
        return y[0] - 1

    root = math.sqrt(25 - 2 * 9.81)
    for direction, time in ((1, 5 - root), (-1, 5 + root), (0, 5 - root)):
        one.direction = direction  # type: ignore[attr-defined]
        found, _ = odeint_event(ball, t64([0.0, 5.0]), t64(0.0), event_fn=one)
        assert found.item() == pytest.approx(time / 9.81, rel=1e-8)
    events = [lambda t, y: y - 0.2, lambda t, y: y - 0.5]
    met = solve(lambda t, y: -y, t64([1.0]), [0.0, 9.0], event_fn=events)
    assert met.status is Status.EVENT
    assert float(met.t[-1]) == pytest.approx(math.log(2), rel=1e-6)


def test_an_event_that_never_comes_ends_with_its_own_sentence() -> None:
    def turning(t: Tensor, y: Tensor) -> Tensor:
        return torch.stack([y[1], -y[0]])

    with pytest.raises(SolveError, match=r"no event in 100 steps, up to t = .*max_num_steps"):
        odeint_event(turning, t64([1.0, 0.0]), 0.0, event_fn=lambda t, y: y[0] - 9, options={"max_num_steps": 100})


# --- refusals


WRONG: Any = [3.0]


def jump(t: Tensor, y: Tensor) -> Tensor:
    return torch.where(t < 0.5, -0.5 * y, 0 * y + 1)


@pytest.mark.parametrize(
    ("work", "sentence"),
    [
        (lambda: solve(lambda t, y: -y, t64([1.0]), [0.0, 1.0], rtol=0.0, atol=0.0), "rtol and atol are both 0"),
        (lambda: solve(lambda t, y: 1 - y, t64([2.0, 0.0]), [0.0, 1.0], atol=0.0), r"starts at 0 \(number 1\)"),
        (lambda: solve(lambda t, y: -y, t64([1.0]), [0.0, 1.0], event_fn=lambda t, y: y < 0.5), "returned a boolean"),
        (lambda: solve(lambda t, y: -y, t64([1.0]), [0.0, 1.0], event_fn=WRONG), "event_fn is no function"),
        (
            lambda: odeint(jump, t64([1.0]), t64([0.0, 1.0]), options={"step_t": t64(0.5).requires_grad_()}),
            "step_t asks for a gradient",
        ),
        (
            lambda: torch.func.vmap(lambda k: odeint(lambda t, y: -k * y, t64([1.0]), t64([0.0, 1.0])))(
                t64([1.0, 2.0])
            ),
            "vmap over a tensor that f holds",
        ),
    ],
)
def test_what_has_no_meaning_is_refused_in_one_line(work: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as raised:
        work()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("interface", [odeint, odeint_adjoint])
def test_the_gradient_to_a_jump_time_is_that_of_its_movement(interface: Any) -> None:
    when = t64(0.5).requires_grad_()

    def f(t: Tensor, y: Tensor) -> Tensor:
        return torch.where(t < when, -0.5 * y, 0 * y + 1)

    how = {"adjoint_params": ()} if interface is odeint_adjoint else {}
    y = interface(f, t64([1.0]), t64([0.0, 1.0]), options={"jump_t": when}, **how)
    (g,) = torch.autograd.grad(y[-1].sum(), when)
    assert g.item() == pytest.approx(-0.5 * math.exp(-0.25) - 1, rel=1e-6)


def test_atol_may_be_zero_where_no_state_starts_at_zero() -> None:
    y = solve(lambda t, y: 1 - y, t64([0.5]), [0.0, 1.0], atol=0.0).y
    assert y[-1].item() == pytest.approx(1 - 0.5 * math.exp(-1), rel=1e-6)


def test_vmap_over_the_start_works() -> None:
    def run(y0: Tensor) -> Tensor:
        y: Tensor = odeint(lambda t, y: -2.0 * y, y0, t64([0.0, 1.0]))
        return y[-1]

    found = torch.func.vmap(run)(t64([[1.0], [2.0]]))
    assert found[:, 0].tolist() == pytest.approx([math.exp(-2), 2 * math.exp(-2)], rel=1e-6)


def test_times_that_a_short_float_cannot_tell_apart_are_warned_about() -> None:
    with pytest.warns(UserWarning, match="f sees t in steps of 0.12"):
        solve(lambda t, y: -y, torch.ones(1), [1e6, 1e6 + 1.25])
    solve(lambda t, y: -y, torch.ones(1), [10.0, 11.0])
