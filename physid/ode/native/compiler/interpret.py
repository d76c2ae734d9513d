"""A program's numbers at given inputs, by NumPy: what the compiled code computes, and how far rounding moves it.

To compare without a compiler, and to judge a difference: where terms cancel, the error that rounding leaves is large
beside the result. Its bound runs along with every operation, e(y) = u |y| + sum_i |dy/da_i| e(a_i), u the unit roundoff
(Wilkinson, Rounding errors in algebraic processes, 1963).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physid.ode.native.compiler.builder import Builder
from physid.ode.native.compiler.derive import reachable, reverse
from physid.ode.native.compiler.ir import PARAMS, SHIFT, STATE, Ids, Map, Number, Pack
from physid.ode.native.compiler.lower import Program
from physid.ode.native.compiler.scalars import SCALARS

Reals = NDArray[Any]
_erf = np.vectorize(math.erf, otypes=[float])


def _choose(condition: Any, a: Any, b: Any) -> Any:
    return np.where(np.not_equal(condition, 0), a, b)


def _remainder(a: Any, b: Any) -> Any:
    rest = np.fmod(a, b)
    return np.where((rest != 0) & ((b < 0) != (rest < 0)), rest + b, rest)


def _quotient(a: Any, b: Any) -> Any:
    rest = np.fmod(a, b)
    found = (a - rest) / b - 1.0 * ((rest != 0) & ((b < 0) != (rest < 0)))
    whole = np.floor(found)
    rounded = np.where(found - whole > 0.5, whole + 1, whole)
    return np.where(b == 0, a / b, np.where(found == 0, np.copysign(0.0, a / b), rounded))


NUMERIC: dict[str, Callable[..., Any]] = {
    **{name: getattr(np, name) for name in ("sqrt", "exp", "expm1", "log", "log1p", "sin", "cos", "tan", "sinh")},
    **{name: getattr(np, name) for name in ("cosh", "tanh", "floor", "ceil", "trunc", "fmod")},
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    "recip": np.reciprocal,
    "root": np.sqrt,
    "still": np.positive,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "erf": _erf,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "abs": np.abs,
    "sign": lambda x: (x > 0) * 1.0 - (x < 0),
    "round": np.rint,
    "pow": np.power,
    "max": lambda a, b: _choose((b != b) | (b > a), b, a),
    "min": lambda a, b: _choose((b != b) | (b < a), b, a),
    "fmax": lambda a, b: _choose((b != b) | (a >= b), a, b),
    "fmin": lambda a, b: _choose((b != b) | (a <= b), a, b),
    "atan2": np.arctan2,
    "hypot": np.hypot,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "logit": lambda x: np.log(x / (1 - x)),
    "xlogy": lambda a, b: _choose(b != b, b, _choose(np.equal(a, 0), 0.0, a * np.log(b))),
    "remainder": _remainder,
    "quotient": _quotient,
    "carry": lambda a, b, c: a,
    "lt": lambda a, b: (a < b) * 1.0,
    "le": lambda a, b: (a <= b) * 1.0,
    "eq": lambda a, b: (a == b) * 1.0,
    "ne": lambda a, b: (a != b) * 1.0,
    "and": lambda a, b: np.not_equal(a, 0) * np.not_equal(b, 0) * 1.0,
    "or": lambda a, b: (np.not_equal(a, 0) | np.not_equal(b, 0)) * 1.0,
    "not": lambda a: np.equal(a, 0) * 1.0,
    "select": _choose,
}


@dataclass
class Numbers:
    """The values of the nodes of a program and the bounds of their errors, for values of its inputs by name.

    Without `judge` the bounds are left zero.
    """

    b: Builder
    inputs: Mapping[str, Reals]
    dtype: type = np.float64
    judge: bool = True

    def __post_init__(self) -> None:
        """Nothing but the inputs is known yet."""
        self.unit = float(np.finfo(self.dtype).eps)
        self.scalars: dict[int, tuple[Any, Any]] = {}
        self.buffers: dict[int, tuple[Reals, Reals]] = {}
        for place, buffer in enumerate(self.b.buffers):
            if buffer.name in self.inputs:
                given: Reals = np.asarray(self.inputs[buffer.name], self.dtype).reshape(-1)
                self.buffers[place] = (given, np.zeros_like(given))

    def of(self, ids: Ids) -> tuple[Reals, Reals]:
        """Values and error bounds of numbers, in the shape of `ids`; KeyError for inputs that are not given."""
        with np.errstate(all="ignore"):
            for place in reachable(self.b, ids, ()):
                self._compute(place)
        return self._read(ids)

    def _read(self, ids: Ids) -> tuple[Reals, Reals]:
        found = [self._one(number) for number in ids.ravel().tolist()]
        values: Reals = np.array([value for value, _ in found], self.dtype).reshape(ids.shape)
        bounds: Reals = np.array([bound for _, bound in found], self.dtype).reshape(ids.shape)
        return values, bounds

    def _one(self, number: int) -> tuple[Any, Any]:
        buffer = number >> SHIFT
        if buffer:
            values, bounds = self.buffers[buffer - 1]
            place = number & (1 << SHIFT) - 1
            return values[place], bounds[place]
        literal = self.b.value(number)
        return self.scalars[number] if literal is None else (self.dtype(literal), 0.0)

    def _compute(self, place: int) -> None:
        node = self.b.nodes[place]
        if isinstance(node, Number):
            if node.op != "literal" and place not in self.scalars:
                self.scalars[place] = self._applied(node.op, [self._one(number) for number in node.args])
        elif node.buffer in self.buffers:
            return
        elif isinstance(node, Pack):
            self.buffers[node.buffer] = self._read(node.ids)
        elif isinstance(node, Map):
            pair = self._applied(node.op, [self._read(view.ids(node.shape)) for view in node.operands])
            values, bounds = (np.broadcast_to(part, node.shape).reshape(-1) for part in pair)
            self.buffers[node.buffer] = (values, bounds)
        else:
            rows, columns, inner = node.shape
            (a, da), (c, dc) = self._read(node.a.ids((rows, inner))), self._read(node.b.ids((inner, columns)))
            size = np.abs(a) @ np.abs(c)
            bounds = inner * self.unit * size + da @ np.abs(c) + np.abs(a) @ dc
            self.buffers[node.buffer] = ((a @ c).reshape(-1), bounds.reshape(-1))

    def _applied(self, op: str, given: list[tuple[Any, Any]]) -> tuple[Any, Any]:
        args = tuple(value for value, _ in given)
        value = NUMERIC[op](*args)
        value = value.astype(self.dtype) if isinstance(value, np.ndarray) else self.dtype(value)
        if not self.judge:
            return value, 0.0
        bound = self.unit * np.abs(value)
        for rule, (_, error) in zip(SCALARS[op].rules, given, strict=True):
            if rule is not None and np.any(error):
                bound = bound + np.nan_to_num(np.abs(rule(_numeric, value, args, 1.0)) * error, nan=0.0, posinf=np.inf)
        return value, bound


def _numeric(op: str, *args: Any) -> Any:
    return NUMERIC[op](*(np.float64(arg) if isinstance(arg, float) else arg for arg in args))


@dataclass(frozen=True)
class Products:
    """f [N] and w^T df by state [N], captured numbers [RAW] and time [1], each with the bounds of its rounding."""

    k: tuple[Reals, Reals]
    gy: tuple[Reals, Reals]
    graw: tuple[Reals, Reals]
    gt: tuple[Reals, Reals]


def products(program: Program, t: Reals, y: Reals, raw: Reals, c: Reals, w: Reals, dtype: type) -> Products:
    """The functions of a program at one point."""
    b = program.b
    seeds = _input(b, "w", program.k.size)
    found = reverse(b, program.k, seeds, (), STATE | PARAMS)
    numbers = Numbers(b, {"t": t, "y": y, "p": raw, "c": c, "w": w}, dtype)
    parts = (program.k, *(found.of(ids) for ids in (program.y, program.raw, program.t)))
    return Products(*(numbers.of(ids) for ids in parts))


def _input(b: Builder, name: str, size: int) -> Ids:
    """The ids of an input, which is made once."""
    for place, buffer in enumerate(b.buffers):
        if buffer.name == name:
            return b.of_buffer(place)
    return b.input(name, size, STATE)
