"""`kernel_for`: the compiled right-hand side of a problem, or why there is none."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from physid.ode.field import Field, Layout
from physid.ode.native import build
from physid.ode.native.guard import Place, Surroundings
from physid.ode.native.lower import lower
from physid.ode.native.ops import TABLE
from physid.ode.native.trace import Graph, Unsupported, trace
from physid.ode.native.unit import Unit, emit
from physid.ode.native.verify import agree, verify
from physid.ode.problem import Problem


@dataclass(frozen=True)
class Refusal:
    """Why native code does not apply, in one line."""

    reason: str


@dataclass
class Kernel:
    """A compiled f: the library, the sizes of its arrays, and where its constants are found."""

    library: ctypes.CDLL
    unit: Unit
    graph: Graph
    places: tuple[Place | Tensor, ...]
    dtype: torch.dtype
    kept: list[tuple[list[tuple[Tensor, int]], Tensor]] = field(default_factory=list)

    @property
    def n(self) -> int:
        """Numbers in a state."""
        return self.unit.n

    @property
    def p(self) -> int:
        """Prepared parameters."""
        return self.unit.p

    @property
    def raw(self) -> int:
        """Numbers in the captured tensors."""
        return self.unit.raw

    def pack(self, captured: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The current arrays p [P], prepared, and c [C]; Unsupported when a constant is another one than was traced."""
        c = self.constants()
        return self.prepare(self.flat(captured), c), c

    def flat(self, captured: Sequence[Tensor]) -> Tensor:
        """The captured numbers [RAW]."""
        parts = [tensor.detach().reshape(-1).to(self.dtype) for tensor in captured]
        return (
            torch.cat(parts) if len(parts) > 1 else parts[0].contiguous() if parts else torch.zeros(0, dtype=self.dtype)
        )

    def prepare(self, raw: Tensor, c: Tensor) -> Tensor:
        """The prepared parameters [P] for captured numbers [RAW]."""
        if self.unit.identity:
            return raw
        q = torch.empty(self.p, dtype=self.dtype)
        self.library.physid_prepare(raw.data_ptr(), c.data_ptr(), q.data_ptr())
        return q

    def constants(self) -> Tensor:
        """The current constants [C]."""
        now = [place if isinstance(place, Tensor) else place.now() for place in self.places]
        if self.kept:
            marks, c = self.kept[0]
            if all(a is tensor and a._version == v for a, (tensor, v) in zip(now, marks, strict=True)):
                return c
        for tensor, before in zip(now, self.graph.constants, strict=True):
            if not isinstance(tensor, Tensor) or tensor.shape != before.shape or tensor.dtype != before.dtype:
                raise Unsupported("a constant tensor of f has another shape or type than when it was traced")
        c = self.flat(now)
        places, values = self.baked
        if not torch.equal(c[places], values):
            raise Unsupported("a constant tensor of f has other zeros and ones than when it was traced")
        self.kept[:] = [([(tensor, tensor._version) for tensor in now], c)]
        return c

    @cached_property
    def baked(self) -> tuple[Tensor, Tensor]:
        """The places in c of the constants that are written into the code, and their values."""
        places = torch.tensor([place for place, _ in self.graph.baked], dtype=torch.long)
        return places, torch.tensor([value for _, value in self.graph.baked], dtype=self.dtype)

    def pull(self, gp: Tensor, captured: Sequence[Tensor]) -> list[Tensor]:
        """Cotangents of the captured tensors, for that of the prepared parameters [P]."""
        if self.unit.identity:
            flat = gp
        else:
            flat, c = torch.zeros(self.raw, dtype=self.dtype), self.constants()
            raw, gp = self.flat(captured), gp.contiguous()
            self.library.physid_prepare_vjp(raw.data_ptr(), c.data_ptr(), gp.data_ptr(), flat.data_ptr())
        parts = flat.split([tensor.numel() for tensor in captured]) if captured else ()
        return [part.view(tensor.shape) for part, tensor in zip(parts, captured, strict=True)]

    def seeds(self, captured: Sequence[Tensor]) -> Tensor:
        """d(prepared)/d(captured) [P, RAW]."""
        rows = torch.eye(self.p, dtype=self.dtype)
        if self.unit.identity:
            return rows
        pulled = [torch.cat([g.reshape(-1) for g in self.pull(row, captured)]) for row in rows]
        return torch.stack(pulled) if pulled else torch.zeros(0, self.raw, dtype=self.dtype)

    # --- single evaluations, for comparisons and tests

    def field(self, t: Tensor, y: Tensor, p: Tensor, c: Tensor) -> Tensor:
        """f at states [.., N] and as many times: [.., N]."""
        k, work = torch.empty_like(y), self._work(0)
        t, y = t.detach().reshape(-1).to(self.dtype).contiguous(), y.detach().contiguous()
        self.library.physid_fields(t.numel(), *_pointers(t, y, p, c, k, work))
        return k.detach()

    def vjp(self, t: Tensor, y: Tensor, p: Tensor, c: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """w^T df/dy [N], w^T df/dp [P], w^T df/dt [1] at one state [N]."""
        made = [torch.zeros(size, dtype=self.dtype) for size in (self.n, self.p, 1)]
        t, y, w = t.detach().reshape(1).to(self.dtype), y.detach().contiguous(), w.detach().contiguous()
        work = self._work(0)
        self.library.physid_vjp(*_pointers(t, y, p, c, w, *made, work))
        return made[0], made[1], made[2]

    def jvp(self, t: Tensor, y: Tensor, p: Tensor, c: Tensor, dy: Tensor, dp: Tensor | None) -> tuple[Tensor, Tensor]:
        """f [N] and df [N, m] for tangents dy [N, m], dp [P, m] or None."""
        m = dy.shape[1]
        k, dk = torch.empty(self.n, dtype=self.dtype), torch.empty(self.n, m, dtype=self.dtype)
        t, y, dy = t.detach().reshape(1).to(self.dtype), y.detach().contiguous(), dy.contiguous()
        dp = None if dp is None else dp.contiguous()
        columns, work = None if dp is None else dp.data_ptr(), self._work(m)
        self.library.physid_jvp(*_pointers(t, y, p, c), m, dy.data_ptr(), columns, *_pointers(k, dk, work))
        return k, dk

    def _work(self, m: int) -> Tensor:
        return torch.empty(self.library.physid_scratch(m), dtype=self.dtype)


def _pointers(*tensors: Tensor) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]


