"""Values as data that JSON can say, and back without loss: numbers, arrays, tensors, and the engine's frozen parts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from physid.errors import InputError
from physid.inference.search.optimise import STATES
from physid.ode import ACA, PID, Adjoint, Fixed, Forward, Integrator, Naive, Probes, Tableau
from physid.ode.request import Limits

KNOWN = (ACA, PID, Adjoint, Fixed, Forward, Limits, Naive, Probes, Tableau, *STATES)
PARTS: Mapping[str, Any] = {cls.__name__: cls for cls in KNOWN}
FORMER = {"Adjoint": {"compiled"}, "Iterate": {"growth"}}  # fields of parts that older runs have
UNSAID = "unsaid"  # the key of what is no data: a function, an object of the user's own


def encode(value: Any) -> Any:
    """`value` as JSON can say it. What is no data becomes {"unsaid": what it is}, which `decode` refuses."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, np.generic):
        return encode(value.item())
    if isinstance(value, list):
        return [encode(part) for part in value]
    if isinstance(value, tuple):
        return {"tuple": [encode(part) for part in value]}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"mapping": {key: encode(part) for key, part in value.items()}}
    if isinstance(value, Tensor) and not value.is_complex():
        kind = str(value.dtype).removeprefix("torch.")
        return {"tensor": encode(value.detach().cpu().tolist()), "dtype": kind, "shape": list(value.shape)}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return {"array": encode(value.tolist()), "dtype": value.dtype.name, "shape": list(value.shape)}
    if type(value) is PARTS.get(type(value).__name__):
        return {"part": type(value).__name__, "fields": _fields(value)}
    return {UNSAID: getattr(value, "__qualname__", type(value).__name__)}


def _fields(value: Any) -> dict[str, Any]:
    """The fields of a part but for what is transient."""
    names = [one.name for one in dataclasses.fields(value) if not one.metadata.get("transient")]
    return {name: encode(getattr(value, name)) for name in names}


def decode(data: Any) -> Any:
    """The value of what `encode` gave. Errors: InputError for what was no data."""
    if isinstance(data, list):
        return [decode(part) for part in data]
    if not isinstance(data, dict):
        return data
    if UNSAID in data:
        raise InputError(f"the run holds {data[UNSAID]} by name only: code of the user's own is not kept. Fit again.")
    if "float" in data:
        return float(data["float"])
    if "tuple" in data:
        return tuple(decode(part) for part in data["tuple"])
    if "mapping" in data:
        return {key: decode(part) for key, part in data["mapping"].items()}
    if "tensor" in data:
        return torch.tensor(decode(data["tensor"]), dtype=getattr(torch, data["dtype"])).reshape(data["shape"])
    if "array" in data:
        return np.array(decode(data["array"]), dtype=data["dtype"]).reshape(data["shape"])
    if "part" in data:
        kind, fields = data["part"], data["fields"].items()
        return PARTS[kind](**{name: decode(part) for name, part in fields if name not in FORMER.get(kind, ())})
    return {key: decode(part) for key, part in data.items()}  # as older runs have it


def unsaid(data: Any, name: str = "") -> Iterator[str]:
    """The places in encoded `data` that hold no data, each with what stands there, as in "norm (mine)"."""
    if isinstance(data, dict) and UNSAID in data:
        yield f"{name} ({data[UNSAID]})"
    elif isinstance(data, dict):
        for key, part in data.items():
            inner = key if key not in ("fields", "mapping", "tuple") else ""
            yield from unsaid(part, ".".join(filter(None, (name, inner))))
    elif isinstance(data, list):
        for part in data:
            yield from unsaid(part, name)


def _nested(value: Any) -> Any:
    """Numbers nested in tuples, by which a plan of a solve can be found again."""
    return tuple(map(_nested, value)) if isinstance(value, list) else float(value)


def integrator_data(integrator: Integrator) -> dict[str, Any]:
    """Every field of an integrator as data."""
    return _fields(integrator)


def integrator_of(data: Mapping[str, Any]) -> Integrator:
    """The integrator of `integrator_data`; a field that an older run does not have is as by default."""
    known = [one.name for one in dataclasses.fields(Integrator)]
    found = {name: decode(data[name]) for name in known if name in data}
    for name in ("rtol", "atol"):
        if isinstance(found.get(name), list):
            found[name] = _nested(found[name])
    return Integrator(**found)
