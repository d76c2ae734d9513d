"""Files of measurements and of settings, changed in every way that comes to mind, and read."""

from __future__ import annotations

import io
import random
import time
from pathlib import Path

import numpy as np
from scipy.io import savemat

from attacks.mutate import mangled
from attacks.tally import Tally
from attacks.victim import Victim

CSV = (
    b"t [s],x [mm]\n0,1.0\n0.5,1.5\n1,2.0\n1.5,\n2,0.5\n",
    "Zeit;x [mm]\n0;1,5\n1;2,5\n2;1,25\n".encode("latin-1"),
    b"time,channel,value,unit\n0,x,1,mm\n0,y,2,mm\n1,x,3,mm\n1,y,4,mm\n",
    b"experiment,t,x\na,0,1\na,1,2\nb,0,3\nb,2,4\n",
    b"t\tx\n2026-03-01 12:00\t1\n2026-03-01 13:00\t2\n",
    "t,x\n0,1\n1,2\n".encode("utf-16"),
)
MODEL = """
from physid import Model, Unknown
class Decay(Model):
    state_names = ("x",)
    k = Unknown(1.0)
    def field(self, t, y):
        return -self.k * y
"""
YAML = b"""data: [a.csv]
model: decay.py:Decay
initial: x=1
optimizer: lm
strategy: full
starts: 2
seed: 3
time_limit: 1.5
noise_model: student:4
loss: huber
loss_scale: 0.1
holdout: after:1.5
fix: {k: 0.5}
free: [k]
tie: {k: "2 * k"}
solver: tsit5
rtol: 1e-6
atol: 1.0e-8
"""


def corpus() -> list[tuple[str, bytes]]:
    """Suffix and content of good files."""
    draw = np.random.default_rng(0)
    arrays = {"t": np.arange(6.0), "x": draw.random(6), "y": draw.random((6, 2)), "n": np.arange(6, dtype=np.uint8)}
    found = [(".csv", text) for text in CSV]
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, **arrays)
        found.append((".npz", file.getvalue()))
    for how in ({}, {"do_compression": True}, {"format": "4"}):
        file = io.BytesIO()
        savemat(file, {**arrays, "name": "text"}, **how)
        found.append((".mat", file.getvalue()))
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        return found
    file = io.BytesIO()
    parquet.write_table(pa.table({"t": arrays["t"], "x": arrays["x"], "who": list("aabbcc")}), file)
    return [*found, (".parquet", file.getvalue())]


def readers(folder: Path, draw: random.Random, seconds: float, full: bool) -> Tally:
    """`physid data`, and for some `physid fit`, on changed files of every kind."""
    tally, good = Tally(), corpus()  # MAT files less often: each is read in a process of its own
    model = folder / "decay.py"
    model.write_text(MODEL)
    with Victim(folder) as victim:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            suffix, content = draw.choices(good, [0.1 if suffix == ".mat" else 1.0 for suffix, _ in good])[0]
            path = folder / f"{tally.inputs}{suffix}"
            path.write_bytes(mangled(content, draw))
            code = victim.try_(tally, ["data", str(path), *["--json"] * draw.randrange(2)], path)
            if code == 0 and draw.random() < 0.1:
                fit = ["fit", "--data", str(path), "--model", f"{model}:Decay", "--channels", "x"]
                out = folder / f"run{tally.inputs}"
                victim.try_(tally, [*fit, "--time-limit", "2", "--quiet", "--out", str(out)], path, model)
            if not any(path in failure.paths for failure in tally.failures):
                path.unlink()
    return tally


def settings(folder: Path, draw: random.Random, seconds: float, full: bool) -> Tally:
    """`physid fit --settings --dry-run` with changed settings."""
    tally = Tally()
    (folder / "decay.py").write_text(MODEL)
    (folder / "a.csv").write_bytes(CSV[0])
    lines = YAML.splitlines(keepends=True)
    with Victim(folder) as victim:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            path = folder / f"{tally.inputs}.yml"
            some = b"".join(line for line in lines if draw.random() < 0.5)
            path.write_bytes(mangled(some, draw) if draw.random() < 0.9 else some)
            what = [[], ["exponential"], ["--data", "a.csv", "--model", "decay.py:Decay"]][draw.randrange(3)]
            victim.try_(tally, ["fit", *what, "--settings", str(path), "--dry-run"], path)
            if not any(path in failure.paths for failure in tally.failures):
                path.unlink()
    return tally
