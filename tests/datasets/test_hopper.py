"""The hopper's throws, their windows and splits; any table of irregular series in their place."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from oscillators import write_table

from physid.cli.app import main
from physid.datasets import collect, hopper
from physid.datasets.irregular import SeriesSet
from physid.errors import InputError, MissingError

# sha256 of the float64 bytes of 10,000 throws, dm_control 1.0.27 with mujoco 3.2.7 (and 3.2.3) on x86-64
PUBLISHED = "986ad92df0a6f02bbd8b47833eff662236155528ee6e4280f8da44586a3e6c4b"
LAST_OF_THE_FIRST = [1.293518302808, -0.732959608686, -0.026035848226, 0.507036613140]
MIDDLE_OF_THE_FOURTH = [0.028105874626, -0.136726278340, 0.348434227568, 0.000580807460]


def random_throws(count: int, progress: object = None) -> np.ndarray:
    """Numbers in place of throws, positive like a normalised channel would be after all."""
    return np.random.default_rng(3).uniform(-1, 2, (count, 200, 14))


@pytest.fixture
def thrown(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    monkeypatch.setattr(hopper, "simulate", random_throws)
    return random_throws(40)


def test_throws_are_those_of_the_source_experiment() -> None:
    pytest.importorskip("dm_control", reason="the extra mujoco is not installed")
    told: list[tuple[int, int]] = []
    throws = hopper.simulate(4, lambda done, count: told.append((done, count)))
    assert told == [(4, 4)]
    draw = np.random.RandomState(123)
    for throw in throws:
        first = [draw.uniform(0, 0.5, 2), draw.uniform(-2, 2, 5), draw.uniform(-5, 5, 7)]
        assert np.array_equal(throw[0], np.concatenate(first))
    np.testing.assert_allclose(throws[0, 199, :4], LAST_OF_THE_FIRST, rtol=0, atol=1e-9)
    np.testing.assert_allclose(throws[3, 100, 10:], MIDDLE_OF_THE_FOURTH, rtol=0, atol=1e-9)
    assert hopper.digest(hopper.simulate(4)) == hopper.digest(throws)


@pytest.mark.slow
def test_ten_thousand_throws_have_the_published_hash() -> None:
    pytest.importorskip("dm_control", reason="the extra mujoco is not installed")
    assert hopper.digest(hopper.throws(10_000)) == PUBLISHED


def test_throws_are_cached_and_checked(thrown: np.ndarray, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PHYSID_CACHE", str(tmp_path))
    first = hopper.throws(40)
    (file,) = (tmp_path / "hopper").iterdir()
    assert np.array_equal(np.load(file), thrown)
    monkeypatch.setattr(hopper, "simulate", lambda count, progress: pytest.fail("simulated again"))
    assert np.array_equal(hopper.throws(15), first[:15])
    data = bytearray(file.read_bytes())
    data[5000] ^= 1
    file.write_bytes(data)
    monkeypatch.setattr(hopper, "simulate", random_throws)
    assert np.array_equal(hopper.throws(40), first)
    assert np.array_equal(np.load(file), thrown)


def test_windows_scale_and_split(thrown: np.ndarray) -> None:
    found = hopper.load(observed=0.2, trajectories=40)
    scaled = (thrown - thrown.min((0, 1))) / thrown.max((0, 1))
    np.random.seed(1991)
    begins = np.random.randint(0, 101, 40)
    for throw, begin in enumerate(begins):
        there = found.values[found.rows[throw] : found.rows[throw + 1]]
        np.testing.assert_allclose(there, scaled[throw, begin : begin + 100], rtol=0, atol=1e-6)
    assert (found.count, len(found.rows) - 1, found.steps(7)) == (32, 40, 5)
    test = next(iter(found.test(8)))
    np.testing.assert_array_equal(test.times, np.arange(100) / 200)
    np.testing.assert_allclose(test.targets[0], scaled[32, begins[32] : begins[32] + 100], rtol=0, atol=1e-6)
    assert len(found.describe()["data_hash"]) == 64


@pytest.mark.parametrize("part", [0.1, 0.2, 0.29, 0.5])
def test_what_is_observed_is_drawn_anew(thrown: np.ndarray, part: float) -> None:
    found = hopper.load(observed=part, trajectories=40)
    epochs = [list(found.batches(epoch, 0, 10)) for epoch in (0, 1, 0)]
    assert [len(epoch) for epoch in epochs] == [4, 4, 4]
    for batch in epochs[0]:
        assert bool((batch.wanted == 1).all())
        assert torch.equal(batch.observed.sum(1), torch.full((len(batch.values), 14), float(int(100 * part))))
        assert torch.equal(batch.observed, batch.observed[..., :1].expand_as(batch.values))
        assert torch.equal(batch.values, batch.targets * batch.observed)
    assert all(torch.equal(a.observed, b.observed) for a, b in zip(epochs[0], epochs[2], strict=True))
    assert not torch.equal(epochs[0][0].observed, epochs[1][0].observed)
    assert not torch.equal(epochs[0][0].observed, next(found.batches(0, 1, 10)).observed)
    assert torch.equal(next(found.test(8)).observed, next(found.test(8)).observed)


def test_without_the_extra_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "dm_control", None)
    with pytest.raises(MissingError, match=r"pip install 'physid\[mujoco\]'"):
        hopper.simulate(1)
    arguments = ["fit", "hopper", "--model", "latent-ode", "--out", str(tmp_path / "run")]
    assert main(arguments) == 5
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def save_numpy(path: Path, throws: np.ndarray) -> None:
    torch.save(throws, path)


def save_old(path: Path, throws: np.ndarray) -> None:
    torch.save(throws, path, _use_new_zipfile_serialization=False)


def save_tensor(path: Path, throws: np.ndarray) -> None:
    torch.save(torch.from_numpy(throws), path)


@pytest.mark.parametrize("save", [save_numpy, save_old, save_tensor])
def test_a_file_of_the_source_experiment(tmp_path: Path, save: Callable[[Path, np.ndarray], None]) -> None:
    path, throws = tmp_path / "training.pt", random_throws(12)
    save(path, throws)
    assert np.array_equal(hopper.read_original(path), throws)
    found = collect("hopper", file=str(path), observed="0.5")
    assert found.describe()["series"] == 12


class Sneaky:
    """What a pickle would execute."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return Path.touch, (Path("sneaked"),)  # type: ignore[return-value]


