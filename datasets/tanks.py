"""Cascaded tanks: a pump fills the upper tank, which empties into the lower one; both can overflow."""

from __future__ import annotations

import numpy as np
import torch

from physid.arrays import Array
from physid.data.catalogue import DataSet
from physid.data.experiment import Experiment
from physid.datasets.measured import Record, driven

TANKS = Record(
    "cascaded_tanks",
    "dataBenchmark.csv",
    "https://raw.githubusercontent.com/forgi86/sysid-neural-continuous/956aa7ecd73061b0321c6f6098d74c9e4a7ce67a/"
    "examples/CTS/data/dataBenchmark.csv",
    "ef2388ed822f3aef4aa80d6b0f2b466dd80b361786b3eafc7a2957c31ea323a7",
)
SAMPLING = 4.0  # s


def load() -> Experiment:
    """The level of the lower tank [1024] in V of its sensor, driven by the pump's voltage, held for 4 s each.

    The sensor reads 10 V when the lower tank is full. Both levels at the start are to be found; the second record, the
    validation, starts from the same ones, as the benchmark says.

    Published, free run on the second record: neural networks 0.396 to 0.490 V, physical models with overflow down to
    0.19 V.

    Errors: as for `Record.path`.

    Source: Schoukens, Mattson, Wigren and Noel (2016), Cascaded tanks benchmark combining soft and hard nonlinearities.
    """
    table = np.genfromtxt(TANKS.path(), delimiter=",", skip_header=1, usecols=range(4))
    drive, other_drive, level, other_level = table.T
    return _experiment("tanks", drive, level, _experiment("tanks, second record", other_drive, other_level, None))


def _experiment(name: str, drive: Array, level: Array, validation: Experiment | None) -> Experiment:
    return driven(
        name,
        np.arange(len(level), dtype=np.float64) * SAMPLING,
        level,
        ("pump", drive),
        ("level", "V"),
        initial=torch.tensor([level[0], level[0]], dtype=torch.float64),
        initial_free=torch.tensor([True, True]),
        initial_scale=torch.tensor([5.0, 5.0], dtype=torch.float64),
        validation=validation,
        source="cascaded tanks benchmark, Schoukens, Mattson, Wigren and Noel (2016)",
        data_hash=TANKS.sha256 if validation is not None else "",
    )


ENTRY = DataSet(
    "tanks", "Two tanks, one above the other, that overflow (measured).", {}, load, {"full": "cascaded-tanks"}
)
