"""`check`: tests at the starting values whether a model can be fitted to its data, before any fit."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from physid.arrays import Array
from physid.data.experiment import Experiment
from physid.data.smoothing import smooth
from physid.errors import InputError, PhysidError
from physid.inference.assemble import agree
from physid.inference.early_inputs import early_reads
from physid.inference.options import adapted, default_integrator
from physid.inference.parameters import ParameterVector, aligned, vector_of
from physid.inference.probing import worth_probing
from physid.inference.simulate import simulate
from physid.inference.uncertainty.determined import determined, moves, weights
from physid.modelling.address import blame, contained
from physid.modelling.answers import answer
from physid.modelling.model import Model
from physid.modelling.modules import ready, trained
from physid.modelling.reconstruct import reconstruct
from physid.modelling.state_sizes import fitted
from physid.ode import Integrator
from physid.ode.torch_internals import TorchDispatchMode
from physid.reading.roles import channel_names
from physid.reading.units import parse

LONGEST = 30.0  # seconds that one solve may take
STEP = 1e-4  # of the finite differences, in the transformed unknowns, times their size
AGREE = 1e-4  # how well gradients and finite differences agree, as a part of the column's length
NOISE = 10.0  # times the solver's tolerance over the step: what finite differences may be off by
NEARBY, AWAY = 2, 0.2  # points near the guess, and how far they lie in the transformed unknowns
PASSED, WARNING, FAILED = "passed", "warning", "failed"
ORDER = (PASSED, WARNING, FAILED)

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


def check(
    model: Model, experiment: Experiment | Sequence[Experiment], integrator: Integrator | None = None
) -> list[Finding]:
    """Findings in order: shapes, unknowns, units, smoothness, solve, gradient, identifiability.

    Of several experiments shapes and solve are those of the first that fails; gradient and identifiability are those of
    all together, as a fit has them. A check that rests on one that failed is left out. Nothing is fitted, and the
    model is left as it was.
    """
    given = [experiment] if isinstance(experiment, Experiment) else list(experiment)
    found: list[Finding] = []
    with _driven(model, given[0]):
        for step in (shapes, unknowns, units, smoothness):
            found.append(_of_each(step.__name__, step, model, given))
        if FAILED in (
            found[0].status,
            found[1].status,
            found[-1].status,
        ):  # no shape, unknown or slope for the next checks
            return found
        changes = dict(given[0].integrator)
        if integrator is None and not worth_probing(model, given[0], changes):
            changes = {"probes": 0} | changes
        asked = replace(integrator or adapted(default_integrator(), changes), time_limit=LONGEST)
        # as a fit does it: each starts where its data say, and lacks what it did not measure
        given = [started(model, one) for one in (aligned(given) if len(given) > 1 else given)]
        solver = fitted(asked, model, given)
        found.append(_of_each("solve", partial(solves, integrator=solver), model, given))
        if found[-1].status == FAILED:
            return found
        found.append(_guarded("gradient", lambda: gradient(model, given, solver)))
        if found[-1].status != FAILED:
            found.append(_guarded("identifiability", lambda: identifiability(model, given, solver)))
    return found


def started(model: Model, experiment: Experiment) -> Experiment:
    """The experiment with the free elements of its initial state where its data say, hidden ones by their slopes."""
    free, train = experiment.initial_free, experiment.train
    if not bool(free.any()):
        return experiment
    model.drive(experiment.inputs)
    times = np.array([float(experiment.initial_time)])
    seen, rate = smooth(train, times)
    like = next(iter(model.parameters()), experiment.initial)
    try:
        state = reconstruct(model, times, seen, rate, experiment.initial.to(like)[None], experiment.initial_scale)
    except (RuntimeError, np.linalg.LinAlgError, InputError):  # a guess it remains, as in the fit
        return experiment
    found = torch.where(free, state[0].double().cpu(), experiment.initial)
    return replace(experiment, initial=found) if bool(torch.isfinite(found).all()) else experiment


def _of_each(
    name: str, step: Callable[[Model, Experiment], Finding], model: Model, given: Sequence[Experiment]
) -> Finding:
    """The finding of the first experiment, or of the first that is worse."""
    worst: Finding | None = None
    for one in given:
        model.drive(one.inputs)
        found = _guarded(name, lambda one=one: step(model, one))  # type: ignore[misc]
        if worst is None or ORDER.index(found.status) > ORDER.index(worst.status):
            named = len(given) > 1 and found.status == FAILED
            worst = replace(found, sentence=f"{one.name}: {found.sentence}") if named else found
    return worst if worst is not None else Finding(name, FAILED, "there is no experiment. Give one.")


def shapes(model: Model, experiment: Experiment) -> Finding:
    """Rates and observations of one state, and of a batch, have the shapes that they must have."""
    like = next(iter(model.parameters()), experiment.initial)
    one, t = experiment.initial.to(like), torch.tensor(float(experiment.initial_time)).to(like)
    wanted = tuple(experiment.train.observations.shape[1:])
    answer(model, experiment)
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


def unknowns(model: Model, experiment: Experiment) -> Finding:
    """Unknowns that a fit identifies and trains, with the experiment's constants."""
    ready(model)
    agree(model, [experiment])
    known, initial = model.unknowns, int(experiment.initial_free.sum())
    parts = [", ".join(name for name in model.free() if known[name].listed), trained(model)]
    parts += [f"{initial} free initial value{'s' if initial > 1 else ''}"] if initial else []
    text = "; ".join(part for part in parts if part)
    return Finding("unknowns", PASSED if text else FAILED, text or "nothing is free. Release an unknown to fit it.")


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
        remedy = f"Use {STEPS[steps[0]]} (physid.modelling.smooth)."
        text = f"{', '.join(steps)}: no slope, so no gradient comes through. {remedy}"
        return Finding("smoothness", FAILED, text)
    if kinks:
        remedy = f"Use {KINKS[kinks[0]]} (physid.modelling.smooth)."
        text = f"{', '.join(kinks)}: its slope jumps, and fits may end in several optima. {remedy}"
        return Finding("smoothness", WARNING, text)
    return Finding("smoothness", PASSED, f"{len(recorder.names)} kinds of operation, none with a corner")


