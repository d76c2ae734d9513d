"""The data sets: one contract for all of the catalogue, then the three bodies, and options as text."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from physid.data.experiment import Experiment
from physid.datasets import CATALOG, load, threebody
from physid.datasets.simulate import simulate
from physid.errors import InputError
from physid.models import LADDER, build

MEASURED = ("emps", "lynxhare", "solarsystem", "tanks")

# What each data set is loaded with here; the measured ones need their files.
CASES = [pytest.param(name, marks=[pytest.mark.data] if name in MEASURED else [], id=name) for name in sorted(CATALOG)]


def same(one: Experiment, other: Experiment) -> bool:
    return one.data_hash == other.data_hash and torch.equal(one.train.observations, other.train.observations)


@pytest.mark.parametrize("name", CASES)
class TestContract:
    """What every data set of the catalogue keeps to."""

    def test_experiment(self, name: str) -> None:
        experiment = load(name)
        assert experiment.name == name
        assert experiment.source
        assert len(experiment.data_hash) == 64
        for part in (experiment.train, experiment.test):
            assert part is not None or name in MEASURED
            assert part is None or part.observations.dtype == torch.float64
            assert part is None or bool(part.mask.all())
        if experiment.test is not None:
            assert experiment.forecast is not None
            assert not set(experiment.train.times.tolist()) & set(experiment.test.times.tolist())
        assert bool((experiment.initial_scale > 0).all())

    def test_model(self, name: str) -> None:
        experiment = load(name)
        assert (name, "full") in LADDER
        model = build(experiment)
        assert name in MEASURED or set(model.unknowns) <= set(experiment.truth)
        assert set(experiment.start) <= set(model.unknowns)
        seen = model.observe(experiment.initial)
        assert seen.shape == experiment.train.observations.shape[1:]
        if name not in MEASURED and experiment.initial_time == experiment.train.times[0] and not experiment.sigma:
            torch.testing.assert_close(seen, experiment.train.observations[0], rtol=0, atol=1e-12)

    def test_options_give_it_again(self, name: str) -> None:
        first = load(name)
        again = load(name, **json.loads(json.dumps(dict(first.options))))
        assert same(first, again)
        assert again.options == first.options

    def test_options_are_explained_and_checked(self, name: str) -> None:
        entry = CATALOG[name]
        assert entry.summary.endswith(".")
        for option in entry.options.values():
            assert option.help.endswith(".")
        with pytest.raises(InputError, match=f"unknown option of {name} 'nonsense'"):
            entry.load(nonsense=1)
        for text in entry.options:
            with pytest.raises(InputError, match=rf"option {text} of {name}: expected .*, got '\?'"):
                entry.load(**{text: "?"})


@pytest.mark.parametrize("name", sorted(set(CATALOG) - set(MEASURED)))
def test_noise_has_its_size_and_its_seed(name: str) -> None:
    options: list[dict[str, Any]] = [{}, {"noise": "0.01"}, {"noise": 0.01, "seed": 0}, {"noise": 0.01, "seed": 1}]
    clean, noisy, again, other = (load(name, points="400", **each) for each in options)
    assert same(noisy, again)
    assert not same(noisy, other)
    assert noisy.sigma == 0.01
    assert clean.sigma is None
    error = noisy.train.observations - clean.train.observations
    assert error.std().item() == pytest.approx(0.01, rel=0.1)
    assert torch.equal(noisy.test.observations, clean.test.observations)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": 3.5}, "a whole number from 8 to 1000000"),
        ({"points": True}, "a whole number from 8 to 1000000"),
        ({"points": "7"}, "a whole number from 8 to 1000000"),
        ({"noise": "-1"}, "a number from 0 up"),
        ({"noise": "nan"}, "a number from 0 up"),
        ({"horizon": 0}, "a positive number"),
        ({"initial": "maybe"}, "one of known, free"),
        ({"simulator": "euler"}, "one of dop853, lsoda"),
        ({"start": "1,2"}, "one or three positive masses"),
        ({"start": "0"}, "one or three positive masses"),
        ({"start": [1, "x", 3]}, "a list of numbers"),
        ({"start": ""}, "a list of numbers"),
        ({"nois": 1}, "Did you mean 'noise'"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load("threebody", **options)


def test_unknown_experiment_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'threebody'"):
        load("threbody")


def paper_states(simulator: str, times: np.ndarray) -> np.ndarray:
    def field(t: float, y: np.ndarray) -> np.ndarray:
        return threebody.attraction(threebody.MASSES, y)

    return simulate(field, threebody.INITIAL, times, simulator)


def test_three_bodies_meet_as_in_the_paper() -> None:
    times = np.linspace(0.0, 2.0, 20001)
    distances = threebody.distances(paper_states("dop853", times))
    found = [(float(column.min()), float(times[column.argmin()])) for column in distances.T]
    for (distance, time), expected in zip(
        sorted(found, reverse=True), [(0.153, 0.364), (0.061, 1.035), (0.053, 0.871)], strict=True
    ):
        assert (round(distance, 3), round(time, 3)) == expected


def test_simulators_agree_and_energy_is_kept() -> None:
    times = np.linspace(0.0, 2.0, 101)
    exact, rough = paper_states("dop853", times), paper_states("lsoda", times)
    assert 1e-12 < np.abs(exact - rough).max() < 1e-2
    energies = [threebody.energy(threebody.MASSES, state) for state in exact]
    assert np.ptp(energies) < 1e-10


def test_grids_of_three_bodies() -> None:
    experiment = load("threebody")
    assert experiment.test is not None
    assert len(experiment.train) == 1000
    assert (experiment.train.times[0].item(), experiment.train.times[-1].item()) == (0.0, 1.0)
    assert len(experiment.test) == 2000
    torch.testing.assert_close(experiment.test.times[:2], torch.tensor([0.0005, 0.0015], dtype=torch.float64))
    assert experiment.test.times[-1].item() == pytest.approx(1.9995)
    assert experiment.metric == "sum"
    assert not bool(experiment.initial_free.any())


def test_a_paper_protocol_decides_simulator_and_start() -> None:
    paper, other = (load("threebody", protocol="paper-code", seed=seed) for seed in (0, 1))
    assert same(paper, load("threebody", simulator="lsoda"))
    assert np.abs(paper.start["mass"] - 1.0).max() < 0.1
    assert not np.array_equal(paper.start["mass"], other.start["mass"])
    assert load("threebody", protocol="paper-text", start=1.2).start["mass"].tolist() == [1.2] * 3
    assert same(load("threebody", protocol="paper-text", simulator="dop853"), load("threebody"))


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 8))])
def test_random_systems_are_bound_and_keep_apart(seed: int) -> None:
    masses, state = threebody.random_system(seed)
    assert bool((masses >= 0.5).all() and (masses <= 1.5).all())
    assert threebody.energy(masses, state) < 0.0
    np.testing.assert_allclose(masses @ state[0], 0.0, atol=1e-12)
    np.testing.assert_allclose(masses @ state[1], 0.0, atol=1e-12)
    assert threebody.closest(masses, state, 2.0) >= 0.1
    again, other = threebody.random_system(seed), threebody.random_system(seed + 100)
    np.testing.assert_array_equal(masses, again[0])
    assert not np.array_equal(masses, other[0])


def test_random_masses_make_another_experiment() -> None:
    experiment = load("threebody", random_masses="3", points=50)
    masses, state = threebody.random_system(3)
    np.testing.assert_array_equal(experiment.truth["mass"], masses)
    np.testing.assert_array_equal(experiment.initial.numpy(), state)


def test_a_free_initial_state_starts_near_the_truth() -> None:
    experiment = load("threebody", initial="free", points=101, noise=1e-4)
    assert bool(experiment.initial_free.all())
    error = (experiment.initial - torch.as_tensor(experiment.truth["initial"])).abs()
    assert error[0].max().item() < 1e-2
    assert error[1].max().item() < 2e-2


def test_a_collision_is_refused_in_one_line() -> None:
    def blow_up(t: float, y: np.ndarray) -> np.ndarray:
        return np.asarray(y**2)

    with pytest.raises(InputError, match="the simulation stopped at t = "):
        simulate(blow_up, np.array([1.0]), np.linspace(0.0, 2.0, 5))
