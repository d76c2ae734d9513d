"""Settings files, expressions, and unknowns that are fixed, freed and tied from outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from physid import Unknown, fit, settings
from physid.cli.app import main
from physid.datasets import load
from physid.errors import InputError
from physid.modelling.expression import Expression
from physid.models import Pendulum

Captured = pytest.CaptureFixture[str]


@given(st.floats(0.1, 10.0), st.floats(0.1, 10.0))
def test_expressions_compute(a: float, b: float) -> None:
    text = "-a**2 / (b + 1) + sqrt(a) * exp(-b) - 3"
    found = Expression(text, ["a", "b"])(
        {"a": torch.tensor(a, dtype=torch.float64), "b": torch.tensor(b, dtype=torch.float64)}
    )
    assert float(found) == pytest.approx(-(a**2) / (b + 1) + a**0.5 * 2.718281828459045**-b - 3, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    ["__import__('os')", "a.real", "a[0]", "lambda: a", "a if a else b", "open(a)", "exp(a, b)", "", "a b", "(" * 500],
)
def test_expressions_hold_arithmetic_alone(text: str) -> None:
    with pytest.raises(InputError):
        Expression(text, ["a", "b"])


def test_ties_hold_in_a_fit_and_are_read_back(tmp_path: Path) -> None:
    experiment = load("pendulum")
    found = fit(Pendulum(), experiment, tie={"friction": "length / 7"}, out=tmp_path / "run")
    assert [one.name for one in found.estimates] == ["length"]
    assert found.estimates[0].value == pytest.approx(0.7, rel=1e-8)
    assert float(found.model.values()["friction"]) == pytest.approx(0.1, rel=1e-8)
    assert type(found).load(tmp_path / "run").model.ties["friction"].text == "length / 7"

    class Tied(Pendulum):
        friction = Unknown(tie=lambda model: model.length / 7.0)

    assert fit(Tied(), experiment).estimates[0].value == pytest.approx(0.7, rel=1e-8)


def test_fixed_and_freed_from_outside() -> None:
    experiment = load("pendulum")
    model = Pendulum()
    held = fit(model, experiment, fix={"friction": 0.1})
    assert [one.name for one in held.estimates] == ["length"]
    assert float(model.friction) == pytest.approx(0.1)
    assert len(fit(model, experiment, free=["friction"]).estimates) == 2
    for options, words in (
        ({"fix": {"lenght": 1.0}}, "Did you mean 'length'"),
        ({"tie": {"length": "2 * length"}}, "unknown name in an expression 'length'"),
        ({"fix": {"length": 1.0}, "tie": {"length": "friction"}}, "Name it once"),
    ):
        with pytest.raises(InputError, match=words):
            fit(Pendulum(), experiment, **options)
    model.tie("length", "7 * friction")
    with pytest.raises(InputError, match="goes round in a circle"):
        model.tie("friction", "length / 7")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("houldout: 0.2", "Did you mean 'holdout'"),
        ("starts: many", "starts: expected a whole number from 1 to 10000 .*, got 'many'. Give another value"),
        ("starts: true", "expected a whole number"),
        ("[1, 2]", "holds a list"),
        ("a: [", "is no YAML"),
        ("!!python/object/apply:os.system ['true']", "is no YAML"),
        ("tie: {length: 3}", "a mapping from unknowns to expressions"),
        ("noise: normal\nnoise_model: student", "noise is given twice"),
    ],
)
def test_a_file_that_cannot_be_is_one_line(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "fit.yaml").write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        settings.load(tmp_path / "fit.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("-2E+4", -2e4),
        (".5", 0.5),
        ("3.", 3.0),
        ("7", 7.0),
        ("010", 10.0),
        ("0x1f", 31.0),
        ("0o17", 15.0),
        ("[1e-3, 2]", [1e-3, 2]),
    ],
)
def test_numbers_are_those_of_yaml_1_2(text: str, value: float | list[float], tmp_path: Path) -> None:
    file = tmp_path / "fit.yaml"
    file.write_text(f"fix: {{k: {text}}}\n")
    assert settings.load(file) == {"fix": {"k": value}}
    file.write_text(settings.dump({"fix": {"k": value}}))
    assert settings.load(file) == {"fix": {"k": value}}


def test_what_is_no_number_in_yaml_1_2_is_text(tmp_path: Path) -> None:
    file = tmp_path / "fit.yaml"
    file.write_text("holdout: 12:20\n")  # 740 in the sexagesimal numbers of YAML 1.1
    assert settings.load(file) == {"holdout": "12:20"}
    for text in ("1_000", "1e", "0b11", "1.2.3"):
        file.write_text(f"fix: {{k: {text}}}\n")
        with pytest.raises(InputError, match="fix: expected a mapping from unknowns to values"):
            settings.load(file)
    for value in ("1e-3", "12:20", "010", "0x1f", "yes", "1_000"):
        file.write_text(settings.dump({"tie": {"k": value}}))
        assert settings.load(file) == {"tie": {"k": value}}


def test_what_is_typed_counts_more_than_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fit.yaml").write_text("strategy: grow\nrtol: 1e-9\nfix: {friction: 0.1}\nholdout: 0.25\n")
    arguments = ["fit", "pendulum", "--settings", "fit.yaml", "--strategy", "full"]
    assert main([*arguments, "--print-settings"]) == 0
    Path("again.yaml").write_text(capsys.readouterr().out)
    found = settings.load("again.yaml")
    assert set(found) == {"strategy", "rtol", "fix", "holdout"}
    assert (found["strategy"], found["rtol"], found["holdout"]) == ("full", 1e-9, 0.25)
    assert settings.load("fit.yaml")["strategy"] == "grow"
    assert main(["fit", "pendulum", "--settings", "again.yaml", "--json", "--out", "run"]) == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(done["unknowns"]) == ["length"]
    assert done["scores"]["test"] is not None
    assert main(["fit", "pendulum", "--fix", "friction=x"]) == 2
    assert "expected a number, got 'x'" in capsys.readouterr().err
