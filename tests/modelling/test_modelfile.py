"""Models and experiments in files of the user's own, and every way in which such a file can be wrong."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest

from physid.cli import main
from physid.data.experiment import Experiment
from physid.errors import InputError
from physid.modelling.address import (
    blame,
    import_file,
    is_file_name,
    load_experiment_file,
    load_model_file,
    split_file_name,
)
from physid.modelling.model import Model

GOOD = '''
from dataclasses import dataclass
import torch
from physid import Experiment, Model, Trajectory, Unknown, positive

@dataclass
class Helper:
    """A dataclass looks its module up in sys.modules."""
    x: "int" = 0

class Cooling(Model):
    """Newton's law of cooling."""
    state_names = ("temperature",)
    k = Unknown(0.1, positive)
    def field(self, t, y):
        return -self.k * y

def coffee(first: float = 80.0) -> Experiment:
    times = torch.arange(5.0)
    return Experiment("coffee", Trajectory(times, first * torch.exp(-0.1 * times)[:, None]), [first])

tea = coffee(60.0)
number = 3
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cooling.py"
    path.write_text(GOOD)
    return path


def test_names_of_files_are_told_from_names_of_the_catalogue() -> None:
    assert [is_file_name(name) for name in ("drag.py:Drag", "a/drag.py", "threebody", "py:x")] == [
        True,
        True,
        False,
        False,
    ]
    assert split_file_name("a/drag.py:Drag") == (Path("a/drag.py"), "Drag")
    assert split_file_name("drag.py") == (Path("drag.py"), "")


def test_a_class_is_loaded_once(file: Path) -> None:
    cooling = load_model_file(file, "Cooling")
    assert issubclass(cooling, Model)
    assert load_model_file(str(file), "Cooling") is cooling
    assert load_model_file(file, "") is cooling  # the only model there
    assert sys.modules[cooling.__module__].Helper() == pickle.loads(
        pickle.dumps(sys.modules[cooling.__module__].Helper())
    )


def test_a_changed_file_is_read_again(file: Path) -> None:
    before = load_model_file(file, "Cooling")
    file.write_text(GOOD.replace("0.1, positive", "0.2, positive"))
    after = load_model_file(file, "Cooling")
    assert (float(before.unknowns["k"].guess), float(after.unknowns["k"].guess)) == (0.1, 0.2)


def test_an_experiment_is_a_function_or_an_instance(file: Path) -> None:
    assert float(load_experiment_file(file, "coffee", first=70.0).initial) == 70.0
    assert float(load_experiment_file(file, "tea").initial) == 60.0
    assert isinstance(load_experiment_file(file, "coffee"), Experiment)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Coling", "unknown model of cooling.py 'Coling'. Did you mean 'Cooling'?"),
        ("number", "number is something of type int, not a subclass of physid.Model"),
        ("Helper", "Helper is the class Helper, not a subclass"),
        ("coffee", "coffee is something of type function, not a subclass"),
    ],
)
def test_what_is_no_model_is_refused(file: Path, name: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        load_model_file(file, name)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cofee", {}, "unknown experiment of cooling.py 'cofee'. Did you mean 'coffee'?"),
        ("", {}, "defines coffee, tea: say which"),
        ("number", {}, "number gives something of type int, not a physid.Experiment"),
        ("tea", {"first": 1.0}, "is not a function, so it takes no options; it was given first"),
        ("coffee", {"frist": 1.0}, "got an unexpected keyword argument 'frist'"),
    ],
)
def test_what_is_no_experiment_is_refused(file: Path, name: str, options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError) as error:
        load_experiment_file(file, name, **options)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import physid\nclass A(:\n", "broken.py does not import: line 2: invalid syntax. Correct that line."),
        ("\nimport no_such_package\n", "line 2: ModuleNotFoundError: No module named 'no_such_package'"),
        ("def f():\n    return 1 / 0\nf()\n", "line 2: ZeroDivisionError: division by zero"),
        ("x = 1\n", "broken.py defines no model A. Define one there."),
    ],
)
def test_a_file_that_cannot_be_used_says_where(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        load_model_file(path, "A")
    assert message in str(error.value)
    assert not any(name.startswith("physid_user_broken") for name in sys.modules if "x = 1" not in text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.py does not exist"):
        load_model_file(tmp_path / "none.py", "A")


SLIP = """
import math
import numpy as np
import torch
from physid import Model, Unknown, positive

class Slip(Model):
    state_names = ("x", "v")
    k = Unknown(2.0, positive)
    def field(self, t, y):
        x, v = y.unbind(-1)
        return {field}
"""


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("1 / 0 + x", "ZeroDivisionError: division by zero. Correct that line."),
        ("torch.stack((v, -self.kk * x), -1)", "'Slip' object has no attribute 'kk'. Correct that line."),
        ("torch.stack((v, -self.k * x if x > 0 else x), -1)", "write torch.where"),
        ("torch.stack((v, -self.k * math.sin(x)), -1)", "in place of math's"),
        ("torch.as_tensor(np.stack((v, -self.k * x), -1))", "in place of NumPy's"),
    ],
)
@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad:UserWarning")
def test_a_field_that_raises_is_named_by_its_line(
    field: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("slip.py").write_text(SLIP.format(field=field))
    Path("data.csv").write_text("t,x,v\n" + "".join(f"{i},{1 - i / 2},{-i / 3}\n" for i in range(6)))
    for command in (["check", "slip.py:Slip"], ["fit", "--model", "slip.py:Slip", "--out", "run"]):
        assert main([*command, "--data", "data.csv"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("physid: error: slip.py, line 12, in field: ")
        assert said in error
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("v", "returns a tensor ["),
        ("torch.stack((v, -x, x), -1)", "returns a tensor ["),
        ("(v, -self.k * x)", "returns a tuple"),
        ("None", "returns a NoneType"),
    ],
)
def test_a_field_of_the_wrong_shape_is_told_the_right_one(
    field: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("slip.py").write_text(SLIP.format(field=field))
    Path("data.csv").write_text("t,x,v\n" + "".join(f"{i},{1 - i / 2},{-i / 3}\n" for i in range(6)))
    assert main(["fit", "--model", "slip.py:Slip", "--data", "data.csv", "--out", "run"]) == 2
    assert f"physid: error: slip.py, line 10: Slip.field {said}" in capsys.readouterr().err


def test_an_error_inside_physid_is_not_blamed_on_the_file_that_called_it(tmp_path: Path) -> None:
    path = tmp_path / "caller.py"
    path.write_text("def call(function):\n    function()\n")
    call = import_file(path).call
    for function, named in ((lambda: 1 / 0, True), (lambda: split_file_name(3), False)):  # type: ignore[arg-type]
        with pytest.raises(Exception) as caught:
            call(function)
        assert (blame(caught.value) is not None) is named
