"""FitOptions: each option of a fit is declared once, and all that is said of it elsewhere derives from there."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from inspect import signature
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import physid
from physid import Fit, Integrator, fit, settings
from physid.cli.app import main
from physid.cli.fit import command
from physid.cli.method import asked_for
from physid.cli.options import dest_of
from physid.datasets import load
from physid.errors import InputError
from physid.inference.fit_options import OPTIONS, TYPED, FitOptions, default_of, flags_of
from physid.inference.options import FitPlan, resolve
from physid.models import Exponential
from physid.runs.origin import beginning, options_data, options_of

Captured = pytest.CaptureFixture[str]

# For every option a value that is not its default, and how it is typed. A new option needs one here.
OTHERS: dict[str, tuple[Any, list[str]]] = {
    "optimizer": ("adam", ["adam"]),
    "strategy": ("segments", ["segments"]),
    "protocol": ("paper-text", ["paper-text"]),
    "epochs": (7, ["7"]),
    "lr": (0.25, ["0.25"]),
    "time_limit": (12.5, ["12.5"]),
    "starts": (3, ["3"]),
    "workers": (2, ["2"]),
    "seeds": (4, ["4"]),
    "noise": ("student:3", ["student:3"]),
    "loss": ("huber", ["huber"]),
    "loss_scale": (0.5, ["0.5"]),
    "holdout": ("after:1.5", ["after:1.5"]),
    "fix": ({"a": 1.5, "b": None, "c": [1.0, 2.0]}, ["a=1.5", "b", "c=1,2"]),
    "free": (("a", "b"), ["a", "b"]),
    "tie": ({"width": "2 * length"}, ["width=2 * length"]),
    "integrator": (Integrator("tsit5", 1e-5, max_step=0.1), []),
    "solver": ("tsit5", ["tsit5"]),
    "gradient": ("adjoint", ["adjoint"]),
    "engine": ("eager", ["eager"]),
    "rtol": (1e-5, ["1e-5"]),
    "atol": (1e-6, ["1e-6"]),
    "max_steps": (77, ["77"]),
    "probes": (2, ["2"]),
    "seed": (5, ["5"]),
}
# Values of each kind, for a round trip of any options at once.
DRAWN: dict[str, st.SearchStrategy[Any]] = {
    **{name: st.sampled_from([None, value]) for name, (value, _) in OTHERS.items() if default_of(name) is None},
    "epochs": st.none() | st.integers(1, 10_000),
    "lr": st.none() | st.floats(1e-9, 1e9),
    "time_limit": st.none() | st.floats(1e-3, 1e9),
    "loss_scale": st.none() | st.floats(1e-300, 1e300),
    "rtol": st.none() | st.floats(0, 1),
    "atol": st.none() | st.floats(0, 1),
    "starts": st.integers(1, 10_000),
    "seed": st.integers(0, 2**32 - 1),
    "holdout": st.none() | st.floats(0.01, 0.99) | st.just("after:3") | st.just("east"),
    "free": st.lists(st.text("abc", min_size=1)).map(tuple),
    "fix": st.none() | st.dictionaries(st.text("abc", min_size=1), st.none() | st.floats(-1e9, 1e9), min_size=1),
    "tie": st.none() | st.dictionaries(st.text("abc", min_size=1), st.text("abc *+2", min_size=1), min_size=1),
}


def same(a: FitOptions, b: FitOptions) -> None:
    for one in fields(FitOptions):
        assert getattr(a, one.name) == getattr(b, one.name), one.name
        assert type(getattr(a, one.name)) is type(getattr(b, one.name)), one.name


def typed(*words: str) -> FitOptions:
    """The options of a fit that `words` of the command line say."""
    with click.Context(command) as context:
        command.parse_args(context, list(words))
        return asked_for(context.params)[0]


@pytest.mark.parametrize("name", [one.name for one in fields(FitOptions)])
def test_an_option_is_told_everywhere(name: str, tmp_path: Path) -> None:
    assert name in OTHERS, f"{name} is new: give it a value here"
    about, (value, words) = OPTIONS[name], OTHERS[name]
    assert about.help
    (parameter,) = [one for one in signature(fit).parameters.values() if one.name == name]
    assert parameter.default == default_of(name)
    assert f"{name}: {about.help[:20]}" in str(fit.__doc__)
    options = FitOptions(**{name: value})
    assert options.said() == {name: value}
    assert getattr(FitOptions.of(options, {}), name) == value
    data = json.loads(json.dumps(options_data(options, {"width": "2 * length"}), allow_nan=False))
    same(options_of(data), replace(options, integrator=options_of(data).integrator))
    assert getattr(options_of(data), name) == value
    assert {one.name for one in fields(FitPlan)} - {*OPTIONS} == {"schedule"}
    if name not in TYPED:
        return
    flag, *aliases = flags_of(name)
    (option,) = [one for one in command.params if one.name == dest_of(name)]
    assert isinstance(option, click.Option)
    assert option.opts == [flag, *aliases]
    for each in (flag, *aliases):
        same(typed(*(part for word in words for part in (each, word))), options)
    (tmp_path / "fit.yaml").write_text(settings.dump(options.said()))
    assert settings.load(tmp_path / "fit.yaml") == {name: list(value) if isinstance(value, tuple) else value} or (
        settings.load(tmp_path / "fit.yaml") == {name: value}
    )
    same(typed("--settings", str(tmp_path / "fit.yaml")), options)
    schema = settings.schema()["properties"][name]
    assert about.help in schema["description"]
    assert f"# {name}:" in settings.template()


@given(st.fixed_dictionaries({}, optional=DRAWN))
def test_options_survive_a_run_and_a_settings_file(chosen: dict[str, Any]) -> None:
    options = FitOptions(**chosen)
    assert set(options.said()) <= set(chosen)
    ties = {name: str(how) for name, how in (options.tie or {}).items()}
    about = options_data(options, ties)
    again = options_of(json.loads(json.dumps(about, allow_nan=False)))
    same(replace(again, integrator=options.integrator), options)
    text = settings.dump(options.said())
    found = yaml.safe_load(text) if text else {}
    same(FitOptions(**found, integrator=options.integrator), options)


def test_a_run_keeps_the_options_it_was_asked_for(tmp_path: Path) -> None:
    asked = FitOptions(strategy="full", loss="huber", holdout=0.25, fix={}, max_steps=5000, seed=3)
    fit(Exponential(), load("exponential"), options=asked, out=tmp_path / "run")
    kept = beginning(tmp_path / "run", None, False)[0].options
    same(replace(kept, integrator=None), asked)
    assert kept.integrator is not None
    assert kept.integrator.max_steps == 5000
    assert Fit.load(tmp_path / "run").integrator.max_steps == 5000
    assert main(["verify", str(tmp_path / "run"), "--quiet"]) == 0


def test_a_run_of_an_older_layout_has_the_defaults_of_what_it_does_not_say() -> None:
    asked = options_data(FitOptions(loss="huber"), {})
    newer = ("fix", "free", "tie", "solver", "rtol", "atol", "max_steps", "engine")
    older = {name: value for name, value in asked.items() if name not in newer}
    assert replace(options_of(older), integrator=None) == FitOptions(loss="huber")
    with pytest.raises(InputError, match="unknown option of fit 'hubris'"):
        options_of({**older, "hubris": 1})


def test_keywords_win_over_options_and_unknown_ones_are_refused() -> None:
    data = load("exponential")
    found = fit(Exponential(), data, options=FitOptions(seed=3, rtol=1e-6), seed=4)
    assert (found.settings["seed"], found.settings["rtol"]) == (4, 1e-6)
    np.testing.assert_array_equal(found.x, fit(Exponential(), data, seed=4, rtol=1e-6).x)
    with pytest.raises(InputError, match=r"unknown option of fit 'optimiser'.* 'optimizer'"):
        fit(Exponential(), data, optimiser="lm")  # type: ignore[call-arg]
    assert physid.FitOptions is FitOptions


@pytest.mark.parametrize("name", [name for name, one in OPTIONS.items() if one.optimizers])
def test_an_option_of_another_optimizer_is_refused(name: str) -> None:
    about = OPTIONS[name]
    others = [one for one in ("lm", "adam", "lbfgs") if one not in about.optimizers]
    for other in others:
        with pytest.raises(InputError, match=rf"^{name}=.* was given with optimizer {other}, but belongs to "):
            resolve(FitOptions(**{name: OTHERS[name][0], "optimizer": other}))
        resolve(FitOptions(**{name: about.neutral, "optimizer": other}))


@pytest.mark.parametrize("name", [name for name, one in OPTIONS.items() if "type" in one.read.schema()])
def test_a_schema_and_a_reader_agree(name: str) -> None:
    about = OPTIONS[name].read.schema()
    kinds = about["type"] if isinstance(about["type"], list) else [about["type"]]
    if about["type"] not in ("number", "integer"):
        assert set(kinds) <= {"string", "number", "array", "object", "null"}
        return
    low = about.get("minimum", about.get("exclusiveMinimum"))
    if "minimum" in about:
        assert getattr(FitOptions(**{name: low}), name) == low
    wrong = [low - 1, float("nan"), "x", True, [], {}, low + 0.5 if about["type"] == "integer" else -1.0]
    wrong += [low] if "exclusiveMinimum" in about else []
    wrong += [about["maximum"] + 1] if "maximum" in about else []
    for value in wrong:
        with pytest.raises(InputError, match=rf"^{name}: expected .*, got .*\. Give another value\.$"):
            FitOptions(**{name: value})


def test_the_errors_of_a_flag_name_the_flag(capsys: Captured) -> None:
    for words, said in (
        (["--epochs", "0"], "--epochs: expected a whole number from 1 to 10000000 (more with --limits), got '0'."),
        (["--lr", "fast"], "--lr: expected a positive number, got 'fast'."),
        (["--seeds", "x"], "--seeds: expected a whole number from 1 to 1000"),
    ):
        assert main(["fit", "exponential", *words]) == 2
        assert said in capsys.readouterr().err
