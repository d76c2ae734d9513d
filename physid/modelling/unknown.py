"""Unknown: a parameter to identify, declared with a guess, a domain, a unit and an optional prior."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, overload

import torch
from torch import Tensor, nn

from physid.errors import InputError
from physid.modelling.declared import unmade
from physid.modelling.prior import LogNormal as LogNormal
from physid.modelling.prior import Normal as Normal
from physid.modelling.prior import Prior
from physid.modelling.prior import Ridge as Ridge
from physid.modelling.prior import Uniform as Uniform

Tie = str | Callable[[Any], Any]
MISSING: Any = object()  # a guess that was not given


class HasUnknowns(Protocol):
    """The part of a model that its unknowns read: its ties by name, and its modules with parameters."""

    ties: Any
    _modules: Any

    def get_submodule(self, target: str) -> nn.Module:
        """The module at a path."""


@dataclass(frozen=True)
class Domain:
    """The open interval (low, high) in which an unknown lives, and the bijection from the real line onto it.

    The value is raw on the whole line, low + exp(raw) on a half line, low + (high - low) / (1 + exp(-raw)) between two
    bounds. Fits run in the raw space, so that no step of an optimiser can leave the domain.
    """

    name: str
    low: float = -math.inf
    high: float = math.inf

    def to_value(self, raw: Tensor) -> Tensor:
        """The natural value of `raw`, of the same shape, differentiable."""
        if self.high < math.inf:
            return self.low + (self.high - self.low) * torch.sigmoid(raw)
        if self.low > -math.inf:
            return raw.exp() if self.low == 0.0 else self.low + raw.exp()
        return raw

    def to_raw(self, value: Tensor) -> Tensor:
        """The raw number whose value is `value`, of the same shape; it is not finite on the bounds and beyond."""
        if self.high < math.inf:
            return torch.log(value - self.low) - torch.log(self.high - value)
        if self.low > -math.inf:
            return torch.log(value - self.low)
        return value

    def contains(self, value: Tensor | float) -> bool:
        """Whether every element of `value` is finite and strictly inside the bounds."""
        value = torch.as_tensor(value)
        inside = torch.isfinite(value) & (value > self.low) & (value < self.high)
        return bool(inside.all())

    def at_bound(self, value: Tensor, size: Tensor | float = 1.0, tolerance: float = 1e-6) -> Tensor:
        """Mask of the elements of `value` within `tolerance` times the range of a bound.

        A half line has no range: there the typical `size` of the value counts, such as where a fit started.
        """
        near = tolerance * (self.high - self.low if math.isfinite(self.high - self.low) else size)
        return (value - self.low <= near) | (self.high - value <= near)

    def __str__(self) -> str:
        """The domain as it is spoken of in messages."""
        return "the real line" if self.name == "real" else f"({self.low:g}, {self.high:g})"


real = Domain("real")
positive = Domain("positive", 0.0)


def between(low: float, high: float) -> Domain:
    """The domain of the values strictly between two finite bounds."""
    low, high = float(low), float(high)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"between({low:g}, {high:g}) is no domain: expected two finite bounds, the lower first.")
    return Domain("between", low, high)


class Unknown:
    """An unknown of a model, as a descriptor: `mass = Unknown([1, 1, 1], positive, unit="Msun")`.

    On an instance, `model.mass` is the natural value [*shape], differentiable in the raw parameter `raw.mass`, and
    `model.mass = [...]` sets it. With `resizable` a model may be made with any number of elements. In a fit of several
    experiments it is the same in all of them, unless `per_experiment` gives each its own.
    `tie` makes it a function of the others, `Unknown(tie=lambda model: 2 * model.length)` or the text "2 * length" (see
    `physid.modelling.expression`): it is then no longer identified, and its `guess` not needed. Weights of a network,
    of which no single one means anything, are not `listed` in reports.

    Errors: InputError for a guess that is no number or outside the domain.
    """

    def __init__(
        self,
        guess: object = MISSING,
        domain: Domain = real,
        unit: str = "",
        prior: Prior | None = None,
        fixed: bool = False,
        resizable: bool = False,
        per_experiment: bool = False,
        tie: Tie | None = None,
        listed: bool = True,
    ) -> None:
        if isinstance(prior, Uniform):
            domain = between(max(domain.low, prior.low), min(domain.high, prior.high))
        self.domain, self.unit, self.prior, self.fixed, self.resizable = domain, unit, prior, fixed, resizable
        self.per_experiment, self.tie, self.listed, self.name, self.path = per_experiment, tie, listed, "", ""
        if guess is MISSING and tie is None:
            raise InputError("an unknown needs a guess, as in Unknown(1.0), unless it is tied to others.")
        self.guess = self.check(self.middle if guess is MISSING else guess)

    def __set_name__(self, owner: type, name: str) -> None:
        """Remember the name under which the model declares the unknown, and where its raw parameter stands."""
        self.name, self.path = name, f"raw.{name}"

    @property
    def middle(self) -> float:
        """A value inside the domain: what a tied unknown holds while its tie is not used."""
        return float(self.domain.to_value(torch.zeros((), dtype=torch.float64)))

    def check(self, value: object) -> Tensor:
        """`value` as a float64 tensor inside the domain; InputError otherwise."""
        called = f"unknown '{self.name}'" if self.name else "an unknown"
        try:
            tensor = torch.as_tensor(value, dtype=torch.float64).detach().clone()
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise InputError(f"{called} was given {_short(value)}: expected a number or a list of numbers.") from error
        if not self.domain.contains(tensor):
            raise InputError(
                f"{called} was given {tensor.tolist()}, outside its domain: expected finite values in "
                f"{self.domain}. Give such a value, or declare another domain."
            )
        return tensor

    def fit_shape(self, value: Tensor, shape: torch.Size) -> Tensor:
        """`value` in the given shape; a single number is repeated."""
        if value.shape == shape:
            return value
        if value.ndim == 0:
            return value.expand(shape).clone()
        raise InputError(
            f"unknown '{self.name}' was given shape {list(value.shape)}: expected shape {list(shape)} or a single "
            "number."
        )

    @overload
    def __get__(self, model: None, owner: type) -> Unknown: ...

    @overload
    def __get__(self, model: HasUnknowns, owner: type) -> Tensor: ...

    def __get__(self, model: HasUnknowns | None, owner: type) -> Unknown | Tensor:
        """The unknown itself on the class; its natural value on an instance."""
        return self if model is None else self.value_in(model)

    def value_in(self, model: HasUnknowns) -> Tensor:
        """The natural value in `model`, differentiable in the raw parameters."""
        ties = model.ties
        if ties and self.name in ties:
            found: Tensor = ties[self.name](model)
            return found
        return self.domain.to_value(self.raw_of(model))

    def __set__(self, model: HasUnknowns, value: object) -> None:
        """Set the natural value; InputError outside the domain, of another shape, or where it is tied to others."""
        if self.name in model.__dict__.get("ties", ()):
            raise InputError(f"unknown '{self.name}' is tied to others: untie it first, model.untie('{self.name}').")
        raw = self.raw_of(model)
        with torch.no_grad():
            raw.copy_(self.domain.to_raw(self.fit_shape(self.check(value), raw.shape)))

    def raw_of(self, model: HasUnknowns) -> nn.Parameter:
        """The raw parameter in `model`, read at every call, so that `torch.func.functional_call` can replace it."""
        try:
            found: nn.Parameter = model._modules["raw"]._parameters[self.name]
        except KeyError:
            raise unmade(type(model)) from None  # an AttributeError would be taken for a missing attribute
        return found


def _short(value: object) -> str:
    """A value as a message shows it; an integer may be too long to be written out."""
    try:
        return repr(value)[:80]
    except ValueError:
        return f"a {type(value).__name__} of more digits than can be written out"
