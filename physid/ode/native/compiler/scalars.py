"""The scalar operations of the intermediate form: how each is written in C, folded in Python, and differentiated.

A derivative is one rule per argument, (f, y, a, g) -> g times dy/da_i, linear in g, written with f(operation, ...) on
whatever the arguments are: numbers of a straight line or whole arrays of a loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Apply = Callable[..., Any]
Rule = Callable[[Apply, Any, tuple[Any, ...], Any], Any]


@dataclass(frozen=True)
class Scalar:
    """An operation: its C expression ({s} is the suffix of a function of C's mathematics), its value, its rules.

    A rule None says that the derivative is zero.
    """

    c: str
    value: Callable[..., float]
    rules: tuple[Rule | None, ...]


def _call(name: str, value: Callable[[float], float], rule: Rule) -> Scalar:
    return Scalar(name + "{s}({0})", value, (rule,))


def _flat(c: str, value: Callable[..., float], arity: int) -> Scalar:
    """An operation that is constant in pieces."""
    return Scalar(c, value, (None,) * arity)


def _unknown(*args: float) -> float:
    """An input, which is not known as the code is written."""
    raise ArithmeticError


def _sign(x: float) -> float:
    return float((x > 0) - (x < 0))


def _one_less_square(f: Apply, x: Any) -> Any:
    return f("sub", 1.0, f("mul", x, x))


def _one_more_square(f: Apply, x: Any) -> Any:
    return f("add", 1.0, f("mul", x, x))


def _over_root(f: Apply, g: Any, x: Any) -> Any:
    return f("mul", g, f("recip", f("sqrt", x)))


def _over(f: Apply, g: Any, x: Any) -> Any:
    return f("mul", g, f("recip", x))


def _larger(f: Apply, x: Any, other: Any, g: Any) -> Any:
    """The share of x in the cotangent of max(x, other): half at a tie, all of it beside not-a-number."""
    return f("select", f("lt", x, other), 0.0, f("select", f("eq", x, other), f("mul", 0.5, g), g))


def _smaller(f: Apply, x: Any, other: Any, g: Any) -> Any:
    return f("select", f("lt", other, x), 0.0, f("select", f("eq", x, other), f("mul", 0.5, g), g))


def _first(f: Apply, low: Any, high: Any, second: Any) -> Any:
    """Whether the first of two numbers is taken: low <= high holds, or the `second` is not a number."""
    return f("or", f("le", low, high), f("ne", second, second))


def _by_base(f: Apply, y: Any, a: tuple[Any, ...], g: Any) -> Any:
    slope = f("mul", a[1], f("pow", a[0], f("sub", a[1], 1.0)))
    return f("select", f("eq", a[1], 0.0), 0.0, f("mul", g, slope))


def _by_exponent(f: Apply, y: Any, a: tuple[Any, ...], g: Any) -> Any:
    at_zero = f("and", f("eq", a[0], 0.0), f("le", 0.0, a[1]))
    return f("select", at_zero, 0.0, f("mul", g, f("mul", y, f("log", a[0]))))


def _by_norm2(f: Apply, a: tuple[Any, ...]) -> Any:
    """1 / (a0^2 + a1^2), zero at the origin."""
    square = f("add", f("mul", a[0], a[0]), f("mul", a[1], a[1]))
    return f("select", f("eq", square, 0.0), 0.0, f("recip", square))


def _logit(f: Apply, y: Any, a: tuple[Any, ...], g: Any) -> Any:
    inside = f("and", f("le", 0.0, a[0]), f("le", a[0], 1.0))
    slope = f("recip", f("mul", a[0], f("sub", 1.0, a[0])))
    return f("mul", g, f("select", inside, slope, math.nan))


def _by_factor(f: Apply, y: Any, a: tuple[Any, ...], g: Any) -> Any:
    zero = f("and", f("eq", a[0], 0.0), f("le", a[1], 0.0))
    return f("select", zero, 0.0, f("mul", g, f("log", a[1])))


def _truncated(f: Apply, y: Any, a: tuple[Any, ...], g: Any) -> Any:
    return f("neg", f("mul", g, f("trunc", f("div", a[0], a[1]))))


def _floored(f: Apply, y: Any, a: tuple[Any, ...], g: Any) -> Any:
    return f("neg", f("mul", g, f("quotient", a[0], a[1])))


def _quotient(a: float, b: float) -> float:
    """floor(a / b) as torch has it: by the remainder, which has no error."""
    rest = math.fmod(a, b)
    found = (a - rest) / b - (1.0 if rest != 0 and (b < 0) != (rest < 0) else 0.0)
    whole = math.floor(found)
    return float(whole + 1 if found - whole > 0.5 else whole)


def _remainder(a: float, b: float) -> float:
    rest = math.fmod(a, b)
    return rest + b if rest != 0 and (b < 0) != (rest < 0) else rest


TWO_OVER_ROOT_PI = 2.0 / math.sqrt(math.pi)

SCALARS: dict[str, Scalar] = {
    "add": Scalar("{0} + {1}", lambda a, b: a + b, (lambda f, y, a, g: g, lambda f, y, a, g: g)),
    "sub": Scalar("{0} - {1}", lambda a, b: a - b, (lambda f, y, a, g: g, lambda f, y, a, g: f("neg", g))),
    "mul": Scalar(
        "{0} * {1}", lambda a, b: a * b, (lambda f, y, a, g: f("mul", g, a[1]), lambda f, y, a, g: f("mul", g, a[0]))
    ),
    "div": Scalar(  # where a quotient is rounded to a whole number; elsewhere a product with the reciprocal
        "{0} / {1}",
        lambda a, b: a / b,
        (
            lambda f, y, a, g: f("mul", g, f("recip", a[1])),
            lambda f, y, a, g: f("neg", f("mul", g, f("mul", y, f("recip", a[1])))),
        ),
    ),
    "neg": Scalar("-{0}", lambda a: -a, (lambda f, y, a, g: f("neg", g),)),
    "recip": Scalar("1 / {0}", lambda a: 1.0 / a, (lambda f, y, a, g: f("neg", f("mul", g, f("mul", y, y))),)),
    "sqrt": _call("sqrt", math.sqrt, lambda f, y, a, g: f("mul", g, f("mul", 0.5, f("recip", y)))),
    "root": _call(  # of a sum of squares: a norm, whose derivative at zero is taken as zero
        "sqrt",
        math.sqrt,
        lambda f, y, a, g: f("select", f("eq", y, 0.0), 0.0, f("mul", g, f("mul", 0.5, f("recip", y)))),
    ),
    "still": _flat("{0}", lambda a: a, 1),
    "exp": _call("exp", math.exp, lambda f, y, a, g: f("mul", g, y)),
    "expm1": _call("expm1", math.expm1, lambda f, y, a, g: f("mul", g, f("add", y, 1.0))),
    "log": _call("log", math.log, lambda f, y, a, g: _over(f, g, a[0])),
    "log1p": _call("log1p", math.log1p, lambda f, y, a, g: _over(f, g, f("add", 1.0, a[0]))),
    "sin": _call("sin", math.sin, lambda f, y, a, g: f("mul", g, f("cos", a[0]))),
    "cos": _call("cos", math.cos, lambda f, y, a, g: f("neg", f("mul", g, f("sin", a[0])))),
    "tan": _call("tan", math.tan, lambda f, y, a, g: f("mul", g, _one_more_square(f, y))),
    "sinh": _call("sinh", math.sinh, lambda f, y, a, g: f("mul", g, f("cosh", a[0]))),
    "cosh": _call("cosh", math.cosh, lambda f, y, a, g: f("mul", g, f("sinh", a[0]))),
    "tanh": _call("tanh", math.tanh, lambda f, y, a, g: f("mul", g, _one_less_square(f, y))),
    "asin": _call("asin", math.asin, lambda f, y, a, g: _over_root(f, g, _one_less_square(f, a[0]))),
    "acos": _call("acos", math.acos, lambda f, y, a, g: f("neg", _over_root(f, g, _one_less_square(f, a[0])))),
    "atan": _call("atan", math.atan, lambda f, y, a, g: _over(f, g, _one_more_square(f, a[0]))),
    "asinh": _call("asinh", math.asinh, lambda f, y, a, g: _over_root(f, g, _one_more_square(f, a[0]))),
    "acosh": _call("acosh", math.acosh, lambda f, y, a, g: _over_root(f, g, f("sub", f("mul", a[0], a[0]), 1.0))),
    "atanh": _call("atanh", math.atanh, lambda f, y, a, g: _over(f, g, _one_less_square(f, a[0]))),
    "erf": _call(
        "erf",
        math.erf,
        lambda f, y, a, g: f("mul", g, f("mul", TWO_OVER_ROOT_PI, f("exp", f("neg", f("mul", a[0], a[0]))))),
    ),
    "sigmoid": Scalar(
        "1 / (1 + exp{s}(-{0}))",
        lambda a: 1.0 / (1.0 + math.exp(-a)),
        (lambda f, y, a, g: f("mul", g, f("mul", y, f("sub", 1.0, y))),),
    ),
    "abs": _call("fabs", abs, lambda f, y, a, g: f("mul", g, f("sign", a[0]))),
    "sign": _flat("(REAL)(({0} > 0) - ({0} < 0))", _sign, 1),
    "floor": _flat("floor{s}({0})", lambda a: float(math.floor(a)), 1),
    "ceil": _flat("ceil{s}({0})", lambda a: float(math.ceil(a)), 1),
    "trunc": _flat("trunc{s}({0})", lambda a: float(math.trunc(a)), 1),
    "round": _flat("rint{s}({0})", lambda a: float(round(a)), 1),
    "pow": Scalar("pow{s}({0}, {1})", math.pow, (_by_base, _by_exponent)),
    "max": Scalar(  # not-a-number beside a number; the first at a tie, as of -0 and 0
        "({1} != {1} || {1} > {0} ? {1} : {0})",
        lambda a, b: b if b != b or b > a else a,
        (lambda f, y, a, g: _larger(f, a[0], a[1], g), lambda f, y, a, g: _larger(f, a[1], a[0], g)),
    ),
    "min": Scalar(
        "({1} != {1} || {1} < {0} ? {1} : {0})",
        lambda a, b: b if b != b or b < a else a,
        (lambda f, y, a, g: _smaller(f, a[0], a[1], g), lambda f, y, a, g: _smaller(f, a[1], a[0], g)),
    ),
    "fmax": Scalar(  # the number beside not-a-number; the first at a tie
        "({1} != {1} || {0} >= {1} ? {0} : {1})",
        lambda a, b: a if b != b or a >= b else b,
        (
            lambda f, y, a, g: f("select", _first(f, a[1], a[0], a[1]), g, 0.0),
            lambda f, y, a, g: f("select", _first(f, a[1], a[0], a[1]), 0.0, g),
        ),
    ),
    "fmin": Scalar(
        "({1} != {1} || {0} <= {1} ? {0} : {1})",
        lambda a, b: a if b != b or a <= b else b,
        (
            lambda f, y, a, g: f("select", _first(f, a[0], a[1], a[1]), g, 0.0),
            lambda f, y, a, g: f("select", _first(f, a[0], a[1], a[1]), 0.0, g),
        ),
    ),
    "atan2": Scalar(
        "atan2{s}({0}, {1})",
        math.atan2,
        (
            lambda f, y, a, g: f("mul", f("mul", g, a[1]), _by_norm2(f, a)),
            lambda f, y, a, g: f("neg", f("mul", f("mul", g, a[0]), _by_norm2(f, a))),
        ),
    ),
    "hypot": Scalar(
        "hypot{s}({0}, {1})",
        math.hypot,
        (
            lambda f, y, a, g: f("mul", g, f("mul", a[0], f("recip", y))),
            lambda f, y, a, g: f("mul", g, f("mul", a[1], f("recip", y))),
        ),
    ),
    "rsqrt": Scalar(
        "1 / sqrt{s}({0})",
        lambda a: 1.0 / math.sqrt(a),
        (lambda f, y, a, g: f("mul", g, f("mul", -0.5, f("mul", y, f("mul", y, y)))),),
    ),
    "logit": Scalar("log{s}({0} / (1 - {0}))", lambda a: math.log(a / (1.0 - a)), (_logit,)),
    "xlogy": Scalar(
        "({1} != {1} ? {1} : {0} == 0 ? 0 : {0} * log{s}({1}))",
        lambda a, b: b if b != b else 0.0 if a == 0 else a * math.log(b),
        (_by_factor, lambda f, y, a, g: f("mul", g, f("mul", a[0], f("recip", a[1])))),
    ),
    "fmod": Scalar("fmod{s}({0}, {1})", math.fmod, (lambda f, y, a, g: g, _truncated)),
    "remainder": Scalar("whole_remainder({0}, {1})", _remainder, (lambda f, y, a, g: g, _floored)),
    "quotient": _flat("whole_quotient({0}, {1})", _quotient, 2),
    # the first number, with the derivative of the second times the third: y = a, dy = da + c db; no share of an
    # infinite cotangent is none, as of sqrt(clamp(x, min=0)) below the bound
    "carry": Scalar(
        "{0}",
        lambda a, b, c: a,
        (lambda f, y, a, g: g, lambda f, y, a, g: f("select", a[2], f("mul", g, a[2]), 0.0), None),
    ),
    "input": Scalar("input_at({0}, c, {1})", _unknown, (lambda f, y, a, g: f("mul", g, f("rate", *a)), None)),
    "rate": _flat("input_rate({0}, c, {1})", _unknown, 2),
    "lt": _flat("(REAL)({0} < {1})", lambda a, b: float(a < b), 2),
    "le": _flat("(REAL)({0} <= {1})", lambda a, b: float(a <= b), 2),
    "eq": _flat("(REAL)({0} == {1})", lambda a, b: float(a == b), 2),
    "ne": _flat("(REAL)({0} != {1})", lambda a, b: float(a != b), 2),
    "and": _flat("(REAL)({0} != 0 && {1} != 0)", lambda a, b: float(a != 0 and b != 0), 2),
    "or": _flat("(REAL)({0} != 0 || {1} != 0)", lambda a, b: float(a != 0 or b != 0), 2),
    "not": _flat("(REAL)({0} == 0)", lambda a: float(a == 0), 1),
    "select": Scalar(
        "({0} != 0 ? {1} : {2})",
        lambda c, a, b: a if c != 0 else b,
        (
            None,
            lambda f, y, a, g: f("select", a[0], g, 0.0),
            lambda f, y, a, g: f("select", a[0], 0.0, g),
        ),
    ),
}
