"""Engine "auto" beside "eager" on generated functions, before and after a change of what they read.

python benchmarks/auto_eager.py [COUNT [FIRST]] [--solved] [--compiled]
The way of a solve is gone up to the choice of the engine; what was compiled, or recalled from before, is compared with
f and its products at points of state and time, then the number that f reads is changed, and all is done again. With
--solved both engines solve, and states, gradients and errors are compared. The programs are run by NumPy, with
--compiled (and --solved) by the compiler's code. Ctrl-C ends it with the counts so far.
"""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
import types
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn.modules import module as machinery

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.interpreted import interpreted
from benchmarks.written import Written, written
from physid.ode import Integrator
from physid.ode.dispatch import choose, memory
from physid.ode.eager import pullback_batched

DOUBLE = torch.float64
CLOSE = 1e-9
STEP = 0.25
POINTS = ((0.0, [1.2, 0.8]), (0.35, [0.7, 1.4]), (0.52, [-0.3, 0.9]), (0.97, [1.0, 1.0]))


def solved(f: Callable[..., Any], k: Tensor, engine: str) -> tuple[Any, str]:
    """States and gradients by y0 and k, or the error; and the engine that ran."""
    y0 = torch.tensor([1.2, 0.8], dtype=DOUBLE, requires_grad=True)
    k.grad = None
    torch.manual_seed(0)
    integrator = Integrator(solver="midpoint", engine=engine).changed(step=STEP)
    try:
        found = integrator.solve(f, y0, [0.0, 0.5])
        y: Any = found.y
        grads = torch.autograd.grad(y[-1].sum(), [y0, k], allow_unused=True) if y.requires_grad else (None, None)
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:60]}", "error"
    parts = [y.detach().reshape(-1), *(torch.zeros(2, dtype=DOUBLE) if g is None else g for g in grads)]
    return torch.cat(parts), found.engine


def pointed(f: Callable[..., Any], k: Tensor) -> tuple[str, str]:
    """The engine that "auto" would take, and how its functions differ from f."""
    y0 = torch.tensor([1.2, 0.8], dtype=DOUBLE)
    torch.manual_seed(0)
    integrator = Integrator(engine="auto")
    try:
        problem = integrator.pose(f, y0, [0.0, 1.0], None, False, memory("auto"))
        engine: Any = choose(problem, "auto").engine
    except Exception:
        return "error", ""
    if engine.name == "eager":
        return "eager", ""
    kernel, captured = engine.kernel, problem.captured
    c = kernel.constants() if engine.constants is None else engine.constants
    p = kernel.prepare(kernel.flat(captured), c)
    for moment, state in POINTS:
        t = torch.tensor(moment, dtype=DOUBLE)
        y = torch.tensor(state, dtype=DOUBLE, requires_grad=True)
        value = f(t, y)
        inputs = [y, *captured]
        found = torch.autograd.grad(value.sum(), inputs, allow_unused=True) if value.requires_grad else [None] * 3
        theirs = [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=False)]
        gy, gp, _ = kernel.vjp(t, y, p, c, torch.ones(2, dtype=DOUBLE))
        ours = [kernel.field(t, y, p, c), gy, *kernel.pull(gp, captured, c)]
        joined = [torch.cat([part.detach().reshape(-1) for part in parts]) for parts in (ours, [value, *theirs])]
        if differ(*joined):
            return "native", f"at t = {moment}, y = {state}: {joined[0]}, eager {joined[1]}"
    return "native", ""


def differ(one: Any, other: Any) -> bool:
    """Whether two outcomes are not the same."""
    if isinstance(one, str) or isinstance(other, str):
        return not (isinstance(one, str) and isinstance(other, str) and one[:12] == other[:12])
    size = 1 + other.abs().nan_to_num(0.0, 0.0, 0.0).max()
    return not torch.allclose(one / size, other / size, rtol=0.0, atol=CLOSE, equal_nan=True)


def compared(case: Written, solve: bool) -> tuple[list[str], list[str]]:
    """The engines that ran, and what differs."""
    home = types.ModuleType(f"generated_{case.seed}")
    eager: Any = None
    space, engines, faults = home.__dict__, list[str](), list[str]()
    sys.modules[home.__name__] = home
    try:
        exec(compile(case.source, f"<generated {case.seed}>", "exec"), space)
        for stage in ("before", "again", "after"):
            if stage == "after":
                exec(compile(case.change, f"<change {case.seed}>", "exec"), space)
            f, k, count = space["rhs"], space["k"], space["count"]
            count[0] = 0
            fault = ""
            if solve:
                auto, ran = solved(f, k, "auto")
                count[0] = 0
                if not case.noisy and stage != "again":
                    eager, _ = solved(f, k, "eager")
                if not case.noisy and differ(auto, eager):
                    fault = f"auto ({ran}) {auto}, eager {eager}"
            else:
                ran, fault = pointed(f, k)
            engines.append(ran)
            if ran == "native" and case.noisy:
                fault = "compiled, and no function of t and y"
            if fault:
                faults.append(f"{stage}: {fault}")
    finally:
        del sys.modules[home.__name__]
        for hook in space.get("hooks", []):
            hook.remove()
        machinery._global_forward_hooks.clear()
        torch.set_default_dtype(torch.float32)
    return engines, faults


def run(
    seeds: range, solve: bool = False, compiled: bool = False, report: Callable[[str], None] = print
) -> Counter[str]:
    """Compare the functions of these seeds; counts of solves by engine, and of differences."""
    counts: Counter[str] = Counter()
    narrow = patch.object(pullback_batched, "applies", lambda *_: False)  # step by step is faster where there are few
    with contextlib.nullcontext() if compiled else interpreted(), narrow, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in seeds:
            case = written(seed)
            try:
                engines, faults = compared(case, solve)
            except KeyboardInterrupt:
                break
            except Exception:
                engines, faults = [], [f"broke: {traceback.format_exc(limit=-3)}"]
            counts.update(engines)
            counts["functions"] += 1
            counts["differences"] += bool(faults)
            if faults:
                report(f"seed {seed}, {', '.join(case.holders)}; {case.body}: {faults[0]}")
    return counts


def main(arguments: list[str]) -> None:
    """Print every difference, then the counts."""
    torch.set_num_threads(1)
    numbers = [int(word) for word in arguments if not word.startswith("-")]
    count, first = (*numbers, *(500, 0)[len(numbers) :])
    started = time.process_time()
    counts = run(range(first, first + count), "--solved" in arguments, "--compiled" in arguments)
    print(dict(counts), f"{time.process_time() - started:.0f} s of processor time")


if __name__ == "__main__":
    main(sys.argv[1:])
