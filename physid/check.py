"""`check`: whether a model and its data can be fitted at all, found out at the guess before any fit."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from physid.errors import PhysidError
from physid.experiment import Experiment
from physid.fitting.plan import default_integrator
from physid.fitting.problem import predict
from physid.fitting.sizes import fitted
from physid.fitting.vector import Array, Vector
from physid.modelfile import blame
from physid.ode import Integrator
from physid.reading.roles import channel_names
from physid.reading.units import parse
from physid.spec import Model

LONGEST = 30.0  # seconds that one solve may take
STEP = 1e-4  # of the finite differences, in the transformed unknowns, times their size
AGREE = 1e-4  # how well gradients and finite differences agree, as a part of the column's length
RANK = 1e-6  # a singular value of the scaled sensitivities below this part of the largest is none, at a guess
PASSED, WARNING, FAILED = "passed", "warning", "failed"

# What breaks a gradient, and what only bends it: operation -> what to write in its place.
STEPS = dict.fromkeys(("sign", "sgn", "round", "floor", "ceil", "trunc", "heaviside", "remainder"), "smooth_sign")
KINKS = {
    **dict.fromkeys(("abs",), "smooth_abs"),
    **dict.fromkeys(("clamp", "clamp_min", "clamp_max", "minimum", "maximum", "hardtanh"), "smooth_clip"),
    **dict.fromkeys(("relu", "threshold"), "smooth_ramp"),
    **dict.fromkeys(("where",), "a smooth transition, as by smooth_sign"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was checked: what, "passed", "warning" or "failed", and a sentence with what to do."""

    name: str
    status: str
    sentence: str


def check(model: Model, experiment: Experiment, integrator: Integrator | None = None) -> list[Finding]:
    """What was found, in order: shapes, units, smoothness, solve, gradient, identifiability.

    What comes after a failure that it rests on is left out. Nothing is fitted, and the model is left as it was.
    """
    asked = replace(integrator or replace(default_integrator(), **experiment.integrator), time_limit=LONGEST)
    found: list[Finding] = []
    with _driven(model, experiment):
        for step in (shapes, units, smoothness):
            found.append(_guarded(step.__name__, lambda step=step: step(model, experiment)))  # type: ignore[misc]
        if FAILED in (found[0].status, found[-1].status):  # no shape, or no slope, to go on with
            return found
        solver = fitted(asked, model, [experiment])
        found.append(_guarded("solve", lambda: solves(model, experiment, solver)))
        if found[-1].status == FAILED:
            return found
        found.append(_guarded("gradient", lambda: gradient(model, experiment, solver)))
        if found[-1].status != FAILED:
            found.append(_guarded("identifiability", lambda: identifiability(model, experiment, solver)))
    return found


def shapes(model: Model, experiment: Experiment) -> Finding:
    """Rates and observations of one state, and of a batch, have the shapes that they must have."""
    like = next(iter(model.parameters()), experiment.initial)
    one, t = experiment.initial.to(like), torch.tensor(float(experiment.initial_time)).to(like)
    wanted = tuple(experiment.train.observations.shape[1:])
    with torch.no_grad():
        for lead in ((), (3,), (2, 3)):
            y = one.expand(*lead, *one.shape)
            rate, seen = model.field(t.expand(lead), y), model.observe(y)
            for what, value, shape in (("field", rate, y.shape), ("observe", seen, (*lead, *wanted))):
                if tuple(value.shape) != tuple(shape) or value.dtype != like.dtype:
                    return Finding(
                        "shapes",
                        FAILED,
                        f"{what} gives {list(value.shape)} ({value.dtype}) for states {list(y.shape)}; {list(shape)} "
                        f"({like.dtype}) is needed. Work on the last axis: y.unbind(-1), torch.stack(..., -1).",
                    )
    return Finding("shapes", PASSED, f"states {list(one.shape)}, observed {list(wanted)}, batches as well")


def units(model: Model, experiment: Experiment) -> Finding:
    """The units that the model states can be read."""
    for name, unit in model.units.items():
        parse(unit, f"the unit of {name} in {type(model).__name__}")
    known = {*model.state_names, *model.input_names, *channel_names(model), "t", "time"}
    strange = [name for name in model.units if name not in known]
    if strange:
        return Finding(
            "units",
            FAILED,
            f"units are given for {', '.join(strange)}, which is none of {', '.join(sorted(known))}. Correct the name.",
        )
    if not model.units:
        return Finding("units", WARNING, "the model states none, so none are converted. Set units = {'t': 's', ...}.")
    return Finding("units", PASSED, ", ".join(f"{name} [{unit}]" for name, unit in model.units.items()))


def smoothness(model: Model, experiment: Experiment) -> Finding:
    """No operation of the field has a slope that jumps or vanishes."""
    like = next(iter(model.parameters()), experiment.initial)
    y, t = experiment.initial.to(like), torch.tensor(float(experiment.initial_time)).to(like)
    drive = torch.zeros(len(model.input_names), dtype=like.dtype, device=like.device)
    recorder = _Operations()
    with torch.no_grad(), model.given_inputs(drive), recorder:
        model.field(t, y)
        model.observe(y[None])
    steps = [name for name in STEPS if name in recorder.names]
    kinks = [name for name in KINKS if name in recorder.names]
    if steps:
        text = f"{', '.join(steps)}: no slope, so no gradient comes through. Use {STEPS[steps[0]]} (physid.smooth)."
        return Finding("smoothness", FAILED, text)
    if kinks:
        advice = KINKS[kinks[0]]
        text = f"{', '.join(kinks)}: its slope jumps, and fits may end in several optima. Use {advice} (physid.smooth)."
        return Finding("smoothness", WARNING, text)
    return Finding("smoothness", PASSED, f"{len(recorder.names)} kinds of operation, none with a corner")


