"""`Kernel`: a compiled right-hand side with its products and constants."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from physid.ode.native.compiler.build import load
from physid.ode.native.compiler.library import TANGENTS, Sizes, Sources, declare, pointers, strided
from physid.ode.native.compiler.moments import Moments
from physid.ode.native.compiler.per_sample import rows
from physid.ode.native.compiler.trace import Graph, NotFinite, Unsupported
from physid.ode.native.places import Place
from physid.ode.native.reach import Surroundings
from physid.ode.torch_internals import flattened, unflattened

OTHER_ZEROS = "other zeros and ones"


@dataclass
class Kernel:
    """A compiled f: the library, the sizes of its arrays, where its constants are found, and what f reads."""

    library: ctypes.CDLL
    unit: Sizes
    sources: Sources
    places: tuple[Place | Tensor, ...]
    dtype: torch.dtype
    around: Surroundings
    own: tuple[bool, ...] = ()  # which captured tensors have a row per sample
    own_constants: tuple[bool, ...] = ()
    sampled: bool = False  # whether samples have parameters or constants of their own
    untangent: str | None = None  # why its tangents cannot be had; None before they were asked for
    kept: list[Tensor] = field(default_factory=list)  # the constants whose zeros and ones were found as traced

    @property
    def graph(self) -> Graph:
        """The record of f."""
        return self.sources.graph

    @cached_property
    def tangents(self) -> ctypes.CDLL:
        """The library of df, made when it is first asked for; Unsupported where there is none."""
        return declare(load(self.sources.tangents())[0], TANGENTS)

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
        raw = self.flat(captured)
        self.check_finite(raw, c)
        return self.prepare(raw, c), c

    def check_finite(self, raw: Tensor, c: Tensor) -> None:
        """NotFinite where captured numbers or constants are not, and products with zero have been left out for them."""
        if self.unit.assumed and not math.isfinite(float(raw.sum() + c.sum())):
            raise NotFinite("a parameter or constant of f is not finite")

    def _lanes(self, tensors: Sequence[Tensor], own: Sequence[bool]) -> int:
        return next((tensor.shape[0] for tensor, mine in zip(tensors, own, strict=True) if mine), 1)

    def flat(self, captured: Sequence[Tensor]) -> Tensor:
        """The captured numbers [RAW]; [L, RAW] where samples have their own."""
        if any(self.own):
            return rows(captured, self.own, self._lanes(captured, self.own), self.dtype)
        return self._joined(captured)

    def _joined(self, captured: Sequence[Tensor]) -> Tensor:
        if len(captured) == 1 and captured[0].dtype is self.dtype and captured[0].is_contiguous():
            return captured[0].detach().view(-1)
        if not captured:
            return torch.zeros(0, dtype=self.dtype)
        plain = [x if x.dtype is self.dtype else x.to(self.dtype) for x in captured]
        if torch.is_grad_enabled():
            plain = [x.detach() for x in plain]
        flat: Tensor = flattened(plain)
        return flat

    def prepare(self, raw: Tensor, c: Tensor) -> Tensor:
        """The prepared parameters [P] for captured numbers [RAW], and so for rows of them."""
        if self.unit.identity:
            return raw
        if raw.ndim > 1 or c.ndim > 1:
            lanes = max(len(raw) if raw.ndim > 1 else 1, len(c) if c.ndim > 1 else 1)
            q = torch.empty(lanes, self.p, dtype=self.dtype)
            self.library.physid_prepare_lanes(lanes, *strided(raw), *strided(c), q.data_ptr())
            return q
        q = torch.empty(self.p, dtype=self.dtype)
        self.library.physid_prepare(raw.data_ptr(), c.data_ptr(), q.data_ptr())
        return q

    def constants(self, swapped: Mapping[int, Tensor] | None = None) -> Tensor:
        """The current constants [C]; `swapped` gives other tensors in the place of those with these ids."""
        if not self.places:
            return self.factors
        now = [place if isinstance(place, Tensor) else place.now() for place in self.places]
        if swapped:
            now = [swapped.get(id(tensor), tensor) for tensor in now]
        for tensor, before in zip(now, self.graph.constants, strict=True):
            if not isinstance(tensor, Tensor) or not self._alike(tensor, before):
                raise Unsupported("a constant tensor of f has another shape or type than when it was traced")
        own = self.own_constants
        if self.graph.factors:
            now, own = [*now, self.factors], (*own, False)
        if any(own):
            return rows(now, own, self._lanes(now, own), self.dtype)
        c = self._joined(now)  # anew, since memory that NumPy shares changes without a word
        if not (self.kept and torch.equal(c, self.kept[0])):
            places, values = self.baked
            if not torch.equal(c[places], values):
                raise Unsupported(f"a constant tensor of f has {OTHER_ZEROS} than when it was traced")
            self.kept[:] = [c.clone()]
        return c

    @cached_property
    def moments(self) -> Moments | None:
        """At which times f reads its inputs; None where the record does not tell of all samples."""
        found = Moments.of(self.graph)
        return None if found is None or (self.sampled and not found.plain) else found

    @cached_property
    def factors(self) -> Tensor:
        """The constants of an f that holds no tensors: its factors."""
        return torch.tensor(self.graph.factors, dtype=self.dtype)

    @cached_property
    def baked(self) -> tuple[Tensor, Tensor]:
        """The places in c of the constants that are written into the code, and their values."""
        places = torch.tensor([place for place, _ in self.graph.baked], dtype=torch.long)
        return places, torch.tensor([value for _, value in self.graph.baked], dtype=self.dtype)

    def _alike(self, tensor: Tensor, before: Tensor) -> bool:
        """Whether a constant has the shape and type of the one that was traced, rows of samples left out."""
        first = 1 if any(self.own_constants) else 0
        return tensor.shape[first:] == before.shape[first:] and tensor.dtype == before.dtype

    def pull(
        self, gp: Tensor, captured: Sequence[Tensor], c: Tensor | None = None, raw: Tensor | None = None
    ) -> list[Tensor]:
        """Cotangents of the captured tensors, for that of the prepared parameters [P].

        `c` [C] are the constants and `raw` [RAW] the captured numbers, where they are at hand.
        """
        if self.sampled:
            return self._pull_rows(gp, captured, self.constants() if c is None else c)
        if self.unit.identity:
            flat = gp
        else:
            flat, c = torch.zeros(self.raw, dtype=self.dtype), self.constants() if c is None else c
            raw, gp = self.flat(captured) if raw is None else raw, gp.contiguous()
            self.library.physid_prepare_vjp(raw.data_ptr(), c.data_ptr(), gp.data_ptr(), flat.data_ptr())
        if len(captured) == 1:
            return [flat.view(captured[0].shape)]
        return unflattened(flat, captured)

    def _pull_rows(self, gp: Tensor, captured: Sequence[Tensor], c: Tensor) -> list[Tensor]:
        """The same for cotangents [L, P] of samples with parameters or constants of their own."""
        lanes, flat = len(gp), gp
        if not self.unit.identity:
            flat, raw = torch.zeros(lanes, self.raw, dtype=self.dtype), self.flat(captured)
            q = (gp.data_ptr(), flat.data_ptr())
            self.library.physid_prepare_vjp_lanes(lanes, *strided(raw), *strided(c), *q)
        sizes = [tensor[0].numel() if own else tensor.numel() for tensor, own in zip(captured, self.own, strict=True)]
        parts = flat.split(sizes, 1) if captured else ()
        found = zip(parts, captured, self.own, strict=True)
        return [(part if own else part.sum(0)).reshape(tensor.shape) for part, tensor, own in found]

    def seeds(self, captured: Sequence[Tensor], c: Tensor | None = None) -> Tensor:
        """d(prepared)/d(captured) [P, RAW]."""
        rows = torch.eye(self.p, dtype=self.dtype)
        if self.unit.identity:
            return rows
        if not self.p or not captured:
            return torch.zeros(self.p, self.raw, dtype=self.dtype)
        return torch.stack([torch.cat([g.reshape(-1) for g in self.pull(row, captured, c)]) for row in rows])

    def directions(self, captured: Sequence[Tensor], c: Tensor, along: Sequence[Tensor], lanes: int) -> Tensor:
        """Tangents of the prepared parameters for tangents [K, *shape] of the captured tensors: [P, K].

        [L, P, K] where samples have parameters or constants of their own.
        """
        if not along:
            return torch.zeros(self.p, 0, dtype=self.dtype)
        if not self.sampled:
            flat = torch.cat([v.reshape(len(v), -1) for v in along], 1).to(self.dtype)
            return flat.T if self.unit.identity else self.seeds(captured, c) @ flat.T
        flat = torch.stack([rows(one, self.own, lanes, self.dtype) for one in zip(*along, strict=True)], 2)
        if self.unit.identity:
            return flat
        raw = self.flat(captured).expand(lanes, -1).contiguous()
        table = torch.empty(lanes, self.p, flat.shape[2], dtype=self.dtype)
        for place in range(self.p):
            one, by = torch.zeros(lanes, self.p, dtype=self.dtype), torch.zeros(lanes, self.raw, dtype=self.dtype)
            one[:, place] = 1
            self.library.physid_prepare_vjp_lanes(lanes, *strided(raw), *strided(c), *pointers(one, by))
            table[:, place] = torch.einsum("lr,lrk->lk", by, flat)
        return table

    # --- single evaluations, for comparisons and tests

    def field(self, t: Tensor, y: Tensor, p: Tensor, c: Tensor) -> Tensor:
        """f at states [.., N] and as many times: [.., N]."""
        k, work = torch.empty_like(y), self._work(self.library.physid_scratch())
        t, y = t.detach().reshape(-1).to(self.dtype).contiguous(), y.detach().contiguous()
        self.library.physid_fields(t.numel(), *pointers(t, y, p, c, k, work))
        return k.detach()

    def vjp(self, t: Tensor, y: Tensor, p: Tensor, c: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """w^T df/dy [N], w^T df/dp [P], w^T df/dt [1] at one state [N]."""
        made = [torch.zeros(size, dtype=self.dtype) for size in (self.n, self.p, 1)]
        t, y, w = t.detach().reshape(1).to(self.dtype), y.detach().contiguous(), w.detach().contiguous()
        work = self._work(self.library.physid_scratch())
        self.library.physid_vjp(*pointers(t, y, p, c, w, *made, work))
        return made[0], made[1], made[2]

    def abreast(self, t: Tensor, y: Tensor, p: Tensor, c: Tensor, w: Tensor) -> list[Tensor]:
        """f [N], w^T df/dy [N], w^T df/dp [P], w^T df/dt [1] as the lanes of vectors give them; empty without such."""
        made = [torch.zeros(size, dtype=self.dtype) for size in (self.n, self.n, self.p, 1)]
        t, y, w = t.detach().reshape(1).to(self.dtype), y.detach().contiguous(), w.detach().contiguous()
        return made if self.library.physid_abreast(*pointers(t, y, p, c, w, *made)) else []

    def jvp(self, t: Tensor, y: Tensor, p: Tensor, c: Tensor, dy: Tensor, dp: Tensor | None) -> tuple[Tensor, Tensor]:
        """f [N] and df [N, m] for tangents dy [N, m], dp [P, m] or None."""
        m = dy.shape[1]
        k, dk = torch.empty(self.n, dtype=self.dtype), torch.empty(self.n, m, dtype=self.dtype)
        t, y, dy = t.detach().reshape(1).to(self.dtype), y.detach().contiguous(), dy.contiguous()
        dp = None if dp is None else dp.contiguous()
        columns, work = None if dp is None else dp.data_ptr(), self._work(self.tangents.physid_scratch(m))
        self.tangents.physid_jvp(*pointers(t, y, p, c), m, dy.data_ptr(), columns, *pointers(k, dk, work))
        return k, dk

    def _work(self, size: int) -> Tensor:
        return torch.empty(size, dtype=self.dtype)
