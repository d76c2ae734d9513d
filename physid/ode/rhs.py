"""Right-hand side as the engine calls it: flat states, counted and checked evaluations, no hidden side effects."""

from __future__ import annotations

import copy
import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from physid.errors import InputError
from physid.ode.caching import Cache
from physid.ode.hearing import OutOfTime, check
from physid.ode.recorder import Recorder
from physid.ode.torch_internals import is_wrapped, transforms_active

State = Tensor | tuple[Tensor, ...]
RightHandSide = Callable[..., Any]


class StateLayout:
    """Layout of a state, a tensor or a tuple of tensors, in rows [L, N]: one lane for all, or one per sample."""

    def __init__(self, y0: State, batched: bool) -> None:
        self.is_tuple = not isinstance(y0, Tensor)
        parts = y0 if isinstance(y0, tuple) else (y0,)
        self._check(parts, batched)
        self.batched = batched
        self.shapes = [part.shape for part in parts]
        self.lanes = parts[0].shape[0] if batched else 1
        self.sizes = [part.numel() // max(self.lanes, 1) for part in parts]
        self.width = sum(self.sizes)
        self.starts = [sum(self.sizes[:i]) for i in range(len(self.sizes))]
        self.kind: Any = None  # for who compares layouts
        self.dtype, self.device = parts[0].dtype, parts[0].device
        self.real = parts[0].real.dtype if parts[0].is_complex() else parts[0].dtype
        self.whole = not self.is_tuple and (y0.ndim == 1 if isinstance(y0, Tensor) else False) and not batched

    @staticmethod
    def _check(parts: tuple[Tensor, ...], batched: bool) -> None:
        if not parts or not all(isinstance(part, Tensor) for part in parts):
            kinds = " and ".join(sorted({type(part).__name__ for part in parts})) or "an empty tuple"
            raise InputError(f"y0 is {kinds}: expected a tensor, or a tuple of tensors. Give torch.as_tensor(y0).")
        for part in parts:
            if not (part.is_floating_point() or part.is_complex()):
                raise InputError(f"y0 has dtype {part.dtype}: expected a floating or complex dtype; use y0.double().")
            if part.dtype != parts[0].dtype or part.device != parts[0].device:
                raise InputError("the parts of y0 differ in dtype or device: give all of them the same.")
            if batched and (part.ndim < 1 or part.shape[0] != parts[0].shape[0]):
                raise InputError(
                    f"batched=True with a part of y0 of shape {tuple(part.shape)}: expected [samples, ...]."
                )
        if sum(part.numel() for part in parts) == 0:
            raise InputError("y0 has no elements: give at least one state.")

    def pack(self, y: State) -> Tensor:
        """The flat state [L * N]."""
        if not self.is_tuple:
            return y.reshape(-1)  # type: ignore[union-attr]
        return torch.cat([part.reshape(self.lanes, -1) for part in y], dim=1).reshape(-1)

    def unpack(self, flat: Tensor, lead: tuple[int, ...] = ()) -> State:
        """The state(s) of flat rows [*lead, L * N], as the user shaped them."""
        if not self.is_tuple:
            shape = (*lead, *self.shapes[0])
            return flat if flat.shape == shape else flat.view(shape)
        rows = flat.view(*lead, self.lanes, self.width)
        places = zip(self.starts, self.sizes, self.shapes, strict=True)
        return tuple(rows.narrow(-1, start, size).reshape((*lead, *shape)) for start, size, shape in places)


def attribute(f: Any, name: str) -> Any:
    """An attribute of f, None where f has none: a __getattr__ of the user's may raise whatever it likes."""
    try:
        return getattr(f, name, None)
    except Exception:
        return None


_LAYOUTS: Cache[Any, StateLayout] = Cache(64)


def layout_of(y0: State, batched: bool) -> StateLayout:
    """The layout of a state, made once for tensors of one kind."""
    if not isinstance(y0, Tensor) or transforms_active():
        return StateLayout(y0, batched)
    return _LAYOUTS.made((y0.shape, y0.dtype, y0.device, batched), lambda: StateLayout(y0, batched))


SHOWN = 3  # evaluations after which it is known whether f keeps a buffer for its results


class Field:
    """f(t, y) on flat states; counts evaluations, checks shapes, keeps buffers and random state in order.

    Forward statistics (batch norm) move in `live` evaluations only; a stochastic f (dropout) sees the same random
    state at every evaluation of a solve, so that it is a function of (t, y).
    """

    def __init__(self, f: RightHandSide, layout: StateLayout, params: Sequence[Tensor] | None) -> None:
        if not callable(f):
            raise InputError(f"f is {type(f).__name__}: expected a function f(t, y) or a module.")
        self.f, self.layout, self.count = f, layout, 0
        self.told = 0  # of the evaluations, those that have been asked for
        self.modules = _modules(f)
        self.buffers = _moving_buffers(self.modules)
        self.named = None if params is None else list(params)
        self.random: dict[str, Tensor] | None = None
        self.evaluate: Callable[[RightHandSide, Tensor, Tensor], Tensor] | None = None  # how, where graphs are kept
        self.until: float | None = None  # by time.perf_counter: no evaluation begins later
        self.last: Tensor | None = None  # of the first few results
        self.buffer = False  # f writes every result to the same place
        self.shares = False  # f has a derivative that is another one under vmap
        self.plain = False  # under torch.func, tensors that f captured bring tangents that the march has no use for
        if layout.batched and self.buffers:
            raise InputError(
                "batched=True with batch norm in training mode: it mixes the samples, so they cannot have steps "
                "of their own. Call .eval() on the module or solve with batched=False."
            )

    def probe(self, t: Tensor, y: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The first evaluation [L * N], with its shape explained if wrong, and the tensors that f depends on."""
        before, start = self._random_state(), y.detach()
        recorder = Recorder(start)
        with torch.no_grad(), recorder:
            value = self._raw(t, start)
        after = self._random_state()
        if any(not torch.equal(before[key], after[key]) for key in before):
            self.random = before
        found = self.named if self.named is not None else _unique([*self._held(), *recorder.found.values()])
        captured = [tensor for tensor in found if tensor.requires_grad]
        self.shares = recorder.shares
        return value if self.layout.is_tuple else value.clone(), captured  # f may write the next one to the same place

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        """dy/dt as a flat tensor [L * N]."""
        if self.evaluate is not None:
            return self.evaluate(self._raw, t, y)
        if self.random is None:
            return self._raw(t, y)
        kept = self._random_state()
        self._set_random(self.random)
        try:
            return self._raw(t, y)
        finally:
            self._set_random(kept)

    def _raw(self, t: Tensor, y: Tensor) -> Tensor:
        check()
        if self.until is not None and time.perf_counter() >= self.until:
            raise OutOfTime
        self.count += 1
        layout = self.layout
        if layout.is_tuple:
            return self._pack_checked(self.f(t, layout.unpack(y)))
        k = self.f(t, y if layout.whole else y.view(layout.shapes[0]))
        if not isinstance(k, Tensor) or k.shape != layout.shapes[0] or k.dtype != layout.dtype:
            raise self._complaint(k, layout.shapes[0])
        if self.plain:
            k = k.detach()
        if self.count <= SHOWN:
            self._look(k)
        if self.buffer:
            k = k.clone()
        return k if layout.whole else k.reshape(-1)

    def _look(self, k: Tensor) -> None:
        """See whether this result lies where the last one did, although that one is still there."""
        if self.last is not None and _address(self.last) == (_address(k) or None):
            self.buffer = True
        self.last = None if self.buffer or self.count == SHOWN else k.detach()

    def _pack_checked(self, parts: Any) -> Tensor:
        if not isinstance(parts, tuple | list) or len(parts) != len(self.layout.shapes):
            raise InputError(
                f"f returned {_describe(parts)}; the state is a tuple of {len(self.layout.shapes)}: return as many."
            )
        for part, shape in zip(parts, self.layout.shapes, strict=True):
            if not isinstance(part, Tensor) or part.shape != shape or part.dtype != self.layout.dtype:
                raise self._complaint(part, shape)
        return self.layout.pack(tuple(parts))

    def _complaint(self, k: Any, shape: torch.Size) -> InputError:
        return InputError(
            f"f returned {_describe(k)}; the state has shape {tuple(shape)} and dtype {self.layout.dtype}: "
            "return dy/dt with exactly these."
        )

    def _held(self) -> Iterator[Tensor]:
        for module in self.modules:
            yield from module.parameters()
        for value in _closure(self.f):
            if isinstance(value, Tensor) and value.requires_grad:
                yield value

    def exchanged(self, old: Sequence[Tensor], new: Sequence[Tensor]) -> Field:
        """This field with other numbers in the place of tensors that f holds on to."""
        other = copy.copy(self)
        other.f = _Exchanged(self.f, tuple(old), tuple(new))
        return other

    @contextmanager
    def unseen(self) -> Iterator[None]:
        """Evaluations in here leave no trace: forward statistics are put back."""
        kept = self.snapshot()
        try:
            yield
        finally:
            self.restore(kept)

    def snapshot(self) -> list[Tensor]:
        """Copies of the forward statistics; empty for most fields."""
        return [buffer.clone() for buffer in self.buffers]

    def restore(self, kept: list[Tensor]) -> None:
        """Put the forward statistics back."""
        for buffer, value in zip(self.buffers, kept, strict=True):
            buffer.data.copy_(value)  # .data: a graph that holds the buffer does not read it in training mode

    def _random_state(self) -> dict[str, Tensor]:
        state = {"cpu": torch.get_rng_state()}
        if self.layout.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.layout.device)
        return state

    def _set_random(self, state: dict[str, Tensor]) -> None:
        torch.set_rng_state(state["cpu"])
        if "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self.layout.device)


@dataclass(frozen=True)
class _Exchanged:
    """f, while whose evaluations the tensors `old` have the numbers of `new`; not for evaluations with a graph."""

    f: RightHandSide
    old: tuple[Tensor, ...]
    new: tuple[Tensor, ...]

    def __call__(self, t: Tensor, y: State) -> Any:
        kept = [x.data for x in self.old]
        try:
            for x, value in zip(self.old, self.new, strict=True):
                x.data = value  # whose version stays, so that graphs which hold it stay whole
            return self.f(t, y)
        finally:
            for x, value in zip(self.old, kept, strict=True):
                x.data = value


def _address(k: Tensor) -> int:
    """Address of the numbers of a plain tensor; 0 for one without."""
    plain = type(k) is Tensor and not is_wrapped(k) and not k.is_meta
    return k.data_ptr() if plain else 0


def _closure(f: Any) -> list[Any]:
    """Objects that a function, method or partial holds."""
    held: list[Any] = [f, attribute(f, "__self__"), attribute(f, "func"), *(attribute(f, "args") or ())]
    target = inspect.unwrap(f) if inspect.isfunction(f) else attribute(f, "__func__") or f
    for cell in attribute(target, "__closure__") or ():
        try:
            held.append(cell.cell_contents)
        except ValueError:  # a cell that is not filled yet
            continue
    held.extend(attribute(target, "__defaults__") or ())
    attributes = attribute(f, "__dict__") or {}
    held.extend(attributes.values() if not isinstance(f, nn.Module) else ())
    return held


def _modules(f: Any) -> list[nn.Module]:
    found = [value for value in _closure(f) if isinstance(value, nn.Module)]
    return list({id(module): module for module in found}.values())


def _moving_buffers(modules: list[nn.Module]) -> list[Tensor]:
    norms = [
        part
        for module in modules
        for part in module.modules()
        if part.training and getattr(part, "track_running_stats", False)
    ]
    return _unique([buffer for part in norms for buffer in part.buffers(recurse=False)])


def made_from(tensors: Sequence[Tensor]) -> list[set[int]]:
    """For every tensor the numbers of the other ones from which it is made, by its graph."""
    found: list[set[int]] = [set() for _ in tensors]
    if len(tensors) < 2 or all(tensor.grad_fn is None for tensor in tensors):
        return found
    nodes = {id(tensor.grad_fn): i for i, tensor in enumerate(tensors) if tensor.grad_fn is not None}
    leaves = {id(tensor): i for i, tensor in enumerate(tensors) if tensor.grad_fn is None}
    for i, tensor in enumerate(tensors):
        seen: set[int] = set()
        queue = [] if tensor.grad_fn is None else [node for node, _ in tensor.grad_fn.next_functions]
        while queue:
            node = queue.pop()
            if node is None or id(node) in seen:
                continue
            seen.add(id(node))
            met = nodes.get(id(node), leaves.get(id(getattr(node, "variable", None))))
            found[i] |= set() if met is None else {met}
            queue.extend(after for after, _ in node.next_functions)
    return found


def _unique(tensors: Sequence[Tensor]) -> list[Tensor]:
    return list({id(tensor): tensor for tensor in tensors}.values())


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and dtype {value.dtype}"
    return f"a {type(value).__name__}"
