"""The native engine on batches and on the catalogue: own steps, failures at home, what is remembered, leaks."""

from __future__ import annotations

import gc
import resource
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from physid.datasets import load
from physid.machine import compiler_command
from physid.models import LADDER, build
from physid.ode import METHODS, Fixed, Integrator, Solution, Status, sensitivities, solve
from physid.ode.native import cache

pytestmark = pytest.mark.skipif(compiler_command() is None, reason="no C compiler")

Field = Callable[[Tensor, Tensor], Tensor]
MEASURED = {"emps", "lynxhare", "solarsystem", "tanks"}  # their data are files
SIMULATED = sorted({name for name, _ in LADDER} - MEASURED)
CATALOGUE = [*SIMULATED, *(pytest.param(name, marks=pytest.mark.data) for name in sorted(MEASURED))]


def oscillators(damping: Tensor, scale: Tensor) -> Field:
    """Van der Pol with a damping per sample and a scale that all share."""

    def field(t: Tensor, y: Tensor) -> Tensor:
        x, v = y.unbind(-1)
        return torch.stack([v, scale[0] * damping * (1 - x * x) * v - scale[1] * x + 0.1 * torch.sin(t)], -1)

    return field


def batch(size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Damping [B], scale [2], states [B, 2]."""
    damping = torch.linspace(0.2, 3, size, dtype=torch.float64).requires_grad_()
    y0 = torch.randn(size, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    return damping, torch.tensor([1.0, 1.2], dtype=torch.float64, requires_grad=True), y0


def run(damping: Tensor, scale: Tensor, y0: Tensor, t: Tensor, engine: str = "native") -> tuple[Solution, Tensor]:
    solution = solve(oscillators(damping, scale), y0, t, rtol=1e-6, batched=True, engine=engine)
    assert isinstance(solution.y, Tensor)
    return solution, solution.y


def slope(y: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad((y * torch.linspace(0.5, 1.5, len(y)).view(-1, 1, 1)).sum(), inputs)


@pytest.mark.parametrize("own_times", [False, True])
def test_a_sample_is_the_same_alone_and_in_any_batch(own_times: bool) -> None:
    damping, scale, y0 = batch(70)
    t = torch.linspace(0, 3, 9, dtype=torch.float64)
    times = t[:, None] * torch.linspace(0.5, 1, 70, dtype=torch.float64) if own_times else t
    solution, y = run(damping, scale, y0, times)
    gradients = slope(y, damping, y0)
    for lane in (0, 13, 69):
        mine = times[:, lane : lane + 1] if own_times else times
        alone, z = run(damping[lane : lane + 1], scale, y0[lane : lane + 1], mine)
        assert torch.equal(z[:, 0], y[:, lane])
        assert torch.equal(alone.grid[0], solution.grid[lane])
        d, s = slope(z, damping, y0)
        assert torch.equal(d[lane], gradients[0][lane])
        assert torch.equal(s[lane], gradients[1][lane])


def test_a_batch_agrees_with_the_eager_one() -> None:
    t = torch.linspace(0, 2, 9, dtype=torch.float64).requires_grad_()
    found = []
    for engine in ("native", "eager"):
        damping, scale, y0 = batch(5)
        solution, y = run(damping, scale, y0, t, engine)
        assert solution.engine == engine
        found.append([y.detach(), *slope(y, damping, scale, y0, t)])
    for native, eager in zip(*found, strict=True):
        assert float((native - eager).abs().max() / eager.abs().max()) < 1e-10


def test_threads_change_nothing() -> None:
    damping, scale, y0 = batch(70)
    t = torch.linspace(0, 3, 9, dtype=torch.float64)
    found = []
    before = torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        _, y = run(damping, scale, y0, t)
        found.append([y.detach(), *slope(y, damping, scale, y0)])
    torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


def test_a_failing_sample_leaves_the_others_alone() -> None:
    t = torch.linspace(0, 3, 7, dtype=torch.float64)
    y0 = torch.tensor([[0.1], [0.5], [-1.0]], dtype=torch.float64, requires_grad=True)
    solution = solve(lambda t, y: y * y, y0, t, batched=True, engine="native", throw=False)
    assert isinstance(solution.y, Tensor)
    assert [status.ok for status in solution.statuses] == [True, False, True]
    assert solution.status is not Status.SUCCESS
    assert "1 of 3 samples failed, first sample 1" in solution.message
    exact = y0.detach()[:, 0] / (1 - y0.detach()[:, 0] * t[:, None])
    assert torch.allclose(solution.y[:, [0, 2], 0].detach(), exact[:, [0, 2]], rtol=1e-6)
    (by_start,) = torch.autograd.grad(solution.y[-1, [0, 2]].sum(), y0)
    assert torch.allclose(by_start[[0, 2], 0], 1 / (1 - 3 * y0.detach()[[0, 2], 0]) ** 2, rtol=1e-5)
    assert float(by_start[1]) == 0


def test_sensitivities_of_a_batch() -> None:
    _, scale, y0 = batch(4)
    t = torch.linspace(0, 1, 5, dtype=torch.float64)
    damping = torch.tensor(0.7, dtype=torch.float64)
    found = [
        sensitivities(
            oscillators(damping, scale), y0.detach(), t, params=[scale], batched=True, integrator=Integrator(engine=e)
        )
        for e in ("native", "eager")
    ]
    assert [by.solution.engine for by in found] == ["native", "eager"]
    assert torch.allclose(found[0].y0, found[1].y0, rtol=1e-9, atol=1e-10)
    assert torch.allclose(found[0].params[0], found[1].params[0], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("engine", ["native", "eager"])
def test_sensitivities_without_parameters(engine: str) -> None:
    rate, y0, t = torch.tensor([1.0, 1.5], dtype=torch.float64), torch.ones(2, dtype=torch.float64), [0.0, 1.0]
    found = sensitivities(lambda t, y: -rate * rate * y, y0, t, params=(), integrator=Integrator(engine=engine))
    assert (found.solution.engine, found.params) == (engine, ())
    assert torch.allclose(found.y0[-1], torch.diag(torch.exp(-(rate**2))), rtol=1e-6)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_small_model_of_the_catalogue_runs_natively(name: str) -> None:
    data = load(name)
    model = build(data)
    model.drive(data.inputs)
    times = torch.cat([torch.tensor([data.initial_time]), data.train.times[:4]]).double()
    found = []
    for engine in ("auto", "eager"):
        y0 = data.initial.clone().requires_grad_()
        steps = Fixed(float(times[-1] - times[0]) / 7)
        solution = solve(model, y0, times, control=steps, engine=engine)
        assert solution.engine == {"auto": "native"}.get(engine, engine), solution.engine_note
        assert isinstance(solution.y, Tensor)
        by = torch.autograd.grad(solution.y.square().sum(), [y0, *model.free().values()])
        found.append([solution.y.detach(), *by])
    for native, eager in zip(*found, strict=True):
        assert float((native - eager).abs().max()) <= 1e-12 * float(eager.abs().max())


@pytest.mark.parametrize("solver", METHODS)
def test_the_catalogue_agrees_for_every_solver(solver: str) -> None:
    data = load("threebody")
    model = build(data)
    times = torch.linspace(0, 0.2, 5, dtype=torch.float64)
    found = []
    for engine in ("native", "eager"):
        y0 = data.initial.clone().requires_grad_()
        y = solve(model, y0, times, solver=solver, control=Fixed(0.03), engine=engine).y
        assert isinstance(y, Tensor)
        found.append([y.detach(), *torch.autograd.grad(y.square().sum(), [y0, *model.free().values()])])
    for native, eager in zip(*found, strict=True):
        assert float((native - eager).abs().max()) <= 1e-12 * float(eager.abs().max())


def test_a_known_function_sees_new_tensors_and_new_numbers() -> None:
    def growth(rate: Tensor, power: float, shift: Tensor) -> Field:
        return lambda t, y: rate * y**power + shift

    def end(rate: float, power: float, shift: float) -> tuple[float, float, str]:
        k = torch.tensor(rate, dtype=torch.float64, requires_grad=True)
        f = growth(k, power, torch.tensor(shift, dtype=torch.float64))
        solution = solve(f, torch.ones(1, dtype=torch.float64), [0.0, 1.0])
        assert isinstance(solution.y, Tensor)
        return solution.y[-1].item(), float(torch.autograd.grad(solution.y[-1].sum(), k)[0]), solution.engine

    cache._KNOWN.clear()
    for rate, power, shift in [(0.5, 1.0, 0.0), (0.3, 1.0, 0.0), (0.3, 1.0, 0.7), (0.3, 0.5, 0.0), (0.5, 1.0, 0.0)]:
        exp = torch.exp(torch.tensor(rate)).item()
        value, by, engine = end(rate, power, shift)
        truth = exp + shift * (exp - 1) / rate if power == 1 else (1 + rate / 2) ** 2
        assert engine == "native"
        assert value == pytest.approx(truth, rel=1e-5)
        if power == 1:
            assert by == pytest.approx(exp + shift * (rate * exp - exp + 1) / rate**2, rel=1e-5)
    assert 1 <= len(cache._KNOWN) <= 2


def test_what_a_parameter_asks_for_is_noticed() -> None:
    model = torch.nn.Linear(2, 2, bias=False, dtype=torch.float64)

    def field(t: Tensor, y: Tensor) -> Tensor:
        out: Tensor = model(y)
        return out

    y0 = torch.ones(2, dtype=torch.float64)
    for wanted in (True, False, True):
        model.weight.requires_grad_(wanted)
        y = solve(field, y0, [0.0, 1.0], engine="native").y
        assert isinstance(y, Tensor)
        assert y.requires_grad is wanted


@pytest.mark.slow
def test_ten_thousand_solves_leak_nothing() -> None:
    damping, scale, y0 = batch(3)
    t = torch.linspace(0, 1, 20, dtype=torch.float64)

    def many(count: int) -> int:
        for _ in range(count):
            d = damping.detach().clone().requires_grad_()
            slope(run(d, scale, y0, t)[1], d, y0)
        gc.collect()
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    before, after = many(1000), many(9000)
    print(f"resident: {before / 2**20:.1f} MiB after 1000 solves, {after / 2**20:.1f} MiB after 10,000")
    assert after - before < 4 * 2**20