def solves(model: Model, experiment: Experiment, integrator: Integrator) -> Finding:
    """The model can be solved over the data from the guess."""
    vector = ParameterVector(model, experiment)
    (found,) = simulate(vector, [vector.get()], experiment.train.times, integrator, sensitivities=True)
    if not found.solution.ok:
        return Finding("solve", FAILED, f"{found.solution.message} Start from other values, or check the field.")
    cost = found.solution.statistics
    text = f"{cost.accepted} steps, {cost.evaluations} evaluations, {cost.seconds:.2g} s"
    early = early_reads(vector, vector.get())
    return Finding("solve", PASSED, f"{text}. {early}" if early else text)


def gradient(model: Model, given: Sequence[Experiment], integrator: Integrator) -> Finding:
    """The exact sensitivities agree with finite differences at the guess, as far as these are accurate.

    A difference counts where it is beyond the solver's tolerance over the step, and beyond three times the change of
    the finite differences themselves when the step grows fourfold.
    """
    vector = vector_of(model, given)
    x = vector.get()
    worst, where, unclear = 0.0, "", list[str]()
    rtol = float(torch.as_tensor(integrator.rtol).max())
    for e, columns in enumerate(vector.columns):
        times = given[e].train.times
        (exact,) = simulate(vector, [x], times, integrator, sensitivities=True, experiment=e)
        for name, move in moves(vector, x, columns).items():
            slope = exact.slopes @ move
            numeric = _difference(vector, x, move, STEP, times, integrator, e)
            size = max(float(np.linalg.norm(slope)), float(np.linalg.norm(numeric)))
            away = float(np.linalg.norm(slope - numeric))
            if away <= max(AGREE * size, NOISE * rtol * float(np.linalg.norm(exact.mean)) / STEP):
                worst = max(worst, away / size if away <= AGREE * size and size > 0 else 0.0)
                continue
            coarse = _difference(vector, x, move, 4 * STEP, times, integrator, e)
            if away <= 3.0 * float(np.linalg.norm(coarse - numeric)):
                unclear.append(name)
            elif not away / size <= worst:
                worst, where = away / size, name
    vector.put(x)
    if where:
        return Finding(
            "gradient",
            FAILED,
            f"sensitivities by {where} are off by {worst:.1g} from finite differences. Look for a corner or a "
            "jump in the field, for detach() or numpy in it, or take a tighter tolerance.",
        )
    if unclear:
        names = ", ".join(dict.fromkeys(unclear))
        text = f"finite differences by {names} change with their step, so that they show nothing; others agree."
        return Finding("gradient", WARNING, text)
    return Finding("gradient", PASSED, f"within {worst:.1g} of finite differences, by {len(x)} unknowns")


def _difference(
    vector: ParameterVector, x: Array, move: Array, step: float, times: Tensor, integrator: Integrator, experiment: int
) -> Array:
    """The central difference [T, M] of the observations along a `move` [Q], of so long a step."""
    moved = [x + sign * step * move for sign in (1.0, -1.0)]
    ends = [simulate(vector, [one], times, integrator, True, experiment)[0].mean for one in moved]
    return np.asarray((ends[0] - ends[1]) / (2 * step))


def identifiability(model: Model, given: Sequence[Experiment], integrator: Integrator) -> Finding:
    """The data determine every unknown near the guess: the scaled sensitivities of all experiments have full rank.

    Where they have not at the guess itself, as where an unknown multiplies a state that begins at zero, points near by
    count.
    """
    vector = vector_of(model, given)
    x = vector.get()
    found = determined(vector, x, integrator)
    random, moved = np.random.default_rng(0), found
    for _ in range(NEARBY if found.null_directions else 0):
        other = determined(vector, x + AWAY * random.standard_normal(len(x)), integrator)
        moved = other if len(other.null_directions) < len(moved.null_directions) else moved
    vector.put(x)
    if moved.null_directions:
        seen = f" They do determine {'; '.join(f'{name} ({value:.4g} there)' for name, value in moved.identifiable)}."
        where = "" if moved is found else "near the guess, "
        return Finding(
            "identifiability",
            FAILED,
            f"{where}the data do not determine {'; nor '.join(moved.null_directions)}. Fix or tie one unknown of each, "
            f"give it a prior, or measure more.{seen if moved.identifiable else ''}",
        )
    if found.null_directions:
        text = f"at the guess itself the data do not determine {'; nor '.join(found.null_directions)}; near by they do."
        return Finding("identifiability", WARNING, text)
    beside = sum(weights(vector))
    count = len(x) - beside
    text = f"rank {count} of {count}, smallest to largest singular value {found.ratio:.1g}"
    text = text if not beside else f"{text}, beside {beside} weights"
    return Finding("identifiability", PASSED, text)


def _guarded(name: str, work: Callable[[], Finding]) -> Finding:
    """The work's finding; an error of the user's code is a failure, with its place."""
    try:
        with contained():
            return work()
    except PhysidError as error:
        return Finding(name, FAILED, str(error))
    except Exception as error:  # the model is the user's code: whatever it raises is what was found
        return Finding(name, FAILED, blame(error) or _raised(error))


def _raised(error: Exception) -> str:
    """The error, and the line that raised it."""
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
