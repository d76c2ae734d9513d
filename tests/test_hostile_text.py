"""Units of strangers end at once."""

from __future__ import annotations

import time

import numpy as np
import pytest

from physid.errors import InputError
from physid.reading.units import convert


@pytest.mark.parametrize(
    "unit",
    ["m**9**9**9**9", "10^9999999999", "10⁹⁹⁹⁹⁹⁹⁹⁹⁹", "((10**99)**99)**99", "(9**9)**(9**9)", "9**9e9", "9**-9**9"],
)
def test_units_of_absurd_powers_end_at_once(unit: str) -> None:
    began = time.process_time()
    with pytest.raises(InputError, match=r"a.csv, column 'x': the unit \[.*\] has powers beyond what is read"):
        convert(np.ones(3), unit, "m", "a.csv, column 'x'")
    assert time.process_time() - began < 2.0


@pytest.mark.parametrize(
    ("unit", "wanted", "factor"),
    [("mm^2", "m**2", 1e-6), ("cm³", "m^3", 1e-6), ("s⁻¹", "1/min", 60.0), ("km^(1/2)", "m^0.5", 1000**0.5)],
)
def test_units_with_powers_are_read(unit: str, wanted: str, factor: float) -> None:
    assert np.allclose(convert(np.ones(2), unit, wanted, "x"), factor, rtol=1e-12)
