"""Shared parts of the models below full knowledge: random initial weights as unknowns, and layers made of them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from physid.errors import InputError
from physid.modelling.model import Model
from physid.modelling.prior import Ridge
from physid.modelling.unknown import Unknown


def weights(penalty: Ridge | None = None) -> Unknown:
    """Weights of a shape that is not known yet, drawn to zero by a penalty and not listed in reports."""
    return Unknown(torch.zeros(1, 1), prior=penalty, resizable=True, listed=False)


def drawn() -> Unknown:
    """Weights that are drawn and held, unless a fit frees them."""
    return Unknown(torch.zeros(1, 1), prior=Ridge(), fixed=True, resizable=True, listed=False)


def scale_of(name: str, given: object, shape: tuple[int, ...]) -> Tensor:
    """The typical sizes `given` for numbers of a shape: one for all, or their own. Errors: InputError for others."""
    size = torch.as_tensor(given, dtype=torch.float64)
    try:
        return size.expand(shape).clone()
    except RuntimeError:
        raise InputError(
            f"{name} has shape {list(size.shape)}, and the model needs {list(shape)}: it is for another kind of system "
            "than what was measured. Take a model with the states of the experiment, all of which are seen."
        ) from None


class Drawn(Model):
    """A model with weights that are drawn at random before a fit, unless they were given.

    A subclass says in `layout` which weights it has: name -> (shape, size), the entries of which are drawn from
    U(-size, size). It calls `_lay_out(values)` once its shapes are known, with what its constructor was given.
    """

    fresh: bool = False

    def layout(self) -> Mapping[str, tuple[tuple[int, ...], float]]:
        """The weights: name -> (shape, size)."""
        raise InputError(f"{type(self).__name__} does not say which weights it has. Define layout(self) in it.")

    def _lay_out(self, values: Mapping[str, object]) -> None:
        """Give every weight its shape, and the values that were given; the others are drawn with seed 0."""
        for name, (shape, _) in self.layout().items():
            unknown = type(self).unknowns[name]
            value = torch.zeros(shape, dtype=torch.float64)
            if name in values:
                value = unknown.fit_shape(unknown.check(values[name]), torch.Size(shape))
            free = unknown.raw_of(self).requires_grad
            self.raw.register_parameter(name, nn.Parameter(value, requires_grad=free))
        if not any(name in values for name in self.layout()):
            self.draw(0, anew=True)
            self.fresh = True

    def draw(self, seed: int, anew: bool = False) -> None:
        """Draw the weights from U(-size, size); those that were given or fitted only if `anew`."""
        super().draw(seed, anew)
        if not (self.fresh or anew):
            return
        generator = torch.Generator().manual_seed(seed)
        for name, (shape, size) in self.layout().items():
            drawn = 2.0 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1.0
            setattr(self, name, size * drawn)
        self.fresh = False
