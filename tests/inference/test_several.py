"""Several experiments in one fit: what they share, what is their own, what one of them did not measure."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import curve_fit
from torch import Tensor
from variants import some

from physid import Experiment, Model, Trajectory, Unknown, fit, positive
from physid.errors import InputError
from physid.inference.parameters import vector_of
from physid.inference.problem import Problem
from physid.inference.search.multiple_shooting import Segments
from physid.inference.simulate import simulate
from physid.models import LotkaVolterra
from physid.ode import Integrator

Array = NDArray[np.float64]
TIGHT = Integrator("dopri8", 1e-11, 1e-11, gradient="forward")


class Cooling(Model):
    """T' = -k (T - room): the rate is that of the cup, the room of the day."""

    state_names: ClassVar[tuple[str, ...]] = ("T",)
    k = Unknown(0.3, positive)
    room = Unknown(10.0, per_experiment=True)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        return -self.k * (y - self.room)


def cup(name: str, room: float, start: float, times: Array, seed: int, noise: float = 0.3) -> Experiment:
    random = np.random.default_rng(seed)
    values = room + (start - room) * np.exp(-0.2 * times) + noise * random.standard_normal(len(times))
    data = Trajectory(torch.from_numpy(times), torch.from_numpy(values[:, None]))
    free = torch.tensor([True])
    return Experiment(name, data, torch.tensor([start + 3.0]), initial_free=free, initial_time=0.0)


def two() -> tuple[Experiment, Experiment]:
    first = np.linspace(0.0, 20.0, 25)
    second = np.sort(np.random.default_rng(9).uniform(0.5, 12.0, 17))
    return cup("monday", 21.0, 85.0, first, 0), cup("tuesday", 15.0, 70.0, second, 1)


@pytest.mark.parametrize("strategy", some(["auto", "full", "grow"], "auto"))
def test_shared_and_own_unknowns_equal_curve_fit(strategy: str) -> None:
    monday, tuesday = two()
    found = fit(Cooling(), [monday, tuesday], strategy=strategy)
    names = ["k", "room@monday", "initial[0]@monday", "room@tuesday", "initial[0]@tuesday"]
    assert [one.name for one in found.estimates] == names
    times = np.concatenate([monday.train.times.numpy(), tuesday.train.times.numpy()])
    values = np.concatenate([one.train.observations.numpy()[:, 0] for one in (monday, tuesday)])
    day = np.repeat([0, 1], [25, 17])

    def curve(t: Array, k: float, r0: float, s0: float, r1: float, s1: float) -> Array:
        room, start = np.where(day == 0, r0, r1), np.where(day == 0, s0, s1)
        return np.asarray(room + (start - room) * np.exp(-k * t))

    best, covariance = curve_fit(curve, times, values, p0=(0.3, 10, 80, 10, 80), xtol=1e-13, ftol=1e-13)
    assert [one.value for one in found.estimates] == pytest.approx(best, rel=1e-6)
    errors = [one.stderr or 0.0 for one in found.estimates]
    assert errors == pytest.approx(np.sqrt(np.diag(covariance)), rel=1e-4)
    assert set(found.scores_of) == {"monday", "tuesday"}
    assert found.settings["experiments"] == ["monday", "tuesday"]
    ahead = found.forecast(30.0)
    assert ahead.mean[-1, 0] == pytest.approx(curve_at(best, 30.0), rel=1e-6)
    assert np.isfinite(ahead.low).all()
    own = found.of("tuesday")
    there, base = own.forecast(30.0), best[[0, 3, 4]]
    assert there.mean[-1, 0] == pytest.approx(base[1] + (base[2] - base[1]) * np.exp(-30 * base[0]), rel=1e-6)
    decay = np.exp(-30.0 * base[0])
    slope = np.array([-30.0 * (base[2] - base[1]) * decay, 1 - decay, decay])
    deviation = np.sqrt(slope @ covariance[np.ix_([0, 3, 4], [0, 3, 4])] @ slope)
    assert found.statistics is not None
    reach = found.statistics.quantile() * deviation
    assert there.low[-1, 0] == pytest.approx(there.mean[-1, 0] - reach, rel=1e-4)
    assert [one.name for one in own.estimates] == ["k", "room@tuesday", "initial[0]@tuesday"]
    assert found.forecast(30.0).mean[-1, 0] == ahead.mean[-1, 0]  # the whole is as it was
    with pytest.raises(InputError, match="Did you mean 'tuesday'"):
        found.of("tuseday")


def curve_at(best: Array, t: float) -> float:
    return float(best[1] + (best[2] - best[1]) * np.exp(-best[0] * t))


