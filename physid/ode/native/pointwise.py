"""Operations element by element: arithmetic, comparisons, activations."""

from __future__ import annotations

import math
from typing import Any

from physid.ode.native.builder import Builder
from physid.ode.native.ir import Ids
from physid.ode.native.table import TABLE, Rule, array, real, rule
from physid.ode.native.trace import Unsupported


def _pointwise(op: str) -> Rule:
    return lambda b, *args: b.map(op, *(real(b, a) for a in args))


for _name in [
    "neg",
    "sqrt",
    "exp",
    "expm1",
    "log",
    "log1p",
    "sin",
    "cos",
    "tan",
    "sinh",
    "cosh",
    "tanh",
    "asin",
    "acos",
    "atan",
    "asinh",
    "acosh",
    "atanh",
    "erf",
    "sigmoid",
    "sign",
    "floor",
    "ceil",
    "trunc",
    "abs",
    "mul",
    "pow",
    "atan2",
    "lt",
    "le",
    "eq",
    "ne",
    "fmod",
]:
    TABLE[_name] = _pointwise(_name)
for _name, _op in {
    "reciprocal": "recip",
    "maximum": "max",
    "minimum": "min",
    "fmax": "max",
    "fmin": "min",
    "sgn": "sign",
    "logical_and": "and",
    "logical_or": "or",
    "logical_not": "not",
    "bitwise_and": "and",
    "bitwise_or": "or",
    "bitwise_not": "not",
    "logical_xor": "ne",
}.items():
    TABLE[_name] = _pointwise(_op)


EXACT = 40.0  # log(1 + exp(x)) - x = exp(-x) is below the resolution of x from here on


@rule("gt")
def _gt(b: Builder, x: Any, y: Any) -> Ids:
    return b.map("lt", real(b, y), x)


@rule("ge")
def _ge(b: Builder, x: Any, y: Any) -> Ids:
    return b.map("le", real(b, y), x)


@rule("add")
def _add(b: Builder, x: Any, y: Any, alpha: float = 1) -> Ids:
    return b.map("add", real(b, x), b.map("mul", real(b, y), float(alpha)))


@rule("sub")
def _sub(b: Builder, x: Any, y: Any, alpha: float = 1) -> Ids:
    return b.map("sub", real(b, x), b.map("mul", real(b, y), float(alpha)))


@rule("rsub")
def _rsub(b: Builder, x: Any, y: Any, alpha: float = 1) -> Ids:
    return _sub(b, y, x, alpha)


@rule("div")
def divided(b: Builder, x: Any, y: Any, rounding_mode: str | None = None) -> Ids:
    """The quotient of two arrays, as a product with the reciprocal, which derivatives share."""
    quotient = b.map("mul", real(b, x), b.map("recip", real(b, y)))
    return quotient if rounding_mode is None else b.map({"floor": "floor", "trunc": "trunc"}[rounding_mode], quotient)


@rule("remainder")
def _remainder(b: Builder, x: Any, y: Any) -> Ids:
    x, y = real(b, x), real(b, y)
    return b.map("sub", x, b.map("mul", y, b.map("floor", b.map("mul", x, b.map("recip", y)))))


@rule("rsqrt")
def _rsqrt(b: Builder, x: Ids) -> Ids:
    return b.map("sqrt", b.map("recip", x))


@rule("exp2")
def _exp2(b: Builder, x: Ids) -> Ids:
    return b.map("pow", 2.0, x)


@rule("log2")
def _log2(b: Builder, x: Ids) -> Ids:
    return b.map("mul", b.map("log", x), 1 / math.log(2))


@rule("log10")
def _log10(b: Builder, x: Ids) -> Ids:
    return b.map("mul", b.map("log", x), 1 / math.log(10))


@rule("frac")
def _frac(b: Builder, x: Ids) -> Ids:
    return b.map("sub", x, b.map("trunc", x))


@rule("round")
def _round(b: Builder, x: Ids, decimals: int = 0) -> Ids:
    if decimals:
        raise Unsupported("unsupported operation round with decimals")
    return b.map("round", x)


