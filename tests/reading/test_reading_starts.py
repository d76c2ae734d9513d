"""Reading: where a fit of a file starts, and tables from which none can."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from physid.api.fit import fit
from physid.cli import main
from physid.errors import InputError
from physid.modelling.model import Model
from physid.modelling.unknown import Unknown, positive
from physid.reading import read


class Reaction(Model):
    """A -> B -> C, of which B is not seen."""

    state_names = ("A", "B", "C")
    channel_names: ClassVar[tuple[str, ...]] = ("A", "C")
    first = Unknown(5.0, positive)
    second = Unknown(5.0, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        a, b, _ = y.unbind(-1)
        return torch.stack((-self.first * a, self.first * a - self.second * b, self.second * b), -1)

    def observe(self, y: Tensor) -> Tensor:
        return y[..., ::2]


def test_states_that_are_seen_start_where_they_were_seen_however_wrong_the_guessed_rates(tmp_path: Path) -> None:
    t = np.linspace(0.0, 8.0, 17)
    a, b = np.exp(-0.8 * t), 0.8 / (0.25 - 0.8) * (np.exp(-0.8 * t) - np.exp(-0.25 * t))
    (tmp_path / "a.csv").write_text(
        "t,A,C\n" + "".join(f"{x},{y},{z}\n" for x, y, z in zip(t, a, 1 - a - b, strict=True))
    )
    (found,) = read(tmp_path / "a.csv", model=Reaction)
    assert found.initial[[0, 2]].tolist() == pytest.approx([1.0, 0.0], abs=0.01)


def test_a_number_that_has_no_square_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("t,x\n0,1\n1,-2e300\n")
    with pytest.raises(InputError, match=r"column 'x', line 3: -2e\+300 is beyond 1e\+100.* Choose a larger unit"):
        read(tmp_path / "a.csv")


def test_one_row_is_nothing_to_predict(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("t,A,C\n0,1,0\n")
    (found,) = read(path, model=Reaction)
    with pytest.raises(InputError, match="experiment a has no measurement after its first time, 0, so"):
        fit(Reaction(), found)


TANK = """
from physid import Model, Unknown, positive

class Tank(Model):
    state_names = ("level",)
    input_names = ("pump",)
    leak = Unknown(0.3, positive)

    def field(self, t, y):
        (pump,) = self.inputs(t)
        return pump[..., None] - self.leak * y
"""


def test_a_forecast_beyond_the_record_of_an_input_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tank.py").write_text(TANK)
    level = 2.0 * (1.0 - np.exp(-0.5 * np.arange(8)))
    Path("tank.csv").write_text("t,level,pump\n" + "".join(f"{t},{y},1\n" for t, y in enumerate(level)))
    assert main(["fit", "--data", "tank.csv", "--model", "tank.py:Tank", "--out", "run", "--quiet"]) == 0
    capsys.readouterr()
    for until, said in (("7", False), ("20", True)):
        assert main(["forecast", "run", "--trust", "--until", until, "--points", "3"]) == 0
        assert ("Beyond 8, where their record ends, pump keep the last value." in capsys.readouterr().err) is said
