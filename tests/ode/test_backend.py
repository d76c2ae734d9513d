"""Gradient methods stated as solves on a backend: those of others are compiled, too, and derivatives stay apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from physid.errors import InputError
from physid.machine import compiler_command
from physid.ode import Adjoint, Backend, Integrator, ODEProblem, odeint, solve, with_pullback
from physid.ode.eager import engine as eager
from physid.ode.rhs import Field

DOUBLE = torch.float64
pytestmark = pytest.mark.skipif(compiler_command() is None, reason="no C compiler")
ENGINES = pytest.mark.parametrize("engine", ["eager", "auto"])
T = torch.linspace(0.0, 1.0, 4, dtype=DOUBLE)


@dataclass(frozen=True)
class Directional:
    """A gradient by central differences along every number of y0 and the parameters, each a solve."""

    name: str = "directional"
    h: float = 1e-5
    probed: bool = False

    def solve(self, problem: ODEProblem, backend: Backend) -> tuple[Tensor, Any]:
        """The states with a derivative by solves."""

        def pull(values: Tensor, g: Tensor, needs: Sequence[bool]) -> list[Tensor | None]:
            parts = [problem.y0.detach(), *(x.detach() for x in problem.captured)]
            found = [torch.zeros_like(x) for x in parts]
            for i, part in enumerate(parts):
                for k in range(part.numel()):
                    for h in (self.h, -self.h):
                        moved = [x.clone() for x in parts]
                        moved[i].view(-1)[k] += h
                        end = backend.solve(problem.at(moved[0], moved[1:])).values
                        found[i].view(-1)[k] += (g * end).sum() / (2 * h)
            return [found[0], None, *found[1:]]

        return with_pullback(problem, lambda: backend.solve(problem), pull)


class Swing(nn.Module):
    """A pendulum whose stiffness is a parameter of the module and whose damping is a tensor that it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.stiffness = nn.Parameter(torch.tensor(4.0, dtype=DOUBLE))
        self.damping = torch.tensor(0.3, dtype=DOUBLE, requires_grad=True)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.stack([y[1], -self.stiffness * torch.sin(y[0]) - self.damping * y[1]])


def slopes(f: Swing, gradient: Any, engine: str, **options: Any) -> tuple[list[Tensor], Any]:
    y0 = torch.tensor([0.8, 0.1], dtype=DOUBLE, requires_grad=True)
    found: Any = solve(f, y0, T, gradient=gradient, engine=engine, rtol=1e-9, atol=1e-11, **options)
    weight = torch.cos(torch.arange(8.0, dtype=DOUBLE)).view(4, 2)
    return list(torch.autograd.grad((weight * found.y).sum(), [y0, f.stiffness, f.damping])), found


def test_a_gradient_of_ones_own_is_compiled_where_f_is(monkeypatch: pytest.MonkeyPatch) -> None:
    f = Swing()
    wanted, _ = slopes(f, "aca", "eager")
    by_torch, other = slopes(f, Directional(), "eager")
    assert (other.engine, other.gradient) == ("eager", "directional")
    slopes(f, Directional(), "auto")  # compiles

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("marched by torch")

    monkeypatch.setattr(eager, "March", refuse)
    for engine in ("auto", "native"):
        ours, found = slopes(f, Directional(), engine)
        assert (found.engine, found.engine_note) == ("native", "")
        for one, two, true in zip(ours, by_torch, wanted, strict=True):
            assert torch.allclose(one, two, rtol=1e-7, atol=1e-8)
            assert torch.allclose(one, true, rtol=1e-6, atol=1e-7)


def test_other_numbers_leave_no_trace() -> None:
    f = Swing()
    problem = Integrator().pose(f, torch.tensor([0.8, 0.1], dtype=DOUBLE), T, None, False)
    versions = [x._version for x in problem.captured]
    values = [torch.full_like(x, 2.0) for x in problem.captured]
    moved = eager.EAGER.solve(problem.at(problem.y0, values)).values
    assert torch.stack([f.stiffness, f.damping]).tolist() == [4.0, 0.3]
    assert [x._version for x in problem.captured] == versions
    with torch.no_grad():
        for x in problem.captured:
            x.fill_(2.0)
    plain = Integrator(engine="eager").solve(f, problem.y0, T).y
    assert torch.allclose(moved, torch.as_tensor(plain).reshape(4, -1), rtol=1e-12, atol=0.0)

    def failing(t: Tensor, y: Tensor) -> Tensor:
        if float(rate.detach()) == 3.0:
            raise ValueError("three")
        return -rate * y

    rate = torch.tensor(1.0, dtype=DOUBLE, requires_grad=True)
    problem = Integrator().pose(failing, torch.ones(1, dtype=DOUBLE), T, None, False)
    with pytest.raises(ValueError, match="three"):
        eager.EAGER.solve(problem.at(problem.y0, [torch.tensor(3.0, dtype=DOUBLE)]))
    assert float(rate.detach()) == 1.0


