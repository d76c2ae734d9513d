"""The Electro-Mechanical Positioning System: a carriage that a motor drives along a rail."""

from __future__ import annotations

import numpy as np
import torch

from physid.arrays import Array
from physid.catalog import Option, whole
from physid.data.catalogue import DataSet
from physid.data.experiment import Experiment
from physid.datasets.measured import Record, driven
from physid.errors import InputError

_AT = (
    "https://raw.githubusercontent.com/forgi86/sysid-neural-continuous/956aa7ecd73061b0321c6f6098d74c9e4a7ce67a/"
    "examples/EMPS/data/"
)
TRAIN = Record(
    "emps", "DATA_EMPS.mat", _AT + "DATA_EMPS.mat", "6cf6814ae14618795da0101aae2bb97ff0c6351b0501b5492751b02b07facf7e"
)
PULSES = Record(
    "emps",
    "DATA_EMPS_PULSES.mat",
    _AT + "DATA_EMPS_PULSES.mat",
    "0eab75bb1f6b16228ee78791343a88bf9bfd9a51036ac9807d7b5fc11c0e1704",
)
RATE = 1000  # samples a second in the records
OPTIONS = {"rate": Option("Samples a second that are kept, a divisor of 1000.", whole(1), 50)}


def load(*, rate: int) -> Experiment:
    """The carriage's position in m, driven by the motor's force in N = gtau vir, held over each sample.

    The records have 1000 samples a second, but the carriage's own time constants are M / Fv = 0.4 s and, where it
    turns, 0.05 s. So `rate` positions a second are kept, and the force is the mean over what lies between them, which
    leaves its momentum as it was: at 50 the rmse of the test's free run differs by 0.1 mm from that at 1000.
    The start is at rest but for an unknown velocity, which also represents the friction's state before motion. The
    record with force pulses is the validation, which starts the same way.

    Published: filtered inverse-model least squares gives M 95.11 kg, Fv 203.5 N s/m, Fc 20.39 N, offset -3.16 N
    (Janot and others, 2019); the best neural network published runs freely on the test with an rmse of 74 mm.

    Errors: InputError for a rate that does not divide 1000; else as for `Record.path`.

    Source: Janot, Gautier and Brunot (2019), Data set and reference models of EMPS, nonlinearbenchmark.org.
    """
    if RATE % rate:
        raise InputError(f"rate={rate}: expected a divisor of {RATE}, as 50 or 100.")
    every = RATE // rate
    time, position, force = _record(TRAIN, every)
    other = _record(PULSES, every)
    return _experiment("emps", time, position, force, rate, _experiment("emps pulses", *other, rate, None))


def _experiment(
    name: str, time: Array, position: Array, force: Array, rate: int, validation: Experiment | None
) -> Experiment:
    return driven(
        name,
        time,
        position,
        ("force", force),
        ("q", "m"),
        initial=torch.tensor([position[0], 0.0], dtype=torch.float64),
        initial_free=torch.tensor([False, True]),
        initial_scale=torch.tensor([0.1, 0.1], dtype=torch.float64),
        validation=validation,
        source="EMPS benchmark, Janot, Gautier and Brunot (2019)",
        data_hash=(PULSES if validation is None else TRAIN).sha256 if rate == RATE else "",
        options={"rate": rate} if validation is not None else {},
    )


def _record(record: Record, every: int) -> tuple[Array, Array, Array]:
    """Times, positions and mean forces [T] of a record, every so many samples."""
    from scipy.io import loadmat

    arrays = loadmat(record.path(), variable_names=["qm", "vir", "gtau"])
    position, drive = (np.asarray(arrays[key], dtype=np.float64).ravel() for key in ("qm", "vir"))
    force = float(arrays["gtau"].item()) * drive
    count = (len(force) - 1) // every
    mean: Array = np.append(force[: count * every].reshape(count, every).mean(1), force[count * every])
    time = np.arange(count + 1, dtype=np.float64) * (every / RATE)
    return time, position[::every][: count + 1].copy(), mean


ENTRY = DataSet(
    "emps",
    "A carriage on a rail, driven by a motor, with dry friction (measured).",
    OPTIONS,
    load,
    {"full": "carriage"},
)
