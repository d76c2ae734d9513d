"""Old names of modules: each gives the module of now, with a warning, and unpickles what was pickled under it."""

from __future__ import annotations

import pickle
import sys
from importlib import import_module
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path

import pytest
import torch

from physid import Model
from physid.data import experiment
from physid.modelling.address import load_model_file
from physid.moved import HOMES, NAMES

# a class of the engine as protocol 0 writes it, by the name that its module had
OLD = b"cphysid.ode.tableau\nTableau\n."
MODEL = """
from physid.smooth import smooth_abs
from physid.spec import Model
from physid.unknown import Unknown


class Damped(Model):
    state_names = ("x",)
    k = Unknown(1.0)

    def field(self, t, y):
        return -self.k * smooth_abs(y, 0.1)
"""


@pytest.fixture(autouse=True)
def _imported_for_the_first_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for old in HOMES:
        monkeypatch.delitem(sys.modules, f"physid.{old}", raising=False)


@pytest.mark.filterwarnings("ignore:physid:DeprecationWarning")
@pytest.mark.parametrize("old", HOMES)
def test_an_old_name_gives_the_module_of_now(old: str) -> None:
    assert import_module(f"physid.{old}") is import_module(f"physid.{HOMES[old]}")


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_an_old_place_of_a_name_gives_what_it_names_now(module: str, name: str) -> None:
    home, _, new = NAMES[module, name].partition(":")
    new = new or name
    with pytest.warns(DeprecationWarning, match=rf"physid\.{module}\.{name} is now physid\.{home}\.{new}\. Import it"):
        found = getattr(import_module(f"physid.{module}"), name)
    assert found == attrgetter(new)(import_module(f"physid.{home}"))


def test_a_name_that_never_was_is_no_attribute() -> None:
    for module in {module for module, _ in NAMES}:
        with pytest.raises(AttributeError, match=f"physid.{module}' has no attribute 'Fitt'"):
            import_module(f"physid.{module}").Fitt  # noqa: B018


def test_an_old_name_says_the_new_one() -> None:
    with pytest.warns(DeprecationWarning, match=r"physid\.experiment is now physid\.data\.experiment\. Import from"):
        old = import_module("physid.experiment")
    assert old is experiment
    assert experiment.__name__ == "physid.data.experiment"
    assert experiment.__spec__ is not None
    assert experiment.__spec__.name == "physid.data.experiment"


def test_what_was_pickled_under_an_old_name_loads() -> None:
    with pytest.warns(DeprecationWarning, match=r"physid\.ode\.tableau is now"):
        found = pickle.loads(OLD)
    assert found is import_module("physid.ode.methods.tableau").Tableau


@pytest.mark.filterwarnings("ignore:physid:DeprecationWarning")
def test_a_model_file_of_before_loads(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text(MODEL)
    model = load_model_file(tmp_path / "old.py", "Damped")(k=2.0)
    assert isinstance(model, Model)
    assert model.field(torch.zeros(()), torch.ones(1)).item() == pytest.approx(-2.0 * (1.01**0.5 - 0.1))


def test_other_names_are_not_found() -> None:
    assert find_spec("physid.nothing") is None
    with pytest.raises(ModuleNotFoundError, match=r"physid\.nothing"):
        import_module("physid.nothing")
