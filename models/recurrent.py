"""Recurrent networks for irregular series: the two baselines of the latent ODE."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from physid.data.series import Series
from physid.models.latent_ode import SIGMA, squared_error
from physid.models.perceptron import Perceptron
from physid.training import Learner

FED = 0.5  # part of the training's steps at which a network is fed its own prediction
SLOWEST, FASTEST = 0.0, 1000.0  # bounds of a decay's exponent


class Recurrent(Learner):
    """A gated recurrent unit that reads a series forwards and predicts each time from what came before it.

        h <- GRU((x, mask, gap), h) where something was observed;  x(t_next) = net(h)

    The gap is the time since the last observation of the series. The first prediction is the first observation, 0 where
    there is none. In training, half of the steps are fed the prediction in place of the observation. The loss is minus
    the log-likelihood with standard deviation 1e-3.

    Source: RNN with time gaps of Rubanova, Chen and Duvenaud (2019), section 4.2; "RNN" in Zhuang et al. (2020),
    table 4.
    """

    def __init__(self, channels: int = 14, *, hidden: int = 15, width: int = 300) -> None:
        super().__init__()
        self.hidden = hidden
        self.cell = nn.GRUCell(2 * channels + self.extra(channels), hidden)
        self.readout = Perceptron(hidden, width, channels)

    @staticmethod
    def extra(channels: int) -> int:
        """Number of inputs beside values and mask."""
        return 1

    def forward(self, batch: Series) -> Tensor:
        """Predictions [1, B, T, C] at the batch's times."""
        batch = Series(*(part.to(self.cell.weight_ih.dtype) for part in batch))
        values, mask, gaps = self.filled(batch), batch.observed, self.gaps(batch)
        seen = mask.sum(-1) > 0
        state = values.new_zeros(len(values), self.hidden)
        found, fed = [values[:, 0] * mask[:, 0]], torch.rand(values.shape[1]) < FED
        for place in range(values.shape[1] - 1):
            x = found[-1] if self.training and place and fed[place] else values[:, place]
            after = self.step(x, mask[:, place], gaps[:, place], state)
            state = torch.where(seen[:, place, None], after, state)
            found.append(self.readout(state))
        return torch.stack(found, 1)[None]

    def sample(self, batch: Series, count: int) -> Tensor:
        """The predictions [1, B, T, C]: without draws there is one, whatever the `count`."""
        found: Tensor = self(batch)
        return found

    def filled(self, batch: Series) -> Tensor:
        """The values [B, T, C] that are read."""
        return batch.values

    def gaps(self, batch: Series) -> Tensor:
        """The time [B, T, 1] since the last observation of the series."""
        return elapsed(batch.times, (batch.observed.sum(-1, keepdim=True) > 0).to(batch.times))

    def step(self, x: Tensor, mask: Tensor, gap: Tensor, state: Tensor) -> Tensor:
        """The state after an observation."""
        after: Tensor = self.cell(torch.cat((x, mask, gap), -1), state)
        return after

    def loss(self, batch: Series) -> Tensor:
        """Minus the log-likelihood [] of what is wanted, per value."""
        error = squared_error(self(batch), batch).mean()
        return error / (2 * SIGMA**2) + math.log(SIGMA) + math.log(2 * math.pi) / 2

    def scores(self, batch: Series) -> dict[str, Tensor]:
        """Sums over the batch of the squared error per wanted value (mse), and how many series there are (count)."""
        error = squared_error(self(batch), batch)
        return {"mse": error.sum(), "count": torch.tensor(len(error))}


class Decaying(Recurrent):
    """The same, forgetting in time: the state, and what was last seen of each channel, decay exponentially.

        x <- mask x + (1 - mask) (g x_last + (1 - g) mean),  g = exp(-max(0, w gap + b));  h <- h exp(-max(0, net(gap)))

    The gap is the time since the last observation of each channel; the mean that of what was observed of the series.

    Source: GRU-D of Che et al. (2018), Recurrent Neural Networks for Multivariate Time Series with Missing Values;
    "RNN-GRU" in Zhuang et al. (2020), table 4.
    """

    def __init__(self, channels: int = 14, *, hidden: int = 15, width: int = 300) -> None:
        super().__init__(channels, hidden=hidden, width=width)
        self.forgetting = Perceptron(channels, 1)
        self.fading = nn.Parameter(torch.zeros(2, channels))

    @staticmethod
    def extra(channels: int) -> int:
        """None: the gap acts on the state."""
        return 0

    def filled(self, batch: Series) -> Tensor:
        """The observations, and between them the last one decaying to the mean."""
        values, mask = batch.values, batch.observed
        last = last_seen(values, mask)
        mean = values.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
        slope, offset = self.fading
        decay = torch.exp(-(slope * elapsed(batch.times, mask) + offset).clamp(SLOWEST, FASTEST))
        return mask * values + (1 - mask) * (decay * last + (1 - decay) * mean)

    def gaps(self, batch: Series) -> Tensor:
        """The time [B, T, C] since the last observation of each channel."""
        return elapsed(batch.times, batch.observed)

    def step(self, x: Tensor, mask: Tensor, gap: Tensor, state: Tensor) -> Tensor:
        """The state after an observation."""
        decay = torch.exp(-self.forgetting(gap).clamp(SLOWEST, FASTEST))
        after: Tensor = self.cell(torch.cat((x, mask), -1), state * decay)
        return after


def before(mask: Tensor) -> Tensor:
    """The place of the last observation before each time [B, T, C], -1 where there is none."""
    places = torch.arange(mask.shape[1], device=mask.device)[None, :, None]
    seen = torch.where(mask > 0, places, -1).cummax(1).values
    return torch.cat((torch.full_like(seen[:, :1], -1), seen[:, :-1]), 1)


def elapsed(times: Tensor, mask: Tensor) -> Tensor:
    """The time [B, T, C] since the last observation, or since the first time where there was none."""
    return times[None, :, None] - times[before(mask).clamp(min=0)]


def last_seen(values: Tensor, mask: Tensor) -> Tensor:
    """The last value observed before each time [B, T, C], 0 where there was none."""
    places = before(mask)
    return values.gather(1, places.clamp(min=0)) * (places >= 0)