@dataclass
class _Entry:
    """What is known of one f with states of one shape."""

    kernel: Kernel | Refusal
    around: Surroundings
    field: Field


_ENTRIES: weakref.WeakKeyDictionary[Any, dict[Any, _Entry]] = weakref.WeakKeyDictionary()
_UNITS: dict[str, Unit | str] = {}


def kernel_for(problem: Problem, runtime_source: str = "", flags: tuple[str, ...] = ()) -> Kernel | Refusal:
    """The kernel of a problem's f, checked against `problem.derivative`; a Refusal where native code does not apply.

    The first call for an f traces, compiles (or finds the library in the cache) and compares with the eager f; later
    ones look whether anything that f can see has changed. `runtime_source` is C that follows the functions.
    """
    reason = _not_for(problem)
    if reason:
        return Refusal(reason)
    holder, key = _identity(problem, runtime_source, flags)
    entries = _ENTRIES.setdefault(holder, {}) if holder is not None else {}
    entry = entries.get(key)
    if entry is not None and entry.around.change() is None:
        if isinstance(entry.kernel, Refusal):
            return entry.kernel
        try:
            check_start(entry.kernel, problem)
        except Unsupported:
            pass  # traced anew: a constant may have been replaced
        else:
            return entry.kernel
    entry = _made(problem, runtime_source, flags)
    entries[key] = entry
    return entry.kernel


def _not_for(problem: Problem) -> str:
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
    if torch._C._are_functorch_transforms_active():
        return "inside of a torch.func transform"
    return ""


def _identity(problem: Problem, runtime: str, flags: tuple[str, ...]) -> tuple[Any, Any]:
    """An object that lives as long as f, and a key for f as a part of it."""
    f, layout = problem.field.f, problem.layout
    shapes = tuple(shape[1:] if layout.batched else shape for shape in layout.shapes)
    captured = tuple((tuple(tensor.shape), tensor.dtype) for tensor in problem.captured)
    key = (
        getattr(f, "__func__", None),
        layout.is_tuple,
        layout.batched,
        shapes,
        layout.dtype,
        captured,
        runtime,
        flags,
    )
    holder = getattr(f, "__self__", f)
    try:
        weakref.ref(holder)
        hash(holder)
    except TypeError:
        return None, key
    return holder, key


