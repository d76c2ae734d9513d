"""Trajectories and experiments: what is accepted, what is filled in, how a prediction is scored."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from physid.data.experiment import Experiment, Trajectory
from physid.errors import InputError

NAN = math.nan


def trajectory(times: Any, observations: Any, mask: Any = None) -> Trajectory:
    return Trajectory(times, observations, mask)


def experiment(**changes: Any) -> Experiment:
    settings: dict[str, Any] = {
        "name": "two channels",
        "train": trajectory([0.0, 1.0, 2.0], [[1.0, 10.0], [2.0, NAN], [3.0, 30.0]]),
        "test": trajectory([0.5, 1.5, 2.5, 3.5], [[1.0, 1.0]] * 4),
        "initial": [1.0, -2.0],
    }
    return Experiment(**{**settings, **changes})


def test_cells_that_are_no_number_were_not_measured() -> None:
    found = trajectory([0, 1], [[1.0, NAN], [2.0, 3.0]], [[True, True], [False, True]])
    assert found.mask.tolist() == [[True, False], [False, True]]
    assert found.times.dtype == found.observations.dtype == torch.float64
    assert len(found) == 2


@pytest.mark.parametrize(
    ("times", "observations", "mask", "message"),
    [
        ([0.0, 0.0], [1.0, 2.0], None, "times must increase, but time 1 is 0.0 after 0.0"),
        ([1.0, 0.0], [1.0, 2.0], None, "Sort the rows"),
        ([0.0, NAN], [1.0, 2.0], None, "not finite"),
        ([], [], None, "list of numbers"),
        ([[0.0]], [1.0], None, "list of numbers"),
        ([0.0, 1.0], [1.0], None, "at 2 times"),
        ([0.0, 1.0], [1.0, math.inf], None, "infinite"),
        ([0.0, 1.0], [NAN, NAN], None, "nothing was measured"),
        ([0.0, 1.0], [1.0, 2.0], [True], "the mask has shape"),
        ([0.0, 1.0], ["a", "b"], None, "array of numbers"),
    ],
)
def test_bad_trajectories_are_refused(times: Any, observations: Any, mask: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        trajectory(times, observations, mask)


def test_parts_of_a_trajectory() -> None:
    found = trajectory([0.0, 1.0, 2.0], [1.0, NAN, 3.0])
    later = found.after(0.0)
    assert later is not None
    assert later.times.tolist() == [1.0, 2.0]
    assert found.after(2.0) is None
    assert found.select(torch.tensor([False, True, False])) is None  # nothing measured there


def test_what_is_left_out_is_filled_in() -> None:
    found = experiment(initial=[[2.0, 0.0]])
    assert found.channels == ("y[0]", "y[1]")
    assert found.initial_time == 0.0
    assert found.initial_free.tolist() == [[False, False]]
    assert found.initial_scale.tolist() == [[2.0, 2.0]]
    assert len(found.data_hash) == 64
    seen = found.train.observations[found.train.mask]
    assert experiment(initial=[0.0]).initial_scale.tolist() == pytest.approx([float(seen.square().mean().sqrt())])
    same = experiment(initial=[0.0, 3.0])  # a channel for every state: a zero has the size of its channel
    own = found.train.observations[found.train.mask[:, 0], 0]
    assert same.initial_scale.tolist() == pytest.approx([float(own.square().mean().sqrt()), 3.0])
    assert same.scale_given.tolist() == [False, False]
    assert experiment(initial=[0.0, 3.0], initial_scale=[9.0, 3.0]).scale_given.tolist() == [True, False]


def test_forecast_is_what_lies_beyond_the_training() -> None:
    forecast = experiment().forecast
    assert forecast is not None
    assert forecast.times.tolist() == [2.5, 3.5]
    assert experiment(test=None).forecast is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "median"}, "mean or sum"),
        ({"initial": [NAN]}, "initial state is not finite"),
        ({"initial_free": [True]}, "initial_free has shape"),
        ({"initial_scale": [1.0]}, "initial_scale has shape"),
        ({"channels": ("a",)}, "channel names"),
        ({"test": trajectory([0.0], [1.0])}, "the same shape"),
        ({"initial_time": 0.25}, "before the initial time"),
    ],
)
def test_bad_experiments_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        experiment(**changes)


def test_scores_by_both_metrics() -> None:
    predicted = torch.tensor([[2.0, 10.0], [2.0, 99.0], [3.0, 28.0]])
    # errors: channel 0: 1, 0, 0; channel 1: 0, not measured, -2
    mean = experiment().score(predicted, experiment().train)
    assert mean["mse"] == pytest.approx(5.0 / 5.0)
    total = experiment(metric="sum").score(predicted, experiment().train)
    assert total["mse"] == pytest.approx(1.0 / 3.0 + 4.0 / 2.0)
    assert total["rmse"] == pytest.approx(math.sqrt(total["mse"]))
    with pytest.raises(InputError, match="the prediction has shape"):
        experiment().score(predicted[:2], experiment().train)


def test_buffers_that_are_filled_anew_change_no_experiment() -> None:
    """Arrays are copied, also those whose numbers lie apart, as columns of a table do."""
    table = np.stack([np.linspace(0.0, 1.0, 5), np.ones(5)], 1)
    initial, free = np.ones(1), np.array([True])
    data = Trajectory(table[:, 0], table[:, 1:])  # type: ignore[arg-type]
    made = Experiment("buffers", data, initial, initial_free=free)  # type: ignore[arg-type]
    table[:], initial[:], free[:] = 7.0, 7.0, False
    assert made.train.times.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert made.train.observations.flatten().tolist() == [1.0] * 5
    assert made.train.times.is_contiguous()
    assert (made.initial.tolist(), made.initial_free.tolist(), made.initial_scale.tolist()) == ([1.0], [True], [1.0])


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=1, max_size=20))
def test_sum_is_channels_times_mean_when_all_is_measured(rows: list[tuple[float, float]]) -> None:
    part = trajectory(list(range(len(rows))), rows)
    predicted = torch.zeros(len(rows), 2)
    scores = [
        experiment(train=part, test=None, metric=metric).score(predicted, part)["mse"] for metric in ("sum", "mean")
    ]
    assert scores[0] == pytest.approx(2.0 * scores[1], rel=1e-12, abs=1e-12)


def test_a_prediction_that_is_no_number_scores_no_number() -> None:
    assert math.isnan(experiment().score(torch.full((3, 2), NAN), experiment().train)["mse"])


def test_hash_is_of_the_measured_numbers() -> None:
    base = experiment().data_hash
    assert base == experiment(name="renamed", unit="m").data_hash
    assert base != experiment(test=None).data_hash
    other = trajectory([0.0, 1.0, 2.0], [[1.0, 10.0], [2.0, 0.0], [3.0, 30.0]])
    assert base != experiment(train=other).data_hash  # measured zero is not the same as not measured


def test_what_is_shown_of_data_is_one_line() -> None:
    train = Trajectory(torch.tensor([0.0, 1.0, 2.5]), torch.tensor([[1.0, 2.0], [math.nan, 3.0], [4.0, 5.0]]))
    assert repr(train) == "<Trajectory of 3 times from 0 to 2.5, [3, 2], 1 of 6 not measured>"
    found = Experiment("pot", train, torch.zeros(2), channels=("T", "p"))
    assert repr(found) == f"<Experiment pot of T, p: {train!r}>"
