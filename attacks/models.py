"""Model classes of a user's own, each with a mistake or two, checked and fitted."""

from __future__ import annotations

import random
import time
from pathlib import Path

from attacks.files import CSV
from attacks.tally import Tally
from attacks.victim import Victim

ATTRIBUTES = (
    'state_names = ("x",)', 'state_names = "x"', "state_names = None", "state_names = (1,)", 'state_names = ("x", "x")',
    "state_names = ()", "state_names = 3", 'channel_names = ("x",)', 'channel_names = ("y", "z")', "channel_names = 7",
    'units = {"t": "s", "x": "mm"}', 'units = {"x": "m**999999"}', "units = 5", 'input_names = ("u",)',
    "input_names = None",
    "continuation = 3", "recipe = 'x'", "noise = 'nothing'", "k = Unknown('a')", "k = Unknown(float('nan'))",
    "k = Unknown([1.0, 2.0], positive)", "k = Unknown(-1.0, positive)", "k = Unknown(1.0, between(2.0, 1.0))",
    "k = Unknown(1.0, tie='k')", "k = Unknown(1.0, tie=lambda model: 1 / 0)", "k = Unknown(1.0, unit='[')", "k = 3",
)  # fmt: skip
FIELDS = (
    "return -self.k * y", "return None", "return 3.0", "return y[..., :0]", "return y.sum()",
    "return torch.stack((y, y))",
    "return -self.k * y.numpy()", "return -y * float(self.k)", "raise SystemExit(0)", "raise KeyboardInterrupt",
    "raise GeneratorExit", "raise OSError('disk')", "raise MemoryError", "raise RecursionError", "return 1 / 0",
    "import sys; sys.exit(3)", "return y / 0", "return y * float('nan')",
    "return y.to(torch.complex128)", "return y.int()",
    "import warnings; warnings.warn('w'); return -y", "print('noise'); return -y", "y += 1; return y",
    "return self.missing * y",
    "return -y if y > 0 else y", "return torch.exp(1e3 * y)", "return y.detach()", "return [y]",
    "return self.field(t, y)",
)  # fmt: skip
METHODS = (
    "def observe(self, y): return None", "def observe(self, y): return y[..., :0]", "def observe(self, y): return 3",
    "def observe(self, t, y): return y", "def observe(self): return 1", "def observe(self, y): raise SystemExit",
    "def derived(self): return 3", "def derived(self): return {'a': 'b'}", "def derived(self): return {1: self.k}",
    "def derived(self): raise ValueError('no')", "def __init__(self): pass",
    "def __init__(self, size): super().__init__()",
    "def __init__(self, **all): super().__init__(**all); self.net = torch.nn.Linear(1, 1)",
    "def states(self): return None",
    "def __getattr__(self, name): raise KeyError(name)", "def __str__(self): return 1",
)  # fmt: skip


def source(draw: random.Random) -> str:
    """A module with one class M."""
    lines = ["import torch", "from physid import Model, Unknown, between, positive", "class M(Model):"]
    if draw.random() < 0.8:
        lines += ['    state_names = ("x",)', "    k = Unknown(1.0, positive)"]
    lines += [f"    {draw.choice(ATTRIBUTES)}" for _ in range(draw.randrange(3))]
    field = draw.choice(FIELDS) if draw.random() < 0.7 else FIELDS[0]
    lines += ["    def field(self, t, y):", f"        {field}"]
    lines += [f"    {draw.choice(METHODS)}" for _ in range(draw.choice((0, 0, 1, 1, 2)))]
    return "\n".join(lines) + "\n"


def attack(folder: Path, draw: random.Random, seconds: float, full: bool) -> Tally:
    """`physid check` and `physid fit` of such models."""
    tally = Tally()
    data = folder / "a.csv"
    data.write_bytes(CSV[0])
    with Victim(folder) as victim:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            path = folder / f"m{tally.inputs}.py"
            path.write_text(source(draw))
            run = folder / f"run{tally.inputs}"
            words = [
                ["check", f"{path}:M", "--data", str(data)],
                ["fit", "--data", str(data), "--model", f"{path}:M", "--time-limit", "2", "--quiet", "--out", str(run)],
            ][draw.randrange(2)]
            victim.try_(tally, [*words, "--engine", "eager"] if words[0] == "fit" else words, path, data)
    return tally
