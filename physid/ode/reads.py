"""Input reads: the times at which f reads its inputs, and the jump times that follow.

An f is driven where it, or the object whose method it is, has `driver` and `reading(reader)`, in which it takes
`reader(s)` for u(s). Where it reads at s = a t + b, with a and b of unknowns, a switch sigma of the driver makes it
jump at (sigma - b) / a. Times that depend on the state, or on t in another way, say nothing of when f jumps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from physid.errors import InputError
from physid.ode.jumps import Jumps, SwitchReads, by_lane
from physid.ode.rhs import RightHandSide, State, attribute
from physid.ode.transforms import plain_where_transformed, refuse_transformed

INSIDE = (0.3819660112501051, 0.7548776662466927)  # where in the interval a straight line is looked for
STRAIGHT = 1e-11  # how far from a straight line, relative to the times, is still one


@dataclass(frozen=True)
class Lines:
    """The times a t + b at which f reads: a, b [R, L] with their graph, and f's interval [2, L] in time."""

    a: Tensor
    b: Tensor
    ends: Tensor


@dataclass(frozen=True)
class Foreseen:
    """Reads of f that are known without an evaluation.

    `plain`: all are at t itself. `lines(ends)` gives a and b [R, 1] of their times a t + b within `ends` [2, L].
    """

    plain: bool
    lines: Callable[[Tensor], tuple[Tensor, Tensor]]


def driven_by(f: RightHandSide) -> tuple[Any, Any]:
    """The owner of the inputs of f, f or the object whose method it is, and the inputs, None where there are none."""
    driver = attribute(f, "driver")
    if driver is not None or isinstance(f, nn.Module):
        return f, driver
    owner = attribute(f, "__self__")
    return (f, None) if owner is None else (owner, attribute(owner, "driver"))


def jumps_of(
    f: RightHandSide,
    y0: State,
    t: Tensor | Sequence[float],
    batched: bool,
    graph: bool | None = None,
    asked: Tensor | None = None,
    foreseen: Foreseen | None = None,
    driven: tuple[Any, Any] | None = None,
) -> Jumps | None:
    """The times at which f jumps: those `asked` for, its `switches`, where what it reads of its inputs does; or None.

    `graph`: whether gradients are wanted, by default whether autograd is on. `foreseen`: what is known of f's reads,
    which spares evaluations of f. `driven`: what `driven_by` has found.
    Errors: InputError for inputs read beyond their samples, and for gradients by what moves jumps unforeseeably.
    """
    owner, driver = driven or driven_by(f)
    switches = attribute(owner, "switches")
    if driver is None and asked is None and switches is None:
        return None
    alone = driver is not None and asked is None and switches is driver.switches
    if foreseen is not None and foreseen.plain and alone:
        return Jumps.at(switches)
    with torch.set_grad_enabled(torch.is_grad_enabled() if graph is None else graph):
        switches = refuse_transformed(_both(asked, switches))
        if driver is None or not hasattr(owner, "reading") or not _sensible(y0, t):
            return None if switches is None else Jumps.at(switches)
        probe = plain_where_transformed(lambda: ReadProbe(f, owner, y0, t, batched, foreseen))
        own = None if alone or switches is None else _without(switches, driver.switches)
        if probe.plain and (own is None or not len(own)):
            return Jumps.at(driver.switches) if len(driver.switches) else None
        with _same_random():
            lines = probe.lines()
            if lines is None:
                probe.refuse_hidden()
                return None if own is None or not len(own) else Jumps.at(own)
            probe.refuse_beyond(lines)
            return _joined(lines, own, owner, probe)


def _both(asked: Tensor | None, switches: Tensor | None) -> Tensor | None:
    """All of these times; None where there are none."""
    found = [x.to("cpu", torch.float64).reshape(-1) for x in (asked, switches) if x is not None and x.numel()]
    return torch.cat(found) if found else None