def test_other_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "training.pt"
    for content, text in (
        (Sneaky(), "no file of numbers"),
        (np.zeros((3, 100, 14)), r"\[3, 100, 14\]: expected an array"),
        (np.full((3, 200, 14), np.nan), "not finite"),
        ({"a": 1}, "holds dict"),
    ):
        torch.save(content, path)
        with pytest.raises(InputError, match=text):
            hopper.read_original(path)
    path.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(InputError, match="no file of numbers"):
        hopper.read_original(path)
    with pytest.raises(InputError, match="a file that exists"):
        collect("hopper", file="absent.pt")
    assert not (tmp_path / "sneaked").exists()


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    found: SeriesSet = collect("series", table=str(write_table(tmp_path / "swings.csv")), group="series", observed=0.4)  # type: ignore[assignment]
    assert (found.channels, found.count, len(found.rows)) == (("x", "v"), 9, 13)
    assert float(found.times.min()) == 0
    assert float(found.times.max()) == 1
    for batch in found.batches(0, 0, 4):
        for row, (seen, wanted) in enumerate(zip(batch.observed, batch.wanted, strict=True)):
            there = wanted.sum(-1) > 0
            assert int(there.sum()) == 20  # times of its own, of those that the batch has together
            assert int((seen.sum(-1) > 0).sum()) == 8
            assert torch.equal(seen, wanted * (seen.sum(-1, keepdim=True) > 0))
            assert bool((batch.targets[row][wanted == 0] == 0).all())
    natural = found.low + found.scale * next(found.test(9)).targets[0]
    assert float(natural[..., 0].abs().max()) <= 1


def test_mean_predictor(tmp_path: Path) -> None:
    found: SeriesSet = collect("series", table=str(write_table(tmp_path / "swings.csv")), group="series")  # type: ignore[assignment]
    sums, counts = np.zeros(2), np.zeros(2)
    for batch in found.batches(0, 0, 2):
        sums += batch.targets.sum((0, 1)).numpy()
        counts += batch.wanted.sum((0, 1)).numpy()
    errors = []
    for batch in found.test(1):
        square = ((batch.targets - torch.from_numpy(sums / counts)) ** 2 * batch.wanted).sum()
        errors.append(float(square / batch.wanted.sum()))
    assert found.mean_error() == pytest.approx(np.mean(errors), rel=1e-5)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (["a,0,1,2", "a,0,2,3", "b,0,1,1"], r"line 3: the time 0 is there twice, also on line 2"),
        (["a,0,1,2", "b,0,,", "b,1,,"], r"every cell of x, v of experiment 'b' is empty"),
        (["a,0,1,2", "a,1,1,2"], "there is one series; two or more are needed"),
        (["a,1,1,2", "a,0,1,2", "b,0,1,1"], "comes after"),
    ],
)
def test_broken_tables_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[str], text: str
) -> None:
    path = tmp_path / "swings.csv"
    path.write_text("\n".join(["series,t,x,v", *rows]) + "\n")
    with pytest.raises(InputError, match=text):
        collect("series", table=str(path), group="series")
    arguments = ["fit", "series", "--model", "rnn", "--set", f"table={path}", "--set", "group=series"]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_single_observations_and_absent_channels(tmp_path: Path) -> None:
    path = tmp_path / "swings.csv"
    path.write_text("series,t,x,v\na,0,1,\nb,0.1,2,\nb,0.4,3,\nc,5,1,\n")
    found = collect("series", table=str(path), group="series", channels="x,v")
    (batch,) = found.batches(0, 0, 9)
    assert batch.observed.sum((1, 2)).tolist() == [1, 1]
    assert float(batch.wanted[..., 1].sum()) == 0
    with pytest.raises(InputError, match=r"expected a part above 0"):
        collect("series", table=str(path), observed="0")
