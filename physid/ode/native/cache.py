"""Kernel cache: remembers the compiled f of an earlier solve, so that the next neither evaluates nor traces it.

A solve that ran natively leaves its engine with the places of all tensors that f can reach. A later f is the same one
if it is the same object with everything it sees unchanged, or a function of the same code over the same things but for
tensors in its closure, which may be others of the same kind: closures made anew for every evaluation of a loss.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from physid.ode.caching import Cache
from physid.ode.native.compiler.trace import Unsupported
from physid.ode.native.engine import Native
from physid.ode.native.places import Place, alike
from physid.ode.native.reach import Surroundings
from physid.ode.problem import ODEProblem
from physid.ode.rhs import StateLayout, attribute
from physid.ode.torch_internals import inside_transform, version_of

MOST = 24  # functions that are remembered

_KNOWN: Cache[Any, Known] = Cache(MOST)


def recall(f: Any, named: Sequence[Tensor] | None, layout: StateLayout) -> tuple[list[Tensor], Native] | None:
    """The tensors that f depends on and its engine, when f is known with states of this layout."""
    if inside_transform():
        return None
    key = _key(f, named, layout)
    known = _KNOWN.get(key)
    if known is None or isinstance(known.engine, str):
        return None
    found = known.bind(f)
    if found is None or not _agrees(named, found[0]):
        return None
    return found


def refused(problem: ODEProblem) -> str:
    """Why f has not become C before, if it is still the same f; empty otherwise."""
    known = _KNOWN.get(_key(problem.f, problem.named, problem.layout))
    if known is None or not isinstance(known.engine, str) or known.tensors(problem.f) is None:
        return ""
    return known.engine


def remember(problem: ODEProblem, engine: Native | str, around: Surroundings | None) -> None:
    """Keep the engine of a problem whose f has been traced and compared, or why there is none.

    An f that reads what is not watched is forgotten, but for why there is no engine: then it runs eagerly in any case.
    """
    key = _key(problem.f, problem.named, problem.layout)
    watched = around is not None and (isinstance(engine, str) or not around.unwatched)
    known = Known.of(problem, engine, around) if around is not None and watched else None
    if known is None:
        _KNOWN.pop(key)
    else:
        _KNOWN.put(key, known)


def _key(f: Any, named: Sequence[Tensor] | None, layout: StateLayout) -> Any:
    """What must be equal at first sight: the code of f, the kind of its states."""
    if isinstance(f, types.FunctionType):
        who: Any = f.__code__
    elif isinstance(f, types.MethodType):
        who = (f.__func__, id(f.__self__))
    else:
        who = id(f)
    return who, named is None, _kind(layout)


def _kind(layout: StateLayout) -> Any:
    """Written down once for a layout."""
    if layout.kind is None:
        layout.kind = _described(layout)
    return layout.kind


def _described(layout: StateLayout) -> Any:
    shapes = tuple(shape[1:] if layout.batched else shape for shape in layout.shapes)
    return layout.is_tuple, layout.batched, layout.lanes, layout.dtype, layout.device.type, shapes


def _agrees(named: Sequence[Tensor] | None, captured: list[Tensor]) -> bool:
    """Whether named parameters are those that were found."""
    if named is None:
        return True
    wanted = [tensor for tensor in named if tensor.requires_grad]
    return len(wanted) == len(captured) and all(a is b for a, b in zip(wanted, captured, strict=True))


@dataclass(frozen=True, slots=True)
class Spot:
    """A tensor that f can reach: where, of which kind, and the cell of f's own closure that it lies in (or -1)."""

    place: Place
    cell: int
    shape: torch.Size
    dtype: torch.dtype
    wants: bool
    dense: bool
    version: int  # counts where values are written into the code: -1 for floating tensors

    @staticmethod
    def of(place: Place, cell: int) -> Spot:
        """The spot of a tensor as it is now."""
        x: Tensor = place.value
        strided = x.layout is torch.strided
        version = -1 if x.is_floating_point() and strided else version_of(x)
        return Spot(place, cell, x.shape, x.dtype, x.requires_grad, strided and x.is_contiguous(), version)

    def suits(self, now: Any) -> bool:
        """Whether what is there now is a tensor of the same kind."""
        if now is not self.place.value and (self.version >= 0 or not isinstance(now, Tensor)):
            return False
        return (
            now.shape == self.shape
            and now.dtype is self.dtype
            and now.requires_grad is self.wants
            and (now.layout is torch.strided and now.is_contiguous()) is self.dense
            and (self.version < 0 or version_of(now) == self.version)
        )