def solves(model: Model, experiment: Experiment, integrator: Integrator) -> Finding:
    """The model can be solved over the data from the guess."""
    vector = Vector(model, experiment)
    found = predict(vector, vector.get(), experiment.train.times, integrator)
    if not found.solution.ok:
        return Finding("solve", FAILED, f"{found.solution.message} Start from other values, or check the field.")
    statistics = found.solution.statistics
    return Finding(
        "solve",
        PASSED,
        f"{statistics.accepted} steps, {statistics.evaluations} evaluations, {statistics.seconds:.2g} s",
    )


def gradient(model: Model, experiment: Experiment, integrator: Integrator) -> Finding:
    """The exact sensitivities agree with finite differences at the guess."""
    vector = Vector(model, experiment)
    x, times = vector.get(), experiment.train.times
    exact = predict(vector, x, times, integrator).slope
    worst, where = 0.0, ""
    for i, entry in enumerate(vector.entries):
        step = np.zeros_like(x)
        step[i] = STEP * max(1.0, abs(x[i]))
        ends = [predict(vector, x + sign * step, times, integrator).mean for sign in (1.0, -1.0)]
        numeric = (ends[0] - ends[1]) / (2 * step[i])
        size = max(float(np.linalg.norm(exact[..., i])), float(np.linalg.norm(numeric)))
        error = float(np.linalg.norm(exact[..., i] - numeric)) / size if size > 0 else 0.0
        if not error <= worst:
            worst, where = error, entry.name
    vector.put(x)
    if not worst <= AGREE:
        return Finding(
            "gradient",
            FAILED,
            f"sensitivities by {where} are off by {worst:.1g} from finite differences. Look for a corner or a "
            "jump in the field, for detach() or numpy in it, or take a tighter tolerance.",
        )
    return Finding("gradient", PASSED, f"within {worst:.1g} of finite differences, by {len(x)} unknowns")


def identifiability(model: Model, experiment: Experiment, integrator: Integrator) -> Finding:
    """The data tell every unknown at the guess: the scaled sensitivity matrix has full rank."""
    vector = Vector(model, experiment)
    x = vector.get()
    slope = predict(vector, x, experiment.train.times, integrator).slope
    table = slope[experiment.train.mask.reshape(len(experiment.train), -1).numpy()]
    vector.put(x)
    hidden, ratio = null_combinations(vector, table)
    if hidden:
        return Finding(
            "identifiability",
            FAILED,
            f"the data do not tell {'; nor '.join(hidden)}. Fix or tie one unknown of each, give it a prior, or "
            "measure more.",
        )
    text = f"rank {len(x)} of {len(x)}, smallest to largest singular value {ratio:.1g}"
    return Finding("identifiability", PASSED, text)


def null_combinations(vector: Vector, table: Array) -> tuple[list[str], float]:
    """The directions of the unknowns that sensitivities [N, Q] do not see, named, and the ratio of singular values."""
    size = np.linalg.norm(table, axis=0)
    size = np.where(size > 0, size, 1.0)
    padded = np.concatenate([table / size, np.zeros((max(0, len(size) - len(table)), len(size)))])
    _, s, vt = np.linalg.svd(padded, full_matrices=False)
    lost = s <= RANK * s[0] if s[0] > 0 else np.ones_like(s, dtype=bool)
    ratio = float(s[-1] / s[0]) if s[0] > 0 else 0.0
    return [_named(vector, row / size) for row in vt[lost]], ratio


def _named(vector: Vector, row: Array) -> str:
    """A direction as a combination of unknowns, in logarithms where the domain is a half line."""
    row = row / row[np.argmax(np.abs(row))]
    parts = []
    for weight, entry in zip(row, vector.entries, strict=True):
        if abs(weight) > 1e-3:
            half = np.isfinite(entry.domain.low) and not np.isfinite(entry.domain.high)
            parts.append(f"{weight:+.3g} {f'log({entry.name})' if half else entry.name}")
    return " ".join(parts).removeprefix("+")


def _guarded(name: str, work: Callable[[], Finding]) -> Finding:
    """What the work found; an error of the user's code is a failure, with where it came from."""
    try:
        return work()
    except PhysidError as error:
        return Finding(name, FAILED, str(error))
    except Exception as error:  # the model is the user's code: whatever it raises is what was found
        return Finding(name, FAILED, blame(error) or _raised(error))


def _raised(error: Exception) -> str:
    """What was raised, and by which line."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "physid" not in f.filename.split("/")]
    where = f", line {frames[-1].lineno} of {frames[-1].filename.rsplit('/', 1)[-1]}" if frames else ""
    return f"{type(error).__name__}: {error}{where}. Correct that line."


@contextmanager
def _driven(model: Model, experiment: Experiment) -> Iterator[None]:
    """In here the model is driven by the experiment's inputs."""
    before = model.driver
    model.drive(experiment.inputs)
    try:
        yield
    finally:
        if before is not None or not model.input_names:
            model.drive(before)


class _Operations(TorchDispatchMode):
    """Collects the names of the operations that run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Tensor:
        self.names.add(func.overloadpacket.__name__.removesuffix("_"))
        result: Tensor = func(*args, **(kwargs or {}))
        return result
