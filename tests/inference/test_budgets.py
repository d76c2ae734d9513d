"""Every start of many has a budget, what became of them is told, and a guess that can't be solved is not the end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from physid import Experiment, Model, Trajectory, Unknown, between, fit, positive
from physid.inference.problem import Point
from physid.inference.search.levenberg_marquardt import LevenbergMarquardt, StoppingRule
from physid.inference.search.one_start import Start, agreeing, tally
from physid.inference.search.workers import allowance
from physid.plots.page import page


class Drain(Model):
    """A tank that empties (Torricelli): h' = -k sqrt(h), which has no solution once the guess has emptied it."""

    state_names = ("h",)
    k = Unknown(5.0, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        return -self.k * torch.sqrt(y)


class Following(Model):
    """y' = -k (y - cos t), stiff for nearly all k in its domain."""

    state_names = ("y",)
    k = Unknown(1.5, between(0.1, 1e7))

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        return -self.k * (y - torch.cos(t)[..., None])


def experiment(t: Any, y: Any, initial: Any, free: bool = False) -> Experiment:
    return Experiment("one", Trajectory(t, y[:, None]), initial, initial_free=torch.tensor([free]))


def drained() -> Experiment:
    t = np.linspace(0.0, 6.0, 25)
    seen = (1 - 0.15 * t) ** 2 + 0.005 * np.random.default_rng(0).normal(size=25)
    return experiment(t, seen, torch.tensor([1.0]), free=True)


@pytest.mark.parametrize("starts", [1, 3])
def test_slopes_lead_from_a_guess_that_cannot_be_solved(starts: int) -> None:
    found = fit(Drain(), drained(), starts=starts, seed=3)
    k, _ = found.estimates
    assert found.status == "converged"
    assert k.stderr is not None
    assert abs(k.value - 0.3) < 3 * k.stderr < 0.02
    assert any(row["phase"] == "match" for row in found.history)
    full = fit(Drain(), drained(), strategy="full")  # what was asked for is done, and nothing else
    assert full.status == "diverged"


def followed() -> Experiment:
    t = np.linspace(0.0, 10.0, 30)
    truth = (4 * np.cos(t) + 2 * np.sin(t)) / 5 + 0.2 * np.exp(-2 * t)  # k = 2
    return experiment(t, truth + 0.01 * np.random.default_rng(0).normal(size=30), torch.tensor([1.0]))


def test_stiff_starts_do_not_hold_up_the_others() -> None:
    found = fit(Following(), followed(), strategy="full", starts=6)
    assert found.status == "converged"
    assert found.estimates[0].value == pytest.approx(2.0, abs=0.1)
    statuses = [one.status for one in found.starts]
    assert statuses.count("over budget") >= 4
    assert found.evaluations < 6 * 20_000 * 13  # 100,000 steps and more would have been tried for each
    counts = found.report().json()["starts"]
    assert (counts["starts"], counts["finished"] + counts["given_up"] + counts["failed"]) == (6, 6)
    assert len(counts["records"]) == 6
    assert "6 starts: 1 finished" in str(found.report())
    text = page(found)
    assert "Starts" in text
    assert "6 starts: 1 finished" in text


def test_all_are_tried_with_more_when_none_can_be_solved_within_the_budget() -> None:
    class Shifted(Following):
        a = Unknown(0.5, between(0.4, 2.0))

        def field(self, t: Tensor, y: Tensor) -> Tensor:
            return -3e3 * (y - self.a * torch.cos(t)[..., None])

    t = np.linspace(0.0, 10.0, 30)
    found = fit(Shifted(), experiment(t, np.cos(t), torch.tensor([1.0])), strategy="full", starts=2, fix={"k": None})
    assert found.estimates[0].value == pytest.approx(1.0, abs=1e-3)
    assert all(one.status == "converged" for one in found.starts)


def test_a_start_that_takes_many_times_the_others_is_given_up() -> None:
    class Creeping:
        """A parabola; the second start creeps."""

        asked = 0

        def points(self, xs: Any, numbers: Any) -> list[Point | None]:
            self.asked += 1
            slow = [0.2 - 1e-5 * self.asked, 1.0]
            residuals = [[x[0], 1.0] if i == 0 else slow for i, x in zip(numbers, xs, strict=True)]
            return [Point(x, np.array(r), np.array([[1.0], [0.0]])) for x, r in zip(xs, residuals, strict=True)]

        def renewed(self, point: Point) -> Point:
            return point

    objective = Creeping()
    optimizer = LevenbergMarquardt(StoppingRule(floor=1e-12, ftol=1e-30, xtol=1e-30, evaluations=1000), race=True)
    state = optimizer.init(objective, np.array([[1.0], [0.0]]))
    while not optimizer.done(state):
        state = optimizer.step(objective, state)
    first, second = state.starts
    assert first is not None
    assert second is not None
    assert first.status == "converged"
    assert second.status == "over budget"
    assert len(second.costs) <= 42


def test_seconds_of_a_start_go_by_those_of_the_others() -> None:
    assert allowance(None, []) is None
    assert allowance(7.0, [1.0]) == 7.0
    assert allowance(None, [1.0, 2.0, 9.0]) == 30.0
    assert allowance(None, [10.0, 20.0, 90.0]) == 200.0
    assert allowance(7.0, [10.0, 20.0, 90.0]) == 7.0


def test_the_tally_counts_what_became_of_the_starts() -> None:
    costs = [1.0, 1.0005, 3.0, 2.0, float("inf"), float("inf"), 1.5]
    words = ["converged", "converged", "converged", "hopeless", "diverged", "over budget", "not converged"]
    rows = enumerate(zip(costs, words, strict=True))
    found = tally([Start(i, [0.0], [0.0], cost, word, 1) for i, (cost, word) in rows])
    assert found is not None
    assert (found.starts, found.finished, found.agree, found.given_up, found.failed) == (7, 3, 2, 2, 2)
    assert found.sentence == (
        "7 starts: 3 finished, 2 agree with the best, 2 given up (1 hopeless, 1 over budget), 2 failed "
        "(1 not solvable, 1 not converged)."
    )
    assert tally([]) is None
    assert agreeing([1e-20, 1e-14, 1.0, float("nan")]) == [True, True, False, False]