def pair(gap: bool = True) -> list[Experiment]:
    """Two experiments on prey and predators: other starts, other times, and of one the prey alone."""
    model = LotkaVolterra(alpha=0.55, beta=0.028, gamma=0.84, delta=0.026)
    found = []
    for name, start, times in (("a", [33.0, 6.0], np.linspace(0, 15, 20)), ("b", [20.0, 20.0], np.arange(1.0, 12.0))):
        grid = torch.from_numpy(np.concatenate([[0.0], times + 1e-9]))
        states = TIGHT.solve(model, torch.tensor(start, dtype=torch.float64), grid).y
        assert isinstance(states, Tensor)
        seen = states[1:].detach()
        names: tuple[str, ...] = ("prey", "predators")
        if name == "b" and gap:
            seen, names = seen[:, :1], names[:1]
        data = Trajectory(grid[1:], seen)
        found.append(Experiment(name, data, torch.tensor(start), channels=names, initial_time=0.0))
    return found


@pytest.mark.parametrize("gap", [False, True])
def test_a_second_experiment_and_a_missing_channel_need_no_other_model(gap: bool) -> None:
    found = fit(LotkaVolterra(alpha=0.3, beta=0.04, gamma=1.2, delta=0.02), pair(gap))
    assert [one.value for one in found.estimates] == pytest.approx([0.55, 0.028, 0.84, 0.026], rel=1e-7)
    assert found.settings["observations"] == 40 + (11 if gap else 22)
    assert found.experiments[1].channels == ("prey", "predators")


def test_lanes_are_what_single_solves_give() -> None:
    experiments = two()
    vector = vector_of(Cooling(), experiments)
    problem = Problem(vector, TIGHT)
    x = vector.get() + np.linspace(-0.1, 0.1, 5)
    others = [x, x + 0.05, x - 0.02]
    for found, one in zip(problem.many(others), others, strict=True):
        assert found is not None
        alone = [
            simulate(vector, [one], part.train.times, TIGHT, True, e)[0] for e, part in enumerate(problem.experiments)
        ]
        assert found.seen == pytest.approx(np.concatenate([part.mean for part in alone]), rel=1e-11)
        assert found.slope == pytest.approx(np.concatenate([part.slopes for part in alone]), rel=1e-8, abs=1e-9)


def test_the_jacobian_of_segments_of_several_is_the_derivative() -> None:
    vector = vector_of(Cooling(), two())
    pieces = Segments(Problem(vector, TIGHT), TIGHT, 3)
    z = pieces.begin(vector.get())
    assert len(z) == 5 + 2 * 2
    point = pieces.at(z)
    assert point is not None
    gradient = point.jacobian.T @ point.residual
    for i, step in enumerate(1e-5 * np.eye(len(z))):
        up, down = pieces.at(z + step), pieces.at(z - step)
        assert up is not None
        assert down is not None
        assert gradient[i] == pytest.approx((up.cost - down.cost) / 2e-5, rel=1e-5, abs=1e-8)


def test_own_unknowns_start_where_their_experiment_says() -> None:
    monday, tuesday = two()
    object.__setattr__(tuesday, "start", {"room": 14.0})
    starts = {one.name: one.start for one in fit(Cooling(), [monday, tuesday], strategy="full").estimates}
    assert (starts["room@monday"], starts["room@tuesday"]) == pytest.approx((10.0, 14.0))


def test_what_cannot_be_fitted_together() -> None:
    monday, tuesday = two()
    other = Experiment("x", Trajectory(torch.arange(2.0), torch.ones(2, 1)), torch.ones(1), channels=("pressure",))
    with pytest.raises(InputError, match="channels of the same names"):
        fit(Cooling(), [monday, other])
    with pytest.raises(InputError, match="takes one experiment, 2 were given"):
        fit(Cooling(), [monday, tuesday], optimizer="adam")
    with pytest.raises(InputError, match="no experiment was given"):
        fit(Cooling(), [])
    with pytest.raises(InputError, match="a str in place of an experiment"):
        fit(Cooling(), ["monday"])  # type: ignore[list-item]
    with pytest.raises(InputError, match=r"given the class Cooling as model: .* as in fit\(Model\(\), data\)"):
        fit(Cooling, monday)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="given something of type Experiment as model"):
        fit(monday, Cooling())  # type: ignore[arg-type]


@pytest.mark.parametrize("holdout", [0.2, "after:15.9", "tuesday"])
def test_hold_out_is_not_fitted_but_scored(holdout: str | float) -> None:
    monday, tuesday = pair(gap=False)
    object.__setattr__(tuesday, "name", "tuesday")
    spoilt = tuesday.train.observations.clone()
    spoilt[-1] += 50.0
    broken = Experiment("tuesday", Trajectory(tuesday.train.times, spoilt), tuesday.initial, initial_time=0.0,
                        channels=tuesday.channels)  # fmt: skip
    if holdout == "after:15.9":
        with pytest.raises(InputError, match="leaves nothing of a to test"):
            fit(LotkaVolterra(), [monday, broken], holdout=holdout)
        return
    found = fit(LotkaVolterra(alpha=0.5, beta=0.03, gamma=0.9, delta=0.025), [monday, broken], holdout=holdout)
    assert [one.value for one in found.estimates] == pytest.approx([0.55, 0.028, 0.84, 0.026], rel=1e-6)
    test = found.scores_of["tuesday"]["test"]
    assert test is not None
    rows = 11 if holdout == "tuesday" else 2
    assert test["mse"] == pytest.approx(50.0**2 / rows, rel=1e-6)
