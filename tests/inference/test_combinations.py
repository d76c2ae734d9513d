"""Identifiable combinations: few factors, whole powers, values and errors, the same in `check` and in `report`."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from fits import Product, decay
from torch import Tensor

from physid import Experiment, Model, Trajectory, Unknown, between, fit, positive
from physid.check import check
from physid.data.inputs import Inputs
from physid.inference.parameters import VectorEntry
from physid.inference.uncertainty.identifiability import (
    named_basis,
    null_basis,
    simplified,
    sparse_basis,
    spoken_direction,
)
from physid.models import Exponential

ENTRIES = [VectorEntry(name, positive, "", name) for name in ("k", "v", "a", "f")]


class Switched(Model):
    """x' = -a x while u is 0, -b x while u is 1."""

    state_names: ClassVar[tuple[str, ...]] = ("x",)
    input_names: ClassVar[tuple[str, ...]] = ("u",)
    a = Unknown(0.3, positive)
    b = Unknown(0.2, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        (u,) = self.inputs(t)
        return -self.a * (1 - u[..., None]) * y - self.b * u[..., None] * y


class Unseen(Model):
    """x' = -b x z, z' = -z / 2, of which x is seen: b has no slope where z begins at zero."""

    state_names: ClassVar[tuple[str, ...]] = ("x", "z")
    channel_names: ClassVar[tuple[str, ...]] = ("x",)
    b = Unknown(0.4, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        x, z = y.unbind(-1)
        return torch.stack((-self.b * x * z, -0.5 * z), -1)

    def observe(self, y: Tensor) -> Tensor:
        return y[..., :1]


class Capped(Model):
    """x'' = -w^2 x - 2 z w x', of which the position is seen, z below .005."""

    state_names: ClassVar[tuple[str, ...]] = ("x", "v")
    channel_names: ClassVar[tuple[str, ...]] = ("x",)
    w = Unknown(6.0, positive)
    z = Unknown(0.002, between(0.0, 0.005))

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        x, v = y.unbind(-1)
        return torch.stack((v, -(self.w**2) * x - 2 * self.z * self.w * v), -1)

    def observe(self, y: Tensor) -> Tensor:
        return y[..., :1]


def test_an_unknown_whose_slope_is_gone_at_its_bound_is_in_no_combination() -> None:
    """At a bound d natural / dx underflows: nothing is divided by it, and the direction not seen is the unknown."""
    entries = [
        VectorEntry("w", positive, "", "w"),
        VectorEntry("z", between(0.0, 1.0), "", "z"),
        VectorEntry("a", positive, "", "a"),
    ]
    for slope in (0.0, 1e-300):
        assert named_basis(np.eye(3)[[0, 2]], entries, np.array([1.0, slope, 1.0])) == []
        (null,) = null_basis(np.eye(3)[1:2], entries, np.array([1.0, slope, 1.0]))
        assert spoken_direction(null, entries) == "z"


def test_a_fit_that_ends_at_a_bound_is_reported() -> None:
    """The damping is .01 and may be .005 at most: the frequency is found, the damping named as at its bound."""
    random = np.random.default_rng(0)
    times = np.linspace(0.0, 30.0, 300)
    values = np.exp(-0.07 * times) * np.cos(7.0 * times) + 0.05 * random.standard_normal(300)
    data = Experiment(
        "made",
        Trajectory(torch.from_numpy(times), torch.from_numpy(values[:, None])),
        torch.tensor([1.0, 0.0], dtype=torch.float64),
        initial_free=torch.ones(2, dtype=torch.bool),
        initial_scale=torch.ones(2),
    )
    found = fit(Capped(), data)
    by_name = {one.name: one for one in found.estimates}
    assert by_name["w"].value == pytest.approx(7.0, abs=0.02)
    assert by_name["z"].at_bound
    assert by_name["z"].value == pytest.approx(0.005, rel=1e-6)
    assert found.combinations == []
    assert "At a bound of its domain: z." in str(found.report())


def test_products_come_out_of_any_basis_of_their_space() -> None:
    """k / v and f a / v, mixed by any rotation and scale of columns, come back as they were."""
    rows = np.array([[1.0, -1.0, 0.0, 0.0], [0.0, -1.0, 1.0, 1.0]])
    random = np.random.default_rng(0)
    for _ in range(20):
        mixed = random.standard_normal((2, 2)) @ rows
        names = [name for name, _ in named_basis(mixed, ENTRIES, np.ones(4))]
        assert sorted(names) == ["a f / v", "k / v"] or sorted(names) == ["a f / k", "k / v"]
    null = null_basis(np.array([[1.0, 1.0, 1.0, 0.0]]) + 0.0, ENTRIES, np.ones(4))
    assert [spoken_direction(row, ENTRIES) for row in null] == ["1 log(k) +1 log(v) +1 log(a)"]


def test_a_sparse_basis_spans_the_same() -> None:
    random = np.random.default_rng(1)
    for rank, width in ((1, 3), (2, 5), (3, 6), (4, 4)):
        rows = random.standard_normal((rank, width)) * [10.0 ** (i % 4) for i in range(width)]
        found = sparse_basis(rows)
        size = np.abs(rows).max(0)
        assert found.shape == rows.shape
        assert np.linalg.matrix_rank(np.concatenate([rows, found]) / size, tol=1e-6) == rank
        assert all(np.count_nonzero(row) <= width - rank + 1 for row in found)


def test_powers_are_whole_where_they_can_be() -> None:
    assert simplified(np.array([0.5, -1.001, 0.0])).tolist() == [1.0, -2.0, 0.0]
    assert simplified(np.array([0.37, 1.0])) == pytest.approx([0.37, 1.0])


def test_a_combination_has_the_value_and_error_of_the_rate_that_it_is() -> None:
    experiment = decay(0.02, 3)
    (product,) = fit(Product(), experiment).combinations
    (rate,) = fit(Exponential(), experiment).estimates
    assert product.name == "a b"
    assert product.value == pytest.approx(-rate.value, rel=1e-6)
    assert product.stderr == pytest.approx(rate.stderr, rel=1e-4)
    assert product.low is not None
    assert product.high is not None
    assert product.low < product.value < product.high
    assert product.start == pytest.approx(1.0)


def test_check_names_what_report_names() -> None:
    experiment = decay(0.02, 3)
    findings = {one.name: one for one in check(Product(), experiment)}
    assert findings["identifiability"].status == "failed"
    assert "They do determine a b (1 there)." in findings["identifiability"].sentence
    found = fit(Product(), experiment)
    assert found.statistics is not None
    (direction,) = found.statistics.null_directions
    assert f"the data do not determine {direction}." in findings["identifiability"].sentence


def switched(name: str, u: float, rate: float) -> Experiment:
    times = np.arange(6.0)
    data = Trajectory(torch.from_numpy(times), torch.from_numpy(3.0 * np.exp(-rate * times)[:, None]))
    drive = Inputs.through(times, np.full(6, u), ["u"])
    return Experiment(name, data, torch.tensor([3.0]), initial_free=torch.tensor([True]), inputs=drive)


def test_experiments_are_judged_together() -> None:
    """Each tells one unknown; together they tell both."""
    both = [switched("off", 0.0, 0.5), switched("on", 1.0, 0.1)]
    assert {one.name: one.status for one in check(Switched(), both[0])}["identifiability"] == "failed"
    found = {one.name: one.status for one in check(Switched(), both)}
    assert found["gradient"] == found["identifiability"] == "passed"
    a, b = fit(Switched(), both).listed[:2]
    assert a.value == pytest.approx(0.5, rel=1e-6)
    assert b.value == pytest.approx(0.1, rel=1e-6)


def test_hidden_states_start_where_the_data_say() -> None:
    """From z = 0, where it has no slope, b could not be told from z; the slope of x says that z is not zero."""
    times = np.linspace(0.0, 4.0, 30)
    x = np.exp(-0.8 * (1.0 - np.exp(-0.5 * times)))
    data = Trajectory(torch.from_numpy(times), torch.from_numpy(x[:, None]))
    free = torch.tensor([False, True])
    experiment = Experiment("unseen", data, torch.tensor([1.0, 0.0]), initial_free=free)
    found = {one.name: one for one in check(Unseen(), experiment)}
    assert found["gradient"].status == "passed"
    # b z(0) is one number, .4: seen as a product, not each
    assert found["identifiability"].status == "failed"
    assert "log(b)" in found["identifiability"].sentence
