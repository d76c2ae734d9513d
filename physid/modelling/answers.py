"""Answer check: shapes and values of dy/dt, observations, derived quantities and parts, tested once before use.

Nothing of this is looked at again while a model is solved.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor

from physid.data.experiment import Experiment
from physid.errors import InputError, ModelError
from physid.modelling.address import contained
from physid.modelling.declared import declared_at, place
from physid.modelling.model import Derived, Model

M = TypeVar("M", bound=Model)


def made(cls: type[M], **values: Any) -> M:
    """The model cls(**values).

    Errors: ModelError where its constructor needs more than that, ends the program, or leaves no model behind.
    """
    constructor = cls.__init__
    try:
        inspect.signature(constructor).bind(None, **values)
    except TypeError as error:
        raise ModelError(
            f"{place(constructor)}{cls.__name__}.__init__ has arguments that nothing gives: {error}. Give them "
            "defaults, or make them unknowns of the class."
        ) from None
    with contained():
        model = cls(**values)
        model._parameters, model._modules  # noqa: B018 (raises where the constructor left them out)
    return model


def observed(model: Model, y: Tensor) -> Tensor:
    """observe(y) of states [N, *state_shape]; ModelError for what is no tensor [N, ...] of real numbers."""
    with contained(), torch.no_grad():
        seen = model.observe(y)
    shaped = isinstance(seen, Tensor) and seen.ndim > 0 and seen.shape[0] == y.shape[0] and seen.numel() > 0
    if not shaped or seen.is_complex():
        raise _wrong(model, "observe", seen, f"real numbers [{y.shape[0]}, ...] for states {list(y.shape)}")
    return seen


def answer(model: Model, experiment: Experiment) -> None:
    """See that a model answers what a fit will ask it, at the start of an experiment.

    Errors: ModelError for what is returned of another kind, and for constants of `continuation` that there are not.
    """
    like = next(iter(model.parameters()), experiment.initial)
    for name in model.continuation:
        value = getattr(model, name, None)
        if not isinstance(value, int | float):
            found = "has none" if value is None else f"has {type(value).__name__} for it"
            where = declared_at(type(model), "continuation")
            raise ModelError(
                f"{where}{type(model).__name__}.continuation leads the constant '{name}', but the model {found}: a "
                f"number is needed. Set {name} = ... in the class, or correct the name."
            )
    y, t = experiment.initial.to(like), torch.tensor(float(experiment.initial_time)).to(like)
    inputs = experiment.inputs
    if tuple(model.state_shape) != tuple(experiment.initial.shape) or (model.input_names and inputs is None):
        return  # both are reported elsewhere
    driven = model.reading(inputs.select(model.input_names)) if inputs is not None and model.input_names else None
    with contained(), torch.no_grad(), driven or nullcontext():
        rates(model, t, y)
        parts = model.parts(t, y.clone())
        if not isinstance(parts, Mapping):
            raise _wrong(model, "parts", parts, "dy/dt by name, a mapping")
        for value in parts.values():
            _rates(model, "parts", value, y)
        _derived(model, model.derived())
    observed(model, y[None])


def rates(model: Model, t: Tensor, y: Tensor) -> None:
    """See that field(t, y) is dy/dt of states [..., *state_shape]; ModelError otherwise."""
    with contained(), torch.no_grad():
        _rates(model, "field", model.field(t, y.clone()), y)


def _rates(model: Model, method: str, value: object, y: Tensor) -> None:
    """ModelError where a value is no dy/dt of states y."""
    if isinstance(value, Tensor) and value.shape == y.shape and not value.is_complex():
        return
    found = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    if isinstance(value, Tensor) and value.is_complex():
        found = f"complex numbers {list(value.shape)}"
    given = f"{len(y)} states" if y.ndim > len(model.state_shape) else "a state"
    raise ModelError(
        f"{_place(model, method)}{type(model).__name__}.{method} returns {found} for {given} {list(y.shape)}; "
        "a tensor of that shape, of real numbers, is needed. Work on the last axis: y.unbind(-1), "
        "torch.stack((...), -1)."
    )


def _derived(model: Model, found: object) -> None:
    """ModelError where quantities are not what `derived` returns."""
    if not isinstance(found, Mapping):
        raise _wrong(model, "derived", found, "a mapping of names to physid.Derived")
    for name, one in found.items():
        sound = isinstance(name, str) and isinstance(one, Derived) and isinstance(one.unit, str)
        if not sound or not isinstance(one.value, Tensor) or not one.value.is_floating_point():
            said = f"{name!r}: {_kind(one)}"
            raise _wrong(model, "derived", said, "names with physid.Derived(value, unit), its value a real tensor")


def _wrong(model: Model, method: str, value: object, allowed: str) -> InputError:
    """The error for what a method returns."""
    found = value if isinstance(value, str) else _kind(value)
    return ModelError(
        f"{_place(model, method)}{type(model).__name__}.{method} returns {found}: expected {allowed}. Return that."
    )


def _place(model: Model, method: str) -> str:
    """File and line of a method; empty for one of torch or physid."""
    code = getattr(type(model), method)
    return "" if str(getattr(code, "__module__", "")).split(".")[0] in ("physid", "torch") else place(code)


def _kind(value: object) -> str:
    if isinstance(value, Derived):
        return f"Derived of {_kind(value.value)}"
    return f"{list(value.shape)} ({value.dtype})" if isinstance(value, Tensor) else f"{value!r:.60}"
