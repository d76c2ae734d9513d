"""A seeded generator of right-hand sides as people write them: where they keep numbers, how they read and change them.

A function is made of one to three holders of a number, each with its statements, its expression and its change, and of
a body that uses them. The change is made between two solves.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from benchmarks.holders import HOLDERS

IMPORTS = """
import collections, dataclasses, enum, functools, math, os, random, sys, time, types
import numpy as np
import torch
from torch import nn
import torch.nn.functional as F
D = torch.float64
"""


# How the numbers A, B, C of the holders are used; k is a parameter [2] of the user's.
BODIES: dict[str, str] = {
    "decay": "return -A * k * y",
    "oscillator": "return torch.stack([y[1], -A * y[0] - k[0] * y[1]])".replace(
        "A *", "(A * torch.ones(2, dtype=D))[0] *"
    ),
    "forced": "return -k * y + A * torch.sin(B * t)",
    "power": "return -k * y.abs() ** 1.5 * A + B * t ** 2",
    "branch": "if torch.as_tensor(A).sum() > -9:\n    return -k * y * A\nreturn y",
    "branch on a number": "s = A\nif isinstance(s, float) and s > 1.6:\n    return -k * y * s\nreturn -k * y * s * 2",
    "unpacked": "a, b = y\nz = A * (a * b) * torch.ones(2, dtype=D)\nreturn torch.stack((k[0] * a, -k[1] * b)) - z",
    "written": "out = torch.empty_like(y)\nout[0], out[1] = -k[0] * y[1], y[0]\nout += A + 0 * y\nreturn out",
    "in place, masked": "z = y.clone() * A\nz[z > 1.0] = 0.5\nreturn -k * z",
    "zeros": "d = torch.zeros(2, dtype=D)\nd[0] += k[1] * y[1]\nd[1] -= k[0] * y[0]\nreturn d * A",
    "loop": "s = 0\nfor i in range(3):\n    s = s + A * y ** i * k\nreturn -s",
    "comprehension": "return torch.stack([-(k[i] * y[i]) for i in range(2)]) * A",
    "where": "return torch.where(y > 0.8, -k * y * A, y * B)",
    "clamp": "return -k * y.clamp(0.2, 1.0) * A + torch.maximum(y, y * 0.9)",
    "norm": "return -k * y / (1e-3 + y.norm()) ** 3 * A",
    "extremes": "return (y.max() - y) * k * A + torch.relu(y - 1.0)",
    "matrix": "m = torch.tensor([[0.0, 1.0], [-1.0, -0.1]], dtype=D)\nreturn m @ (k * y) * A",
    "detached": "return -k * y.detach() * y * A",
    "no grad": "with torch.no_grad():\n    s = (y * y).sum() * 0.5\nreturn -k * y * s * A",
    "no grad, in place": "z = y * k\nwith torch.no_grad():\n    z += 0.1\nreturn -z * A",
    "zero times": "return -k * y * A + 0 * torch.sqrt(y + 1.0)",
    "zero times nothing": "return -k * y * A + 0 * torch.log(y - 9.0)",
    "network": "return torch.tanh(k * y) * A + F.softplus(y) * 0.1",
    "time in steps": "return -k * y * A * torch.floor(1 + 4 * t)",
    "remainder": "return -k * y * A + (t % 0.1)",
    "einsum": "return torch.einsum('i,j->i', k * y, y) * A - y",
    "helper": "def g(z):\n    return -A * z * k\nreturn g(y)",
    "sorted": "return -k * torch.sort(y).values * A",
    "cumulative": "return -torch.cumsum(k * y, 0) * A + y.prod()",
    "cancel": "return -k * y * A + torch.sin(y) ** 2 + torch.cos(y) ** 2 - 1",
    # what no trace shows
    "value branch": "if y[0] > 0.9:\n    return -k * y * A\nreturn -2 * k * y * A",
    "time branch": "if t > 0.3:\n    return -k * y * A\nreturn k * y * A",
    "float": "return -k * y * A * float(t)",
    "item": "return -k * y * A * y[0].item()",
    "NumPy of t": "return -k * y * A + float(np.interp(t.numpy(), [0.0, 0.4, 1.0], [0.0, 1.0, 0.0]))",
    "NumPy detached": "return -k * y * A + float(np.interp(t.detach(), [0.0, 0.4, 1.0], [0.0, 1.0, 0.0]))",
    "NumPy of y": "return -k * y * A + torch.from_numpy(np.sin(y.detach().numpy()))",
    "list of t": "return -k * y * A + (1.0 if 0.3 <= t.tolist() <= 0.6 else 0.0)",
    "list of y": "return -k * y * A if y.tolist()[0] > 0.9 else -3 * k * y",
    "text": "return -k * y * A * len(repr(y))",
    "formatted": "return -k * y * A * float(f'{t:.1f}')",
    "copied": "return torch.tensor([-y[1], y[0]], dtype=D) * k * A",
    "data": "return -k * y.data * A",
    "parameter's data": "return -k.data * y * A",
    "detached parameter": "return -k.detach() * y * A",
    "integers": "return -k * y * A * (4 * t).long()",
    "index of t": "return -k * y * A * torch.tensor([1.0, 2.0], dtype=D)[int(2 * t) % 2]",
    "equal": "return -k * y * A if torch.equal(y, y * 1) else y",
    "all close": "return -k * y * A if torch.allclose(y, torch.ones(2, dtype=D), atol=0.1) else y",
    "random": "return -k * y * A + 1e-3 * torch.randn(2, dtype=D)",
    "random number": "return -k * y * A * random.random()",
    "NumPy's random number": "return -k * y * A * np.random.rand()",
    "clock": "return -k * y * A * (1 + 0 * time.perf_counter())",
    "own derivative": "return -Rounded.apply(k * y) * A",
    "into the state": "y = y * 1\ny.mul_(A)\nreturn -k * y",
    "counted": "count[0] += 1\nreturn -k * y * A",
    "counted and used": "count[0] += 1\nreturn -k * y * A * (1.0 if count[0] < 3 else 2.0)",
    "fails later": "count[0] += 1\nif count[0] == 2:\n    raise RuntimeError('once more')\nreturn -k * y * A",
    "long list": "return -k * y * sum([A * 0.1 for _ in range(8)])",
    "nested tensor list": "return (torch.stack([y, k * y]) * A).sum(0) - y",
    "tied": "return -(torch.stack([y[0], y[0]]).amax() * k) * A + y.max(0).values",
}
NOISY = ("random number", "NumPy's random number", "clock", "counted and used", "fails later", "random")


@dataclass(frozen=True)
class Written:
    """The source of a function rhs(t, y) with what it needs, and the statements that change what it reads."""

    seed: int
    source: str
    change: str
    holders: tuple[str, ...]
    body: str

    @property
    def noisy(self) -> bool:
        """Whether it is no function of (t, y): then only the engine can be compared, which must be the eager one."""
        return self.body in NOISY or "held iterator" in self.holders


def written(seed: int) -> Written:
    """The function of a seed."""
    rng = random.Random(seed)
    names = list(HOLDERS)
    kinds = [names[seed % len(names)], *rng.sample(names, rng.choice([0, 0, 1, 2]))]
    rng.shuffle(kinds)
    plain = [name for name in BODIES if name not in NOISY]
    body = rng.choice(plain) if rng.random() < 0.9 else rng.choice(NOISY)
    made, reads, changes = [], [], []
    for place, kind in enumerate(kinds):
        old, new = rng.choice([1.0, 1.5, 0.75]), rng.choice([2.0, 2.5, 1.7])
        kept = HOLDERS[kind]

        def filled(text: str, place: int = place, old: float = old, new: float = new) -> str:
            return text.replace("NAME", f"h{place}").replace("OLD", str(old)).replace("NEW", str(new))

        made.append(filled(kept.made))
        reads.append(filled(kept.read))
        changes.append(filled(kept.change))
    product = " * ".join(f"({read})" for read in reads)
    lines = _numbers(BODIES[body], product, f"({reads[0]})").split("\n")
    style = rng.choice(["function", "function", "module", "object", "method", "lambda closure"])
    changed = rng.choice(changes) if rng.random() < 0.7 else "\n".join(changes)
    source = "\n".join([IMPORTS, EXTRA, *made, _wrapped(style, lines)])
    return Written(seed, source, changed, tuple(kinds), body)


EXTRA = """
k = torch.tensor([0.7, 0.9], dtype=D, requires_grad=True)
count, hooks = [0], []
class Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x): return torch.round(10 * x) / 10
    @staticmethod
    def backward(ctx, g): return g
"""


def _numbers(body: str, a: str, b: str) -> str:
    """The body with the expressions for A and B in it, where they stand as words."""
    return re.sub(r"\bA\b", a, re.sub(r"\bB\b", b, body))


def _wrapped(style: str, lines: list[str]) -> str:
    """rhs as a plain function, a module, a callable object, a method or a closure."""

    def block(depth: int) -> str:
        return "\n".join("    " * depth + line for line in lines)

    if style == "module":
        return f"class Rhs(nn.Module):\n    def forward(self, t, y):\n{block(2)}\nrhs = Rhs()"
    if style == "object":
        return f"class Rhs:\n    def __call__(self, t, y):\n{block(2)}\nrhs = Rhs()"
    if style == "method":
        return f"class Rhs:\n    def slope(self, t, y):\n{block(2)}\nrhs = Rhs().slope"
    if style == "lambda closure":
        return f"def make(inner):\n    return lambda t, y: inner(t, y)\ndef inner(t, y):\n{block(1)}\nrhs = make(inner)"
    return f"def rhs(t, y):\n{block(1)}"
