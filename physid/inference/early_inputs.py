"""Early inputs: reports once when a model reads an input before its record begins, where it keeps its first value."""

from __future__ import annotations

import torch

from physid.arrays import Array
from physid.inference.parameters import ParameterVector
from physid.ode.reads import earliest_read


def early_reads(vector: ParameterVector, x: Array) -> str:
    """A sentence where the model, at the unknowns x [Q], reads inputs before their first sample; else nothing."""
    found: list[tuple[float, float]] = []
    for local, columns in zip(vector.vectors, vector.columns, strict=True):
        experiment = local.experiment
        if experiment.inputs is None:
            continue
        y0, begin = local.put(x[columns]), float(experiment.initial_time or 0.0)
        last = float(experiment.train.times[-1])
        earliest = earliest_read(vector.model, y0, torch.tensor([begin, last], dtype=torch.float64))
        first = float(experiment.inputs.breaks[0])
        if earliest is not None and earliest < first - 1e-9 * (abs(first) + abs(last)):
            found.append((earliest, first))
    vector.put(x)  # as it was, driven by the first experiment
    if not found:
        return ""
    earliest, first = min(found)
    return f"Inputs are read back to t = {earliest:g}: before their first sample, at {first:g}, they keep its value."
