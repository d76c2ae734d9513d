"""`python -m attacks`: every attack for its time, and a table of what came of it."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from attacks import faults, files, kills, models, options, runs, sanitize
from attacks.tally import Tally, table

Attack = Callable[[Path, random.Random, float, bool], Tally]
ATTACKS: dict[str, Attack] = {
    "readers": files.readers,
    "settings": files.settings,
    "options": options.attack,
    "models": models.attack,
    "runs": runs.attack,
    "faults": faults.attack,
    "kills": kills.attack,
    "sanitize": sanitize.attack,
}
SHORT, LONG = 15.0, 1800.0  # seconds for each


def main() -> int:
    """Attack, and tell; 1 when anything gave way."""
    parser = argparse.ArgumentParser(prog="python -m attacks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="ATTACK", help=", ".join(ATTACKS))
    parser.add_argument("--full", action="store_true", help="for a night, not for two minutes")
    parser.add_argument("--seconds", type=float, help="for each attack")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if wrong := [name for name in given.names if name not in ATTACKS]:
        parser.error(f"unknown attack {wrong[0]}: {', '.join(ATTACKS)}")
    seconds = given.seconds or (LONG if given.full else SHORT)
    found = []
    for name in given.names or ATTACKS:
        with tempfile.TemporaryDirectory(prefix="attack-") as folder:
            began = time.monotonic()
            tally = ATTACKS[name](Path(folder), random.Random(f"{name} {given.seed}"), seconds, given.full)
            tally.name, tally.seconds = name, time.monotonic() - began
            found.append(tally)
            for failure in tally.failures:
                print(f"{name}: {failure.what}: {failure.told}", file=sys.stderr)
            if tally.failures:
                kept = Path(tempfile.mkdtemp(prefix=f"attack-{name}-kept-"))
                for number, failure in enumerate(tally.failures):
                    keep(failure.paths, kept / str(number))
                print(f"{name}: the inputs are in {kept}", file=sys.stderr)
    print(table(found))
    return int(any(tally.failures for tally in found))


def keep(paths: tuple[Path, ...], folder: Path) -> None:
    """Copy the inputs of a failure."""
    folder.mkdir()
    for path in paths:
        if path.is_dir():
            shutil.copytree(path, folder / path.name, symlinks=True)
        elif path.is_file():
            shutil.copy(path, folder / path.name)


if __name__ == "__main__":
    sys.exit(main())