def test_what_a_method_can_is_asked_of_it() -> None:
    f = Swing()
    with pytest.raises(InputError, match="probes with gradient 'directional'"):
        slopes(f, Directional(), "auto", probes=1)
    _, found = slopes(f, Directional(probed=True), "auto", probes=1)
    assert found.statistics.tangents > 0
    with pytest.raises(InputError, match="checkpoints=3 with gradient 'directional': it keeps no states"):
        slopes(f, Directional(), "auto", checkpoints=3)


def test_a_method_that_takes_no_backend_runs_by_torch_and_is_warned_about() -> None:
    class Former:
        name = "former"

        def solve(self, problem: ODEProblem) -> tuple[Tensor, Any]:
            outcome = eager.EAGER.traced(problem)
            return outcome.values, outcome

    f: Any = Former()
    with pytest.warns(DeprecationWarning, match=r"'former' .* solve\(problem, backend\)"):
        ours, found = slopes(Swing(), f, "auto")
    assert (found.engine, found.gradient, "takes no backend" in found.engine_note) == ("eager", "former", True)
    for one, true in zip(ours, slopes(Swing(), "naive", "eager")[0], strict=True):
        assert torch.equal(one, true)


def test_a_solve_without_a_gradient_is_compiled_whatever_the_method() -> None:
    def f(t: Tensor, y: Tensor) -> Tensor:
        return -0.5 * y

    for gradient in ("aca", "naive", "adjoint", "forward"):
        assert solve(f, torch.ones(2, dtype=DOUBLE), T, gradient=gradient, engine="native").engine == "native"


def test_the_adjoint_method_is_compiled_for_modules_and_says_why_not_for_others() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rate = nn.Parameter(torch.tensor(0.7, dtype=DOUBLE))

        def forward(self, t: Tensor, y: Tensor) -> Tensor:
            return -self.rate * y

    net, y0 = Net(), torch.tensor([1.0, 2.0], dtype=DOUBLE)
    found = solve(net, y0, [0.0, 1.0], gradient="adjoint", engine="native")
    (slope,) = torch.autograd.grad(torch.as_tensor(found.y)[-1].sum(), net.rate)
    assert float(slope) == pytest.approx(-3 * math.exp(-0.7), rel=1e-5)
    rate, cases = net.rate, list[tuple[Any, Any, str]]()
    cases += [("adjoint", lambda t, y: -rate * y, "an f that is no module")]
    cases += [(Adjoint(seminorm=True), net, "a norm of their own")]
    for gradient, f, why in cases:
        other = solve(f, y0, [0.0, 1.0], gradient=gradient)
        assert other.engine == "eager"
        assert f"reverse solves of gradient 'adjoint' are not compiled for {why}" in other.engine_note
        with pytest.raises(InputError, match=why):
            solve(f, y0, [0.0, 1.0], gradient=gradient, engine="native")
    with pytest.warns(DeprecationWarning, match="compiled=.* is not needed"):
        assert Adjoint(compiled=True) == Adjoint()


def derivatives(make: Any, engine: str) -> list[float]:
    """First and second derivative by w at .7 of the sum of squares at t = 1 of what `make` gives: f and y0."""
    w = torch.tensor(0.7, dtype=DOUBLE, requires_grad=True)
    f, y0 = make(w)
    y: Any = solve(f, y0, [0.0, 1.0], rtol=1e-10, atol=1e-12, engine=engine).y
    (first,) = torch.autograd.grad(y[-1].square().sum(), w, create_graph=True)
    (second,) = torch.autograd.grad(first, w)
    return [first.item(), second.item()]


@ENGINES
def test_a_start_made_of_what_f_uses_counts_once(engine: str) -> None:
    def make(w: Tensor) -> Any:
        return lambda t, y: -w * y, w * torch.tensor([1.0, 2.0], dtype=DOUBLE)

    truth = [(7 - 4.9) * math.exp(-1.4), (10 - 28 + 9.8) * math.exp(-1.4)]  # of 5 w^2 exp(-2 w)
    for _ in range(2):  # remembered the second time
        assert derivatives(make, engine) == pytest.approx(truth, rel=1e-8)


@ENGINES
def test_a_parameter_made_of_another_one_counts_once(engine: str) -> None:
    def make(w: Tensor) -> Any:
        v = w * w
        u = v + w  # made of both
        return lambda t, y: -(w + v + 0.5 * u) * y, torch.ones(1, dtype=DOUBLE)

    value = math.exp(-3 * (0.7 + 0.49))  # of exp(-3 (w + w^2))
    truth = [-3 * 2.4 * value, (9 * 2.4**2 - 6) * value]
    for _ in range(2):
        assert derivatives(make, engine) == pytest.approx(truth, rel=1e-8)


def test_odeint_remembers_f_as_solve_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def decay(k: Tensor) -> Any:
        return lambda t, y: -k * y

    found = []
    for _ in range(2):
        k = torch.tensor([1.3, 0.2], dtype=DOUBLE, requires_grad=True)
        y: Tensor = odeint(decay(k), torch.ones(2, dtype=DOUBLE), T)
        found.append([y.detach(), *torch.autograd.grad(y.sum(), k)])
        monkeypatch.setattr(Field, "probe", lambda *_: pytest.fail("f was evaluated"))
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))
