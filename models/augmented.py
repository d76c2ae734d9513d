"""Partial knowledge of celestial mechanics: forces are made of differences of positions and powers of distances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from physid.errors import InputError
from physid.modelling.model import Derived, SecondOrder
from physid.modelling.prior import Ridge
from physid.models.network import Drawn, drawn, weights

BLOCKS = ("position", "difference", "direction", "inverse", "cubic")
POWERS = {"position": 0, "difference": 1, "direction": 0, "inverse": -1, "cubic": -2}
NEAR = 0.3  # the distance that sets the size of a feature before a hidden layer
NOTHING = 1e-9  # a weight below this is none, where weights are dropped


class AugmentedFeatures(SecondOrder):
    """Motion of bodies whose accelerations are made of the augmented features, by what a subclass says.

    r_i' = K2 v_i, with K2 the velocity scale. The features are, for all bodies i and all pairs i < j with
    d = r_j - r_i: r_i, d, d / |d|, d / |d|^2, d / |d|^3. The state is [..., 2, bodies, 3], observed are the positions.

    Source: Zhuang et al. (2020), equations 33 and 34.
    """

    _edges: Tensor

    def _features(self, bodies: int, velocity_scale: float) -> None:
        """Keep the constants, and the pairs' differences [pairs, bodies] as a matrix."""
        if bodies < 2:
            raise InputError(f"{type(self).__name__} was given {bodies} bodies: expected two or more.")
        self.bodies, self.velocity_scale = int(bodies), float(velocity_scale)
        self.first, self.second = (index.tolist() for index in torch.triu_indices(bodies, bodies, 1))
        edges = torch.zeros(len(self.first), bodies, dtype=torch.float64)
        for pair, (i, j) in enumerate(zip(self.first, self.second, strict=True)):
            edges[pair, i], edges[pair, j] = -1.0, 1.0
        self.register_buffer("_edges", edges, persistent=False)

    def velocity(self, t: Tensor, r: Tensor, v: Tensor) -> Tensor:
        """K2 v."""
        return v if self.velocity_scale == 1.0 else self.velocity_scale * v

    def features(self, r: Tensor) -> Tensor:
        """The features [..., 3 bodies + 12 pairs] of positions [..., bodies, 3]."""
        d = self._edges @ r
        squared = (d * d).sum(-1, keepdim=True)
        return torch.cat((r, d, d * squared.rsqrt(), d / squared, d * squared.pow(-1.5)), -2).flatten(-2)

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of features of the blocks."""
        pairs = self.dimension * len(self.first)
        return {name: self.dimension * self.bodies if name == "position" else pairs for name in BLOCKS}


class Augmented(AugmentedFeatures, Drawn):
    """The augmented NODE: one layer from the features of all bodies to the accelerations of all bodies.

    v' = W^T features + bias, one matrix for all of them (a layer shared by the bodies cannot represent unequal masses).
    Newton's law lies in its span: d / |d|^3 of a pair (i, j) with the weight K1 m_j in the acceleration of i and
    -K1 m_i in that of j. So the masses can be read out of the block `cubic`, with K1 the coupling. All weights but
    those of this block are penalised: along one trajectory the features are nearly collinear.

    State, observation and features: see AugmentedFeatures. Errors: InputError for fewer than two bodies.

    Source: Zhuang et al. (2020), equations 33 and 34 and table 5.
    """

    recipe: ClassVar[Mapping[str, Any]] = {"strategy": "match"}
    position, difference, direction, inverse = (weights(Ridge()) for _ in range(4))
    cubic = weights()
    bias = weights(Ridge())

    def __init__(
        self, *, bodies: int = 3, coupling: float = 1.0, velocity_scale: float = 1.0, **values: object
    ) -> None:
        super().__init__(**values)
        self._features(bodies, velocity_scale)
        self.coupling = float(coupling)
        self._lay_out(values)

    def layout(self) -> Mapping[str, tuple[tuple[int, ...], float]]:
        """Every block [features, 3 bodies] and the bias [3 bodies], as torch.nn.Linear draws them."""
        out, counts = self.dimension * self.bodies, self.counts
        size = sum(counts.values()) ** -0.5
        return {**{name: ((count, out), size) for name, count in counts.items()}, "bias": ((out,), size)}

    def matrix(self) -> Tensor:
        """The weights [features, 3 bodies]."""
        return torch.cat([getattr(self, name) for name in BLOCKS], 0)

    def acceleration(self, t: Tensor, r: Tensor, v: Tensor) -> Tensor:
        """W^T features + bias [..., bodies, 3]."""
        found: Tensor = self.features(r) @ self.matrix() + self.bias
        return torch.unflatten(found, -1, (self.bodies, self.dimension))

    def derived(self) -> Mapping[str, Derived]:
        """The masses [bodies]: for each body the mean of what the weights of all its pairs and axes say."""
        cubic = self.matrix()[-self.counts["cubic"] :]
        pairs = cubic.view(len(self.first), self.dimension, self.bodies, self.dimension)
        said: list[list[Tensor]] = [[] for _ in range(self.bodies)]
        for pair, (i, j) in enumerate(zip(self.first, self.second, strict=True)):
            said[j].append(torch.diagonal(pairs[pair, :, i]).mean())
            said[i].append(-torch.diagonal(pairs[pair, :, j]).mean())
        masses = torch.stack([torch.stack(one).mean() for one in said]) / self.coupling
        return {"mass": Derived(masses, "reference mass")}


class SparseAugmented(Augmented):
    """The augmented NODE with only those weights that the data need: the others are dropped, and the rest refitted.

    A weight is dropped when what it adds along the data is below `threshold` of the root mean square of the
    acceleration that it is added to, the least first, a tenth of them at a time. All blocks are penalised alike.

    Source: Brunton, Proctor and Kutz (2016) for the thresholds; features as in Augmented.
    """

    position, difference, direction, inverse, cubic, bias = (weights(Ridge()) for _ in range(6))
    threshold = 0.02

    def matrix(self) -> Tensor:
        """The weights [features, 3 bodies], zero where they were dropped."""
        found = super().matrix()
        return found * (found.abs() > NOTHING).to(found)

    def prune(self, states: Tensor, rates: Tensor) -> bool:
        """Set the weakest of the weights below the threshold to zero."""
        with torch.no_grad():
            features, matrix = self.features(states.select(-3, 0)), self.matrix()
            size = rates.select(-3, 1).flatten(-2).square().mean(0).sqrt()
            share = matrix.abs() * features.square().mean(0).sqrt()[:, None] / size
            there = share[matrix.abs() > NOTHING]
            weak = there[there < self.threshold]
            if not len(weak):
                return False
            most = weak.sort().values[min(len(weak), max(1, len(there) // 10)) - 1]
            kept = torch.where(share > most, matrix, 0.0).split(list(self.counts.values()))
            for name, block in zip(BLOCKS, kept, strict=True):
                setattr(self, name, block)
        return True


class AugmentedNetwork(Augmented):
    """The augmented NODE with a hidden layer beside its linear one.

    v' = W^T x + out^T tanh(hidden^T x / s + shift) + bias, with the features x and their sizes s [features]: 1 for
    positions, and what a distance of 0.3 makes of the others. The hidden layer is drawn at random and stays, unless
    `--free hidden` and `--free shift` train it too; all but the block `cubic` is penalised. The masses are what this
    block says of them, and so wrong by what `out` has taken over.

    Errors: InputError for a width below one, and those of Augmented.

    Source: features as in Zhuang et al. (2020), equations 33 and 34; Huang, Zhu and Siew (2006) for random layers.
    """

    width: int
    out = weights(Ridge())
    hidden, shift = drawn(), drawn()

    def __init__(self, *, width: int = 32, **values: Any) -> None:
        if int(width) < 1:
            raise InputError(f"width={width}: expected one hidden unit or more.")
        self.__dict__["width"] = int(width)  # which the layout needs, before torch's own constructor ran
        super().__init__(**values)

    def layout(self) -> Mapping[str, tuple[tuple[int, ...], float]]:
        """The blocks and the bias, as of the linear layer, and the hidden layer."""
        total, linear = sum(self.counts.values()), super().layout()
        return {
            **linear,
            "out": ((self.width, *linear["bias"][0]), 0.0),
            "hidden": ((total, self.width), (3.0 / total) ** 0.5),
            "shift": ((self.width,), 1.0),
        }

    def acceleration(self, t: Tensor, r: Tensor, v: Tensor) -> Tensor:
        """The linear layer and the hidden one [..., bodies, 3]."""
        x = self.features(r)
        sizes = [x.new_full((self.counts[name],), NEAR**power) for name, power in POWERS.items()]
        inner = torch.tanh((x / torch.cat(sizes)) @ self.hidden + self.shift)
        found: Tensor = x @ self.matrix() + inner @ self.out + self.bias
        return torch.unflatten(found, -1, (self.bodies, self.dimension))
