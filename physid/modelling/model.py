"""Model: the base class of a right-hand side whose unknowns are declared as class attributes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from physid.data.inputs import Inputs, moment
from physid.errors import InputError, unknown_name
from physid.modelling.declared import Unmade, look
from physid.modelling.expression import Expression, Tied
from physid.modelling.modules import ModuleHolder, Unknowns, Weight, members_of, redraw
from physid.modelling.unknown import Tie, Unknown

# The layout of what `state_dict` writes; a reader refuses a newer one.
STATE_VERSION = 1


@dataclass(frozen=True)
class Derived:
    """A quantity read out of the unknowns: its value [*shape], differentiable in their raw parameters, and its unit."""

    value: Tensor
    unit: str = ""


class RawParameters(nn.Module):
    """The raw parameters of a model, one for each unknown, under the unknowns' names."""


class Model(ModuleHolder):
    """A differential equation dy/dt = field(t, y) with unknowns: `Pendulum(length=0.7)`.

    The keywords are initial values by the unknowns' names; what is not given starts from its guess.
    `noise` is that of the measurements, which a fit may replace (see `physid.inference.noise`); None leaves it
    to the channels: one sigma for those of one unit and size (see `physid.inference.noise_groups`).
    The state y is [..., *state_shape], observations are observe(y) [..., *observation]; all in natural units, float64.
    A model that measured inputs drive names them, `input_names = ("force",)`, and reads them where it needs them:
    `(force,) = self.inputs(t)`. `channel_names` are the columns of a data file that `observe` predicts, in its order
    (by default the states), `units` those in which the model has time ("t"), channels and inputs, by name.
    `recipe` says how the model is best fitted, by the names of `fit`'s keywords; what a user asks for counts first.
    `continuation` names constants that a fit leads through other values before their own, {"width": (1.0, 0.3)}: from
    round corners, which no start gets lost at, to sharp ones.

    Errors: InputError for a keyword that is no unknown, a value outside its domain, or a wrong shape; ModelError, when
    the class is made, for attributes of another kind and methods that take other arguments.
    """

    _parameters: Any = Unmade()
    _modules: Any = Unmade()
    _buffers: Any = Unmade()
    ties: Any = Unmade()
    unknowns: Any = Unknowns({})
    state_names: ClassVar[tuple[str, ...]] = ()
    noise: ClassVar[str | None] = None
    input_names: ClassVar[tuple[str, ...]] = ()
    channel_names: ClassVar[tuple[str, ...]] = ()
    units: ClassVar[Mapping[str, str]] = {}
    recipe: ClassVar[Mapping[str, Any]] = {}
    continuation: ClassVar[Mapping[str, tuple[float, ...]]] = {}
    raw: RawParameters

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Collect the unknowns of the class and its bases; a plain attribute of the same name removes one."""
        super().__init_subclass__(**keywords)
        look(cls)
        found: dict[str, Unknown] = {}
        for base in reversed(cls.__mro__):
            for name, value in vars(base).items():
                if isinstance(value, Unknown):
                    found[name] = checked_name(name, value)
                else:
                    found.pop(name, None)
        cls.unknowns = Unknowns(found)

    def __init__(self, **values: object) -> None:
        super().__init__()
        declared = type(self).unknowns
        for name in values:
            if name not in declared:
                raise unknown_name(f"keyword of {type(self).__name__}", name, keyword_names(type(self)))
        self.ties = {}
        self._inputs: Inputs | None = None
        self._reader: Callable[[Tensor], Tensor] | None = None
        self.raw = RawParameters()
        for name, unknown in declared.items():
            value = unknown.check(values.get(name, unknown.guess))
            if not unknown.resizable:
                value = unknown.fit_shape(value, unknown.guess.shape)
            parameter = nn.Parameter(unknown.domain.to_raw(value), requires_grad=not unknown.fixed)
            self.raw.register_parameter(name, parameter)
        for name, unknown in declared.items():
            if unknown.tie is not None and name not in values:
                self.tie(name, unknown.tie)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; an unknown is set through its descriptor, also from an nn.Parameter."""
        if name in type(self).unknowns:
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def state_shape(self) -> tuple[int, ...]:
        """The shape of one state."""
        return (len(self.state_names),)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        """dy/dt [..., *state_shape] at the time `t` and the states `y` [..., *state_shape]."""
        raise InputError(f"{type(self).__name__} says nothing of dy/dt. Define field(self, t, y) in it.")

    def observe(self, y: Tensor) -> Tensor:
        """Measured quantities as functions of the states `y`; by default all states."""
        return y

    def derived(self) -> Mapping[str, Derived]:
        """Quantities derived from the unknowns, by name; a report gives them with propagated errors."""
        return {}

    def parts(self, t: Tensor, y: Tensor) -> Mapping[str, Tensor]:
        """Parts of dy/dt [..., *state_shape] whose share a report shows, by name. None by default."""
        return {}

    def prune(self, states: Tensor, rates: Tensor) -> bool:
        """Drop weights that do next to nothing for the rates [T, *state_shape] at states; whether any was."""
        return False

    def draw(self, seed: int, anew: bool = False) -> None:
        """Give unknowns that no one can guess, such as the weights of a network, random values to start from.

        A fit calls it before it begins. What was given or fitted is left as it is, unless it is to be drawn `anew`.
        The weights of a user's own modules are those that the constructor draws after `torch.manual_seed(seed)`.
        """
        redraw(self, seed, anew)

    def inputs(self, t: Tensor | float) -> tuple[Tensor, ...]:
        """The inputs at the times `t` in the order of `input_names`, each of the shape of t.

        Any times may be asked for, `self.inputs(t - self.delay)` with an unknown delay among them: before its first
        sample an input has the value of that sample. Where a held input jumps at such a time, solves step onto the
        moved jump and gradients follow its movement, as long as the times are a t + b with a and b of the unknowns. At
        other times, as of a delay that depends on the state, gradients across jumps are refused; linear inputs have no
        jumps, and their kinks at such times are stepped over: right to the tolerance, with shorter steps there.
        A fit drives its model with the inputs of the experiment; by hand, `model.drive(inputs)` does.

        Errors: InputError when the model names no inputs or is not driven.
        """
        if not isinstance(t, Tensor):
            t = moment(t, type(self).__name__)
        if self._reader is not None:
            return self._reader(t).unbind(-1)
        if self._inputs is None:
            raise InputError(self._undriven())
        return self._inputs(t).unbind(-1)

    def drive(self, inputs: Inputs | None) -> None:
        """Let `inputs` be what `self.inputs(t)` reads from now on; None for none.

        Errors: InputError when an input that the model names is not among them, or the model names none at all.
        """
        if inputs is None:
            if self.input_names:
                raise InputError(self._undriven())
            self._inputs = None
        elif not self.input_names:
            raise InputError(
                f"the experiment has the inputs {', '.join(inputs.names)}, but {type(self).__name__} reads none. Set "
                f"input_names = ({inputs.names[0]!r},) in it and read them by self.inputs(t), or leave them out."
            )
        else:
            self._inputs = inputs.select(self.input_names)

    @property
    def driver(self) -> Inputs | None:
        """The inputs that drive the model."""
        return self._inputs

    @property
    def switches(self) -> Tensor | None:
        """The times at which an input jumps, onto which solves step; None without inputs."""
        return None if self._inputs is None or not len(self._inputs.switches) else self._inputs.switches

    @contextmanager
    def reading(self, reader: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """In here `self.inputs(t)` is `reader(t)` [*t.shape, inputs]: for who looks at which times the field reads."""
        before, self._reader = self._reader, reader
        try:
            yield
        finally:
            self._reader = before

    def given_inputs(self, values: Tensor) -> AbstractContextManager[None]:
        """In here `self.inputs(t)` is `values` [..., inputs] whatever t: to look at the field apart from its inputs."""
        return self.reading(lambda t: values)

    def _undriven(self) -> str:
        if not self.input_names:
            return f"{type(self).__name__} reads inputs but names none. Set input_names = (...) in it."
        return (
            f"{type(self).__name__} needs the inputs {', '.join(self.input_names)}, and the experiment has none. Name "
            "them in the data, or drive the model by hand: model.drive(Inputs.through(times, values, names))."
        )

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        """dy/dt, so that a model is itself a right-hand side."""
        return self.field(t, y)

    def values(self) -> dict[str, Tensor]:
        """The natural values of all unknowns, detached."""
        return {name: unknown.value_in(self).detach().clone() for name, unknown in self.unknowns.items()}

    def free(self) -> dict[str, nn.Parameter]:
        """The raw parameters of the unknowns that are to be identified."""
        raws = {name: unknown.raw_of(self) for name, unknown in self.unknowns.items()}
        return {name: raw for name, raw in raws.items() if raw.requires_grad}

    def fix(self, name: str, value: object = None) -> None:
        """Hold the unknown `name` at `value`, or at where it is; of a module, as "net", all weights where they are."""
        for one in self._named(name):
            if value is not None:
                one.__set__(self, value)
            one.raw_of(self).requires_grad_(False)

    def release(self, name: str) -> None:
        """Let the unknown `name` be identified, or all weights of a module, as "net"."""
        for one in self._named(name):
            self.untie(one.name)
            one.raw_of(self).requires_grad_(True)

    def tie(self, name: str, how: Tie) -> None:
        """Make the unknown `name` a function of the others: an expression, as in "2 * length", or a function of self.

        Errors: InputError for what is no expression of the other unknowns, or goes round in a circle.
        """
        (one,) = self._named(name)[:1]
        if isinstance(one, Weight):
            raise InputError(f"{one.name} is a weight of a module: unknowns that a class declares are tied. Fix it.")
        raw = one.raw_of(self)
        others = [other for other in type(self).unknowns if other != name]
        self.ties[name] = Tied(name, Expression(how, others) if isinstance(how, str) else how)
        raw.requires_grad_(False)
        try:
            with torch.no_grad():
                getattr(self, name)
        except (RecursionError, AttributeError, TypeError) as error:
            self.untie(name)
            why = "goes round in a circle" if isinstance(error, RecursionError) else f"fails: {error}"
            raise InputError(f"the tie of '{name}' {why}. Tie it to unknowns that are not tied to it.") from None

    def untie(self, name: str) -> None:
        """Make the unknown `name` one of its own again, held where it is; nothing where it is not tied."""
        for one in self._named(name):
            self.ties.pop(one.name, None)

    def _named(self, name: str) -> list[Unknown]:
        """The unknown `name`, or the weights of the module `name`; InputError for neither."""
        known = self.unknowns
        found = members_of(name, known)
        if not found:
            groups = dict.fromkeys(path.partition(".")[0] for path in known)
            raise unknown_name(f"unknown of {type(self).__name__}", name, groups)
        return [known[one] for one in found]

    def extra_repr(self) -> str:
        """The unknowns with their values."""
        return ", ".join(f"{name}={getattr(self, name).tolist()}" for name in type(self).unknowns)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "version"] = torch.tensor(STATE_VERSION)
        for name in type(self).unknowns:
            destination[f"{prefix}natural.{name}"] = getattr(self, name).detach().clone()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        version = int(state_dict.pop(prefix + "version", STATE_VERSION))
        if version > STATE_VERSION:
            raise InputError(
                f"the saved {type(self).__name__} has version {version}: expected up to {STATE_VERSION}. Update physid."
            )
        for name, unknown in type(self).unknowns.items():
            value = state_dict.pop(f"{prefix}natural.{name}", None)
            if (
                value is not None and name not in self.ties
            ):  # the natural value is what was meant, should the domain have changed since
                state_dict[f"{prefix}raw.{name}"] = unknown.domain.to_raw(unknown.check(value))
        super()._load_from_state_dict(state_dict, prefix, *arguments)


