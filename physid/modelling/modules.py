"""Module weights: the parameters of torch modules inside a model, as unknowns that a fit trains.

They are called by their paths, as "net.0.weight", and belong to the group in front of the first point, "net". Those of
a Model inside a model keep its domains, units and priors. What has requires_grad=False, and every buffer, stays.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from physid.errors import InputError, unknown_name
from physid.modelling.declared import unmade
from physid.modelling.prior import Ridge
from physid.modelling.unknown import HasUnknowns, Unknown
from physid.ode.torch_internals import BATCH_NORM, DROPOUT

MOST = 4000  # weights that a fit takes: it keeps a covariance of all unknowns
RAW = "raw"  # the module of a model that holds the raw parameters of its own unknowns


class Weight(Unknown):
    """A parameter of a module inside a model, at `path` there; `like` is what a Model inside declares it as, if any."""

    def __init__(self, path: str, like: Unknown | None, penalty: Ridge | None) -> None:
        if like is None:
            super().__init__(0.0, prior=penalty, resizable=True, listed=False)
            name = path
        else:
            super().__init__(like.middle, like.domain, like.unit, like.prior, resizable=True, listed=like.listed)
            name = path.replace(f".{RAW}.", ".")
        self.name, self.path = name, path

    def raw_of(self, model: HasUnknowns) -> nn.Parameter:
        """The parameter in `model`, read at every call, so that another may stand in its place."""
        owner, _, leaf = self.path.rpartition(".")
        found: nn.Parameter = model.get_submodule(owner)._parameters[leaf]  # type: ignore[assignment]
        return found


@dataclass(frozen=True)
class Made:
    """Construction of a model: its class, the arguments of its constructor, and torch's random state before it ran."""

    cls: Any
    positional: tuple[Any, ...]
    named: Mapping[str, Any]
    random: Tensor

    def again(self, seed: int | None = None) -> nn.Module:
        """The model as its constructor makes it, with the same random numbers or those of a `seed`."""
        with torch.random.fork_rng(devices=[]):
            if seed is None:
                torch.set_rng_state(self.random)
            else:
                torch.manual_seed(seed)
            made: nn.Module = self.cls(*self.positional, **self.named)
        return made

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by name, as far as the constructor names them."""
        try:
            bound = inspect.signature(self.cls.__init__).bind_partial(None, *self.positional, **self.named)
        except (TypeError, ValueError):
            return dict(self.named)
        kinds = inspect.signature(self.cls.__init__).parameters
        found: dict[str, Any] = {}
        for name, value in [*bound.arguments.items()][1:]:
            if kinds[name].kind is inspect.Parameter.VAR_KEYWORD:
                found |= value
            elif kinds[name].kind is not inspect.Parameter.VAR_POSITIONAL:
                found[name] = value
        return found


class Unknowns:
    """The unknowns by name: of a class those that it declares, of a model also the weights of its own modules."""

    def __init__(self, declared: Mapping[str, Unknown]) -> None:
        self.declared = declared

    def __get__(self, model: nn.Module | None, owner: type) -> Mapping[str, Unknown]:
        """The unknowns."""
        return self.declared if model is None else {**self.declared, **weights_of(model)}


class ModuleHolder(nn.Module):
    """A module that knows how it was made, and takes modules of a user's own as parts whose weights are unknowns."""

    penalties: ClassVar[Mapping[str, Ridge]] = {}
    _made: Made | None

    def __new__(cls, *positional: Any, **named: Any) -> Any:
        """Remember what the constructor is given."""
        found = super().__new__(cls)
        object.__setattr__(found, "_made", Made(cls, positional, named, torch.get_rng_state()))
        return found

    def __getstate__(self) -> dict[str, Any]:
        """The pickled state: all but the construction, which may hold anything."""
        return {**self.__dict__, "_made": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A copy that was made in the same way."""
        found = type(self).__new__(type(self))
        memo[id(self)] = found
        own = {name: value for name, value in self.__dict__.items() if name != "_made"}
        found.__dict__.update(copy.deepcopy(own, memo))
        found.__dict__["_made"] = self._made
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; a module or a parameter gets the dtype of the unknowns.

        Errors: InputError for one under a name that the class has already, which would hide it.
        """
        if isinstance(value, nn.Module | nn.Parameter) and name != RAW:
            if "_modules" not in self.__dict__:
                raise unmade(type(self))
            if hasattr(type(self), name):
                raise InputError(
                    f"{type(self).__name__} was given a {type(value).__name__} as '{name}', which models have already: "
                    f"it would stay hidden. Choose another name, as self.{name}_net."
                )
            as_unknowns([value] if isinstance(value, nn.Parameter) else [*value.parameters(), *value.buffers()], self)
        super().__setattr__(name, value)


def as_unknowns(tensors: Iterable[Tensor], model: nn.Module) -> None:
    """Give real numbers of any precision the one in which the unknowns of `model` are, float64 by default."""
    raw = getattr(model, RAW, None)
    dtype = next((one.dtype for one in raw.parameters()), torch.float64) if raw is not None else torch.float64
    for one in tensors:
        if one.is_floating_point() and one.dtype != dtype and not is_lazy(one):
            one.data = one.data.to(dtype)


def weights_of(model: nn.Module) -> dict[str, Unknown]:
    """The parameters of a model's own modules by name, each once however many modules share it."""
    found: dict[str, Unknown] = {}
    insides = [(path, one) for path, one in model.named_modules() if path and isinstance(one, ModuleHolder)]
    for path, _ in model.named_parameters():
        if path.startswith(f"{RAW}."):
            continue
        inside = [(prefix, one) for prefix, one in insides if path.startswith(f"{prefix}.{RAW}.")]
        like = None
        if inside:
            prefix, holder = inside[-1]
            declared: Mapping[str, Unknown] = type(holder).unknowns  # type: ignore[attr-defined]
            like = declared.get(path.removeprefix(f"{prefix}.{RAW}."))
        weight = Weight(path, like, _penalty(model, path))
        found[weight.name] = weight
    return found


def _penalty(model: nn.Module, path: str) -> Ridge | None:
    """The penalty of the longest path that the model names one for."""
    penalties: Mapping[str, Ridge] = getattr(model, "penalties", {})
    names = [name for name in penalties if path == name or path.startswith(f"{name}.")]
    return penalties[max(names, key=len)] if names else None


def members_of(name: str, names: Iterable[str]) -> list[str]:
    """Those of the `names` that `name` means: itself, or the members of a group as "net"; or none."""
    given = list(names)
    return [name] if name in given else [one for one in given if one.startswith(f"{name}.")]


def ready(model: nn.Module) -> None:
    """See that a fit can train the modules of a model.

    Errors: InputError for a module whose value is random or depends on its batch (dropout, batch norm in training), for
    one that has no shape yet, for complex weights, for too many, and for a penalty of what is none of its modules.
    """
    own = [(path, one) for path, one in model.named_parameters() if not path.startswith(f"{RAW}.")]
    for path, module in model.named_modules():
        random = isinstance(module, DROPOUT) and module.p > 0
        if module.training and (random or isinstance(module, BATCH_NORM)):
            why = "its value is random" if random else "its value depends on the batch"
            raise InputError(
                f"{path} of {type(model).__name__} is a {type(module).__name__} in training mode: {why}, so there is "
                f"no one dy/dt. Leave it out, or set self.{path}.eval() in __init__."
            )
    for path, parameter in own:
        if is_lazy(parameter):
            raise InputError(f"{path} of {type(model).__name__} has no shape yet. Give its module its sizes.")
        if parameter.is_complex():
            raise InputError(
                f"{path} of {type(model).__name__} is complex: real weights are fitted. Use two real ones."
            )
    as_unknowns([*(one for _, one in own), *model.buffers()], model)
    count = sum(one.numel() for _, one in own if one.requires_grad)
    if count > MOST:
        raise InputError(
            f"{type(model).__name__} has {count} weights to train: expected up to {MOST}, as a fit keeps their "
            "covariance. Make its networks smaller, or hold some: requires_grad_(False)."
        )
    for name in getattr(model, "penalties", {}):
        if not members_of(name, [path for path, _ in own]):
            groups = {path.partition(".")[0] for path, _ in own}
            raise unknown_name(f"module of {type(model).__name__}.penalties", name, sorted(groups))


def redraw(model: Any, seed: int, anew: bool) -> None:
    """Give a model's weights the values that its constructor draws after `torch.manual_seed(seed)`.

    Weights that are not as the constructor left them were given, loaded or fitted, and stay, unless `anew`; those that
    are held always do. A constructor that sets a seed of its own draws the same ones whatever the seed.
    """
    raws = {one.path: one.raw_of(model) for one in weights_of(model).values() if not one.listed}
    paths = {path: raw for path, raw in raws.items() if raw.requires_grad}
    made: Made | None = model._made
    if not paths or made is None:
        return
    if not anew:
        first = dict(made.again().named_parameters())
        if any(path not in first or not _equal(first[path], now) for path, now in paths.items()):
            return
    drawn = dict(made.again(seed).named_parameters())
    with torch.no_grad():
        for path, now in paths.items():
            if path in drawn and drawn[path].shape == now.shape:
                now.copy_(drawn[path])


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.to(b), b)


