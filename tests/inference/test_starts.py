"""Many starts: where they begin, that neither batch nor workers change what is found, and which of them wins."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, ClassVar

import joblib
import numpy as np
import pytest
import torch
from torch import Tensor
from variants import some

from physid import Experiment, Fit, Model, Trajectory, Unknown, between, fit, positive
from physid.arrays import Array
from physid.data.inputs import Inputs
from physid.errors import InputError, MissingError
from physid.inference.batch import Carried, solve_batch
from physid.inference.parameters import ParameterVector
from physid.inference.problem import Point, Problem
from physid.inference.search.batched_starts import BatchedStarts
from physid.inference.search.levenberg_marquardt import LevenbergMarquardt, StoppingRule
from physid.inference.search.monitor import Monitor
from physid.inference.search.start_points import draws
from physid.modelling.address import load_model_file
from physid.modelling.unknown import Normal, Uniform
from physid.ode import Integrator
from physid.ode.native import compile


class Swing(Model):
    """x'' = -(2 pi f)^2 x: the squared error has an optimum for every number of periods that nearly fit."""

    state_names: ClassVar[tuple[str, ...]] = ("x", "v")
    f = Unknown(0.45, between(0.1, 3.0))

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        x, v = y.unbind(-1)
        return torch.stack((v, -((2 * torch.pi * self.f) ** 2) * x), -1)

    def observe(self, y: Tensor) -> Tensor:
        return y[..., :1]


def swing() -> Experiment:
    times = torch.linspace(0.0, 6.0, 40, dtype=torch.float64)
    noise = torch.from_numpy(0.05 * np.random.default_rng(0).standard_normal(40))
    seen = torch.cos(2 * torch.pi * 1.3 * times) + noise
    return Experiment("swing", Trajectory(times, seen[:, None]), torch.tensor([1.0, 0.0]), truth={"f": 1.3})


def test_many_starts_find_what_one_does_not() -> None:
    lost = fit(Swing(), swing(), strategy="full")
    assert not lost.recovered
    found = fit(Swing(), swing(), strategy="full", starts=8, seed=1)
    assert found.recovered
    assert found.status == "converged"
    assert [one.number for one in found.starts] == list(range(8))
    assert found.starts[0].start == pytest.approx([0.45])
    best = min(found.starts, key=lambda one: one.cost)
    assert best.end == pytest.approx([1.3], rel=0.01)
    assert {one.status for one in found.starts} <= {"converged", "not converged", "hopeless", "diverged"}
    assert any(one.status == "hopeless" or one.cost > 10 * best.cost for one in found.starts)
    assert {row["start"] for row in found.history if "start" in row} == set(range(8))
    again = fit(Swing(), swing(), strategy="full", starts=8, seed=1)
    assert again.starts == found.starts
    assert again.x.tobytes() == found.x.tobytes()
    vector = ParameterVector(Swing(), swing())
    one, other = (vector.natural(draws(vector, vector.get(), 8, seed)[1]) for seed in (1, 2))
    assert one == pytest.approx(found.starts[1].start)
    assert other != pytest.approx(found.starts[1].start)


@pytest.mark.parametrize(("auto", "end"), [(True, 1.3), (False, 1.1)])
def test_starts_that_segments_led_astray_go_on_from_where_they_began_too(auto: bool, end: float) -> None:
    """1.1 is an optimum whose cost is lower than that of the start at 1.22, which lies in the valley of 1.3."""
    problem = Problem(ParameterVector(Swing(), swing()), Integrator("dopri5", 1e-7, 1e-7, gradient="forward"))
    begins = [problem.vector.raw(np.array([f])) for f in (0.45, 1.22)]
    batch = BatchedStarts(problem, Monitor(), begins, auto)
    batch.xs = [problem.vector.raw(np.array([1.1]))] * 2
    race = batch.race()
    phase = next(race)
    while not phase.optimizer.done(phase.state):
        phase.optimizer.step(phase.objective, phase.state)
    with pytest.raises(StopIteration):
        race.send(phase.state)
    assert problem.vector.natural(batch.xs[1]) == pytest.approx([end], rel=0.02)
    assert batch.record(1).start == pytest.approx([1.22])


@pytest.mark.parametrize("backend", ["multiprocessing", pytest.param("loky", marks=pytest.mark.slow)])
def test_workers_change_nothing(backend: str) -> None:
    """Over processes that are copies of this one, and over those of a user, which import everything themselves."""
    with joblib.parallel_config(backend):
        one, two = (fit(Swing(), swing(), strategy="full", starts=2, seed=1, workers=n) for n in (1, 2))
    assert one.starts == two.starts
    assert one.x.tobytes() == two.x.tobytes()
    batch = fit(Swing(), swing(), strategy="full", starts=2, seed=1)
    assert [a.start for a in batch.starts] == [b.start for b in one.starts]
    assert batch.x == pytest.approx(one.x, rel=1e-6)


class Serial:
    """joblib's Parallel in this process, which breaks after some tasks."""

    broken_after = 99

    def __init__(self, **settings: Any) -> None:
        pass

    def __call__(self, tasks: list[Any]) -> Iterator[Any]:
        for done, (function, arguments, keywords) in enumerate(tasks):
            if done == self.broken_after:
                raise BrokenProcessPool("A worker process managed by the executor was unexpectedly terminated.")
            yield function(*arguments, **keywords)