@rule("hypot")
def _hypot(b: Builder, x: Ids, y: Ids) -> Ids:
    return b.map("root", b.map("add", b.map("mul", x, x), b.map("mul", y, y)))


@rule("isnan")
def _isnan(b: Builder, x: Ids) -> Ids:
    return b.map("ne", x, x)


@rule("lerp")
def _lerp(b: Builder, x: Ids, end: Ids, weight: Any) -> Ids:
    return b.map("add", x, b.map("mul", real(b, weight), b.map("sub", end, x)))


@rule("addcmul")
def _addcmul(b: Builder, x: Ids, y: Ids, z: Ids, value: float = 1) -> Ids:
    return b.map("add", x, b.map("mul", float(value), b.map("mul", y, z)))


@rule("addcdiv")
def _addcdiv(b: Builder, x: Ids, y: Ids, z: Ids, value: float = 1) -> Ids:
    return b.map("add", x, b.map("mul", float(value), divided(b, y, z)))


# --- activations


@rule("relu")
def _relu(b: Builder, x: Ids) -> Ids:
    return b.map("select", b.map("le", x, 0.0), 0.0, x)


@rule("leaky_relu")
def _leaky_relu(b: Builder, x: Ids, slope: float = 0.01) -> Ids:
    return b.map("select", b.map("lt", 0.0, x), x, b.map("mul", float(slope), x))


@rule("silu")
def _silu(b: Builder, x: Ids) -> Ids:
    return b.map("mul", x, b.map("sigmoid", x))


@rule("softplus")
def _softplus(b: Builder, x: Ids, beta: float = 1, threshold: float = 20) -> Ids:
    scaled = b.map("mul", float(beta), x)
    # far out it is x to the last bit, and exp times what comes from outside might overflow: infinity times zero
    far = b.map("lt", min(float(threshold), EXACT), scaled)
    near = b.map("log1p", b.map("exp", b.map("select", far, 0.0, scaled)))
    return b.map("select", far, x, b.map("mul", near, 1 / float(beta)))


@rule("elu")
def _elu(b: Builder, x: Ids, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Ids:
    up = b.map("lt", 0.0, x)
    low = b.map("expm1", b.map("mul", float(input_scale), b.map("select", up, 0.0, x)))
    return b.map("select", up, b.map("mul", float(scale), x), b.map("mul", float(alpha * scale), low))


@rule("gelu")
def _gelu(b: Builder, x: Ids, approximate: str = "none") -> Ids:
    if approximate == "tanh":
        cube = b.map("mul", b.map("mul", x, x), x)
        inner = b.map("mul", math.sqrt(2 / math.pi), b.map("add", x, b.map("mul", 0.044715, cube)))
        share = b.map("tanh", inner)
    else:
        share = b.map("erf", b.map("mul", x, math.sqrt(0.5)))
    return b.map("mul", b.map("mul", 0.5, x), b.map("add", 1.0, share))


@rule("hardtanh")
def _hardtanh(b: Builder, x: Ids, low: float = -1, high: float = 1) -> Ids:
    return _clamp(b, x, low, high)


@rule("clamp")
def _clamp(b: Builder, x: Ids, low: Any = None, high: Any = None) -> Ids:
    if low is not None:
        x = b.map("select", b.map("lt", x, real(b, low)), real(b, low), x)
    if high is not None:
        x = b.map("select", b.map("lt", real(b, high), x), real(b, high), x)
    return x


@rule("clamp_min")
def _clamp_min(b: Builder, x: Ids, low: Any) -> Ids:
    return _clamp(b, x, low)


@rule("clamp_max")
def _clamp_max(b: Builder, x: Ids, high: Any) -> Ids:
    return _clamp(b, x, None, high)


@rule("where")
def _where(b: Builder, condition: Any, x: Any, y: Any) -> Ids:
    return b.map("select", array(b, condition), real(b, x), real(b, y))


@rule("masked_fill")
def _masked_fill(b: Builder, x: Ids, mask: Any, value: Any) -> Ids:
    return b.map("select", array(b, mask), real(b, value), x)
