"""Verdicts: what is said of good fits, and of data or models that are wrong in one way each."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from fits import Product, decay
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from physid import Experiment, Fit, Integrator, Model, Trajectory, Unknown, fit, positive
from physid.data.inputs import Inputs
from physid.inference.noise_groups import groups_of, resolution
from physid.inference.uncertainty import residual_tests
from physid.inference.uncertainty.baselines import LAST, LINE, MEAN, trivial
from physid.inference.uncertainty.residual_tests import (
    CORRELATED,
    HETEROSCEDASTIC,
    NOT_NORMAL,
    OUTLIERS,
    ResidualTest,
    distribution,
    heteroscedasticity,
    linearised,
    whiteness,
)
from physid.inference.uncertainty.verdict import Verdict, faults, rejected, useless, worst
from physid.models import Exponential

Array = NDArray[np.float64]
TIMES = np.linspace(0.0, 4.0, 60)
CURVE = 2.0 * np.exp(-0.5 * TIMES)


class Two(Model):
    """A becomes B, which is measured in a unit a thousand times smaller."""

    state_names: ClassVar[tuple[str, ...]] = ("A", "B")
    k = Unknown(1.0, positive)
    s = Unknown(500.0, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        a, _ = y.unbind(-1)
        return torch.stack((-self.k * a, self.s * self.k * a), -1)


class Idle(Exponential):
    """An unknown on which nothing depends."""

    spare = Unknown(2.0, positive)


def made(values: Array, initial: float = 2.0, sigma: float | None = None) -> Experiment:
    data = Trajectory(torch.from_numpy(TIMES), torch.from_numpy(values[:, None]))
    return Experiment("made", data, torch.tensor([initial]), sigma=sigma)


def normal(seed: int, size: float = 0.05) -> Array:
    return size * np.random.default_rng(seed).standard_normal(len(TIMES))


def words(found: Fit) -> str:
    return " ".join(str(found.report()).split())


def test_holm_rejects_step_by_step() -> None:
    tests = [
        ResidualTest(CORRELATED, name, p, 0.0) for name, p in zip("abcd", (0.004, 0.002, 0.5, 0.0032), strict=True)
    ]
    assert [one.channel for one in rejected(tests)] == [
        "b",
        "d",
        "a",
    ]  # .002 < .01 / 4, .0032 < .01 / 3, .004 < .01 / 2
    assert rejected([ResidualTest(CORRELATED, "x", 0.0044, 0.0)] + tests[2:3] * 2) == []


def test_what_presupposes_independence_is_not_judged_without_it() -> None:
    coloured = ResidualTest(CORRELATED, "x", 1e-9, 0.8)
    uneven, odd = ResidualTest(HETEROSCEDASTIC, "x", 1e-12, 9.0), ResidualTest(NOT_NORMAL, "x", 1e-12, 3.0)
    far = ResidualTest(OUTLIERS, "x", 1e-8, 2.0)
    assert [one.kind for one in faults([uneven, coloured, odd])] == [CORRELATED]
    assert [one.kind for one in faults([uneven, odd])] == [HETEROSCEDASTIC, NOT_NORMAL]
    assert {one.kind for one in faults([coloured, far])} == {CORRELATED, OUTLIERS}


def test_tests_hold_their_level_and_see_their_fault() -> None:
    random = np.random.default_rng(0)
    p: dict[str, list[float]] = {name: [] for name in (CORRELATED, HETEROSCEDASTIC, NOT_NORMAL, OUTLIERS)}
    for _ in range(200):
        e = random.standard_normal(60)
        white, uneven = whiteness([e]), heteroscedasticity(e, CURVE, TIMES)
        assert white is not None
        assert uneven is not None
        p[CORRELATED].append(white[0])
        p[HETEROSCEDASTIC].append(uneven[0])
        for kind, (value, _) in distribution(e):
            p[kind].append(value)
    assert all(np.mean(np.array(values) < 0.05) < 0.1 for values in p.values())
    swung = np.sin(np.arange(60.0)) + 0.3 * random.standard_normal(60)
    found = whiteness([swung])
    assert found is not None
    assert found[0] < 1e-6
    uneven = heteroscedasticity(CURVE * random.standard_normal(60), CURVE, TIMES)
    assert uneven is not None
    assert uneven[0] < 0.01
    assert uneven[1] > 2.0


def test_ljung_box_is_the_textbook_s() -> None:
    e = np.random.default_rng(3).standard_normal(50)
    rho = [float(e[k:] @ e[:-k]) / float(e @ e) for k in range(1, 5)]
    q = 50 * 52 * sum(r * r / (50 - k) for k, r in enumerate(rho, 1))
    assert residual_tests.ljung_box([e], 4) == pytest.approx(q)


def test_a_good_fit_is_adequate_and_plain() -> None:
    found = fit(Exponential(), made(CURVE + normal(0)))
    assert (found.status, found.verdict, found.exit_code) == ("converged", "adequate", 0)
    assert "converged, adequate." in words(found)
    assert "like independent noise (Ljung-Box p = " in words(found)
    assert found.statistics is not None
    assert found.statistics.chosen == "plain"
    assert found.estimates[0].stderr == found.estimates[0].plain
    assert found.statistics.remedies == []


def test_exact_is_never_by_a_loosened_tolerance() -> None:
    right = fit(Exponential(), made(CURVE))
    assert right.verdict == "exact"
    assert right.statistics is not None
    assert right.statistics.floor == ["y[0]"]
    swung = CURVE + 0.03 * np.sin(5.0 * TIMES) + normal(1, 0.004)
    for rtol in (1e-3, 1e-4):
        found = fit(Exponential(), made(swung), integrator=Integrator("dopri8", rtol, 1e-10))
        assert (found.verdict, found.exit_code) == ("inadequate", 0)
        assert "correlated in time" in words(found)
    loose = fit(Exponential(), made(CURVE), integrator=Integrator("bosh3", 1e-3, 1e-3))
    assert loose.verdict == "inadequate"
    assert "a tighter tolerance (--rtol 1e-10)" in words(loose)


def test_outliers_name_a_robust_loss_which_mends_them() -> None:
    values = CURVE + normal(2)
    values[[7, 20, 41]] += [1.0, -0.8, 0.9]
    found = fit(Exponential(), made(values))
    assert found.verdict == "inadequate"
    assert "hold 3 outliers" in words(found)
    assert "Try a robust loss (--loss soft_l1); or heavy-tailed noise (--noise-model student)." in words(found)
    robust = fit(Exponential(), made(values), loss="soft_l1")
    assert robust.estimates[0].value == pytest.approx(-0.5, abs=0.02)
    assert "outlier" not in words(robust)


def test_noise_in_proportion_names_a_noise_model() -> None:
    found = fit(Exponential(), made(CURVE * (1.0 + 2.0 * normal(6))))
    assert found.verdict == "inadequate"
    assert "are not of one size (Breusch-Pagan p" in words(found)
    assert "--noise-model lognormal" in words(found)
    assert fit(Exponential(), made(CURVE * np.exp(2.0 * normal(6))), noise="lognormal").verdict == "adequate"


def test_little_explained_names_other_searches() -> None:
    random = np.random.default_rng(4)
    found = fit(Exponential(k=-0.5), made(2.0 + 2.0 * random.standard_normal(60), 2.0))
    assert (found.verdict, found.exit_code) == ("does not fit", 0)
    assert "Little is explained: the fit is" in words(found)
    assert "Try many starts (--starts 20); or rates matched first (--strategy match)." in words(found)


def test_known_noise_that_is_exceeded_ends_with_3() -> None:
    found = fit(Exponential(), made(CURVE + normal(0), sigma=0.02))
    assert (found.status, found.verdict, found.exit_code) == ("converged", "does not fit", 3)
    assert "exceed the known noise: chi-squared" in words(found)
    assert repr(found).endswith("converged, does not fit, 1 unknowns>")


def test_an_unknown_that_nothing_moves_is_undetermined() -> None:
    found = fit(Idle(), made(CURVE + normal(0)))
    assert (found.verdict, found.exit_code) == ("undetermined", 0)
    assert "The data do not determine spare." in words(found)
    k, spare = found.estimates
    assert (k.undetermined, spare.undetermined) == (False, True)
    (row,) = [line for line in str(found.report()).splitlines() if line.startswith("spare")]
    assert "undetermined" in row
    assert "undetermined" in found.report().latex()


def test_channels_of_other_sizes_have_sigmas_of_their_own() -> None:
    """B is a thousand times A: with one sigma the data of A count for nothing."""
    times = np.arange(0.0, 8.0, 0.25)
    a = np.exp(-0.5 * times)
    random = np.random.default_rng(1)
    values = np.column_stack([a, 1000.0 * (1 - a)]) + random.standard_normal((len(times), 2)) * [0.01, 10.0]
    data = Trajectory(torch.from_numpy(times), torch.from_numpy(values))
    free = {"initial_free": torch.ones(2, dtype=torch.bool), "initial_scale": torch.tensor([1.0, 1000.0])}
    experiment = Experiment("two", data, torch.tensor([1.0, 1.0]), channels=("A", "B"), **free)  # type: ignore[arg-type]
    assert groups_of([experiment], Two()) == (0, 1)
    found = fit(Two(), experiment)
    assert found.status == "converged"
    assert "best start" not in found.message
    k, s = found.estimates[:2]
    assert k.stderr is not None
    assert s.stderr is not None
    assert abs(k.value - 0.5) < 3 * k.stderr < 0.02
    assert abs(s.value - 1000.0) < 3 * s.stderr < 40.0
    assert found.likelihood is not None
    assert found.likelihood.sigmas["A"] == pytest.approx(0.01, rel=0.3)
    assert found.likelihood.sigmas["B"] == pytest.approx(10.0, rel=0.3)
    assert found.settings["noise_groups"] == [0, 1]


class Kept(Exponential):
    """Beside the decay something that stays as it is."""

    state_names: ClassVar[tuple[str, ...]] = ("z", "c")

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        z, c = y.unbind(-1)
        return torch.stack((self.k * z, 0.0 * c), -1)


def test_a_channel_without_noise_is_named_and_left_out() -> None:
    """A constant that is met exactly says nothing of the noise of the other: errors are those without it."""
    values = CURVE + normal(0)
    data = Trajectory(torch.from_numpy(TIMES), torch.from_numpy(np.column_stack([values, np.full(60, 3.0)])))
    found = fit(Kept(), Experiment("kept", data, torch.tensor([2.0, 3.0]), channels=("z", "c")))
    alone = fit(Exponential(), made(values))
    assert found.statistics is not None
    assert alone.statistics is not None
    assert found.statistics.floor == ["c"]
    assert "left out of the likelihood: c." in words(found)
    assert found.likelihood is not None
    assert alone.likelihood is not None
    assert (found.likelihood.left_out, found.likelihood.observations) == (["c"], 60)
    assert found.likelihood.aic == pytest.approx(alone.likelihood.aic, rel=1e-6)
    assert found.estimates[0].stderr == pytest.approx(alone.estimates[0].stderr, rel=1e-4)
    assert found.statistics.sigma == pytest.approx(alone.statistics.sigma, rel=1e-6)


def test_groups_go_by_units_then_by_sizes() -> None:
    values = np.column_stack([CURVE, 3.0 * CURVE, 100.0 * CURVE, np.zeros(60)])
    data = Trajectory(torch.from_numpy(TIMES), torch.from_numpy(values))
    one = Experiment("four", data, torch.zeros(4), channels=("a", "b", "c", "d"))
    assert groups_of([one], Exponential()) == (0, 0, 1, 0)  # what never moves says nothing of its size
    apart = Experiment("four", data, torch.zeros(4), channels=("a", "b", "c", "d"), channel_units=("m", "s", "m", "m"))
    assert groups_of([apart], Exponential()) == (0, 1, 2, 0)


def test_resolution_is_the_last_digit() -> None:
    assert resolution(np.array([0.994, 1.5, 126.006])) == pytest.approx(1e-3)
    assert resolution(np.array([120.0, 3000.0])) == pytest.approx(10.0)
    assert resolution(np.random.default_rng(0).standard_normal(30)) == 0.0
    assert resolution(np.zeros(3)) == 0.0


def test_trivial_forecasters_and_a_model_of_no_use() -> None:
    train = Trajectory(torch.from_numpy(TIMES), torch.from_numpy((3.0 - 2.0 * TIMES)[:, None]))
    later = np.array([5.0, 6.0])
    assert trivial(LINE, train, later)[:, 0] == pytest.approx(3.0 - 2.0 * later)
    assert trivial(LAST, train, later)[:, 0] == pytest.approx([-5.0, -5.0])
    assert trivial(MEAN, train, later)[:, 0] == pytest.approx([-1.0, -1.0])
    assert useless(0.5, {LAST: 0.6, MEAN: 0.3}) is None
    said = useless(0.7, {LAST: 0.6, MEAN: 0.3})
    assert said is not None
    assert said.word == "no use"
    # growth, fitted to the rise of what saturates, is of no use beyond it
    times = np.linspace(0.0, 3.0, 30)
    rise, after = 1.0 / (1.0 + 99.0 * np.exp(-2.0 * times)), np.linspace(3.2, 8.0, 20)
    experiment = Experiment(
        "rise",
        Trajectory(torch.from_numpy(times), torch.from_numpy(rise[:, None])),
        torch.tensor([0.01]),
        test=Trajectory(torch.from_numpy(after), torch.ones(20, 1)),
    )
    found = fit(Exponential(k=2.0), experiment)
    assert (found.verdict, found.exit_code) == ("no use", 3)
    assert set(found.trivial) == {LAST, MEAN, LINE}
    assert "forecast by straight line" in words(found)
    assert found.scores["forecast"] is not None


def test_the_worst_stands_first_with_two_remedies() -> None:
    said = worst([Verdict("inadequate", "a", ["x", "y"]), Verdict("no use", "b", ["z"])])
    assert (said.word, said.sentence, said.remedies, said.others) == ("no use", "b", ["z", "x"], [["inadequate", "a"]])


def test_everything_is_computed_from_the_covariance_that_was_chosen() -> None:
    swung = CURVE + 0.1 * np.sin(9.0 * TIMES) + normal(1, 0.01)
    found = fit(Product(), made(swung))
    statistics = found.statistics
    assert statistics is not None
    assert statistics.chosen == "robust"
    assert statistics.best is statistics.robust
    (product,) = found.combinations
    assert product.name == "a b"
    alone = fit(Exponential(), made(swung)).estimates[0]
    # of a b the value, both errors and the interval are those of the rate, fitted as one unknown
    assert product.value == pytest.approx(-alone.value, rel=1e-6)
    assert product.stderr == pytest.approx(alone.stderr, rel=1e-4)
    assert product.stderr == product.robust
    assert product.plain == pytest.approx(alone.plain, rel=1e-4)
    for one in (product, alone):
        assert one.low is not None
        assert one.high is not None
    assert "identifiable combinations:" in str(found.report())
    gap = found.forecast([2.0])
    reach = statistics.quantile() * float(alone.stderr or 0.0) * 2.0 * 2.0 * np.exp(alone.value * 2.0)
    assert float(gap.high[0, 0] - gap.low[0, 0]) == pytest.approx(2 * reach, rel=1e-3)
    frame = found.report().frame()
    assert frame["undetermined"].tolist() == [True, True]


def test_held_inputs_are_told_from_linear_ones() -> None:
    held = Inputs.through(np.arange(5.0), np.array([0.0, 1.0, 0.0, 2.0, 2.0]), ["u"])
    ramp = linearised(held)
    assert ramp is not None
    at = ramp(torch.tensor([0.5, 1.5, 2.25], dtype=torch.float64))[:, 0]
    assert at.tolist() == pytest.approx([0.5, 0.5, 0.5])
    assert linearised(ramp) is None
    assert linearised(None) is None


def test_a_seed_that_falls_short_has_not_converged() -> None:
    """Two epochs of Adam are no optimum: neither the status nor the exit code say otherwise."""
    found = fit(Exponential(k=-2.0), decay(0.05, 0), optimizer="adam", epochs=2)
    assert (found.status, found.verdict, found.exit_code) == ("not converged", "no optimum", 3)
    assert found.estimates[0].stderr is None
    assert "least squares (--optimizer lm)" in words(found)


def test_p_values_of_students_residuals_are_normal_scores() -> None:
    values = CURVE + 0.05 * np.random.default_rng(8).standard_t(4, 60)
    found = fit(Exponential(), made(values), noise="student:4")
    assert found.verdict == "adequate"
    assert found.statistics is not None
    kinds = {one["kind"]: one["p"] for one in found.statistics.each}
    assert kinds[NOT_NORMAL] > 0.01
    assert stats.kurtosis(values - CURVE) > 0.5
