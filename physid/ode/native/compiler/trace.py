"""Trace of f: one eager evaluation, recorded as aten operations.

A dispatch mode sees every operation below autograd. Tensors are recorded as strided references into numbered stores, so
that views and in-place writes need no rules: they alias here as they alias in torch. What depends on no input is not
recorded; integers (index pairs, masks) are taken with their values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from physid.ode.native.compiler.conversions import LeavingValues, NotFinite, Unsupported
from physid.ode.native.compiler.detours import detour
from physid.ode.native.compiler.driving_inputs import Drive
from physid.ode.native.compiler.factors import factored
from physid.ode.native.compiler.graph import Graph, KnownTensor, Operation, Ref, Store
from physid.ode.torch_internals import (
    TorchDispatchMode,
    decompositions,
    storage_id,
    tree_leaves,
    tree_map,
    undispatched,
    unoverridden,
)

READS = ("_local_scalar_dense", "equal", "is_nonzero", "item", "nonzero", "masked_select", "unique_dim", "_unique2")

__all__ = ["Graph", "KnownTensor", "NotFinite", "Operation", "Ref", "Unsupported"]


class Recording(TorchDispatchMode):
    """Records the operations of one evaluation."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: shielding this mode from torch.compile imports it, which takes more than a second."""
        return False

    def __init__(
        self, dtype: torch.dtype, known: Callable[[str], bool], counters: Collection[int] = frozenset()
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counters = counters  # storages of tensors by which f may count
        self.tallied: list[tuple[Tensor, int]] = []  # what f has added to them
        self.dtype, self.known = dtype, known
        self.steps: list[Operation] = []
        self.stores: list[Store] = []
        self.constants: list[Tensor] = []
        self.slots: dict[int, int] = {}
        self.alive: list[Tensor] = []
        self.unusable: set[int] = set()
        self.split: set[int] = set()  # stores that share memory with one that has no derivative, in torch but not here
        self.cut: list[bool] = []  # filled while f detaches a tensor
        self.mixed: set[int] = set()  # literals into which other numbers have been written

    # --- stores

    def place(self, tensor: Tensor, kind: str, first: int = 0) -> None:
        """Register an input tensor whose elements are first, first + 1, ... of the input array `kind`."""
        if tensor.layout is not torch.strided:
            raise Unsupported("a sparse matrix that asks for gradients")
        cdata = storage_id(tensor)
        if cdata in self.slots:
            raise Unsupported("two tensors that f depends on share memory")
        index = np.full(_cells(tensor), -1, np.int64)
        shape, strides = tuple(tensor.shape), tuple(tensor.stride())
        window = _window(index, int(tensor.storage_offset()), shape, strides)
        window[...] = np.arange(first, first + tensor.numel()).reshape(shape)
        self._store(tensor, Store(kind, len(index), tuple(index.tolist())))

    def _store(self, tensor: Tensor, store: Store) -> int:
        self.alive.append(tensor)
        self.stores.append(store)
        self.slots[storage_id(tensor)] = len(self.stores) - 1
        return len(self.stores) - 1

    def _literal(self, tensor: Tensor) -> None:
        memory = torch.as_strided(tensor.detach(), (_cells(tensor),), (1,), 0)
        self._store(tensor, Store("literal", _cells(tensor), values=tuple(memory.double().tolist())))

    def _dense_literal(self, sparse: Tensor) -> Tensor:
        dense = sparse.detach().to_dense()
        self._literal(dense)
        return dense

    def _outside(self, tensor: Tensor) -> None:
        """A floating tensor that enters from outside: a constant."""
        first = sum(constant.numel() for constant in self.constants)
        self.place(tensor, "c", first)
        self.constants.append(tensor)

    def ref(self, tensor: Tensor) -> Ref | KnownTensor:
        """The reference of an argument."""
        cdata = storage_id(tensor)
        if cdata not in self.slots:
            if tensor.is_complex():
                raise Unsupported("complex numbers")
            if tensor.device.type != "cpu":
                raise Unsupported(f"a tensor on the device {tensor.device}")
            if not tensor.is_floating_point():
                with undispatched():
                    return KnownTensor(tensor.detach().clone().numpy())
            self._outside(tensor)
        slot = self.slots[cdata]
        if slot in self.unusable:
            raise Unsupported("integers that are computed from the state")
        if self.stores[slot].kind == "tally":
            raise Unsupported("a tensor that f changes and reads")
        return Ref(slot, int(tensor.storage_offset()), tuple(tensor.shape), tuple(tensor.stride()))

    # --- operations

    def reader(self, at: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """What f reads its inputs by: their values at some times [*times, M], recorded as one operation."""

        def read(times: Tensor) -> Tensor:
            if times.dtype != self.dtype:
                raise Unsupported(f"inputs read at times of dtype {times.dtype}")
            with unoverridden(), undispatched():
                before, still = self.ref(times), not torch.is_grad_enabled()
                values = at(times)
                self.steps.append(
                    Operation("inputs", (before, values.shape[-1]), {}, (self._result(values),), still=still)
                )
            return values

        return read

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operation and record it."""
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        way = detour(name, func, args, kwargs, self._dense_literal)
        if way is not None:
            with self:
                return way()
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise Unsupported(f"random numbers ({name})")
        if name == "_linalg_check_errors":  # a singular matrix gives not-a-number
            return func(*args, **kwargs)
        if name == "add_" and storage_id(args[0]) in self.counters and self._counts(args, kwargs):
            return func(*args, **kwargs)
        if name == "lift_fresh":
            if args[0].is_floating_point() and not self._aliases(args[0]):
                self._literal(args[0])
            return func(*args, **kwargs)
        if name == "detach" and self.cut and self.varies(args[0]):
            return self._detached(args[0])
        if torch.Tag.inplace_view in func.tags:  # squeeze_ and its like: the reference is read at the next use
            return func(*args, **kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        depends = any(self._depends(tensor) for tensor in tensors)
        if name in READS and depends:
            if not any(map(self.varies, tensors)):
                return func(*args, **kwargs)
            raise Unsupported(f"a Python number or branch made from a tensor's value ({name})")
        writes = func._schema.is_mutable
        base = name.removesuffix("_") if writes and name.endswith("_") else name
        if depends and not self._supported(base, func, args, kwargs, writes):
            done, out = self._decomposed(func, args, kwargs)
            if done:
                return out
            raise Unsupported(f"unsupported operation {name}")
        before = (
            tree_map(lambda leaf: self.ref(leaf) if isinstance(leaf, Tensor) else leaf, (args, kwargs))
            if depends
            else None
        )
        out = func(*args, **kwargs)
        if before is not None:
            if isinstance(out, bool | int | float):
                raise Unsupported(f"a Python number or branch made from a tensor's value ({name})")
            self._record(base, before, out, args, writes)
        elif any(storage_id(t) in self.slots for t in tensors):
            self._unread(name, out, args, writes)
        else:
            self._fixed(out, tensors)
        return out

    def _counts(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Note that f adds a whole number to a tensor by which it may count, and which it has not read."""
        tensor, step = args
        slot = self.slots.get(storage_id(tensor))
        if kwargs or type(step) is not int or (slot is not None and self.stores[slot].kind != "tally"):
            return False
        if slot is None:
            self._store(tensor, Store("tally", _cells(tensor)))
        self.tallied.append((tensor, step))
        return True

    def _supported(self, base: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], writes: bool) -> bool:
        return func.is_view or self.known(base)

    def _depends(self, tensor: Tensor) -> bool:
        """Whether a tensor holds numbers that are not literally known."""
        slot = self.slots.get(storage_id(tensor))
        if slot is None:
            return tensor.is_floating_point() or tensor.is_complex()
        return True

    def varies(self, tensor: Tensor) -> bool:
        """Whether a tensor holds numbers of t, y, parameters or constants, or made from them."""
        slot = self.slots.get(storage_id(tensor))
        if slot is None or self.stores[slot].kind != "literal":
            return self._depends(tensor)
        return slot in self.mixed

    def _detached(self, tensor: Tensor) -> Tensor:
        """A copy that no derivative goes through, where torch has a view."""
        before = self.ref(tensor)
        out = tensor.detach().clone()
        slot = self._store(out, Store("made", _cells(out)))
        ref = Ref(slot, int(out.storage_offset()), tuple(out.shape), tuple(out.stride()))
        self.steps.append(Operation("detach", (before,), {}, (ref,)))
        self.split |= {slot, self.slots[storage_id(tensor)]}
        return out

    def _unread(self, name: str, out: Any, args: tuple[Any, ...], writes: bool) -> None:
        raise Unsupported(f"unsupported operation {name}")

    def _fixed(self, out: Any, tensors: Sequence[Tensor]) -> None:
        """Results of an operation on known values alone; floating ones are literals."""
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.numel():
                self._literal(leaf)

    def _decomposed(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bool, Any]:
        """An operation that is not in the table, by those it is made of."""
        with self:
            out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return True, out
            rule = decompositions().get(func)
            if rule is None or torch.Tag.nondeterministic_seeded in func.tags:
                return False, None
            return True, rule(*args, **kwargs)

    def _record(self, base: str, before: Any, out: Any, args: tuple[Any, ...], writes: bool) -> None:
        results = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if not writes and results and all(self._aliases(leaf) for leaf in results):
            if not torch.is_grad_enabled():
                raise Unsupported(f"a view that is taken while autograd is off ({base})")
            return
        refs: list[Ref | None] = []
        for leaf in results:
            refs.append(self._result(leaf))
        if writes and any(ref is not None and self.stores[ref.slot].kind in "typc" for ref in refs):
            raise Unsupported(f"f writes into a tensor that it was given or holds ({base}_)")
        slots = {ref.slot for ref in refs if ref is not None}
        if writes and slots & self.split:
            raise Unsupported(f"f writes into a tensor that it has detached ({base}_)")
        still = not torch.is_grad_enabled()
        self.mixed |= slots
        self.steps.append(Operation(base, before[0], before[1], tuple(refs), writes, still))

    def _aliases(self, tensor: Tensor) -> bool:
        return storage_id(tensor) in self.slots

    def _result(self, tensor: Tensor) -> Ref | None:
        if tensor.numel() == 0:
            return None
        if tensor.is_complex():
            raise Unsupported("complex numbers")
        if not self._aliases(tensor):
            slot = self._store(tensor, Store("made", _cells(tensor)))
            if not tensor.is_floating_point() and tensor.dtype != torch.bool:
                self.unusable.add(slot)
                return None
            if tensor.is_floating_point() and tensor.dtype != self.dtype and self.dtype == torch.float64:
                raise Unsupported(f"arithmetic in {tensor.dtype} inside of a state of {self.dtype}")
        slot = self.slots[storage_id(tensor)]
        return Ref(slot, int(tensor.storage_offset()), tuple(tensor.shape), tuple(tensor.stride()))


def trace(
    f: Callable[[Tensor, Tensor], Tensor],
    t: Tensor,
    y: Tensor,
    captured: Sequence[Tensor],
    known: Callable[[str], bool],
    bake: bool = True,
    drive: Drive | None = None,
    counters: Collection[int] = frozenset(),
) -> Graph:
    """Record f(t, y) -> [N] at flat states y [N]; `captured` are the tensors whose numbers are parameters.

    `known` says which operations the table has. With `bake`, elements of constant tensors (no nn.Parameter) that are
    0, 1 or -1 are written into the code, since most of such a matrix then costs nothing; whoever calls the kernel
    checks that they still are. `drive` is what drives f; `counters` are storages by which it may count, not read in
    the record. Unsupported says what f does that C cannot.
    """
    recording = Recording(y.dtype, known, counters)
    t, y = t.detach().clone(), y.detach().clone()
    recording.place(t, "t")
    recording.place(y, "y")
    raw = 0
    for tensor in captured:
        recording.place(tensor, "p", raw)
        raw += tensor.numel()
    reads = drive.reading(recording.reader(drive.at)) if drive else nullcontext()
    with torch.enable_grad(), recording, LeavingValues(recording.varies, recording.cut), reads:
        value = f(t, y)
    result = recording.ref(value)
    if not isinstance(result, Ref):
        raise Unsupported("a right-hand side of integers")
    count = sum(constant.numel() for constant in recording.constants)
    graph = Graph(
        tuple(recording.steps),
        tuple(recording.stores),
        result,
        y.dtype,
        y.numel(),
        raw,
        _baked(recording.constants) if bake else (),
        (*recording.constants, *(drive.table if drive else ())),
        (count, *drive.shape) if drive else (),
        tuple(recording.tallied),
    )
    return factored(graph)


def _baked(constants: Sequence[Tensor]) -> tuple[tuple[int, float], ...]:
    found, first = [], 0
    for tensor in constants:
        if tensor.numel() > 1 and not isinstance(tensor, torch.nn.Parameter):
            values = tensor.detach().reshape(-1).tolist()
            found += [(first + i, v) for i, v in enumerate(values) if v in (0.0, 1.0, -1.0)]
        first += tensor.numel()
    return tuple(found)


def _cells(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes() // tensor.element_size()


def _window(memory: NDArray[Any], offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> NDArray[Any]:
    """A strided window of flat memory, as torch sees it."""
    item = memory.itemsize
    return np.lib.stride_tricks.as_strided(memory[offset:], shape, tuple(s * item for s in strides))
