"""What a reader does not guess about: columns of errors, gaps of inputs, numbers that cannot be, in every file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.io import savemat
from torch import Tensor

from physid import Experiment, Model, Trajectory, Unknown, positive, read
from physid.cli.app import main
from physid.errors import InputError
from physid.reading import describe
from physid.reading.doubts import errors_of, input_gap

pytestmark = pytest.mark.usefixtures("forked_reader")


class Decay(Model):
    """c' = -k c."""

    state_names = ("c",)
    k = Unknown(0.2, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        return -self.k * y


class Lag(Model):
    """tau y' = u - y."""

    state_names = ("y",)
    input_names = ("u",)
    tau = Unknown(10.0, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        (u,) = self.inputs(t)
        return (u[..., None] - y) / self.tau


def table(path: Path, **columns: Any) -> Path:
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


T = np.linspace(0.0, 10.0, 21)
C = 5.0 * np.exp(-0.4 * T)


@pytest.mark.parametrize("name", ["c_sigma", "sigma", "c_err", "weight", "sd_c", "cStdErr", "c_std_error", "σ_c"])
def test_a_column_that_looks_like_errors_is_asked_about(name: str, tmp_path: Path) -> None:
    file = table(tmp_path / "wide.csv", t=T, c=C, **{name: np.full(21, 0.1)})
    with pytest.raises(
        InputError, match=rf"column '{name}': looks like the errors or weights.*--channels c\."
    ) as found:
        read(file, model=Decay)
    assert "\n" not in str(found.value)
    with pytest.raises(InputError, match="looks like the errors"):
        read(file)  # without a model it would be a channel
    for told in ({"sigma": 0.1}, {"channels": ["c"]}):
        (one,) = read(file, model=Decay, **told)
        assert one.channels == ("c",)
    (facts,) = describe(file, model=Decay)
    assert any("looks like the errors" in note for note in facts.notes)


def test_errors_in_a_long_table_are_asked_about_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = table(tmp_path / "long.csv", t=T, channel=["c"] * 21, value=C, sigma=np.full(21, 0.1))
    with pytest.raises(InputError, match="column 'sigma': looks like the errors or weights of the measurements"):
        read(file, model=Decay)
    (tmp_path / "decay.py").write_text(
        "from physid import Model, Unknown, positive\n\n\nclass Decay(Model):\n    state_names = ('c',)\n"
        "    k = Unknown(0.2, positive)\n\n    def field(self, t, y):\n        return -self.k * y\n"
    )
    command = ["fit", "--data", str(file), "--model", f"{tmp_path}/decay.py:Decay", "--dry-run"]
    assert main(command) == 2
    assert "looks like the errors" in capsys.readouterr().err
    assert main([*command, "--sigma", "0.1"]) == 0


@pytest.mark.parametrize(
    ("name", "others", "whose"),
    [
        ("x_sigma", ["x", "v"], "x"),
        ("theta_dot_sd", ["theta", "theta_dot"], "theta_dot"),
        ("uncertainty", ["x"], ""),
        ("sigma_x", ["x"], "x"),
        ("x", ["x_sigma"], None),
        ("signal", ["x"], None),
        ("variety", ["x"], None),
        ("x_2", ["x"], None),
        ("stderr_of_nothing", ["x"], None),
    ],
)
def test_names_of_errors(name: str, others: list[str], whose: str | None) -> None:
    assert errors_of(name, others) == whose


def test_a_channel_of_the_model_is_what_it_says(tmp_path: Path) -> None:
    class Stress(Model):
        state_names = ("epsilon", "sigma")
        k = Unknown(1.0)

        def field(self, t: Tensor, y: Tensor) -> Tensor:
            return self.k * y

    (one,) = read(table(tmp_path / "stress.csv", t=T, epsilon=C, sigma=2 * C), model=Stress)
    assert one.channels == ("epsilon", "sigma")
    (alone,) = read(table(tmp_path / "alone.csv", t=T, error=C))
    assert alone.channels == ("error",)


def test_sigma_is_one_positive_number() -> None:
    data = Trajectory(torch.from_numpy(T), torch.from_numpy(C[:, None]))
    for sigma, words in ((np.full(21, 0.1), r"sigma has shape \[21\]"), (0.0, "sigma is 0"), (-1.0, "is -1")):
        with pytest.raises(InputError, match=words):
            Experiment("decay", data, torch.tensor([5.0]), sigma=sigma)  # type: ignore[arg-type]
    assert Experiment("decay", data, torch.tensor([5.0]), sigma=np.float64(0.1)).sigma == 0.1


def test_a_gap_of_an_input_is_asked_about(tmp_path: Path) -> None:
    t = np.arange(60.0)
    u = np.where(t < 30, 0.0, 1.0)
    u[20:40] = np.nan
    file = table(tmp_path / "gap.csv", t=t, y=0 * t, u=u)
    with pytest.raises(
        InputError, match=r"column 'u', line 22: the input has no value in 20 rows, between t = 19 and 40"
    ):
        read(file, model=Lag)
    (facts,) = describe(file, model=Lag)
    assert any("no value in 20 rows" in note for note in facts.notes)
    for told in ("hold", {"u": "linear"}):
        (one,) = read(file, model=Lag, interpolation=told)
        assert one.inputs is not None
        value = float(one.inputs(torch.tensor(29.5, dtype=torch.float64)))
        assert value == pytest.approx(0.0 if told == "hold" else 0.5)
    ends = u.copy()
    ends[20:40], ends[50:] = u[41], np.nan
    with pytest.raises(InputError, match="between t = 49 and 59"):
        read(table(tmp_path / "ends.csv", t=t, y=0 * t, u=ends), model=Lag)


def test_an_input_that_is_measured_less_often_has_no_gap(tmp_path: Path) -> None:
    t = np.arange(60.0)
    seldom = np.where(t % 10 == 0, t, np.nan)
    (one,) = read(table(tmp_path / "seldom.csv", t=t, y=0 * t, u=seldom), model=Lag)
    assert one.inputs is not None
    assert float(one.inputs(torch.tensor(29.5, dtype=torch.float64))) == 20.0
    assert input_gap(t, seldom) is None
    one_missing = t.copy()
    one_missing[7] = np.nan
    assert input_gap(t, one_missing) is None


def write(path: Path, kind: str, columns: dict[str, Any]) -> Path:
    file = path / f"data.{kind}"
    if kind == "npz":
        np.savez(file, **columns)
    elif kind == "mat":
        savemat(file, columns)
    elif kind == "parquet":
        pytest.importorskip("pyarrow")
        pd.DataFrame(columns).to_parquet(file)
    else:
        pd.DataFrame(columns).to_csv(file, index=False)
    return file


@pytest.mark.parametrize("kind", ["csv", "npz", "mat", "parquet"])
@pytest.mark.parametrize(("value", "words"), [(np.inf, "infinite"), (-np.inf, "infinite"), (1e300, "beyond 1e")])
def test_numbers_that_cannot_be_are_refused_in_every_kind_of_file(
    kind: str, value: float, words: str, tmp_path: Path
) -> None:
    values = C.copy()
    values[3] = value
    with pytest.raises(InputError, match=words) as found:
        read(write(tmp_path, kind, {"t": T, "c": values}), model=Decay)
    assert "column 'c'" in str(found.value)
    assert ("line 5" if kind == "csv" else "row 4") in str(found.value)
    times = T.copy()
    times[-1] = np.inf
    with pytest.raises(InputError, match="column 't'"):
        read(write(tmp_path, kind, {"t": times, "c": C}), model=Decay)
    gap = C.copy()
    gap[3] = np.nan
    (one,) = read(write(tmp_path, kind, {"t": T, "c": gap}), model=Decay)
    assert len(one.train) == 20