@dataclass(frozen=True, slots=True)
class Known:
    """A function with all that it reaches; `captured` are indices into `spots`."""

    f: Any
    cells: tuple[Any, ...]
    around: Surroundings
    spots: tuple[Spot, ...]
    captured: tuple[int, ...]
    engine: Native | str

    @staticmethod
    def of(problem: ODEProblem, engine: Native | str, around: Surroundings) -> Known | None:
        """None when a tensor that f depends on is kept where it cannot be found again."""
        f = problem.f
        cells = tuple(cell.cell_contents for cell in attribute(f, "__closure__") or ())
        if len({id(x) for x in cells if isinstance(x, Tensor)}) != sum(isinstance(x, Tensor) for x in cells):
            return None  # one tensor under two names
        index = {id(value): i for i, value in enumerate(cells)}
        spots, found = [], {}
        for i, (name, place) in enumerate(around.tensors.items()):
            found[name] = i
            spots.append(Spot.of(place, index.get(name, -1)))
        places = () if isinstance(engine, str) else engine.kernel.places
        constants = [x if isinstance(x, Tensor) else x.value for x in places]
        constants = (
            constants if isinstance(engine, str) else [x for x in constants if x is not engine.kernel.graph.pieces]
        )
        if any(id(tensor) not in found for tensor in (*problem.captured, *constants)):
            return None
        captured = tuple(found[id(tensor)] for tensor in problem.captured)
        return Known(f, cells, around, tuple(spots), captured, engine)

    def bind(self, f: Any) -> tuple[list[Tensor], Native] | None:
        """The tensors that f depends on and the engine with its constants; None when f is another one."""
        tensors = self.tensors(f)
        if tensors is None or isinstance(self.engine, str):
            return None
        engine, captured = self.engine, [tensors[i] for i in self.captured]
        kernel = engine.kernel
        if not kernel.places and not kernel.unit.assumed:
            return captured, engine
        pairs = zip(self.spots, tensors, strict=True)
        swapped = {id(spot.place.value): new for spot, new in pairs if new is not spot.place.value}
        try:
            constants = kernel.constants(swapped)
            raw = kernel.flat(captured)
            kernel.check_finite(raw, constants)
        except Unsupported:
            return None
        return captured, Native(kernel, engine.code, constants, (captured, raw))

    def tensors(self, f: Any) -> list[Tensor] | None:
        """The tensors at all spots as f sees them; None when f is another function or sees other things."""
        cells: list[Any] | None = None
        if f is not self.f and not isinstance(f, types.MethodType):
            cells = self._twin(f)
            if cells is None:
                return None
        found = []
        for spot in self.spots:
            now = spot.place.now() if cells is None or spot.cell < 0 else cells[spot.cell]
            if not spot.suits(now):
                return None
            found.append(now)
        return found if self.around.change() is None else None

    def _twin(self, f: Any) -> list[Any] | None:
        """The contents of the cells of f, if it is this function but for tensors in its closure."""
        mine = self.f
        if not isinstance(f, types.FunctionType) or f.__globals__ is not mine.__globals__ or f.__dict__:
            return None
        if self.around.tallies.in_closure:
            return None
        if not _same(f.__defaults__ or (), mine.__defaults__ or ()):
            return None
        new, old = f.__kwdefaults__ or {}, mine.__kwdefaults__ or {}
        if new.keys() != old.keys() or not _same(tuple(new.values()), tuple(old[name] for name in new)):
            return None
        try:
            cells = [cell.cell_contents for cell in f.__closure__ or ()]
        except ValueError:
            return None
        for new, old in zip(cells, self.cells, strict=True):
            if isinstance(old, Tensor):
                continue
            if not _same((new,), (old,)):
                return None
        return cells


def _same(new: tuple[Any, ...], old: tuple[Any, ...]) -> bool:
    """Whether these are the same objects, or plain values that are alike: tensors of equal values are others."""
    if len(new) != len(old):
        return False
    return all(a is b or (not isinstance(a, Tensor) and alike(a, b)) for a, b in zip(new, old, strict=True))
