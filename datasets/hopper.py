"""MuJoCo's hopper thrown into the air: trajectories of a simulated one-legged robot, seen at irregular times."""

from __future__ import annotations

import hashlib
import io
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from physid import door
from physid.arrays import Array
from physid.catalog import Entry, Option, whole
from physid.datasets.fetch import cache_folder
from physid.datasets.irregular import OBSERVED, SeriesSet, a_file
from physid.errors import InputError, MissingError
from physid.store import writing

SEED = 123  # of the throws
WINDOW_SEED = 1991
LENGTH, WIDTH = 200, 14
WINDOW = 100
PUBLISHED = 10_000
TRAINED = 0.8
JOINTS = ("x", "z", "pitch", "waist", "hip", "knee", "ankle")
CHANNELS = (*JOINTS, *(f"{joint} rate" for joint in JOINTS))
TIMES = np.arange(WINDOW) / LENGTH  # the source experiment's unit: 200 samples, one second of the robot's, are 1
OPTIONS = {
    "observed": OBSERVED,
    "trajectories": Option("Number of throws, of which the first four fifths are for training.", whole(10), PUBLISHED),
    "file": Option("A training.pt of the source experiment, in place of new throws.", a_file, None),
}
Progress = Callable[[int, int], object]


def load(
    *, observed: float = 0.1, trajectories: int = PUBLISHED, file: str | None = None, progress: Progress | None = None
) -> SeriesSet:
    """Windows of 100 of the 200 samples of each throw, of which a part is observed.

    Every channel d is (x - min_d) / max_d over all throws; the window of each begins at a random sample, and all are
    on the times 0 to 0.495. The first four fifths of the throws are for training, the others for the test.

    Errors: MissingError without the extra `mujoco` and without a file; InputError for a file of another kind.

    Source: Rubanova, Chen and Duvenaud (2019), section 4.2; dm_control's hopper, Tassa et al. (2018).
    """
    raw = throws(trajectories, progress) if file is None else read_original(Path(file))[:trajectories]
    low, high = raw.min((0, 1)), raw.max((0, 1))
    scale = np.where(high == 0, 1.0, high)
    begins = np.random.RandomState(WINDOW_SEED).randint(0, LENGTH - WINDOW + 1, len(raw))
    windows = raw[np.arange(len(raw))[:, None], begins[:, None] + np.arange(WINDOW)]
    values = torch.from_numpy((windows - low) / scale).float().flatten(0, 1)
    return SeriesSet(
        name="hopper",
        times=torch.from_numpy(np.tile(TIMES, len(raw))),
        values=values,
        measured=torch.ones_like(values, dtype=torch.bool),
        rows=torch.arange(len(raw) + 1) * WINDOW,
        trained=int(TRAINED * len(raw)),
        observed=observed,
        channels=CHANNELS,
        low=torch.from_numpy(low),
        scale=torch.from_numpy(scale),
        source="dm_control hopper/stand, thrown" if file is None else f"{Path(file).name} of the source experiment",
        data_hash=digest(raw),
        options={"observed": observed, "trajectories": trajectories, "file": file},
    )


def digest(throws: Array) -> str:
    """The sha256 of the numbers, as float64 in memory order."""
    return hashlib.sha256(np.ascontiguousarray(throws).data).hexdigest()


def throws(count: int, progress: Progress | None = None) -> Array:
    """States [count, 200, 14] of the first `count` throws, from the cache, or simulated and kept there.

    A file of the cache is used if its sha256 is that of its name, and made again if not.
    """
    folder = cache_folder() / "hopper"
    for path in sorted(folder.glob("throws-*.npy"), key=lambda path: path.stat().st_size):
        _, size, short = path.stem.split("-")
        if int(size) >= count:
            found: Array = np.load(io.BytesIO(door.inside(folder, path.name, largest=2**33)), allow_pickle=False)
            if found.shape == (int(size), LENGTH, WIDTH) and digest(found).startswith(short):
                return found[:count]
            path.unlink()
    with bar(count) if progress is None else nullcontext(progress) as told:
        made = simulate(count, told)
    keep(folder / f"throws-{count}-{digest(made)[:16]}.npy", made)
    return made


