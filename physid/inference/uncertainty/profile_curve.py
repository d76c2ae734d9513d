"""The profile likelihood of one unknown, as data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from physid.arrays import Array


@dataclass(frozen=True)
class Profile:
    """The profile of one unknown: its values [K], in order, and the other unknowns' best fit at each.

    `tau` [K] is the signed root of the likelihood ratio: sign(value - estimate) sqrt(2 (L(best) - L(value))), or with
    an estimated noise the root of (S(value) - S(best)) / s^2. With a noise model whose sigmas are estimated by channel
    that is dof (exp(2 (L(best) - L(value)) / N) - 1), each L with the sigmas that fit there. A straight line in the
    value means that the linearised interval is right. `threshold` is the quantile (normal, or Student's t) that bounds
    the 95 % interval `low` to `high`; None on a side where the profile never reaches it: there the data set no bound.
    `better` [Q] is a point, in the transformed space, that fits better than the estimate, if the profile met one.
    """

    name: str
    values: Array
    tau: Array
    threshold: float
    low: float | None
    high: float | None
    estimate: float
    unit: str = ""
    better: Array | None = None

    @property
    def ratio(self) -> Array:
        """tau^2 [K]: twice the fall of the log-likelihood."""
        return np.asarray(self.tau**2)
