"""RunFormat: every kind of run opens by `Run.open`, every field of a result or record survives, older runs open."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.extra.numpy import arrays
from toys import COLLECTION, NETWORK, RECIPE, Points

from physid import Fit, datasets, fit, models
from physid.api.train import Trained, train
from physid.datasets import load
from physid.errors import InputError
from physid.formats import json_bytes, plain
from physid.inference import parameters
from physid.inference.result import FitResult
from physid.inference.search.one_start import Start
from physid.inference.uncertainty.estimates import Estimate
from physid.inference.uncertainty.information import Likelihood
from physid.inference.uncertainty.profile_curve import Profile
from physid.inference.uncertainty.statistics import FitStatistics
from physid.models import Pendulum, network
from physid.records import record_data, record_of
from physid.reproduce import Cell, Exhibit, Reproduction, Results, Table, reproduce
from physid.reproduce.run import REPRODUCTIONS
from physid.runs.fits import FITS
from physid.runs.format import FORMATS, Run
from physid.runs.trainings import TRAININGS
from physid.runs.verify import verify
from physid.training.recipe import Rate, Recipe
from physid.training.result import TrainingResult

OLD = Path(__file__).parent / "runs_of_0_1.tar.xz"  # a finished fit, one that was cut off, and a training, of before
PLAIN = some.none() | some.booleans() | some.integers(-9, 9) | some.floats() | some.text(max_size=3)


@pytest.fixture(autouse=True)
def _catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.NETWORKS, "line", NETWORK)
    monkeypatch.setitem(datasets.COLLECTIONS, "points", COLLECTION)


def same(a: Any, b: Any) -> bool:
    """Whether two values are one, not-a-number and types included."""
    if is_dataclass(a):
        return type(a) is type(b) and all(same(getattr(a, one.name), getattr(b, one.name)) for one in fields(a))
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, torch.nn.Module):
        mine, other = a.state_dict(), b.state_dict()
        return type(a) is type(b) and mine.keys() == other.keys() and all(torch.equal(mine[n], other[n]) for n in mine)
    if isinstance(a, torch.Tensor):
        return same(a.numpy(), b.numpy())
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and a != a:
        return isinstance(b, float) and b != b
    return type(a) is type(b) and a == b


def values(hint: Any) -> some.SearchStrategy[Any]:
    """Values of the type of a field."""
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return some.one_of(*(some.none() if one is NoneType else values(one) for one in inner))
    if is_dataclass(kind):
        return records(kind)
    if kind is np.ndarray:
        return arrays(get_args(inner[1])[0], some.tuples(some.integers(0, 3)))
    if kind is list:
        return some.lists(values(inner[0]), max_size=3)
    if kind is tuple:
        return some.lists(values(inner[0]), max_size=3).map(tuple)
    if kind in (dict, Mapping):
        return some.dictionaries(some.text(max_size=3), values(inner[1]), max_size=3)
    known = {float: some.floats(), int: some.integers(), bool: some.booleans(), str: some.text(max_size=5), Any: PLAIN}
    return known[kind]


def records(kind: Any) -> some.SearchStrategy[Any]:
    """Records of a kind with any values in its fields."""
    hints = get_type_hints(kind)
    return some.builds(kind, **{one.name: values(hints[one.name]) for one in fields(kind)})


@pytest.mark.parametrize("kind", [Estimate, Start, Likelihood, Profile, FitStatistics])
def test_every_field_of_a_record_survives(kind: Any) -> None:
    @settings(max_examples=12)
    @given(records(kind))
    def check(one: Any) -> None:
        again = record_of(kind, json.loads(json_bytes(record_data(one))))
        assert same(again, one), (again, one)

    check()


def test_fields_and_classes_are_known_by_their_former_names() -> None:
    one, mask = np.ones((1, 1)), np.ones(1, dtype=bool)
    now = FitStatistics(one, one, mask, 3, None, False, 0.1, 1.0, ["a / b"], ["a b"])
    data = json.loads(json_bytes(record_data(now)))
    before = {{"null_directions": "hidden", "identifiable_combinations": "told"}.get(key, key): data[key] for key in data}
    assert before.keys() != data.keys()
    assert same(record_of(FitStatistics, before), now)
    with pytest.warns(DeprecationWarning, match="FitStatistics.hidden is now null_directions"):
        assert getattr(now, "hidden") == ["a / b"]
    with pytest.warns(DeprecationWarning, match="FitStatistics.told is now identifiable_combinations"):
        assert getattr(now, "told") == ["a b"]
    with pytest.raises(AttributeError, match="FitStatistics has no attribute 'seen'"):
        getattr(now, "seen")
    with pytest.warns(DeprecationWarning, match="parameters.Vector is now physid.inference.parameters.ParameterVector"):
        assert getattr(parameters, "Vector") is parameters.ParameterVector


@given(
    some.sampled_from(["exponential", "milestones"]), some.lists(some.integers(0, 99), max_size=3), some.floats(0, 1)
)
def test_every_field_of_a_recipe_survives(rule: str, milestones: list[int], floor: float) -> None:
    rate = Rate(rule, 0.5, floor, "iteration", tuple(milestones), 0.1)
    one = Recipe(3, 4, 0.1, "sgd", {"momentum": 0.9}, rate, 1.5, 2, True, 7)
    assert same(Recipe.of(json.loads(json_bytes(one.data()))), one)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, "name is '3', not of the kind str"),
        ({"value": "1"}, "value is \"'1'\", not of the kind float"),
        ({"value": True}, "value is 'True', not of the kind float"),
        ({"at_bound": 1}, "at_bound is '1', not of the kind bool"),
    ],
)
def test_a_value_of_another_kind_is_refused(change: dict[str, Any], message: str) -> None:
    good = record_data(Estimate("k", 1.0, None, None, None, "1/s", 1.0, None))
    with pytest.raises(TypeError, match=message.split(",")[1]):
        record_of(Estimate, {**good, **change})
    with pytest.raises(TypeError, match="missing"):
        record_of(Estimate, {name: value for name, value in good.items() if name != "unit"})
    with pytest.raises(TypeError, match="not a mapping"):
        record_of(Estimate, [good])


def swing() -> FitResult:
    """A fit with starts, a likelihood, a profile and everything that is read out."""
    data = load("pendulum", noise=0.01, seed=1, points=20)
    found = fit(Pendulum(), [data, replace(data, name="second")], starts=2, seed=5, noise="normal", holdout=0.2)
    return replace(found, profiles=found.profile("length")[1])


def test_every_field_of_a_fit_survives(tmp_path: Path) -> None:
    found = swing()
    assert Fit.of_result(found).save(tmp_path / "run") == tmp_path / "run"
    run = Run.open(tmp_path / "run")
    assert (run.kind, run.finished, run.format) == ("fit", True, FITS)
    again = run.result()
    for one in fields(FitResult):
        before, after = getattr(found, one.name), getattr(again, one.name)
        if one.name in ("settings", "paper"):  # as JSON has them
            before, after = plain(before), plain(after)
        if one.name == "origin":
            before, after = before.files, after.files
        assert same(after, before), one.name
    assert same(run.resume(), again)  # converged: nothing is done


def line(**options: Any) -> Trained:
    torch.manual_seed(3)
    return train(network("line", Points()), Points(), replace(RECIPE, seed=3), labels={"note": "mine"}, **options)


def test_every_field_of_a_training_survives(tmp_path: Path) -> None:
    found = line(out=tmp_path / "run")
    run = Run.open(tmp_path / "run")
    assert (run.kind, run.finished, run.format) == ("training", True, TRAININGS)
    again = run.result()
    for one in fields(TrainingResult):
        before, after = getattr(found, one.name), getattr(again, one.name)
        if one.name == "collection":
            before, after = before.describe(), after.describe()
        assert same(after, before), one.name


def test_a_reproduction_is_a_run(tmp_path: Path) -> None:
    def table(results: Results) -> Table:
        return Table(["cell", "half"], [[key, one["half"]] for key, one in results.items()])

    cells = [Cell(f"x{x}", lambda work, x: {"half": x / 2}, {"x": x}) for x in (1, 2)]
    halves = Exhibit("halves", "Halves", "Numbers are halved.", "nothing.", lambda quick: cells, table)
    found = reproduce(halves, tmp_path / "run", quick=True)
    run = Run.open(tmp_path / "run")
    assert (run.kind, run.finished, run.format) == ("reproduction", False, REPRODUCTIONS)
    run = Run.open(tmp_path / "run", part=halves)
    again = run.result()
    for one in fields(Reproduction):
        before, after = getattr(found, one.name), getattr(again, one.name)
        assert sorted(after) == sorted(before) if one.name == "files" else same(after, before), one.name
    (tmp_path / "run" / "cells" / "x2.json").unlink()
    assert (run.result().status, run.result().missing) == ("partial", ["x2"])
    assert run.resume().table == found.table
    with pytest.raises(InputError, match="halves"):
        Run.open(run.path).result()


def test_a_run_of_another_kind_is_refused(tmp_path: Path) -> None:
    line(out=tmp_path / "run")
    with pytest.raises(InputError, match="is a training of a network, but a fit of unknowns is expected"):
        Fit.load(tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "request.json").write_text('{"kind": "trainin"}')
    with pytest.raises(InputError, match="Did you mean 'training'"):
        Run.open(tmp_path / "other")
    assert [*FORMATS] == ["fit", "training", "reproduction"]


@pytest.mark.parametrize("name", ["fit", "cut", "training"])
def test_a_run_of_before_opens_and_goes_on(name: str, tmp_path: Path) -> None:
    with tarfile.open(OLD) as archive:
        archive.extractall(tmp_path, filter="data")
    run = Run.open(tmp_path / name)
    before = run.result()
    assert before.status == {"fit": "converged"}.get(name, "interrupted")
    if name == "fit":
        assert [one.status for one in before.starts] == ["converged", "converged"]
        assert [one.name for one in before.profiles] == ["k"]
        assert verify(run.path).ok
    found = run.resume()
    assert found.status == {"training": "finished"}.get(name, "converged")
    if name == "training":
        for one, other in zip(found.learner.parameters(), line().learner.parameters(), strict=True):
            assert torch.equal(one, other)
    else:
        assert found.x == pytest.approx(before.x, abs=0.2)  # one that was cut off goes on from its best point
        assert [row["evaluation"] for row in found.history[:7]] == [*range(1, 8)]
    assert Run.open(run.path).result().status == found.status
