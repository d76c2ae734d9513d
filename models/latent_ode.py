"""The latent ODE: irregular series as trajectories of an unknown differential equation in a hidden state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from physid.data.series import Series
from physid.errors import InputError
from physid.models.odernn import OdeRnn
from physid.models.perceptron import Perceptron
from physid.ode import ACA, Integrator
from physid.training import Learner

REMEMBERING = ACA(remember=True)  # a step of the decoder is short, and its stages are cheap to keep
SIGMA = 1e-3  # standard deviation of an observation
SAMPLES = 3  # of the state at the first time
WAIT = 10  # epochs without the Kullback-Leibler term
ANNEAL = 0.99  # what is left of its absence after each epoch from then on


class LatentODE(Learner):
    """A variational autoencoder of irregular series with an ODE between encoder and observations.

        z0 ~ N(m, s),  m, s = head(ODE-RNN of the observations);  dz/dt = net(z);  x(t) = A z(t) + b

    With the sizes of the paper's experiment it has 617,619 parameters. The loss is -log sum over samples of
    exp(log-likelihood - beta KL), the likelihood normal with standard deviation 1e-3 and averaged over what is wanted,
    beta = 0 for 10 epochs and 1 - 0.99^(epoch - 10) afterwards. `integrator` says how z is solved for: solver,
    tolerances, gradient method; one step for the whole batch, or with `own_steps` every sample its own.

    Errors: InputError for sizes that are not positive.

    Source: Rubanova, Chen and Duvenaud (2019); as used by Zhuang et al. (2020), section 4.3.
    """

    def __init__(
        self,
        channels: int = 14,
        *,
        latent: int = 15,
        recognition: int = 30,
        width: int = 300,
        depth: int = 3,
        units: int = 100,
        samples: int = SAMPLES,
        integrator: Integrator | None = None,
        own_steps: bool = False,
    ) -> None:
        super().__init__()
        sizes: Mapping[str, int] = {
            "channels": channels,
            "latent": latent,
            "recognition": recognition,
            "width": width,
            "units": units,
            "samples": samples,
        }
        for name, size in sizes.items():
            if size < 1:
                raise InputError(f"{name}={size}: expected a whole number from 1 up.")
        self.channels, self.latent, self.samples = channels, latent, samples
        self.encoder = OdeRnn(channels, recognition, width, depth, units)
        self.head = Perceptron(2 * recognition, units, 2 * latent)
        self.field = Perceptron(latent, *[width] * (depth + 1), latent)
        self.readout = Perceptron(latent, channels)
        self.integrator = integrator or Integrator("dopri5", 1e-3, 1e-4, gradient=REMEMBERING, engine="eager")
        self.own_steps, self.epoch, self.evaluations = own_steps, 0, 0

    def begin(self, epoch: int) -> None:
        """Told before each epoch, for the weight of the Kullback-Leibler term."""
        self.epoch = epoch

    def tally(self) -> dict[str, float]:
        """Evaluations of the decoder's field since the last call."""
        found, self.evaluations = float(self.evaluations), 0
        return {"evaluations": found}

    def encode(self, batch: Series) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [B, latent] of the state at the first time."""
        mean, spread = self.head(torch.cat(self.encoder(batch.times, batch.values, batch.observed), -1)).chunk(2, -1)
        return mean, spread.abs()

    def decode(self, first: Tensor, times: Tensor) -> Tensor:
        """States [S, B, T, latent] at times [T] from those at the first of them [S, B, latent]."""
        flat = first.flatten(0, 1)
        solution = self.integrator.solve(self._slope, flat, times, batched=self.own_steps)
        self.evaluations += solution.statistics.evaluations
        states: Any = solution.y
        decoded: Tensor = states.movedim(0, 1).unflatten(0, first.shape[:2])
        return decoded

    def _slope(self, t: Tensor, z: Tensor) -> Tensor:
        slope: Tensor = self.field(z)
        return slope

    def forward(self, batch: Series) -> Tensor:
        """Observations [S, B, T, C] at the batch's times for draws of the state at the first of them."""
        return self.sample(batch, self.samples)

    def sample(self, batch: Series, count: int) -> Tensor:
        """The same for `count` draws."""
        return self._predict(*self.encode(batch), batch.times, count)

    def _predict(self, mean: Tensor, spread: Tensor, times: Tensor, count: int) -> Tensor:
        noise = torch.randn(count, *mean.shape, dtype=mean.dtype).to(mean.device)  # alike on every device
        found: Tensor = self.readout(self.decode(mean + spread * noise, times))
        return found

    def loss(self, batch: Series) -> Tensor:
        """The loss [] of a batch, one draw of `samples` states."""
        mean, spread = self.encode(batch)
        predicted = self._predict(mean, spread, batch.times, self.samples)
        weight = max(0.0, 1 - ANNEAL ** (self.epoch - WAIT))
        divergence = (spread.square() + mean.square() - 1 - 2 * spread.log()).mean() / 2
        return -torch.logsumexp(log_likelihood(predicted, batch) - weight * divergence, 0)

    def scores(self, batch: Series) -> dict[str, Tensor]:
        """Sums over the batch of the squared error per wanted value (mse), and how many series there are (count)."""
        error = squared_error(self(batch), batch)
        return {"mse": error.sum(), "count": torch.tensor(len(error))}


def squared_error(predicted: Tensor, batch: Series) -> Tensor:
    """The squared error [B], averaged over the samples [S, B, T, C] and over what is wanted of each series."""
    square = (predicted - batch.targets).square().mean(0) * batch.wanted
    return square.sum((1, 2)) / batch.wanted.sum((1, 2)).clamp(min=1)


def log_likelihood(predicted: Tensor, batch: Series) -> Tensor:
    """The log-likelihood [S] of predictions [S, B, T, C], per wanted value and averaged over the series."""
    square = (predicted - batch.targets).square() * batch.wanted
    per_series = square.sum((2, 3)) / batch.wanted.sum((1, 2)).clamp(min=1)
    return -per_series.mean(1) / (2 * SIGMA**2) - math.log(SIGMA) - math.log(2 * math.pi) / 2