@pytest.mark.parametrize("done", some([0, 1], 1))
def test_a_killed_worker_is_one_line_and_the_run_goes_on(
    done: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("joblib.Parallel", Serial)
    monkeypatch.setattr(Serial, "broken_after", done)
    monkeypatch.setattr("physid.runs.writer.EVERY", 0.0)
    monkeypatch.setattr("physid.runs.writer.SHARE", 0.0)
    options: dict[str, Any] = {"strategy": "full", "starts": 3, "seed": 1, "workers": 2}
    with pytest.raises(MissingError, match=rf"killed by the system.*{done} of 3 starts are done.*physid resume"):
        fit(Swing(), swing(), out=tmp_path / "run", **options)
    monkeypatch.setattr(Serial, "broken_after", 3 - done)  # those that are done are not done again
    found = Fit.resume(tmp_path / "run", model=Swing())
    assert [one.number for one in found.starts] == [0, 1, 2]
    assert found.status == "converged"


MORTAL = """
import os, pathlib, signal
from physid import Model, Unknown, positive
HERE = pathlib.Path(__file__).parent
class Mortal(Model):
    state_names = ("x",)
    k = Unknown(1.0, positive)
    def field(self, t, y):
        if (HERE / "parent").exists() and os.getpid() != int((HERE / "parent").read_text()):
            os.kill(os.getpid(), signal.SIGKILL)
        return -self.k * y
"""


@pytest.mark.slow
def test_a_worker_that_the_system_kills(tmp_path: Path) -> None:
    (tmp_path / "mortal.py").write_text(MORTAL)
    (tmp_path / "parent").write_text(str(os.getpid()))
    times = torch.linspace(0.0, 3.0, 10, dtype=torch.float64)
    data = Experiment("decay", Trajectory(times, torch.exp(-0.5 * times)[:, None]), torch.tensor([1.0]))
    model = load_model_file(tmp_path / "mortal.py", "Mortal")
    with pytest.raises(MissingError, match=r"killed by the system.*0 of 3 starts are done"):
        fit(model(), data, strategy="full", starts=3, workers=2, out=tmp_path / "run")
    (tmp_path / "parent").unlink()
    assert Fit.resume(tmp_path / "run", trust=True).estimates[0].value == pytest.approx(0.5)


def test_draws_are_a_latin_hypercube_in_priors_and_domains() -> None:
    class Many(Swing):
        g = Unknown(2.0, positive)
        h = Unknown(0.0, prior=Normal(5.0, 0.1))
        u = Unknown(1.5, prior=Uniform(1.0, 2.0))

    assert Many.u.domain == between(1.0, 2.0)
    experiment = Experiment("free", swing().train, torch.tensor([1.0, 0.0]), initial_free=torch.tensor([True, False]),
                            initial_scale=torch.tensor([2.0, 1.0]))  # fmt: skip
    vector = ParameterVector(Many(), experiment)
    rows = np.stack([vector.natural(x) for x in draws(vector, vector.get(), 201, 3)[1:]])
    f, g, h, u, x0 = rows.T
    assert np.all((f > 0.1) & (f < 3.0) & (u > 1.0) & (u < 2.0) & (g > 0))
    assert len(np.unique(np.floor((f - 0.1) / 2.9 * 200))) >= 199  # one in every stratum, but at the edges
    assert np.median(g) == pytest.approx(2.0, rel=0.05)
    assert (h.mean(), h.std()) == pytest.approx((5.0, 0.1), rel=0.05)
    assert (x0.mean(), x0.std()) == pytest.approx((1.0, 0.6), rel=0.05)


def test_least_squares_of_many_starts_is_that_of_each() -> None:
    def at(x: Array) -> Point:
        """The function of Rosenbrock (1960), whose minimum is at (1, 1)."""
        return Point(x, np.array([10 * (x[1] - x[0] ** 2), 1 - x[0]]), np.array([[-20 * x[0], 10.0], [-1.0, 0.0]]))

    class Rosenbrock:
        def points(self, xs: Sequence[Array], numbers: Sequence[int]) -> list[Point | None]:
            return [None if x[0] > 3 else at(x) for x in xs]

        def renewed(self, point: Point) -> Point:
            return point

    starts = [np.array([-1.2, 1.0]), np.array([0.0, 0.0]), np.array([2.5, -3.0])]
    optimizer = LevenbergMarquardt(StoppingRule(floor=1e-12, ftol=1e-15))
    state = optimizer.init(Rosenbrock(), np.array([*starts, [4.0, 0.0]]))
    while not optimizer.done(state):
        state = optimizer.step(Rosenbrock(), state)
    assert state.starts[3] is None
    for one in state.starts[:3]:
        assert one is not None
        assert one.status == "converged"
        assert one.x == pytest.approx([1.0, 1.0], abs=1e-6)


def test_time_runs_out_for_all_starts() -> None:
    found = fit(Swing(), swing(), starts=5, time_limit=1e-3)
    assert found.status == "time limit"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"starts": 0}, "starts: expected a whole number from 1 to 10000"),
        ({"workers": 2}, "workers share many starts"),
        ({"starts": 3, "optimizer": "adam"}, "belongs to lm"),
    ],
)
def test_what_cannot_be(options: dict[str, int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        fit(Swing(), swing(), **options)  # type: ignore[arg-type]


class Driven(Swing):
    """Swing pushed by a measured force."""

    input_names = ("force",)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        (force,) = self.inputs(t)
        return super().field(t, y) + torch.stack((torch.zeros_like(force), force), -1)


def test_starts_of_a_driven_model_are_solved_by_compiled_code_as_each_is_alone() -> None:
    times = torch.linspace(0.0, 5.0, 6, dtype=torch.float64)
    model = Driven()
    model.drive(Inputs.through(times, [1.0, -1.0, 0.5, 0.0, 2.0, 0.0], ["force"]))
    raw = model.free()["f"]
    thetas = torch.tensor([[-1.0], [0.2], [0.9]], dtype=torch.float64)
    y0 = torch.tensor([[1.0, 0.0], [0.5, -1.0], [0.0, 0.3]], dtype=torch.float64)
    grid, tight = times[:, None].expand(6, 3).contiguous(), Integrator("dopri8", 1e-11, 1e-11)
    found = solve_batch(model, [raw], thetas, y0, grid, tight)
    assert (found.solution.engine, found.ok) == ("native", [True, True, True])
    for lane in range(3):
        alone = solve_batch(model, [raw], thetas[lane : lane + 1], y0[lane : lane + 1], grid[:, lane : lane + 1], tight)
        assert torch.allclose(found.states[:, lane], alone.states[:, 0], rtol=1e-8, atol=1e-8)
        assert torch.allclose(found.slopes[:, lane], alone.slopes[:, 0], rtol=1e-6, atol=1e-6)


class Weighted(Swing):
    """Swing with a constant beside the unknown, and an unknown that may be fixed."""

    pull = 1.0
    drag = Unknown(0.1, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        return self.pull * super().field(t, y) - self.drag * y


def test_the_field_of_many_starts_is_recorded_once_until_something_that_it_reads_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[type] = []
    make = compile._made

    def counted(problem: Any, *more: Any) -> Any:
        made.append(type(problem.f))
        return make(problem, *more)

    monkeypatch.setattr(compile, "_made", counted)
    model, like = Weighted(), torch.float64
    model.fix("drag")
    raw = model.free()["f"]
    thetas = torch.tensor([[-1.0], [0.2], [0.9]], dtype=like)
    y0 = torch.tensor([[1.0, 0.0], [0.5, -1.0], [0.0, 0.3]], dtype=like)
    grid, tight = (
        torch.linspace(0.0, 2.0, 5, dtype=like)[:, None].expand(5, 3).contiguous(),
        Integrator("dopri8", 1e-11),
    )

    def check(count: int) -> None:
        found = solve_batch(model, [raw], thetas, y0, grid, tight)
        alone = [
            solve_batch(model, [raw], thetas[i : i + 1], y0[i : i + 1], grid[:, i : i + 1], tight) for i in range(3)
        ]
        for i, one in enumerate(alone):
            assert torch.allclose(found.states[:, i], one.states[:, 0], rtol=1e-8, atol=1e-8)
            assert torch.allclose(found.slopes[:, i], one.slopes[:, 0], rtol=1e-6, atol=1e-6)
        assert made.count(Carried) == count

    check(1)
    check(1)
    model.pull = 2.0
    check(2)
    with torch.no_grad():
        model.drag = torch.tensor(0.7, dtype=like)
    check(2)
