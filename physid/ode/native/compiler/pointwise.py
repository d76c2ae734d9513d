"""Operations element by element: arithmetic, comparisons, activations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from physid.ode.native.compiler.builder import Builder
from physid.ode.native.compiler.ir import Ids
from physid.ode.native.compiler.rules import TABLE, Rule, array, real, rule
from physid.ode.native.compiler.trace import Unsupported


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
    "hypot",
    "rsqrt",
    "xlogy",
    "remainder",
    "fmax",
    "fmin",
]:
    TABLE[_name] = _pointwise(_name)
for _name, _op in {
    "reciprocal": "recip",
    "maximum": "max",
    "minimum": "min",
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


@rule("detach")
def _detach(b: Builder, x: Ids) -> Ids:
    return b.map("still", x)


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
    x, y = real(b, x), real(b, y)
    if rounding_mode is None:
        return b.map("mul", x, b.map("recip", y))
    return b.map("quotient", x, y) if rounding_mode == "floor" else b.map("trunc", b.map("div", x, y))


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


@rule("logit")
def _logit(b: Builder, x: Ids, eps: float | None = None) -> Ids:
    if eps is not None:
        raise Unsupported("unsupported operation logit with eps")
    return b.map("logit", x)


@rule("sinc")
def _sinc(b: Builder, x: Ids) -> Ids:
    angle = b.map("mul", math.pi, x)
    zero = b.map("eq", angle, 0.0)
    safe = b.map("select", zero, 1.0, angle)
    return b.map("select", zero, 1.0, divided(b, b.map("sin", safe), safe))


@rule("isnan")
def _isnan(b: Builder, x: Ids) -> Ids:
    return b.map("ne", x, x)


@rule("lerp")
def _lerp(b: Builder, x: Ids, end: Ids, weight: Any) -> Ids:
    w, way = real(b, weight), b.map("sub", end, x)
    near = b.map("add", x, b.map("mul", w, way))
    far = b.map("sub", end, b.map("mul", way, b.map("sub", 1.0, w)))
    return b.map("select", b.map("lt", b.map("abs", w), 0.5), near, far)


@rule("addcmul")
def _addcmul(b: Builder, x: Ids, y: Ids, z: Ids, value: float = 1) -> Ids:
    return b.map("add", x, b.map("mul", float(value), b.map("mul", y, z)))


@rule("addcdiv")
def _addcdiv(b: Builder, x: Ids, y: Ids, z: Ids, value: float = 1) -> Ids:
    return b.map("add", x, b.map("mul", float(value), divided(b, y, z)))


# --- activations


@rule("relu")
def _relu(b: Builder, x: Ids) -> Ids:
    return b.map("select", b.map("le", x, 0.0), b.map("still", b.map("max", x, 0.0)), x)  # -0 is kept


@rule("leaky_relu")
def _leaky_relu(b: Builder, x: Ids, slope: float = 0.01) -> Ids:
    return b.map("select", b.map("lt", 0.0, x), x, b.map("mul", float(slope), x))


@rule("_prelu_kernel")
def _prelu(b: Builder, x: Ids, weight: Ids) -> Ids:
    """The side that is not taken has no part in the derivative, whatever the weight."""
    right = b.map("lt", 0.0, x)
    value = b.map("select", right, x, b.map("mul", weight, x))
    value = b.map("carry", b.map("still", value), x, b.map("select", right, 1.0, weight))
    return b.map("carry", value, weight, b.map("select", right, 0.0, x))


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
    down = b.map("le", x, 0.0)
    low = b.map("expm1", b.map("mul", float(input_scale), b.map("select", down, x, 0.0)))
    return b.map("select", down, b.map("mul", float(alpha * scale), low), b.map("mul", float(scale), x))


@rule("celu")
def _celu(b: Builder, x: Ids, alpha: float = 1) -> Ids:
    return _elu(b, x, alpha, 1, 1 / alpha)


@rule("hardswish")
def _hardswish(b: Builder, x: Ids) -> Ids:
    value = b.map("mul", b.map("mul", x, _within(b, b.map("add", x, 3.0), 0.0, 6.0)), 1 / 6)
    slope = b.map("add", b.map("mul", x, 1 / 3), 0.5)
    share = b.map("select", b.map("le", x, -3.0), 0.0, b.map("select", b.map("lt", x, 3.0), slope, 1.0))
    return b.map("carry", b.map("still", value), x, share)


@rule("hardsigmoid")
def _hardsigmoid(b: Builder, x: Ids) -> Ids:
    value = b.map("mul", _within(b, b.map("add", x, 3.0), 0.0, 6.0), 1 / 6)
    inside = b.map("and", b.map("lt", -3.0, x), b.map("lt", x, 3.0))
    slope = float(np.float32(1 / 6))  # as torch has it, in double precision too
    return b.map("carry", b.map("still", value), x, b.map("mul", inside, slope))


@rule("softshrink")
def _softshrink(b: Builder, x: Ids, lambd: float = 0.5) -> Ids:
    width = float(lambd)
    inside = b.map("and", b.map("le", -width, x), b.map("le", x, width))
    beyond = b.map("select", b.map("lt", x, 0.0), b.map("add", x, width), b.map("sub", x, width))
    return b.map("select", inside, 0.0, beyond)


@rule("gelu")
def _gelu(b: Builder, x: Ids, approximate: str = "none") -> Ids:
    if approximate == "tanh":
        cube = b.map("mul", b.map("mul", x, x), x)
        inner = b.map("mul", math.sqrt(2 / math.pi), b.map("add", x, b.map("mul", 0.044715, cube)))
        share = b.map("tanh", inner)
    else:
        share = b.map("erf", b.map("mul", x, math.sqrt(0.5)))
    return b.map("mul", b.map("mul", 0.5, x), b.map("add", 1.0, share))


def _within(b: Builder, x: Ids, low: Any, high: Any) -> Ids:
    """x between the bounds that there are; not-a-number where any of them is."""
    if low is not None:
        x = b.map("max", x, low)
    return x if high is None else b.map("min", x, high)


@rule("hardtanh")
def _hardtanh(b: Builder, x: Ids, low: float = -1, high: float = 1) -> Ids:
    at = b.map("or", b.map("le", x, float(low)), b.map("le", float(high), x))
    value = b.map("still", _within(b, x, float(low), float(high)))
    return b.map("carry", value, x, b.map("not", at))


@rule("clamp")
def _clamp(b: Builder, x: Ids, low: Any = None, high: Any = None) -> Ids:
    """The bounds belong to the inside; bounds in the wrong order give the upper one."""
    low, high = (None if bound is None else real(b, bound) for bound in (low, high))
    found = b.map("still", _within(b, x, low, high))
    above = 1.0 if low is None else b.map("le", low, x)
    below = 1.0 if high is None else b.map("le", x, high)
    found = b.map("carry", found, x, b.map("and", above, below))
    if isinstance(low, np.ndarray):
        share = b.map("lt", x, low)
        found = b.map("carry", found, low, share if high is None else b.map("and", share, b.map("lt", low, high)))
    if isinstance(high, np.ndarray):
        share = b.map("lt", high, x)
        found = b.map("carry", found, high, share if low is None else b.map("or", share, b.map("lt", high, low)))
    return found


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
