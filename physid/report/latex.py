"""Estimates as LaTeX."""

from __future__ import annotations

import math
from collections.abc import Sequence

from physid.inference.uncertainty.estimates import Estimate

SPECIAL = {**{sign: f"\\{sign}" for sign in "&%$#_{}"}, "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
SPECIAL["\\"] = r"\textbackslash{}"


def tabular(estimates: Sequence[Estimate]) -> str:
    """A `tabular` with value and standard error, 95 % interval and unit of every estimate."""
    rows = [
        r"\begin{tabular}{llll}",
        r"\hline",
        r"unknown & value & 95\,\% interval & unit \\",
        r"\hline",
        *(_row(one) for one in estimates),
        r"\hline",
        r"\end{tabular}",
    ]
    return "\n".join(rows) + "\n"


def _row(one: Estimate) -> str:
    error = None if one.undetermined else one.stderr
    interval = "" if one.low is None or one.high is None else f"$[{number(one.low)},\\ {number(one.high)}]$"
    interval = "undetermined" if one.undetermined else interval
    value = f"${number(one.value)}$"
    if error:
        value = f"${rounded(one.value, error)}$"
    return f"{escape(one.name)} & {value} & {interval} & {escape(one.unit)} \\\\"


def rounded(value: float, error: float) -> str:
    """Value and error with two digits of the error, and a common power of ten where one is needed."""
    power = math.floor(math.log10(max(abs(value), error)))
    power = 0 if -4 < power < 6 else power
    value, error = value / 10.0**power, error / 10.0**power
    places = max(0, 1 - math.floor(math.log10(error)))
    text = f"{value:.{places}f} \\pm {error:.{places}f}"
    return f"({text}) \\times 10^{{{power}}}" if power else text


def number(value: float) -> str:
    """A number with five significant digits."""
    mantissa, _, power = f"{value:.5g}".partition("e")
    return f"{mantissa} \\times 10^{{{int(power)}}}" if power else mantissa


def escape(text: str) -> str:
    """`text` with the signs that mean something to LaTeX made plain."""
    return "".join(SPECIAL.get(sign, sign) for sign in text)
