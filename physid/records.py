"""Records: dataclasses of numbers, texts, arrays and other records, as JSON data and back by the types of fields."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Iterable, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

T = TypeVar("T")
FORMERLY = "formerly"  # the key of the former name of a field in its metadata


def record_data(value: Any) -> Any:
    """`value` as JSON can say it without loss: records as mappings, arrays as lists, infinity as {"float": "inf"}."""
    if dataclasses.is_dataclass(value):
        return {one.name: record_data(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): record_data(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [record_data(part) for part in value]
    if isinstance(value, np.ndarray | np.generic):
        return record_data(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    return value


def record_of(kind: type[T], data: Any) -> T:
    """The record of `kind` from what `record_data` gave; fields that are not in it are as by default.

    Errors: TypeError for a value of another kind than the field's, and for a field that is missing.
    """
    return kind(**fields_of(kind, data, _hints(kind)))  # type: ignore[arg-type]  # every class can be hashed


def fields_of(kind: type, data: Any, names: Iterable[str]) -> dict[str, Any]:
    """Those fields of a record of `kind`, by name, that are in the data. Errors: TypeError, as of `record_of`."""
    if not isinstance(data, Mapping):
        raise TypeError(f"{kind.__name__} is {str(data)[:40]!r}, not a mapping")
    hints = _hints(kind)
    former = {new: old for old, new in _former(kind).items()}
    keys = {name: name if name in data else former.get(name, name) for name in names}
    return {name: _read(hints[name], data[key], name) for name, key in keys.items() if key in data}


def formerly(name: str) -> dict[str, str]:
    """Metadata of a field that once had another `name`: older data have it so, and so does older code."""
    return {FORMERLY: name}


def former_field(record: Any, name: str) -> Any:
    """The field of a record that once had this `name`, for its `__getattr__`. Errors: AttributeError for no such."""
    kind: Any = type(record)
    new = _former(kind).get(name)
    if new is None:
        raise AttributeError(f"{kind.__name__} has no attribute '{name}'")
    warnings.warn(f"{kind.__name__}.{name} is now {new}. Use that name.", DeprecationWarning, stacklevel=3)
    return getattr(record, new)


@cache
def _former(kind: Any) -> dict[str, str]:
    """The fields of a record that were renamed, by their former names."""
    return {one.metadata[FORMERLY]: one.name for one in dataclasses.fields(kind) if FORMERLY in one.metadata}


@cache
def _hints(kind: Any) -> dict[str, Any]:
    """The types of a record's fields by name."""
    hints = get_type_hints(kind)
    return {one.name: hints[one.name] for one in dataclasses.fields(kind)}


def _read(hint: Any, data: Any, name: str) -> Any:
    """A value of the type `hint` from its data."""
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        if data is None and NoneType in inner:
            return None
        return _read(next(one for one in inner if one is not NoneType), data, name)
    if dataclasses.is_dataclass(kind):
        return record_of(kind, data)  # type: ignore[arg-type]  # a class, as every hint
    if kind is float and data is None:
        return math.nan  # as older runs have it
    value = _numbers(data)
    if kind is np.ndarray:
        return np.array(value, dtype=get_args(inner[1])[0] if len(inner) > 1 else None)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    wanted = {tuple: list}.get(kind, kind)
    if wanted is not Any and (not isinstance(value, wanted) or (isinstance(value, bool) and kind is int)):
        raise TypeError(f"{name} is {str(data)[:40]!r}, not of the kind {getattr(kind, '__name__', kind)}")
    if kind is tuple:
        return tuple(_read(one, part, name) for one, part in zip(_each(inner, value), value, strict=True))
    if inner and kind is list:
        return [_read(inner[0], part, name) for part in value]
    if inner and isinstance(value, Mapping):
        return {key: _read(inner[1], part, name) for key, part in value.items()}
    return value


def _each(inner: tuple[Any, ...], value: list[Any]) -> tuple[Any, ...]:
    """The types of the parts of a tuple."""
    return inner[:1] * len(value) if len(inner) == 2 and inner[1] is Ellipsis else inner or (Any,) * len(value)


def _numbers(data: Any) -> Any:
    """JSON data with the numbers that `record_data` wrote as texts."""
    if isinstance(data, Mapping):
        return float(data["float"]) if data.keys() == {"float"} else {k: _numbers(part) for k, part in data.items()}
    return [_numbers(part) for part in data] if isinstance(data, list) else data
