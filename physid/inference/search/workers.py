"""Many starts over processes with joblib, whose backends (loky by default, dask, ray) carry them to other machines.

The backend is joblib's own business: within `joblib.parallel_config(backend="dask")` the starts run on a cluster.
"""

from __future__ import annotations

import math
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from physid.arrays import Array
from physid.errors import Diverged, MissingError
from physid.inference.options import FitPlan
from physid.inference.problem import Problem
from physid.inference.search.monitor import Watch
from physid.inference.search.multistart import history_of, run_one
from physid.inference.search.one_start import Start
from physid.inference.search.strategies import finish
from physid.inference.search.trust_region import Found
from physid.inference.search.worker_calls import Afar, tell
from physid.modelling.address import import_file
from physid.ode.hearing import Flag, TimeUp, listening

OVER = "over budget"
SHARE, LEAST, FEWEST = 10.0, 30.0, 2  # times the median of the starts that are done, seconds at least, and done


def over_processes(problem: Problem, plan: FitPlan, watch: Watch, begins: list[Array]) -> tuple[Found, list[Start]]:
    """The best optimum of starts that run one by one in the plan's workers, and the record of each.

    Errors: Diverged when none can be solved, MissingError without joblib.
    """
    try:
        import cloudpickle
        import joblib
    except ImportError:
        raise MissingError("workers need joblib, which is not installed: pip install joblib.") from None
    file = model_file(problem)
    payload = cloudpickle.dumps((problem, plan))
    kept = recall(watch)
    backend, _ = joblib.parallel.get_active_backend()
    how = {"return_as": "generator_unordered"} if backend.supports_return_generator else {}
    hold(watch, kept)  # so that there is a run to go on with, whatever becomes of the first workers
    flag, name = Flag(), uuid.uuid4().hex
    _FLAGS[name] = flag
    for bounded in (True, False):
        if any(math.isfinite(one["objective"]) for one in kept.values()) and not bounded:
            break  # what took more than its budget may stay behind
        again = [] if bounded else [n for n, one in kept.items() if one["record"].status == OVER]
        seconds: list[float] = []
        tasks = (
            joblib.delayed(Afar(_task))(file, payload, number, x, allowance(spare(watch), seconds), bounded, name)
            for number, x in enumerate(begins)
            if number not in kept or number in again
        )
        try:
            for one, said in joblib.Parallel(n_jobs=plan.workers, **how)(tasks):
                tell(said)
                seconds.append(one["seconds"])
                if one["record"].status == "time limit" and spare(watch) != 0.0:
                    one["record"] = replace(one["record"], status=OVER)
                kept[one["record"].number] = one
                hold(watch, kept)
        except BrokenProcessPool:
            done_of = f"{len(kept)} of {len(begins)} starts are done"
            raise killed(f"{done_of}. Free some memory, then physid resume RUN goes on with the others") from None
        except BaseException:
            flag.up()  # workers that are threads of this process stop; joblib ends those that are processes
            raise
    del _FLAGS[name]
    done = [kept[number] for number in range(len(begins))]
    for number, one in enumerate(done):
        problem.evaluations += one["evaluations"]
        watch.history += [dict(row) for row in history_of(one["history"], number)]
    records = [one["record"] for one in done]
    best = min(range(len(done)), key=lambda i: (done[i]["objective"], i))
    if not math.isfinite(done[best]["objective"]):
        raise Diverged(f"none of {len(begins)} starts could be solved: {done[0]['message']}")
    watch.begin(done[best]["x"])
    problem.integrator = plan.integrator
    point = problem.at(done[best]["x"])
    if point is None:
        raise Diverged(f"the best start cannot be solved again: {problem.message}")
    return finish(problem, plan.integrator, watch, point, held=False), records


def killed(rest: str) -> MissingError:
    """The error for a worker process that is gone, and what is left to do."""
    return MissingError(f"a worker process was killed by the system, as when memory runs out: {rest}.")


def spare(watch: Watch) -> float | None:
    """The seconds that are left, 0 when there are none, None without a limit."""
    try:
        return watch.left
    except TimeUp:
        return 0.0


def allowance(left: float | None, seconds: Sequence[float]) -> float | None:
    """The seconds that a start may take: what is left and, once others are done, many times what these took."""
    if len(seconds) < FEWEST:
        return left
    own = max(LEAST, SHARE * float(np.median(seconds)))
    return own if left is None else min(left, own)


def hold(watch: Watch, done: Mapping[int, Mapping[str, Any]]) -> None:
    """Let the watch know which starts are done; those that the time limit ended are not."""
    whole = [one for one in done.values() if one["record"].status != "time limit"]
    plain = [{**one, "record": asdict(one["record"]), "x": one["x"].tolist()} for one in whole]
    watch.hold("workers", done=plain)


def recall(watch: Watch) -> dict[int, dict[str, Any]]:
    """The starts that a search that goes on has done, by their number."""
    if watch.held.get("stage") != "workers":
        return {}
    found = {}
    for one in watch.held["done"]:
        record = Start.of(one["record"])
        objective = math.inf if one["objective"] is None else one["objective"]
        history = [{name: math.inf if v is None else v for name, v in row.items()} for row in one["history"]]
        known = {"record": record, "objective": objective, "x": np.array(one["x"]), "history": history}
        found[record.number] = {**one, **known}
    return found


def model_file(problem: Problem) -> str | None:
    """The user's file that the model's class is in, which a worker imports before it reads the model."""
    import sys

    module = type(problem.vector.model).__module__
    file = getattr(sys.modules.get(module), "__file__", None)
    return str(Path(file).resolve()) if file and module.startswith("physid_user_") else None


_FLAGS: dict[str, Flag] = {}  # of the searches that are going on in this process


def _task(
    file: str | None, payload: bytes, number: int, x: Array, left: float | None, bounded: bool, name: str
) -> dict[str, Any]:
    """One start in a worker of one thread."""
    import cloudpickle

    if file is not None:
        import_file(Path(file))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    problem, plan = cloudpickle.loads(payload)
    began = time.perf_counter()
    with listening(flag=_FLAGS.get(name)):
        found = run_one(problem, plan, Watch(None, left), number, x, bounded)
    return {**found, "seconds": time.perf_counter() - began}
