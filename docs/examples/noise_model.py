"""A noise model of one's own: normal errors near zero, with the tails of Laplace's."""

import numpy as np
import torch
from scipy import stats

from physid import Experiment, Trajectory, fit
from physid.inference import ScaledNoise
from physid.models import Exponential


class Hyperbolic(ScaledNoise):
    """Errors e = sigma u with the density exp(-sqrt(1 + u^2)) / (2 K1(1)). Source: Barndorff-Nielsen (1977)."""

    heavy_tailed = True
    distribution = stats.genhyperbolic(1.0, 1.0, 0.0)

    def rho(self, z):
        """rho = -2 log p but for a constant, and its first two derivatives by z = u^2."""
        root = np.sqrt(1.0 + z)
        return 2.0 * (root - 1.0), 1.0 / root, -0.5 / root**3


t = np.linspace(0.0, 4.0, 60)
x = np.exp(-0.5 * t) + 0.02 * Hyperbolic.distribution.rvs(60, random_state=1)
data = Experiment("decay", Trajectory(torch.tensor(t), torch.tensor(x[:, None])), torch.ones(1))
found = fit(Exponential(), data, noise=Hyperbolic())
print(found.settings["noise"], *(f"{one.name} {one.low:.3f} to {one.high:.3f}" for one in found.estimates))
