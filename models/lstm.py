"""LSTM baseline: a recurrent network that reads positions and predicts the next ones, without physics.

Source: Hochreiter and Schmidhuber (1997), Long short-term memory; used as in Zhuang et al. (2020), section 4.4 and
appendix D.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from physid.catalog import Option, whole
from physid.errors import InputError
from physid.models.sequences import GIVEN, Sequences
from physid.training import Batch, Collection, Learner, Rate, Recipe
from physid.training.networks import Network

RECIPE = Recipe(5000, 50, 0.01, rate=Rate("exponential", 0.999), evaluate_every=500)


def augmented(r: Tensor) -> Tensor:
    """The features [..., 3 n + 12 pairs] of positions [..., n, 3]: r_i, and d, d/|d|, d/|d|^2, d/|d|^3 of all pairs.

    Source: Zhuang et al. (2020), equation 33.
    """
    i, j = torch.triu_indices(r.shape[-2], r.shape[-2], 1)
    d = r[..., i, :] - r[..., j, :]
    size = d.square().sum(-1, keepdim=True).sqrt().clamp(min=1e-6)
    return torch.cat((r, d, d / size, d / size**2, d / size**3), -2).flatten(-2)


class ReadoutLSTM(nn.Module):
    """One network: a layer of `hidden` LSTM units on standardised features, and a linear read-out of the next point."""

    def __init__(self, features: int, hidden: int, channels: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, batch_first=True)
        self.out = nn.Linear(hidden, channels)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The next points [B, T, M] after each of x [B, T, F], and the state after them."""
        seen, state = self.lstm(x, state)
        return self.out(seen), state


class LSTM(Learner):
    """LSTMs that predict the next point of a trajectory from the points before it.

    Trained to say points 2 to 20 of a sequence from points 1 to 19, all of them true ones; tested by reading 10 true
    points and then its own. Points are standardised by the training data. `seeds` networks from seeds of their own are
    trained at once, each as if it were alone; what they differ in is the band of a forecast.

    Errors: InputError for a collection that holds no sequences, and for features of what is no body in space.
    """

    mean: Tensor
    scale: Tensor
    feature_mean: Tensor
    feature_scale: Tensor
    given = GIVEN

    def __init__(self, collection: Collection, hidden: int, seeds: int, aug: bool) -> None:
        super().__init__()
        if not isinstance(collection, Sequences):
            raise InputError(
                f"an LSTM was given the collection {collection.name}: sequences of an experiment are needed."
            )
        self.shape = tuple(collection.experiment.train.observations.shape[1:])
        if aug and (len(self.shape) != 2 or self.shape[0] < 2 or self.shape[1] != 3):
            raise InputError(
                f"lstm-aug needs bodies in space, but {collection.name} observes {list(self.shape)}. Use lstm."
            )
        self.aug = aug
        points = collection.series.float()
        seen = self.features(points)
        for name, values in (("", points), ("feature_", seen)):
            spread = values.std(0)
            self.register_buffer(f"{name}mean", values.mean(0))
            self.register_buffer(f"{name}scale", torch.where(spread > 0, spread, 1.0))
        nets = []
        first = torch.initial_seed()
        with torch.random.fork_rng(devices=[]):
            for k in range(seeds):
                torch.manual_seed(first + k)
                nets.append(ReadoutLSTM(seen.shape[-1], hidden, points.shape[-1]))
        self.nets = nn.ModuleList(nets)

    def features(self, points: Tensor) -> Tensor:
        """Features [..., F] of points [..., M]."""
        return augmented(points.unflatten(-1, self.shape)) if self.aug else points

    def _read(self, points: Tensor) -> Tensor:
        return (self.features(points) - self.feature_mean) / self.feature_scale

    def forward(self, batch: Batch) -> Tensor:
        """The next points [K, B, T, M], standardised, after each of the points [B, T, M]."""
        x = self._read(batch)
        return torch.stack([net(x)[0] for net in self.nets])

    def loss(self, batch: Batch) -> Tensor:
        """The mean squared error of the standardised next points, summed over the networks."""
        target = (batch[:, 1:] - self.mean) / self.scale
        error: Tensor = self(batch[:, :-1]) - target
        return error.square().mean((1, 2, 3)).sum()

    def free_run(self, given: Tensor, count: int) -> Tensor:
        """`count` points [K, count, M]: the points given [G, M], then what each network says on from its own words."""
        paths = []
        with torch.no_grad():
            for net in self.nets:
                said, state = net(self._read(given)[None])
                path = list(given)
                while len(path) < count:
                    path.append(said[0, -1] * self.scale + self.mean)
                    said, state = net(self._read(path[-1])[None, None], state)
                paths.append(torch.stack(path[:count]))
        return torch.stack(paths)

    def scores(self, batch: Batch) -> dict[str, Tensor]:
        """Squared errors of free runs over the series [T, M], and beyond training; means over the networks.

        The series comes with `late` [T], which is true beyond training, and `weight`, 1 over the channels or 1.
        """
        series, late, weight = batch["series"], batch["late"], batch["weight"]
        error = (self.free_run(series[:GIVEN], len(series)) - series).square().sum(-1).mean(0) * weight
        count = torch.tensor(float(len(series)))
        found = {"mse": error.sum(), "count": count}
        if bool(late.any()):
            found["forecast_mse"] = error[late].mean() * count
        return found


OPTIONS: Mapping[str, Option] = {
    "hidden": Option("Units of the layer.", whole(1, 16_384), 64),
    "seeds": Option("Networks from seeds of their own, trained at once; three or more give a band.", whole(1, 1000), 1),
}


def build(collection: Collection, hidden: int, seeds: int, *, aug: bool = False) -> LSTM:
    """The network for a collection."""
    return LSTM(collection, hidden, seeds, aug)


_PROTOCOLS = {"paper-text": RECIPE, "paper-code": RECIPE}
PLAIN = Network("lstm", "LSTM on what was measured.", OPTIONS, build, RECIPE, (), _PROTOCOLS, Sequences)
AUGMENTED = Network(
    "lstm-aug",
    "LSTM on positions, differences and distances of bodies.",
    OPTIONS,
    partial(build, aug=True),
    RECIPE,
    (),
    _PROTOCOLS,
    Sequences,
)
