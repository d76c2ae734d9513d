"""Workers: many starts over processes by joblib, whose backends (loky, dask, ray) reach other machines.

The backend is joblib's own business: within `joblib.parallel_config(backend="dask")` the starts run on a cluster.
"""

from __future__ import annotations

import math
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from physid.arrays import Array
from physid.errors import MissingError
from physid.inference.options import FitPlan
from physid.inference.problem import Problem
from physid.inference.search.batched_starts import first_budget
from physid.inference.search.monitor import Monitor
from physid.inference.search.objective import FitObjective
from physid.inference.search.one_start import Start
from physid.inference.search.optimizer import Script, Strategy, search
from physid.inference.search.strategies import alone, optimum
from physid.inference.search.worker_calls import Afar, tell
from physid.modelling.address import import_file
from physid.ode.hearing import Flag, TimeUp, listening

OVER = "over budget"
SHARE, LEAST, FEWEST = 10.0, 30.0, 2  # times the median of the starts that are done, seconds at least, and done


@dataclass
class StartResult:
    """Result of one start in a worker: its x [Q], the value of the objective there, its record, history and cost."""

    x: Array
    objective: float
    message: str
    record: Start
    history: list[dict[str, Any]]
    evaluations: int
    seconds: float


@dataclass
class WorkersState:
    """The results of the starts that are done, in the order of their numbers, and whether those are all."""

    done: list[StartResult] = field(default_factory=list)
    over: bool = False


class Workers:
    """The optimizer that runs starts one by one in the plan's worker processes, all in one step.

    A start that is done is not repeated when the search resumes. Errors: MissingError without joblib, and when a worker
    is killed.
    """

    def __init__(self, plan: FitPlan, begins: Sequence[Array]) -> None:
        self.plan, self.begins = plan, begins

    def init(self, objective: FitObjective, x: Array) -> WorkersState:
        """No start is done yet."""
        return WorkersState()

    def step(self, objective: FitObjective, state: WorkersState) -> WorkersState:
        """Run the starts that are not done."""
        problem, monitor = objective.problem, objective.monitor
        known = {one.record.number: one for one in state.done}
        for bounded in (True, False):
            if any(math.isfinite(one.objective) for one in known.values()) and not bounded:
                break  # what took more than its budget may stay behind
            again = [] if bounded else [n for n, one in known.items() if one.record.status == OVER]
            numbers = [n for n in range(len(self.begins)) if n not in known or n in again]
            for one in self._run(objective, numbers, bounded, len(known)):
                if one.record.status == "time limit" and spare(monitor) != 0.0:
                    one.record = replace(one.record, status=OVER)
                known[one.record.number] = one
                problem.evaluations += one.evaluations
                state.done = [known[n] for n in sorted(known) if known[n].record.status != "time limit"]
                monitor.hold(monitor.state)
        results = [known[n] for n in sorted(known)]
        for one in results:
            monitor.history += [{**row, "start": one.record.number} for row in one.history]
            one.history = []
        if any(one.record.status == "time limit" for one in results):
            monitor.begin(min(results, key=lambda one: one.objective).x)
            _ = monitor.left  # they are to be done when the search resumes
        state.done, state.over = results, True
        return state

    def done(self, state: WorkersState) -> bool:
        """Whether all starts are done."""
        return state.over

    def _run(
        self, objective: FitObjective, numbers: Sequence[int], bounded: bool, finished: int
    ) -> Iterator[StartResult]:
        """The results of these starts, as they come."""
        try:
            import cloudpickle
            import joblib
        except ImportError:
            raise MissingError("workers need joblib, which is not installed: pip install joblib.") from None
        problem, monitor = objective.problem, objective.monitor
        file, payload = model_file(problem), cloudpickle.dumps((problem, self.plan))
        backend, _ = joblib.parallel.get_active_backend()
        how = {"return_as": "generator_unordered"} if backend.supports_return_generator else {}
        flag, name, seconds = Flag(), uuid.uuid4().hex, list[float]()
        _FLAGS[name] = flag
        tasks = (
            joblib.delayed(Afar(_task))(
                file, payload, n, self.begins[n], allowance(spare(monitor), seconds), bounded, name
            )
            for n in numbers
        )
        try:
            for one, said in joblib.Parallel(n_jobs=self.plan.workers, **how)(tasks):
                tell(said)
                seconds.append(one.seconds)
                finished += 1
                yield one
        except BrokenProcessPool:
            done_of = f"{finished} of {len(self.begins)} starts are done"
            raise killed(f"{done_of}. Free some memory, then physid resume RUN continues with the others") from None
        except BaseException:
            flag.up()  # workers that are threads of this process stop; joblib ends those that are processes
            raise
        finally:
            del _FLAGS[name]


def run_one(problem: Problem, plan: FitPlan, monitor: Monitor, number: int, x: Array, bounded: bool) -> StartResult:
    """One start alone, as a worker does it. Where it is `bounded`, its first solve has a budget of steps."""
    if bounded:
        problem.patience = min(first_budget(problem), problem.integrator.most_steps)
    fresh, began = problem.residuals.copy(), time.perf_counter()
    single = replace(plan, starts=1, workers=None)

    def script(fit: FitObjective, x: Array, anew: bool) -> Script:
        return optimum((yield from alone(fit, single, x)))

    end = search(Strategy(script), FitObjective(problem, single, monitor), x)
    if end.status == "interrupted":
        raise KeyboardInterrupt
    status, cost, objective = end.status, math.inf, math.inf
    if end.point is not None:
        objective = problem.objective(end.point)
        if end.point.seen is not None and end.point.slope is not None:
            weighed = problem.point(end.x, end.point.seen, end.point.slope, fresh)
            cost = math.inf if weighed is None else weighed.cost
    elif status == "diverged" and bounded and problem.spent:
        status = OVER
    natural = problem.vector.natural
    record = Start(number, natural(x).tolist(), natural(end.x).tolist(), cost, status, len(monitor.history))
    spent = time.perf_counter() - began
    return StartResult(end.x, objective, end.message, record, monitor.history, problem.evaluations, spent)


def killed(rest: str) -> MissingError:
    """The error for a worker process that is gone, and what is left to do."""
    return MissingError(f"a worker process was killed by the system, as when memory runs out: {rest}.")


def spare(monitor: Monitor) -> float | None:
    """The seconds that are left, 0 when there are none, None without a limit."""
    try:
        return monitor.left
    except TimeUp:
        return 0.0


def allowance(left: float | None, seconds: Sequence[float]) -> float | None:
    """The seconds that a start may take: what is left and, once others are done, many times what these took."""
    if len(seconds) < FEWEST:
        return left
    own = max(LEAST, SHARE * float(np.median(seconds)))
    return own if left is None else min(left, own)


def model_file(problem: Problem) -> str | None:
    """The user's file that the model's class is in, which a worker imports before it reads the model."""
    import sys

    module = type(problem.vector.model).__module__
    file = getattr(sys.modules.get(module), "__file__", None)
    return str(Path(file).resolve()) if file and module.startswith("physid_user_") else None


_FLAGS: dict[str, Flag] = {}  # of the searches that are going on in this process


def _task(
    file: str | None, payload: bytes, number: int, x: Array, left: float | None, bounded: bool, name: str
) -> StartResult:
    """One start in a worker of one thread."""
    import cloudpickle

    if file is not None:
        import_file(Path(file))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    problem, plan = cloudpickle.loads(payload)
    with listening(flag=_FLAGS.get(name)):
        return run_one(problem, plan, Monitor(None, left), number, x, bounded)
