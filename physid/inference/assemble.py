"""Builds the least-squares problem from a model, experiments and the options of a fit, and describes it as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from physid.data.experiment import Experiment
from physid.errors import InputError, ModelError, unknown_name
from physid.inference import noise_models
from physid.inference.fit_options import OPTIONS, FitOptions, read
from physid.inference.noise_groups import default_noise
from physid.inference.options import FitPlan, adapted, default_integrator
from physid.inference.parameters import vector_of
from physid.inference.probing import worth_probing
from physid.inference.problem import Problem
from physid.modelling.declared import declared_at
from physid.modelling.model import Model, keyword_names
from physid.modelling.state_sizes import fitted
from physid.ode import Integrator

# the options that a model's recipe may say; the others are fields of the integrator
RECIPE = [name for name, one in OPTIONS.items() if not one.solve and name not in ("fix", "free", "tie")]


def prepare(model: Model, options: FitOptions) -> None:
    """Release, fix and tie unknowns of `model`; InputError for one that is named twice or that the model lacks."""
    fix, free, tie = options.fix or {}, options.free, options.tie or {}
    named = [*free, *fix, *tie]
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise InputError(f"{', '.join(twice)} is to be more than one of fixed, free and tied. Name it once.")
    for name in free:
        model.release(name)
    for name, value in fix.items():
        model.untie(name)
        model.fix(name, value)
    for name, how in tie.items():
        model.tie(name, how)


def suited(options: FitOptions, model: Model, experiment: Experiment) -> FitOptions:
    """The options of a fit, and where they say nothing, what suits the model and the data.

    The model's `recipe` may name options of a fit, and changes to the default Integrator as the experiment does; under
    a protocol of the paper it does not count, and a strategy belongs to lm alone. Without an integrator, what is asked
    of solver and tolerances changes that which would be taken, and leaves the rest as it suits.
    """
    changes, said = {}, {}
    lm = (options.optimizer or "lm") == "lm" and options.protocol in (None, "default")
    for name, value in model.recipe.items() if options.protocol in (None, "default") else ():
        if name not in RECIPE:
            changes[name] = value
        elif getattr(options, name) is None and (name != "strategy" or lm):
            said[name] = value
    options = replace(options, **said)
    changes |= {**experiment.integrator, **options.of_solve()}
    lm = (options.optimizer or "lm") == "lm" and options.protocol in (None, "default")
    unsaid = lm and options.integrator is None and options.probes is None
    if unsaid and not worth_probing(model, experiment, changes):
        changes = {"probes": 0} | changes
    if options.integrator is None and (changes or lm):
        chosen = adapted(default_integrator(options.optimizer, options.protocol), changes)
        options = replace(options, integrator=chosen)
    return options


def agree(model: Model, experiments: Sequence[Experiment]) -> None:
    """Errors: InputError for a constant that an experiment was made with, where the model was left with another one.

    A value that the model's constructor was given counts as meant.
    """
    _sound_recipe(model)
    names = [name for name in keyword_names(type(model)) if name not in type(model).unknowns]
    given = {} if model._made is None else model._made.arguments
    for one in experiments:
        for name, value in one.constants.items():
            if name in names and name not in given and hasattr(model, name) and not _same(getattr(model, name), value):
                cls = type(model).__name__
                raise InputError(
                    f"experiment {one.name} has {name}={value!r}, but the {cls} to be fitted has "
                    f"{getattr(model, name)!r}. Make it for the experiment, physid.models.build(experiment, "
                    f"model={cls}), or give it the value that you mean, {cls}({name}=...)."
                )


def _sound_recipe(model: Model) -> None:
    """ModelError for a recipe of names and values that `fit` and Integrator do not have."""
    known, recipe, cls = [*RECIPE, *(one.name for one in fields(Integrator))], model.recipe, type(model)
    for name in recipe:
        if name not in known:
            raise ModelError(
                f"{declared_at(cls, 'recipe')}{unknown_name(f'keyword in {cls.__name__}.recipe', name, RECIPE)}"
            )
    try:
        adapted(default_integrator(), {name: value for name, value in recipe.items() if name not in RECIPE})
        for name in RECIPE:
            if recipe.get(name) is not None:
                read(name, recipe[name], name)
    except (TypeError, ValueError, AttributeError) as error:
        what = f"{cls.__name__}.recipe is {dict(recipe)!r}: {str(error).rstrip('.')}"
        raise ModelError(f"{declared_at(cls, 'recipe')}{what}. Give values as fit takes them.") from None


def _same(a: Any, b: Any) -> bool:
    try:
        return bool(np.array_equal(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)))
    except (TypeError, ValueError):
        return bool(a == b)


def assemble(model: Model, experiments: Sequence[Experiment], plan: FitPlan) -> Problem:
    """The least-squares problem of a plan: noise as asked for, else the data's, the model's, or by channels.

    Tolerances follow the sizes of the states; the search takes the integrator of the problem.
    """
    word = noise_model(model, experiments, plan)
    noise = default_noise(experiments, model) if word is None else noise_models.read(word, plan.loss)
    problem = Problem(vector_of(model, experiments), plan.integrator, noise, plan.loss_scale)
    problem.integrator = fitted(plan.integrator, model, experiments, noise.logarithms)
    problem.patience = problem.integrator.most_steps
    return problem


def noise_model(model: Model, experiments: Sequence[Experiment], plan: FitPlan) -> str | None:
    """The name of the noise model: what was asked for, else what the data are known to have, else the model's.

    None by default, which is by the channels (see `physid.inference.noise_groups`).

    Errors: InputError for experiments that are known to differ in it.
    """
    if plan.optimizer != "lm" or (plan.loss != "linear" and plan.noise is None):
        return "equal"
    if plan.noise:
        return str(plan.noise)
    known = list(dict.fromkeys(one.noise for one in experiments if one.noise))
    if len(known) > 1:
        said = ", ".join(f"{one.name} has {one.noise}" for one in experiments if one.noise)
        raise InputError(f"the experiments' noise models differ: {said}. Choose one: noise=, --noise-model.")
    return known[0] if known else model.noise


def described(problem: Problem, plan: FitPlan) -> dict[str, Any]:
    """The plan as data."""
    experiment, like = problem.experiment, problem.vector.like
    noise = "known noise" if experiment.sigma else "spread of the data"
    weight = "" if plan.schedule.discount == 1.0 else f" {plan.schedule.discount:g}^t"
    objective = f"sum over what was measured of ((predicted - measured) / {problem.scale:.6g})^2, scaled by the {noise}"
    if problem.noise.estimated:
        every = "for every channel"
        if problem.noise.groups:
            parts: dict[int, list[str]] = {}
            for group, name in zip(problem.noise.groups, experiment.channels, strict=True):
                parts.setdefault(group, []).append(name)
            every = f"each for {'; '.join(', '.join(names) for names in parts.values())}, by units and sizes"
        objective = f"-log likelihood, {problem.noise.name} noise with a sigma {every}"
    elif plan.loss != "linear":
        error = f"((predicted - measured) / {problem.scale:.6g})^2"
        objective = f"sum over what was measured of {plan.loss}({error})"
    if not plan.least_squares:
        over = "sum over channels, mean over time" if experiment.metric == "sum" else "mean over what was measured"
        objective = f"{over} of{weight} (predicted - measured)^2"
    return {
        "experiment": experiment.name,
        "options": dict(experiment.options),
        **plan.settings(),
        "noise": str(problem.noise),
        "noise_groups": list(problem.noise.groups),
        "ties": {name: tie.text for name, tie in problem.vector.model.ties.items()},
        "objective": objective,
        "experiments": [one.name for one in problem.experiments],
        "observations": problem.count,
        "dtype": str(like.dtype).removeprefix("torch."),
        "device": str(like.device),
        "engine_note": problem.engine_note,
    }
