"""Ensemble of seeds of one fit: the spread of their predictions as a band."""

from __future__ import annotations

import numpy as np
from scipy import stats

from physid.arrays import Array

FEWEST = 3  # seeds whose spread is a band


def band(paths: Array, level: float = 0.95) -> tuple[Array, Array]:
    """The ends [T, M] of the interval in which a further seed's path falls, from the paths [K, T, M] of K seeds.

    mean -+ q s sqrt(1 + 1 / K), s their standard deviation, q Student's quantile for it; not-a-number for fewer than
    three. Source: the prediction interval of a normal sample, as in Hahn and Meeker (1991), section 4.7.
    """
    count, mean = len(paths), paths.mean(0)
    if count < FEWEST:
        return np.full(mean.shape, np.nan), np.full(mean.shape, np.nan)
    reach = stats.t.ppf(0.5 + level / 2, count - 1) * paths.std(0, ddof=1) * np.sqrt(1.0 + 1.0 / count)
    return mean - reach, mean + reach
