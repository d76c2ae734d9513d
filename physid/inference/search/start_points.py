"""Starting points of a multi-start: draws from priors and domains around the model's own values.

Every start is a draw of its own number from the seed, so that neither the way of running nor the number of workers
changes where it begins. Source: McKay, Beckman and Conover (1979) for the Latin hypercube.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtri
from scipy.stats import qmc

from physid.arrays import Array
from physid.inference.parameters import ParameterVector, VectorEntry
from physid.modelling.modules import Weight
from physid.modelling.prior import Prior

SPREAD = 1.0  # sd of log(value / guess), or of (value - guess) / size, where neither prior nor bounds say more
INITIAL = 0.3  # sd of a free initial value, in units of initial_scale
EDGE = 1e-3  # starts keep this part of the range away from bounds


def draws(vector: ParameterVector, first: Array, count: int, seed: int) -> list[Array]:
    """Points of `count` starts: `first`, then a Latin hypercube in the priors and domains around it."""
    if count == 1:
        return [first]
    cube = qmc.LatinHypercube(len(first), rng=np.random.default_rng(seed)).random(count - 1)
    cube = np.clip(cube, EDGE, 1.0 - EDGE)
    columns = _quantiles(vector, first, cube)
    for i, drawn in weights(vector, count, seed).items():
        columns[i] = drawn
    return [first, *(vector.raw(row) for row in np.column_stack(columns))]


def weights(vector: ParameterVector, count: int, seed: int) -> dict[int, Array]:
    """The places in the vector of weights of a user's own modules, and the values [count - 1] that starts draw there.

    Start k draws them from the seed + k, as a fit with that seed does.
    """
    own = {name for name, one in vector.model.unknowns.items() if isinstance(one, Weight) and not one.listed}
    places = [i for i, entry in enumerate(vector.entries) if entry.owner in own]
    if not places:
        return {}
    model, rows = vector.model, []
    begun = {name: value.clone() for name, value in model.state_dict().items()}
    for number in range(1, count):
        model.draw(seed + number, anew=True)
        rows.append(vector.get()[places])
        model.load_state_dict(begun)
    return dict(zip(places, np.stack(rows, 1), strict=True))


def box(vector: ParameterVector, first: Array) -> Array:
    """The box [Q, 2] of x in which nearly all draws around `first` lie: their quantiles at EDGE and 1 - EDGE."""
    ends = np.tile([[EDGE], [1.0 - EDGE]], (1, len(first)))
    low, high = (vector.raw(row) for row in np.column_stack(_quantiles(vector, first, ends)))
    return np.column_stack([np.minimum(low, high), np.maximum(low, high)])


def _quantiles(vector: ParameterVector, first: Array, cube: Array) -> list[Array]:
    """For every unknown, the natural values [N] below which the parts `cube` [N, Q] of its draws lie."""
    guess, unknowns = vector.natural(first), vector.model.unknowns
    beliefs = [unknowns[entry.owner].prior if entry.owner in unknowns else None for entry in vector.entries]
    columns = [
        _values(prior, entry, guess[i], cube[:, i])
        for i, (prior, entry) in enumerate(zip(beliefs, vector.entries, strict=True))
    ]
    for i, size in _initial_scales(vector).items():
        columns[i] = guess[i] + INITIAL * size * ndtri(cube[:, i])
    return columns


def _values(prior: Prior | None, entry: VectorEntry, guess: float, p: Array) -> Array:
    """The natural values below which the parts `p` of what is believed of an unknown lie."""
    low, high = entry.domain.low, entry.domain.high
    if prior is not None:
        return np.asarray(prior.quantile(p))
    if math.isfinite(low) and math.isfinite(high):
        return np.asarray(low + (high - low) * p)
    if math.isfinite(low):
        return np.asarray(low + (guess - low) * np.exp(SPREAD * ndtri(p)))
    return np.asarray(guess + SPREAD * (abs(guess) or 1.0) * ndtri(p))


def _initial_scales(vector: ParameterVector) -> dict[int, float]:
    found: dict[int, float] = {}
    for local, columns in zip(vector.vectors, vector.columns, strict=True):
        found |= dict(zip(columns[local.parameters :].tolist(), local.scale.tolist(), strict=True))
    return found