def _without(times: Tensor, others: Tensor) -> Tensor:
    """The times without the others, if these are all among them: a model's switches may be its driver's and more."""
    values, left = times.detach().tolist(), others.tolist()
    if not set(left) <= set(values):
        return times
    keep = []
    for i, value in enumerate(values):
        if value in left:
            left.remove(value)
        else:
            keep.append(i)
    return times[keep]


def _sensible(y0: State, t: Tensor | Sequence[float]) -> bool:
    """Whether f can be evaluated at these times; whoever checks them says what is wrong."""
    parts = y0 if isinstance(y0, tuple) else (y0,)
    if not parts or not all(isinstance(part, Tensor) for part in parts):
        return False
    try:
        times = torch.as_tensor(t, dtype=torch.float64).detach()
    except (TypeError, ValueError, RuntimeError):
        return False
    return times.ndim in (1, 2) and bool(times.numel()) and bool(torch.isfinite(times).all())


class ReadProbe:
    """Reads of f at the start of a solve, found by evaluations of f there."""

    def __init__(
        self,
        f: RightHandSide,
        owner: Any,
        y0: State,
        t: Tensor | Sequence[float],
        batched: bool,
        foreseen: Foreseen | None = None,
    ) -> None:
        self.f, self.owner, self.batched, self.foreseen = f, owner, batched, foreseen
        self.driver, self.apart = owner.driver, hasattr(f, "reads")
        self.y0, parts = y0, y0 if isinstance(y0, tuple) else (y0,)
        self.like = parts[0]
        self.lanes = self.like.shape[0] if batched else 1
        times = torch.as_tensor(t, dtype=torch.float64).detach().cpu()
        rows = times.reshape(len(times), -1)[[0, -1]] if len(times) else torch.zeros(2, 1, dtype=torch.float64)
        self.ends = rows.expand(2, self.lanes)
        if foreseen is not None:
            self.plain = foreseen.plain
            return
        with torch.no_grad(), _same_random():
            self.plain = self._read(self.ends[0], y0) is None

    def _moment(self, t: Tensor) -> Tensor:
        moment = t.to(self.like.real.dtype if self.like.is_complex() else self.like.dtype).to(self.like.device)
        return moment if self.batched else moment[0]

    def _read(self, t: Tensor, y: State) -> Tensor | None:
        """The times [R, L or 1] that f reads at t [L], in order; None where they are all t."""
        moment = self._moment(t)
        if self.apart:
            found = self.f.reads(moment, y)  # type: ignore[attr-defined]
            return None if found is None else found.T
        reads: list[Tensor] = []

        def reader(times: Tensor) -> Tensor:
            reads.append(times)
            values: Tensor = self.driver(times)
            return values

        with self.owner.reading(reader):
            self.f(moment, y)
        if all(at is moment for at in reads):
            return None
        rows = [by_lane(at.double(), self.lanes).T for at in reads]
        return torch.cat([row.expand(-1, max(row.shape[1] for row in rows)) for row in rows])

    def lines(self) -> Lines | None:
        """The times as straight lines; None where they depend on the state or are none."""
        if self.plain:
            zero = torch.zeros(1, 1, dtype=torch.float64)
            return Lines(zero + 1, zero, self.ends)
        if self.foreseen is not None:
            a, b = (part.expand(-1, self.lanes) for part in self.foreseen.lines(self.ends))
            return Lines(a, b, self.ends)
        span = self.ends[1] - self.ends[0]
        if not bool((span != 0).any()) or self._by_state():
            return None
        first, last = (self._read(end, self.y0) for end in self.ends)
        if first is None or last is None or first.shape != last.shape:
            return None
        width = torch.where(span == 0, 1.0, span)[: first.shape[1]].to(first.device)
        a = (last - first) / width
        b = first - a * self.ends[0, : first.shape[1]].to(first.device)
        for share in INSIDE:
            t = self.ends[0] + share * span
            with torch.no_grad():
                there = self._read(t, self.y0)
                if there is None or there.shape != first.shape:
                    return None
                line = a * t[: first.shape[1]].to(first.device) + b
                size = torch.maximum(first.abs(), last.abs()) + self.ends.abs().max().to(first.device)
                eps = torch.finfo(self.like.dtype).eps / torch.finfo(torch.float64).eps
                if not bool(((there - line).abs() <= STRAIGHT * eps * size).all()):
                    return None
        return Lines(a.cpu(), b.cpu(), self.ends)

    def _by_state(self) -> bool:
        """Whether the times depend on the state, other than on components that do not change."""
        parts = self.y0 if isinstance(self.y0, tuple) else (self.y0,)
        leaves = tuple(part.detach().requires_grad_() for part in parts)
        with torch.enable_grad():
            found = self._read(self.ends[0], leaves if isinstance(self.y0, tuple) else leaves[0])
            if found is None or not found.requires_grad:
                return False
            grads = torch.autograd.grad(found.sum(), leaves, allow_unused=True)
        changing = getattr(self.f, "n", None) if self.apart else None
        return any(g is not None and bool((g[..., :changing] != 0).any()) for g in grads)

    def refuse_hidden(self) -> None:
        """Errors: InputError where gradients ask for jumps whose times are not known."""
        if not self.driver.jumps or not torch.is_grad_enabled():
            return
        found = self._read(self.ends[0], self.y0)
        if found is not None and (found.requires_grad or self._by_state()):
            raise InputError(
                f"the inputs {', '.join(self.driver.names)} jump, and they are read at a time that depends on the "
                "state or is no a t + b with unknowns a and b: the gradient cannot follow when f jumps. Read them at "
                "such a time, interpolate them linearly, or solve under torch.no_grad()."
            )

    def refuse_beyond(self, lines: Lines) -> None:
        """Errors: InputError where inputs are read beyond their samples, or jumps that move are not landed on."""
        reads = torch.stack([lines.a * end[: lines.a.shape[1]] + lines.b for end in lines.ends]).detach()
        slack = 1e-9 * float(lines.ends.abs().max() + reads.abs().max())  # of round-off in a t + b
        self.driver.need(float(self.driver.breaks[0]), float(reads.max()) - slack)
        if lines.b.requires_grad and self.driver.unlanded:
            raise InputError(
                f"the inputs {', '.join(self.driver.names)} jump where steps do not land (land=False), and unknowns "
                "move the times at which they are read: the gradient cannot follow the jumps. Leave land=False out."
            )