@contextmanager
def bar(count: int) -> Iterator[Progress | None]:
    """A progress bar on stderr; None where that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("throwing the hopper", total=count)
        yield lambda done, total: shown.update(task, completed=done)


def keep(path: Path, throws: Array) -> None:
    """Write the file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path) as file:
        np.save(file, throws)


def simulate(count: int, progress: Progress | None = None) -> Array:
    """Throw the hopper `count` times: states [count, 200, 14], positions and then velocities, without control.

    Height and place U(0, 0.5), angles U(-2, 2), velocities U(-5, 5), drawn in this order from numpy's generator with
    seed 123; a sample every 0.005 s. `progress(done, count)` is called now and then.

    Errors: MissingError without dm_control and mujoco.
    """
    physics = _physics()
    draw = np.random.RandomState(SEED)
    states = np.zeros((count, LENGTH, WIDTH))
    half = WIDTH // 2
    for throw in range(count):
        with physics.reset_context():
            physics.data.qpos[:2] = draw.uniform(0, 0.5, size=2)
            physics.data.qpos[2:] = draw.uniform(-2, 2, size=half - 2)
            physics.data.qvel[:] = draw.uniform(-5, 5, size=half)
        for sample in range(LENGTH):
            states[throw, sample, :half] = physics.data.qpos
            states[throw, sample, half:] = physics.data.qvel
            physics.step()
        if progress is not None and (throw % 50 == 49 or throw + 1 == count):
            progress(throw + 1, count)
    return states


def _physics() -> Any:
    """dm_control's hopper."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its renderer, where there is no display; nothing is rendered
            from dm_control import suite
    except ImportError as error:
        raise MissingError(
            f"the hopper is simulated with dm_control and mujoco, and {error.name or 'one of them'} is not installed: "
            "pip install 'physid[mujoco]', or give a training.pt of the source experiment as file=."
        ) from error
    return suite.load("hopper", "stand").physics


def read_original(path: Path) -> Array:
    """The throws [N, 200, 14] in a training.pt of the source experiment; nothing in it is executed.

    Errors: InputError for a file that is not there, holds anything but numbers, or numbers of another shape.
    """
    try:
        with torch.serialization.safe_globals(_numbers()):
            found = torch.load(io.BytesIO(door.read(path, 2**33)), map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}. Name a training.pt of the source experiment."
        ) from None
    except Exception as error:  # torch raises whatever its unpickler meets
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise InputError(f"{path} is no file of numbers that torch can load safely: {reason}") from None
    shape = tuple(getattr(found, "shape", ()))
    if len(shape) != 3 or shape[1:] != (LENGTH, WIDTH) or not shape[0]:
        raise InputError(
            f"{path} holds {type(found).__name__} {list(shape)}: expected an array [N, {LENGTH}, {WIDTH}]."
        )
    throws = np.asarray(found, dtype=np.float64)
    if not np.isfinite(throws).all():
        raise InputError(f"{path} holds numbers that are not finite: a whole file is needed; fetch it again.")
    return throws


def _numbers() -> list[Any]:
    """The parts of numpy arrays in a file, by their present names and by those of numpy 1."""
    rebuild: Any = np._core.multiarray._reconstruct  # type: ignore[attr-defined]
    return [
        np.ndarray,
        np.dtype,
        rebuild,
        (rebuild, "numpy.core.multiarray._reconstruct"),
        np.dtypes.Float64DType,
        np.dtypes.Float32DType,
    ]


ENTRY: Entry[SeriesSet] = Entry(
    "hopper", "A hopping robot thrown into the air, seen at irregular times.", OPTIONS, load
)
