"""A model of one's own: a pendulum of unknown length and friction, and the period that follows from the length."""

import numpy as np
import torch
from scipy.integrate import odeint

from physid import Derived, Experiment, Model, Trajectory, Unknown, between, fit, positive


class Pendulum(Model):
    """phi'' = -g / length sin(phi) - friction phi', with phi in radians and g = 9.81 m/s^2."""

    state_names = ("phi", "omega")
    length = Unknown(0.5, positive, unit="m")
    friction = Unknown(0.1, between(0.0, 2.0), unit="1/s")

    def field(self, t, y):
        phi, omega = y.unbind(-1)
        return torch.stack([omega, -9.81 / self.length * torch.sin(phi) - self.friction * omega], -1)

    def derived(self):
        return {"period": Derived(2 * torch.pi * torch.sqrt(self.length / 9.81), "s")}


t = np.linspace(0.0, 8.0, 81)
truth = odeint(lambda y, _: [y[1], -9.81 / 0.8 * np.sin(y[0]) - 0.2 * y[1]], [1.2, 0.0], t, rtol=1e-9, atol=1e-9)
seen = truth + 0.01 * np.random.default_rng(1).standard_normal((81, 2))
data = Experiment("pendulum", Trajectory(t, seen), initial=[1.2, 0.0], channels=("phi", "omega"))
print(fit(Pendulum(), data).report())