def _made(problem: Problem, runtime: str, flags: tuple[str, ...]) -> _Entry:
    around = Surroundings(problem.field.f)
    one = _lane_field(problem)
    try:
        try:
            kernel = _compiled(problem, one, around, runtime, flags, bake=True)
            check_start(kernel, problem)
        except Unsupported:
            raise
        changed = around.change()
        if changed:
            raise Unsupported(f"f changes {changed} as it is evaluated")
        return _Entry(kernel, around, one)
    except Unsupported as why:
        return _Entry(Refusal(str(why)), around, one)


def _lane_field(problem: Problem) -> Field:
    """f on one lane."""
    layout = problem.layout
    y0 = layout.unpack(problem.y0.detach())
    if layout.batched:
        y0 = y0[:1] if isinstance(y0, Tensor) else tuple(part[:1] for part in y0)
    return Field(problem.field.f, Layout(y0, layout.batched), problem.captured)


def _compiled(
    problem: Problem, one: Field, around: Surroundings, runtime: str, flags: tuple[str, ...], bake: bool
) -> Kernel:
    y, t = problem.y0.detach()[: one.layout.width], problem.grid[0, :1].to(problem.layout.real)
    graph = _traced(one, t if problem.layout.batched else t[0], y, problem.captured, bake)
    kernel = assemble(graph, around, runtime, flags)
    verify(kernel, one, problem, *kernel.pack(problem.captured))
    return kernel


def assemble(graph: Graph, around: Surroundings, runtime: str = "", flags: tuple[str, ...] = ()) -> Kernel:
    """The kernel of a graph, not yet compared with anything; `around` says where its constants are kept."""
    unit = _unit(graph)
    library = build.load(unit.source + runtime, flags)
    _declare(library)
    places = tuple(around.tensors.get(id(tensor), tensor) for tensor in graph.constants)
    return Kernel(library, unit, graph, places, graph.dtype)


def _traced(one: Field, t: Tensor, y: Tensor, captured: Sequence[Tensor], bake: bool) -> Graph:
    try:
        return trace(one, t, y, captured, TABLE.__contains__, bake)
    except Unsupported:
        raise
    except Exception as error:
        batch = " of one sample; closures over tensors per sample stay eager" if one.layout.batched else ""
        first = (str(error).splitlines() or [""])[0][:160]
        raise Unsupported(f"f cannot be recorded{batch} ({type(error).__name__}: {first})") from None


def _unit(graph: Graph) -> Unit:
    """The C source of a graph, written once."""
    key = graph.key()
    if key not in _UNITS:
        try:
            _UNITS[key] = emit(lower(graph), graph.dtype)
        except Unsupported as why:
            _UNITS[key] = str(why)
        except (TypeError, ValueError, KeyError, IndexError, NotImplementedError) as error:
            _UNITS[key] = f"f cannot be written as C ({type(error).__name__}: {error})"
    found = _UNITS[key]
    if isinstance(found, str):
        raise Unsupported(found)
    return found


def _declare(library: ctypes.CDLL) -> None:
    pointer, whole = ctypes.c_void_p, ctypes.c_int
    signatures: dict[str, list[Callable[..., Any]]] = {
        "physid_fields": [whole, *[pointer] * 6],
        "physid_vjp": [pointer] * 9,
        "physid_jvp": [*[pointer] * 4, whole, *[pointer] * 5],
        "physid_scratch": [whole],
        "physid_prepare": [pointer] * 3,
        "physid_prepare_vjp": [pointer] * 4,
    }
    for name, arguments in signatures.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, whole if name == "physid_scratch" else None


def check_start(kernel: Kernel, problem: Problem) -> None:
    """Compare with the derivative that the engine has evaluated at the start, in every lane; else Unsupported."""
    p, c = kernel.pack(problem.captured)
    lanes = problem.layout.lanes
    eager = problem.derivative.detach().view(lanes, kernel.n)
    t = problem.grid[0].to(kernel.dtype).expand(lanes)
    native = kernel.field(t, problem.y0.detach().view(lanes, kernel.n), p, c)
    agree("f at the start", native, eager)
