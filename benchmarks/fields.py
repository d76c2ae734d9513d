"""Typical fields: what a loss and its gradient take, ours beside torchdiffeq in one process, and the first call.

python benchmarks/fields.py [WORD...] [--rounds N] [--eager]
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from field_cases import Case, cases
from peers import installed
from timing import interleave, table, versions
from torch import Tensor

from physid.ode import solve

TOLERANCE = 1e-5


def gradient(case: Case, states: Callable[[], Any]) -> None:
    """The mean square of the states and its gradient."""
    for p in case.params:
        p.grad = None
    y = states()
    flat = torch.cat([part.reshape(-1) for part in (y if isinstance(y, tuple) else (y,))])
    loss: Tensor = (flat.abs() ** 2).mean()
    loss.backward()  # type: ignore[no-untyped-call]


def rivals(case: Case, eager: bool) -> tuple[dict[str, Callable[[int], object]], list[Any]]:
    """What is timed by name, and the last solution of ours."""
    last: list[Any] = []

    def ours(engine: str) -> Callable[[int], object]:
        def call(_: int) -> None:
            def states() -> Any:
                found = solve(case.f, case.y0, case.t, rtol=TOLERANCE, atol=TOLERANCE, engine=engine)
                last[:] = [found] if engine == "auto" else last
                return found.y

            gradient(case, states)

        return call

    found = {"auto": ours("auto")}
    if eager:
        found["eager"] = ours("eager")
    if peer := installed("torchdiffeq"):

        def theirs() -> Any:
            return peer.odeint(case.f, case.y0, case.t, rtol=TOLERANCE, atol=TOLERANCE, method="dopri5")

        found["torchdiffeq"] = lambda _: gradient(case, theirs)
    return found, last


def main() -> None:
    """Print a row for each field, and how many are slower than the peer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--eager", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows, slower, compiled = [], [], 0
    for name, case in cases(options.only):
        calls, last = rivals(case, options.eager)
        began = time.perf_counter()
        try:
            calls["auto"](0)
            first = time.perf_counter() - began
            seconds = interleave(calls, options.rounds, middle=min, clock=time.process_time)
        except Exception as error:
            rows.append([name, "failed", "", "", "", f"{type(error).__name__}: {error}"[:60]])
            continue
        solution = last[0]
        compiled += solution.engine == "native"
        peer = seconds.get("torchdiffeq")
        ratio = "" if peer is None else f"{peer / seconds['auto']:.1f}"
        if peer is not None and peer < seconds["auto"]:
            slower.append(name)
        figures = [f"{first:.1f}", f"{1e3 * seconds['auto']:.2f}", "" if peer is None else f"{1e3 * peer:.1f}", ratio]
        extra = [f"{1e3 * seconds['eager']:.1f}"] if options.eager else []
        rows.append([name, *figures, *extra, solution.engine_note[:60] or solution.engine])
        print(" ".join(rows[-1]), flush=True)
    extra = ["eager, ms"] if options.eager else []
    print(table(["field", "first, s", "ms", "torchdiffeq, ms", "ratio", *extra, "engine"], rows))
    print(f"{len(rows)} fields, {compiled} compiled; slower than torchdiffeq: {', '.join(slower) or 'none'}.")
    print(versions())


if __name__ == "__main__":
    main()