Places = list[list[tuple[dict[str, Any], str]]]


def places(model: nn.Module, parameters: Sequence[Tensor]) -> Places:
    """Places of each parameter in the modules of a model, which may share it: (table, key)."""
    found: dict[int, list[tuple[dict[str, Any], str]]] = {id(one): [] for one in parameters}
    for module in model.modules():
        held: dict[str, Any] = module._parameters
        for key, one in held.items():
            if id(one) in found:
                found[id(one)].append((held, key))
    return [found[id(one)] for one in parameters]


def trained(model: Any) -> str:
    """The weights that a fit trains, as in "33 weights of net, 1 of scale; 40 of encoder held"; or nothing."""
    counts: dict[bool, dict[str, int]] = {True: {}, False: {}}
    for name, weight in weights_of(model).items():
        if not weight.listed:
            raw, group = weight.raw_of(model), name.partition(".")[0]
            counts[raw.requires_grad][group] = counts[raw.requires_grad].get(group, 0) + raw.numel()
    parts = []
    for free, end in ((True, ""), (False, " held")):
        if counts[free]:
            (first, count), *rest = counts[free].items()
            said = [f"{count} weight{'s' if count > 1 else ''} of {first}", *(f"{n} of {group}" for group, n in rest)]
            parts.append(", ".join(said) + end)
    return "; ".join(parts)
