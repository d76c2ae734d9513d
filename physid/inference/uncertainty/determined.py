"""Determined combinations of the unknowns near a point, in models that also hold network weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from physid.arrays import Array, Index
from physid.inference.parameters import ParameterVector
from physid.inference.simulate import simulate
from physid.inference.uncertainty.identifiability import named_basis, null_basis, spoken_direction, value_of
from physid.ode import Integrator

RANK = 1e-6  # a singular value of the scaled sensitivities below this part of the largest is none, at a guess


@dataclass(frozen=True)
class Determined:
    """Identifiable combinations of the unknowns at a point with their values, and null directions.

    `ratio` is that of the smallest to the largest singular value of the scaled sensitivities.
    """

    null_directions: list[str]
    identifiable: list[tuple[str, float]]
    ratio: float


def determined(vector: ParameterVector, x: Array, integrator: Integrator) -> Determined:
    """Directions that the experiments of `vector` determine at x, where they can be solved."""
    tables = []
    for e, local in enumerate(vector.vectors):
        train = local.experiment.train
        (found,) = simulate(vector, [x], train.times, integrator, sensitivities=True, experiment=e)
        tables.append(found.slopes[train.mask.reshape(len(train), -1).numpy()])
    return span(vector, x, np.nan_to_num(np.concatenate(tables)))


def span(vector: ParameterVector, x: Array, table: Array) -> Determined:
    """Row space and null space of sensitivities [N, Q]; single weights are not judged, but they may explain all."""
    kept, table = beside_weights(vector, table)
    if not len(kept):
        return Determined([], [], 1.0)
    size = np.linalg.norm(table, axis=0)
    size = np.where(size > 0, size, 1.0)
    padded = np.concatenate([table / size, np.zeros((max(0, len(size) - len(table)), len(size)))])
    _, s, vt = np.linalg.svd(padded, full_matrices=False)
    lost = s <= RANK * s[0] if s[0] > 0 else np.ones_like(s, dtype=bool)
    entries = [vector.entries[i] for i in kept]
    slopes, natural = vector.slopes(x)[kept], vector.natural(x)[kept]
    null = [spoken_direction(row, entries) for row in null_basis(vt[lost] / size, entries, slopes)]
    seen = named_basis(vt[~lost] * size, entries, slopes) if null else []
    values = [(name, value_of(row, natural, entries)[0]) for name, row in seen]
    return Determined(null, values, float(s[-1] / s[0]) if s[0] > 0 else 0.0)


def weights(vector: ParameterVector) -> list[bool]:
    """Mask of the entries of a vector that are weights of networks."""
    known = vector.model.unknowns
    return [one.owner in known and not known[one.owner].listed for one in vector.entries]


def beside_weights(vector: ParameterVector, table: Array) -> tuple[Index, Array]:
    """The places of all entries but weights, and what the weights' columns leave of theirs in `table` [N, Q]."""
    weight = np.array(weights(vector), dtype=bool)
    kept = np.flatnonzero(~weight)
    if not weight.any():
        return kept, table
    size = np.linalg.norm(table, axis=0)
    u, s, _ = np.linalg.svd(table[:, weight] / np.where(size > 0, size, 1.0)[weight], full_matrices=False)
    basis = u[:, s > RANK * s[0]]
    left = table[:, kept] - basis @ (basis.T @ table[:, kept])
    left[:, np.linalg.norm(left, axis=0) <= RANK * size[kept]] = 0.0
    return kept, left


def moves(vector: ParameterVector, x: Array, columns: Iterable[int]) -> dict[str, Array]:
    """Moves [Q] by the size of the unknowns in some columns: one for each, and one at random for a table of weights."""
    random, weight = np.random.default_rng(0), weights(vector)
    found: dict[str, Array] = {}
    for i in columns:
        name = vector.entries[i].owner if weight[i] else vector.entries[i].name
        found.setdefault(name, np.zeros_like(x))[i] = random.choice((-1.0, 1.0)) if weight[i] else max(1.0, abs(x[i]))
    return found
