"""Units: from that of a column to that of the model, by pint, which is loaded when two units differ."""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Any

import numpy as np

from physid.arrays import Array
from physid.errors import InputError

# How units are also written; everything else is pint's own vocabulary.
LONGEST = 60
MOST = 100  # of the product of all powers: pint computes them before it looks at what they are of
POWER = re.compile(r"\*\*\s*\(?\s*[+-]?\s*(\d+(?:\.\d*)?|\.\d+)(?![\d.eE_]|\s*(?:\*\*|\)\s*\*\*))")
SUPER, PLAIN = re.compile("[⁻⁰¹²³⁴-⁹]+"), str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
ALSO = {"%": "percent", "°": "degree", "°C": "degC", "°F": "degF", "µ": "u", "μ": "u", "Ω": "ohm", "·": "*", "^": "**"}


def convert(values: Array, unit: str, wanted: str, where: str) -> Array:
    """`values` in the unit `wanted`; unchanged when both are the same or either is not given.

    Errors: InputError for a unit that is unknown, or of another kind than the wanted one; `where` names the column.
    """
    if not unit or not wanted or unit == wanted:
        return values
    found, target = parse(unit, where), parse(wanted, f"{where}, the model's unit")
    if found == target:
        return values
    try:
        return np.asarray(_registry().Quantity(values, found).to(target).magnitude, dtype=np.float64)
    except _dimension_error():
        raise InputError(
            f"{where}: [{unit}] cannot be converted to [{wanted}], in which the model has it. Correct the unit in the "
            "header, or the model's."
        ) from None


def parse(unit: str, where: str) -> Any:
    """The unit that a text names; InputError when it names none."""
    import pint

    text = SUPER.sub(lambda found: "**" + found[0].translate(PLAIN), unit[:LONGEST])
    for sign, word in ALSO.items():
        text = text.replace(sign, word)
    powers = POWER.findall(text)
    if len(powers) < text.count("**") or math.prod(max(1.0, float(one)) for one in powers) > MOST:
        raise InputError(
            f"{where}: the unit [{unit[:LONGEST]}] has powers beyond what is read. Write numbers up to {MOST} "
            "after ^, one after each unit, as in [m/s^2]."
        )
    try:
        return _registry().parse_units(text)
    except (pint.errors.PintError, ValueError, TypeError, AttributeError, SyntaxError, KeyError):
        raise InputError(
            f"{where}: the unit [{unit}] is not known. Write it as in [mm], [m/s^2], [1/yr] or [degC], or leave it out."
        ) from None
    except Exception as error:  # its parser lets the tokenizer's errors through
        raise InputError(f"{where}: the unit [{unit}] cannot be read ({type(error).__name__}). Correct it.") from None


@cache
def _registry() -> Any:
    import pint

    return pint.UnitRegistry(autoconvert_offset_to_baseunit=True)


def _dimension_error() -> type[Exception]:
    import pint

    return pint.DimensionalityError
