"""A small f inlined in the background: the same numbers to the last bit, and nothing left of what did not end well."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from native_tools import DOUBLE, native
from torch import Tensor

from physid import solve
from physid.machine import compiler_command
from physid.ode.caching import clear_caches
from physid.ode.native import code, engine
from physid.ode.native.code import Code
from physid.ode.native.compiler import background, build
from physid.ode.native.compiler.background import Background
from physid.store import hold

pytestmark = pytest.mark.skipif(compiler_command() is None, reason="no C compiler")


def oscillator(t: Tensor, y: Tensor) -> Tensor:
    """Van der Pol's oscillator, driven."""
    x, v = y[..., 0], y[..., 1]
    return torch.stack([v, RATE.to(y.dtype) * (1 - x * x) * v - x + 0.1 * torch.sin(t)], -1)


RATE = torch.tensor(1.7, dtype=DOUBLE, requires_grad=True)
ONE = torch.tensor([0.4, -0.7], dtype=DOUBLE)
MANY = torch.linspace(-1, 1, 40, dtype=DOUBLE).reshape(20, 2)


@pytest.fixture
def inlined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of the test's own; the compiler begins after the first solve."""
    monkeypatch.setenv("PHYSID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(code, "WORTH", 1e-9)
    monkeypatch.setattr(code, "AGAIN", 0.0)
    monkeypatch.setattr(background, "PRIORITY", 0)  # the test has nothing else to do
    clear_caches()
    yield
    clear_caches()
    background._end_all()


def code_of() -> list[Code]:
    """What solves call, of every kernel."""
    return engine._CODES.values()


def results(y0: Tensor, **options: Any) -> list[Any]:
    """States, gradients and counts."""
    start = y0.clone().requires_grad_()
    times = torch.linspace(0, 3, 13, dtype=DOUBLE, requires_grad=True)
    RATE.grad = None
    found = solve(oscillator, start, times, rtol=1e-6, atol=1e-8, engine="native", **options)
    y = torch.as_tensor(found.y)
    (y.sin().sum()).backward()
    return [y.detach(), start.grad, times.grad, RATE.grad, replace(found.statistics, seconds=0.0)]


CASES: dict[str, tuple[Tensor, dict[str, Any]]] = {
    "many": (MANY, {"batched": True}),
    "one": (ONE, {}),
    "many, as the product compiles": (MANY, {"batched": True}),
    "single precision": (ONE.float(), {}),
    "probes": (ONE, {"probes": 1}),
    "probes of many": (MANY, {"batched": True, "probes": 2}),
    "checkpoints": (ONE, {"checkpoints": 3}),
    "dopri8": (ONE, {"solver": "dopri8"}),
}


def until_inlined(solved: Callable[[], object]) -> None:
    """Solve until the compiler in the background has ended."""
    (one,) = code_of()
    first = one.library
    end = time.monotonic() + 200
    while time.monotonic() < end:
        solved()
        if one.library is not first:
            return
        time.sleep(0.05)
    pytest.fail("nothing came of it")


@pytest.mark.parametrize("name", [pytest.param(one, marks=[pytest.mark.slow] * (one != "many")) for one in CASES])
def test_the_same_numbers_before_and_after(
    name: str, inlined: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    y0, options = CASES[name]
    before = results(y0, **options)
    until_inlined(lambda: results(y0, **options))
    after = results(y0, **options)
    for mine, theirs in zip(before, after, strict=True):
        assert torch.equal(mine, theirs) if isinstance(mine, Tensor) else mine == theirs
    assert not background.RUNNING
    assert not [path for path in (tmp_path / "cache" / "native").iterdir() if path.name.startswith(".")]
    clear_caches()  # and the next process has it at once
    monkeypatch.setattr(Background, "_begin", lambda self: pytest.fail("it is there"))
    assert torch.equal(results(y0, **options)[0], after[0])
    assert code_of()[0]._inlined is None


def test_a_large_f_and_one_that_is_seldom_solved_are_not_inlined(
    inlined: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Background, "_begin", lambda self: pytest.fail("it was not worth it"))
    many = solve(lambda t, y: -y.sin(), torch.ones(7, dtype=DOUBLE), [0.0, 1.0], engine="native")
    assert many.engine == "native"
    monkeypatch.setattr(code, "WORTH", 60.0)
    for _ in range(3):
        results(ONE)


def compiler(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """From now on the compiler is a script."""
    path = folder / "cc"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    monkeypatch.setenv("CC", str(path))
    monkeypatch.setattr(build, "HANGS", [])


def test_a_compiler_that_fails_in_the_background_costs_nothing(
    inlined: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = results(ONE)
    compiler(tmp_path, monkeypatch, 'test "$1" = --version && exit; exit 3')
    (one,) = code_of()
    for _ in range(500):
        assert torch.equal(results(ONE)[0], first[0])
        if one._inlined is None:
            break
        time.sleep(0.02)
    assert one._inlined is None
    assert not background.RUNNING
    assert not [path for path in (tmp_path / "cache" / "native").iterdir() if path.name.startswith(".")]


def test_a_process_that_ends_stops_its_compiler_and_leaves_nothing(
    inlined: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at its end; and a copy of the process, which began nothing, stops nothing."""
    results(ONE)
    compiler(tmp_path, monkeypatch, f'test "$1" = --version && exit; echo $$ > {tmp_path}/pid; exec sleep 300')
    results(ONE)
    (running,) = background.RUNNING
    process = running._process
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.01)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    background._end_all()
    monkeypatch.undo()
    assert process.poll() is None
    background._end_all()
    assert isinstance(process, subprocess.Popen)
    assert process.poll() is not None
    assert not [path for path in (tmp_path / "cache" / "native").iterdir() if path.name.startswith(".")]


def test_it_is_left_to_the_process_that_began(inlined: None, tmp_path: Path) -> None:
    """A compiler runs once, however many processes wait; that of one that was killed does not count."""
    kernel = native(oscillator, ONE)
    target = kernel.sources.whole()
    stem = f".inline-{build.Compiler.found().key(target)[:16]}"
    work, held = hold(build.native_folder(), stem)
    waiting = Background(target)
    assert waiting.look() is None
    assert not background.RUNNING
    os.close(held)
    os.utime(work, (1, 1))
    waiting.look()
    assert len(background.RUNNING) == 1
    assert not work.exists()
