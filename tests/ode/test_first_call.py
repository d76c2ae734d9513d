"""What a new f waits for: itself and its product; the runtime is there, and tangents come when they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from native_tools import DOUBLE, refused
from torch import Tensor

from physid.errors import InputError
from physid.machine import compiler_command
from physid.ode import sensitivities, solve
from physid.ode.caching import clear_caches
from physid.ode.native import compile
from physid.ode.native.compiler import build, library
from physid.ode.native.compiler.trace import Unsupported
from physid.ode.solve import Integrator

pytestmark = pytest.mark.skipif(compiler_command() is None, reason="no C compiler")
Y0 = torch.tensor([0.4, -0.7], dtype=DOUBLE)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Every call of the compiler, in a cache of the test's own."""
    monkeypatch.setenv("PHYSID_CACHE", str(tmp_path / "cache"))
    clear_caches()
    seen: list[list[str]] = []
    run = build._run

    def listed(jobs: list[list[str]], seconds: float = 0.0) -> list[str]:
        seen.extend(job for job in jobs if "--version" not in job)
        return run(jobs, seconds)

    monkeypatch.setattr(build, "_run", listed)
    return seen


def written(commands: list[list[str]]) -> list[str]:
    """What was compiled, by what its source has: the runtime, f, or tangents."""
    return ["linked" if not any(word.endswith(".c") for word in one) else "compiled" for one in commands]


def test_the_runtime_is_compiled_once(commands: list[list[str]]) -> None:
    solve(lambda t, y: -1.1 * y, Y0, [0.0, 1.0], engine="native")
    assert written(commands) == ["compiled", "compiled", "linked"]
    solve(lambda t, y: -y.sin(), Y0, [0.0, 1.0], engine="native")
    assert len(commands) == 4
    assert commands[-1][-2].endswith(".o")  # the runtime's, out of the cache
    solve(lambda t, y: -y.sin(), Y0.float(), [0.0, 1.0], rtol=1e-4, atol=1e-5, engine="native")
    assert written(commands[4:]) == ["compiled", "compiled", "linked"]  # that of the other precision


def test_tangents_are_compiled_when_they_are_asked_for(commands: list[list[str]]) -> None:
    rate = torch.tensor(1.3, dtype=DOUBLE, requires_grad=True)

    def f(t: Tensor, y: Tensor) -> Tensor:
        return -rate * y

    y = torch.as_tensor(solve(f, Y0, [0.0, 1.0], engine="native").y)
    y.sum().backward()
    before = len(commands)
    assert before == 3
    found = sensitivities(f, Y0, [0.0, 1.0], params=[rate], integrator=Integrator(engine="native"))
    assert len(commands) == before + 1
    assert rate.grad is not None
    assert float(found.params[0][-1].sum()) == pytest.approx(float(rate.grad), rel=1e-9)
    probed = solve(f, Y0, [0.0, 1.0], engine="native", probes=1)
    assert probed.engine == "native"
    assert len(commands) == before + 1
    clear_caches()
    assert solve(f, Y0, [0.0, 1.0], engine="native", probes=1).statistics.tangents > 0  # out of the cache
    assert len(commands) == before + 1


def test_both_at_once_where_both_are_asked_for(commands: list[list[str]]) -> None:
    rate = torch.tensor(1.4, dtype=DOUBLE, requires_grad=True)
    solve(lambda t, y: -y, Y0, [0.0, 1.0], engine="native")
    before = len(commands)
    solution = solve(lambda t, y: -rate * y, Y0, [0.0, 1.0], engine="native", probes=1)
    assert solution.statistics.tangents > 0
    assert len(commands) == before + 2


def test_tangents_that_do_not_compile_cost_the_rest_nothing(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> None:
        raise Unsupported("no tangents today")

    monkeypatch.setattr(library, "emit_tangents", broken)
    rate = torch.tensor(1.5, dtype=DOUBLE, requires_grad=True)

    def f(t: Tensor, y: Tensor) -> Tensor:
        return -rate * y

    first = solve(f, Y0, [0.0, 1.0], probes=1)
    assert (first.engine, first.engine_note) == ("eager", "eager: no tangents today")
    assert solve(f, Y0, [0.0, 1.0]).engine == "native"
    again = solve(f, Y0, [0.0, 1.0], probes=1)  # of an f that is known by now
    assert again.engine_note == "eager: no tangents today"
    with pytest.raises(InputError, match="no tangents today"):
        sensitivities(f, Y0, [0.0, 1.0], params=[rate], integrator=Integrator(engine="native"))


def test_what_changes_as_it_is_evaluated_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile, "load", lambda *jobs: pytest.fail("it was seen before"))
    seen = {"last": 0.0}

    def f(t: Tensor, y: Tensor) -> Tensor:
        seen["last"] = float(y.detach()[0]) + seen["last"]
        return -y

    assert "as it is evaluated" in refused(f)
