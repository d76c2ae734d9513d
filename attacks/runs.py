"""Run directories of a stranger: content changed and signed again, links, devices and pipes among the files."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attacks.mutate import altered, mangled
from attacks.tally import Tally
from attacks.victim import Victim

LIMIT = ("--time-limit", "2")


@dataclass(frozen=True)
class Kind:
    """A kind of run directory: the command that makes it, but for the folder, and those that use it."""

    name: str
    make: tuple[str, ...]
    use: tuple[tuple[str, ...], ...]  # in which RUN stands for the folder


KINDS = (
    Kind(
        "fit",
        ("fit", "exponential", "--noise", "0.05", "--points", "20", "--quiet", "--out"),
        (
            ("report", "RUN"),
            ("report", "RUN", "--json"),
            ("forecast", "RUN"),
            ("verify", "RUN"),
            ("compare", "RUN", "good-fit"),
            ("profile", "RUN", "--points", "3", *LIMIT),
            ("resume", "RUN", *LIMIT),
        ),
    ),
    Kind(
        "images",
        (
            "fit",
            "images-toy",
            "--model",
            "node18",
            "--width",
            "2",
            "--epochs",
            "2",
            "--batch",
            "8",
            "--set",
            "images=16",
            "--set",
            "test_images=8",
            "--quiet",
            "--out",
        ),
        (
            ("report", "RUN"),
            ("report", "RUN", "--json"),
            ("compare", "RUN", "--solver", "euler"),
            ("export", "RUN", "--to", "json"),
            ("verify", "RUN"),
            ("resume", "RUN", *LIMIT),
        ),
    ),
    Kind(
        "series",
        ("fit", "threebody", "--model", "lstm", "--epochs", "2", "--hidden", "3", "--points", "30", "--quiet", "--out"),
        (
            ("report", "RUN"),
            ("forecast", "RUN"),
            ("verify", "RUN"),
            ("compare", "RUN", "good-fit"),
            ("resume", "RUN", *LIMIT),
        ),
    ),
    Kind(
        "reproduction",
        ("reproduce", "fig6", "--quick", "--quiet", "--out"),
        (("reproduce", "fig6", "--quick", "--quiet", "--out", "RUN"), ("report", "RUN")),
    ),
)


def sign(run: Path) -> None:
    """Give every file the sum that fits it, and the request those of what it names."""
    request = run / "request.json"
    try:
        about = json.loads(request.read_bytes())
        about["sums"] = {name: _sum(run / name) for name in about["sums"] if (run / name).is_file()}
        request.write_text(json.dumps(about))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass  # it is no such request any more
    sums = run / "SHA256SUMS"
    if sums.exists():
        names = sorted(one.name for one in run.iterdir() if one.is_file() and one.name not in ("lock", sums.name))
        sums.write_text("".join(f"{_sum(run / name)}  {name}\n" for name in names if not name.startswith("checkpoint")))


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def change(path: Path, draw: random.Random) -> None:
    """Change the content in a way that its format can carry, or blindly."""
    data = path.read_bytes()
    try:
        if path.suffix == ".json" and draw.random() < 0.8:
            value = json.loads(data)
            for _ in range(draw.randint(1, 3)):
                value = altered(value, draw)
            path.write_text(json.dumps(value))
            return
        if path.suffix == ".npz" and draw.random() < 0.7:
            with np.load(io.BytesIO(data)) as found:
                arrays: dict[str, Any] = {name: found[name] for name in found.files}
            name = draw.choice(list(arrays))
            arrays[name] = _array(arrays[name], draw)
            if draw.random() < 0.1:
                del arrays[name]
            np.savez(path, **arrays)
            return
    except (ValueError, OverflowError, TypeError):
        pass
    path.write_bytes(mangled(data, draw))


def _array(found: Any, draw: random.Random) -> Any:
    """Another array in its place."""
    kind = draw.randrange(6)
    if kind == 0:
        return found[..., None]
    if kind == 1:
        return found.astype(draw.choice(("f4", "i8", "c16", "?")))
    if kind == 2 and found.size:
        changed = found.astype(float).reshape(-1)
        changed[draw.randrange(changed.size)] = draw.choice((np.nan, np.inf, -1e300, 0.0))
        return changed.reshape(found.shape)
    if kind == 3:
        return found[:0] if found.ndim else found
    if kind == 4:
        return np.array("text")
    return np.concatenate([found, found]) if found.ndim else np.zeros(3)


def plant(run: Path, draw: random.Random) -> None:
    """A link, a pipe or a folder in the place of a file, or beside one."""
    names = [*(one.name for one in run.iterdir()), ".report.txt.new", "tensorboard", "lock"]
    path = run / draw.choice(names)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    draw.choice((lambda: path.symlink_to(run.parent / "dear"), lambda: os.mkfifo(path), path.mkdir))()


def attack(folder: Path, draw: random.Random, seconds: float, full: bool) -> Tally:
    """Read, go on with and verify changed copies of finished and unfinished runs: fits, in full those of every kind."""
    tally, kinds = Tally(), KINDS if full else KINDS[:1]
    dear = folder / "dear"
    dear.write_text("dear")
    with Victim(folder) as victim:
        for kind in kinds:
            if victim.try_(made := Tally(), [*kind.make, str(folder / f"good-{kind.name}")]) != 0:
                tally.fail("traceback", f"{kind.name} cannot be made: {[one.told for one in made.failures]}")
                return tally
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            kind = draw.choice(kinds)
            tally.notes[kind.name] += 1
            run = folder / f"run{tally.inputs}"
            shutil.copytree(folder / f"good-{kind.name}", run)
            if draw.random() < 0.3:
                (run / "SHA256SUMS").unlink(missing_ok=True)
            if draw.random() < 0.15:
                plant(run, draw)
            else:
                for path in draw.sample(sorted(run.rglob("*.*")), draw.randint(1, 2)):
                    if path.is_file():
                        change(path, draw)
                sign(run)
            how = draw.choice(kind.use)
            victim.try_(tally, [str(run) if word == "RUN" else word for word in how], run)
            if dear.read_text() != "dear":
                tally.fail("loss", f"{how}: a file outside of the run was written", run)
                dear.write_text("dear")
            if not any(run in failure.paths for failure in tally.failures):
                shutil.rmtree(run)
    return tally
