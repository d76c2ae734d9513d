"""`kernel_for`: the compiled right-hand side of a problem, remembered or made, or the reason why there is none."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from operator import call
from typing import Any

import torch

from physid.ode.caching import Cache
from physid.ode.native.compiler.build import load
from physid.ode.native.compiler.library import Sizes, Sources, declare
from physid.ode.native.compiler.per_sample import one_sample
from physid.ode.native.compiler.record import lane_field, looked_at, once_more, traced
from physid.ode.native.compiler.trace import Graph, NotFinite, Unsupported
from physid.ode.native.kernel import OTHER_ZEROS, Kernel
from physid.ode.native.reach import Surroundings
from physid.ode.native.verify import check_start, verify, verify_tangents
from physid.ode.problem import ODEProblem
from physid.ode.rhs import attribute
from physid.ode.torch_internals import transforms_active

MOST_ENTRIES = 64
_ENTRIES: Cache[Any, tuple[Any, Kernel | Refusal]] = Cache(MOST_ENTRIES)


@dataclass(frozen=True)
class Refusal:
    """Why native code does not apply, in one line; `around` is what f was seen to read, where it was evaluated."""

    reason: str
    around: Surroundings | None = None


def kernel_for(problem: ODEProblem, flags: tuple[str, ...] = (), pushes: bool = False) -> Kernel | Refusal:
    """The kernel of a problem's f, checked against `problem.derivative`; a Refusal where native code does not apply.

    The first call for an f traces, compiles (or finds the library in the cache) and compares with the eager f; later
    ones look whether anything that f reads has changed, and do it again if so, or if f reads what cannot be watched.
    `pushes`: the tangents of f will be asked for next.
    """
    reason = _not_for(problem)
    if reason:
        return Refusal(reason)
    key = _identity(problem, flags)
    _, known = _ENTRIES.get(key) or (None, None)
    bake = True
    if known is not None and known.around is not None and _as_it_was(known):
        if isinstance(known, Refusal):
            return known
        try:
            check_start(known, problem)
        except Unsupported as why:  # traced anew: a constant may have been replaced
            bake = OTHER_ZEROS not in str(why)
        else:
            return known
    found = _made(problem, flags, bake, pushes)
    _ENTRIES.put(key, (problem.f, found))
    return found


def _as_it_was(known: Kernel | Refusal) -> bool:
    """Whether all that f reads is as it was: a kernel is not kept by a look that cannot see all."""
    around = known.around
    if around is None or (around.unwatched and isinstance(known, Kernel)):
        return False
    return around.change() is None and around.other_kinds() is None


def _not_for(problem: ODEProblem) -> str:
    """What is seen of a problem without tracing it."""
    layout, fld = problem.layout, problem.field
    if layout.device.type != "cpu":
        return f"the state is on the device {layout.device}"
    if layout.dtype not in (torch.float64, torch.float32):
        return f"the state has dtype {layout.dtype}"
    if fld.buffers:
        return "batch norm in training mode"
    if fld.random is not None:
        return "random numbers"
    if transforms_active():
        return "inside of a torch.func transform"
    return ""


def _identity(problem: ODEProblem, flags: tuple[str, ...]) -> Any:
    """A key for f, which its entry keeps alive, and for the kind of its states."""
    f, layout = problem.f, problem.layout
    shapes = tuple(shape[1:] if layout.batched else shape for shape in layout.shapes)
    captured = tuple((tuple(tensor.shape), tensor.dtype) for tensor in problem.captured)
    who = (id(attribute(f, "__self__") or f), attribute(f, "__func__"))
    return (who, layout.is_tuple, layout.batched, shapes, layout.dtype, captured, flags)


def _made(problem: ODEProblem, flags: tuple[str, ...], bake: bool, pushes: bool) -> Kernel | Refusal:
    around = None
    try:
        seen = looked_at(problem)
        around = Surroundings(problem.f, seen)
        if seen.unable or around.unable:
            raise Unsupported(seen.unable or around.unable)
        if not around.unwatched:
            around.tallies.seek(lambda: once_more(problem, call))
        try:
            kernel = _compiled(problem, around, flags, bake, pushes)
            around.tallies.take(kernel.graph.tallied)
            changed = around.change() or around.replaced()
        finally:
            around.tallies.put_back()
        if changed:
            raise Unsupported(f"f changes {changed} as it is evaluated")
        return kernel
    except NotFinite as why:
        return Refusal(str(why))
    except Unsupported as why:
        return Refusal(str(why), around)


def _compiled(problem: ODEProblem, around: Surroundings, flags: tuple[str, ...], bake: bool, pushes: bool) -> Kernel:
    """The kernel of f, or of f with the first rows of what its closure holds for every sample."""
    one = one_sample(problem.f, problem.layout.lanes) if problem.layout.batched else None
    try:
        field = lane_field(problem, problem.f, problem.captured)
        graph = traced(field, problem, problem.captured, bake, around.tallies.counters)
        kernel = assemble(graph, around, flags, problem.layout.batched, pushes)
        verify(kernel, field, problem, problem.captured, *kernel.pack(problem.captured))
        check_start(kernel, problem)
        return kernel
    except Unsupported:
        if one is None:
            raise
    cut, whole = one
    captured = cut.of(problem.captured)
    field = lane_field(problem, cut.f, captured)
    graph = traced(field, problem, captured, False, around.tallies.counters)
    kernel = assemble(graph, around, flags, True, pushes)
    verify(kernel, field, problem, captured, *kernel.pack(captured))
    kernel.own = tuple(id(tensor) in cut.first for tensor in problem.captured)
    kept = [cut.whole(tensor, whole) for tensor in graph.constants]
    kernel.own_constants = tuple(id(tensor) in cut.first for tensor in kept)
    kernel.sampled = any(kernel.own) or any(kernel.own_constants)
    kernel.places = tuple(around.tensors.get(id(tensor), tensor) for tensor in kept)
    kernel.kept.clear()
    check_start(kernel, problem)
    return kernel


def tangents_of(kernel: Kernel, problem: ODEProblem) -> str:
    """Have the tangents of f compiled and compared, once; why they cannot be had, empty where they are there."""
    if kernel.untangent is None:
        try:
            verify_tangents(kernel, problem)
            kernel.untangent = ""
        except Unsupported as why:
            kernel.untangent = str(why)
    return kernel.untangent


def assemble(
    graph: Graph, around: Surroundings, flags: tuple[str, ...] = (), batched: bool = False, pushes: bool = False
) -> Kernel:
    """The kernel of a graph, not yet compared with anything; `around` says where its constants are kept."""
    sources = Sources(graph, flags, batched)
    if pushes:
        with suppress(Unsupported):  # then again without, and with the reason when they are asked for
            load(sources.linked(), sources.tangents())
    library = declare(load(sources.linked())[0])
    places = tuple(around.tensors.get(id(tensor), tensor) for tensor in graph.constants)
    return Kernel(library, Sizes.of(library), sources, places, graph.dtype, around)
