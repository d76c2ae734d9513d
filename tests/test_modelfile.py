"""Models and experiments in files of the user's own, and every way in which such a file can be wrong."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest

from physid.errors import InputError
from physid.experiment import Experiment
from physid.modelfile import is_file_name, load_experiment_file, load_model_file, split_file_name
from physid.spec import Model

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
