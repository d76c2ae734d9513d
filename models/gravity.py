"""Point masses that attract one another: the full knowledge of celestial mechanics."""

from __future__ import annotations

import torch
from torch import Tensor

from physid.errors import InputError
from physid.modelling.model import SecondOrder
from physid.modelling.unknown import Unknown, positive, real


class PointMasses(SecondOrder):
    """Bodies that attract one another in proportion to their strength and the inverse square of their distance.

    r_i' = K2 v_i;  v_i' = K1 sum_j s_j (r_j - r_i) / |r_j - r_i|^3, with K1 the coupling and K2 the velocity scale.

    The state is [..., 2, bodies, 3]. Observed are the positions [..., bodies, 3] or, with `relative_to` = i, those of
    the other bodies relative to body i [..., bodies - 1, 3]. A subclass gives the strengths s [bodies].

    Errors: InputError for fewer than two bodies, or a `relative_to` that is no body.
    """

    _edges: Tensor
    _signs: Tensor
    _other: Tensor
    _rest: Tensor

    def __init__(
        self, *, coupling: float = 1.0, velocity_scale: float = 1.0, relative_to: int | None = None, **values: object
    ) -> None:
        super().__init__(**values)
        n = self.bodies = self.strength().numel()
        if self.strength().shape != (n,) or n < 2:
            raise InputError(f"{type(self).__name__} was given {n} bodies: expected a list of two numbers or more.")
        if relative_to is not None and relative_to not in range(n):
            raise InputError(f"relative_to={relative_to!r} is none of the {n} bodies: expected 0 to {n - 1} or None.")
        self.coupling, self.velocity_scale, self.relative_to = float(coupling), float(velocity_scale), relative_to
        self._tabulate_pairs(n)

    def _tabulate_pairs(self, n: int) -> None:
        """The constants of the pairs i < j, so that one evaluation is ten tensor operations whatever the bodies.

        edges [pairs, bodies] takes positions to differences r_j - r_i; signs and other [bodies * pairs] give the weight
        of every pair in every body's acceleration: +K1 times the strength of j for i, and -K1 times that of i for j.
        """
        i, j = torch.triu_indices(n, n, 1)
        pairs = torch.arange(len(i))
        edges = torch.zeros(len(i), n, dtype=torch.float64)
        edges[pairs, j], edges[pairs, i] = 1.0, -1.0
        other = torch.zeros(n, len(i), dtype=torch.long)
        other[i, pairs], other[j, pairs] = j, i
        rest = torch.tensor([k for k in range(n) if k != self.relative_to])
        constants = {"edges": edges, "signs": -self.coupling * edges.T.reshape(-1), "other": other.view(-1)}
        for name, value in {**constants, "rest": rest}.items():
            self.register_buffer(f"_{name}", value, persistent=False)

    def strength(self) -> Tensor:
        """The strengths s [bodies] with which the bodies attract."""
        raise InputError(f"{type(self).__name__} does not say how strongly its bodies attract. Define strength(self).")

    def velocity(self, t: Tensor, r: Tensor, v: Tensor) -> Tensor:
        """K2 v: the velocities in units of length per time."""
        return v if self.velocity_scale == 1.0 else self.velocity_scale * v

    def acceleration(self, t: Tensor, r: Tensor, v: Tensor) -> Tensor:
        """The pull of all other bodies [..., bodies, 3]."""
        difference = self._edges @ r
        pull = difference * (difference * difference).sum(-1, keepdim=True).pow(-1.5)
        weights = self._signs * self.strength().index_select(0, self._other)
        return weights.view(self.bodies, -1) @ pull

    def observe(self, y: Tensor) -> Tensor:
        """The positions, those of the other bodies relative to body `relative_to` if there is one."""
        r = super().observe(y)
        if self.relative_to is None:
            return r
        return r.index_select(-2, self._rest) - r.select(-2, self.relative_to).unsqueeze(-2)


class NewtonGravity(PointMasses):
    """Newton's law of gravitation for any number of bodies with unknown masses.

    r_i' = K2 v_i;  v_i' = K1 sum_j m_j (r_j - r_i) / |r_j - r_i|^3, so that K1 is the constant of gravitation in the
    units chosen, and K2 is one unless velocities have a unit of their own. State, observation, errors: see PointMasses.

    Source: Newton (1687), Principia, book III; in the units of Zhuang et al. (2020), section 4.4, K1 = 0.2004844 and
    K2 = 7.2393239.
    """

    mass = Unknown([1.0, 1.0, 1.0], positive, unit="reference mass", resizable=True)

    def strength(self) -> Tensor:
        """The masses."""
        return self.mass


class PlanetaryGravity(PointMasses):
    """Newton's law with the products GM as unknowns, as ephemerides give them; they may start from zero.

    v_i' = sum_j GM_j (r_j - r_i) / |r_j - r_i|^3 in au and days. State, observation, errors: see PointMasses.

    Source: Newton (1687); values for the Solar system: Park et al. (2021), DE440.
    """

    gm = Unknown([2.96e-4, 0.0], real, unit="au^3/day^2", resizable=True)

    def strength(self) -> Tensor:
        """The products of the constant of gravitation and the masses."""
        return self.gm
