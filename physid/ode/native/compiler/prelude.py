"""Functions of mathematics that a compiler can put into lanes: exp, tanh and the sigmoid without branches.

The C library's calls are scalar; a loop over 64 of them takes longer than the matrix product before it. Here
exp(x) = 2^n exp(r) with n = round(x / ln 2), |r| <= ln(2) / 2, and a Taylor polynomial for exp(r) - 1, exact to
rounding; results that would be subnormal are zero. tanh goes by expm1(2 |x|), so that it is exact near zero too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from physid.ode.native.compiler.scalars import SCALARS

# Bits of the type: mantissa, integer type, bounds of exp, where tanh is 1, degree of the polynomial.
DOUBLE = (52, "int64_t", "709.4", "-708.3", "44.0", 13, "0.693147180369123816490", "1.90821492927058770002e-10")
SINGLE = (23, "int32_t", "88.3f", "-87.3f", "20.0f", 8, "0.693359375f", "-2.12194440e-4f")

TEMPLATE = """\
#include <stdint.h>
typedef union {{ REAL value; {integer} bits; }} FloatBits;
static inline REAL tail_of_exp(REAL x, REAL *power) {{
    const REAL shift = (REAL){magic};
    FloatBits z = {{x * (REAL)1.44269504088896340736 + shift}};
    const REAL n = z.value - shift;
    const REAL r = (x - n * {high}) - n * {low};
    FloatBits scale = {{1}};
    scale.bits += ({integer})((u{integer})z.bits << {mantissa});
    *power = scale.value;
    return r * {polynomial};
}}
static inline REAL lane_exp(REAL x) {{
    REAL power;
    const REAL tail = tail_of_exp(x, &power), found = power + power * tail;
    return x > {most} ? (REAL)INFINITY : x < {least} ? 0 : found;
}}
static inline REAL lane_tanh(REAL x) {{
    REAL power, a = x < 0 ? -2 * x : 2 * x;
    a = a > {far} ? {far} : a;
    const REAL tail = tail_of_exp(a, &power), grown = power * tail + (power - 1), found = grown / (grown + 2);
    return x < 0 ? -found : found;
}}
static inline REAL lane_sigmoid(REAL x) {{ return 1 / (1 + lane_exp(-x)); }}
static inline REAL whole_remainder(REAL a, REAL b) {{
    const REAL rest = fmod{s}(a, b);
    return rest != 0 && (b < 0) != (rest < 0) ? rest + b : rest;
}}
static inline REAL whole_quotient(REAL a, REAL b) {{
    if (b == 0) return a / b;
    const REAL rest = fmod{s}(a, b);
    REAL found = (a - rest) / b;
    if (rest != 0 && (b < 0) != (rest < 0)) found -= 1;
    if (found == 0) return copysign{s}(0, a / b);
    const REAL whole = floor{s}(found);
    return found - whole > (REAL)0.5 ? whole + 1 : whole;
}}
"""

# The names of these functions, by operation: the same in loops, in straight lines and for samples side by side.
LANES = {"exp": "lane_exp({0})", "tanh": "lane_tanh({0})", "sigmoid": "lane_sigmoid({0})"}

# What C writes for vectors as it does for numbers.
ARITHMETIC = ("add", "sub", "mul", "div", "neg", "recip", "still")


def abreast(operations: Iterable[str], suffix: str) -> Iterator[str]:
    """Other operations on vectors, number by number: the compiler makes one instruction of it where there is one."""
    for op in operations:
        names = "abc"[: len(SCALARS[op].rules)]
        scalar = LANES.get(op) or SCALARS[op].c
        one = scalar.format(*(f"{name}[i]" for name in names), s=suffix)
        arguments = ", ".join(f"VREAL {name}" for name in names)
        yield (
            f"static inline VREAL abreast_{op}({arguments}) "
            f"{{ VREAL y; for (int i = 0; i < VW; ++i) y[i] = {one}; return y; }}"
        )


def prelude(single: bool) -> str:
    """The functions for float or double."""
    mantissa, integer, most, least, far, degree, high, low = SINGLE if single else DOUBLE
    suffix = "f" if single else ""
    polynomial = f"{1 / math.factorial(degree)!r}{suffix}"
    for k in range(degree - 1, 0, -1):
        polynomial = f"({1 / math.factorial(k)!r}{suffix} + r * {polynomial})"
    return TEMPLATE.format(
        mantissa=mantissa,
        integer=integer,
        most=most,
        least=least,
        far=far,
        high=high,
        low=low,
        magic=f"{1.5 * 2.0**mantissa!r}",
        polynomial=polynomial,
        s=suffix,
    )