class SecondOrder(Model):
    """Motion of bodies: r' = velocity(t, r, v), v' = acceleration(t, r, v), with r and v [..., bodies, dim].

    The state is [..., 2, bodies, dim]: positions, then velocities. What is observed are the positions, in one frame, so
    that their noise is of one size however far each body moves.
    """

    noise: ClassVar[str | None] = "equal"
    bodies: int = 1
    dimension: int = 3

    @property
    def state_shape(self) -> tuple[int, ...]:
        """(2, bodies, dimension)."""
        return (2, self.bodies, self.dimension)

    def velocity(self, t: Tensor, r: Tensor, v: Tensor) -> Tensor:
        """The rate of change of the positions [..., bodies, dim]: `v`, unless the units say otherwise."""
        return v

    def acceleration(self, t: Tensor, r: Tensor, v: Tensor) -> Tensor:
        """The rate of change of the velocities [..., bodies, dim]."""
        raise InputError(f"{type(self).__name__} says nothing of dv/dt. Define acceleration(self, t, r, v) in it.")

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        """dy/dt [..., 2, bodies, dim]."""
        r, v = y.unbind(-3)
        return torch.stack((self.velocity(t, r, v), self.acceleration(t, r, v)), -3)

    def observe(self, y: Tensor) -> Tensor:
        """The positions [..., bodies, dim]."""
        return y.select(-3, 0)


def checked_name(name: str, unknown: Unknown) -> Unknown:
    """The unknown, if no attribute that every model has is called like it; InputError otherwise."""
    if hasattr(Model(), name):
        raise InputError(f"an unknown cannot be called '{name}': models already have that. Choose another name.")
    return unknown


def keyword_names(model: type[Model]) -> list[str]:
    """The keywords with which `model` can be made: its unknowns, and the named arguments of its constructors.

    A constructor that takes **values passes them to the next class, which is searched then.
    """
    names = list(model.unknowns)
    for base in model.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
        names += [one.name for one in parameters if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)]
        if base is Model or not any(one.kind is one.VAR_KEYWORD for one in parameters):
            break
    return list(dict.fromkeys(names))