def _joined(lines: Lines, own: Tensor | None, owner: Any, probe: ReadProbe) -> Jumps | None:
    """The jumps of all reads and f's own ones in order, those within round-off of each other as one landing."""
    landings = owner.driver.landings
    unique = _unique(lines)
    kept = torch.unique(unique)
    a, b = lines.a[kept][:, None], lines.b[kept][:, None]
    still = a.detach() == 0
    times = (landings[:, None] - b) / torch.where(still, 1.0, a)  # [R, K, L]
    times = torch.where(still, torch.inf, times)
    size = torch.maximum(landings.abs()[:, None], b.detach().abs()) / torch.where(still, 1.0, a.detach().abs())
    read = kept[:, None, None].expand(times.shape).reshape(-1, times.shape[2])
    switch = landings[None, :, None].expand(times.shape).reshape(-1, times.shape[2])
    rising = (a.detach() > 0).expand(times.shape).reshape(-1, times.shape[2])
    times, size = times.reshape(read.shape), size.reshape(read.shape)
    if own is not None and len(own):
        extra = own.to("cpu", torch.float64).reshape(-1, 1).expand(-1, times.shape[1])
        times, size = torch.cat([times, extra]), torch.cat([size, extra.detach().abs()])
        read, switch = torch.cat([read, torch.full_like(extra, -1).long()]), torch.cat([switch, extra.detach()])
        rising = torch.cat([rising, torch.ones_like(extra, dtype=torch.bool)])
    low, high = lines.ends.min(0).values[: times.shape[1]], lines.ends.max(0).values[: times.shape[1]]
    inside = ((times.detach() >= low) & (times.detach() <= high)).any(1)
    if not bool(inside.any()):
        return None
    order = times.detach()[inside].sort(stable=True, dim=0).indices
    times, size, read, switch, rising = (x[inside].gather(0, order) for x in (times, size, read, switch, rising))
    eps = torch.finfo(probe.like.dtype).eps
    clear = 4 * eps * torch.maximum(size, torch.maximum(times.detach().abs(), lines.ends.abs().max()))
    clear = torch.where(torch.isfinite(clear), clear, 0.0)
    landed, group = _together(times.detach(), clear)
    moves = times.requires_grad
    tied = bool((group[1:] == group[:-1]).any()) and moves
    reads = SwitchReads(owner, probe.apart, unique, read, switch, rising)
    return Jumps(landed, clear, times if moves else None, reads, tied)


def _together(times: Tensor, clear: Tensor) -> tuple[Tensor, Tensor]:
    """Ascending times [J, L], those within round-off replaced by the first of them, and the number of their group."""
    apart = torch.cat([torch.ones_like(times[:1], dtype=torch.bool), times.diff(dim=0) > 2 * clear[1:]])
    apart |= torch.isinf(times)
    group = apart.long().cumsum(0) - 1
    place = torch.where(apart, torch.arange(len(times))[:, None], 0).cummax(0).values
    return times.gather(0, place), group


def _unique(lines: Lines) -> Tensor:
    """Index [R] of the read that each read equals: now, and however their parameters move."""
    a, b = lines.a.detach(), lines.b.detach()
    found = torch.arange(len(a))
    leaves: list[Tensor] | None = None
    for i in range(1, len(a)):
        for j in range(i):
            if found[j] != j or not (torch.equal(a[i], a[j]) and torch.equal(b[i], b[j])):
                continue
            if lines.b.requires_grad:
                leaves = _leaves(lines.b) if leaves is None else leaves
                if not _alike(lines, i, j, leaves):
                    continue
            found[i] = j
            break
    return found


def _alike(lines: Lines, i: int, j: int, leaves: list[Tensor]) -> bool:
    """Whether nothing moves two reads apart."""
    for part in (lines.a, lines.b):
        for lane in range(part.shape[1]):
            difference = part[i, lane] - part[j, lane]
            grads = torch.autograd.grad(difference, leaves, retain_graph=True, allow_unused=True)
            if any(g is not None and bool((g != 0).any()) for g in grads):
                return False
    return True


def _leaves(value: Tensor) -> list[Tensor]:
    """The tensors that a graph begins with."""
    seen: set[int] = set()
    found: list[Tensor] = []
    todo = [value.grad_fn]
    while todo:
        node: Any = todo.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if hasattr(node, "variable"):
            found.append(node.variable)
        todo.extend(after for after, _ in node.next_functions)
    return found


@contextmanager
def _same_random() -> Iterator[None]:
    """In here evaluations of f leave no trace in torch's random numbers."""
    kept = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(kept)


def earliest_read(f: RightHandSide, y0: State, t: Tensor | Sequence[float]) -> float | None:
    """The earliest time at which f reads its inputs in a solve over t; None where that cannot be told."""
    owner = f if hasattr(f, "driver") else getattr(f, "__self__", f)
    if getattr(owner, "driver", None) is None or not hasattr(owner, "reading") or not _sensible(y0, t):
        return None
    with torch.no_grad(), _same_random():
        lines = ReadProbe(f, owner, y0, t, batched=False).lines()
        return None if lines is None else float(torch.stack([lines.a * end + lines.b for end in lines.ends]).min())
