"""The compiled engine with its programs run by NumPy in place of C: all but the compiler."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from physid.ode.backend import Cotangents
from physid.ode.eager.engine import EAGER
from physid.ode.eager.outcome import Outcome
from physid.ode.native import cache, choose, compile
from physid.ode.native.compiler.derive import TangentCode, reachable, reverse
from physid.ode.native.compiler.interpret import Numbers
from physid.ode.native.compiler.ir import PARAMS, SHIFT, STATE, Ids
from physid.ode.native.compiler.library import Sizes, Sources
from physid.ode.native.compiler.lower import Program, lower
from physid.ode.native.compiler.trace import Graph, Unsupported
from physid.ode.native.kernel import Kernel
from physid.ode.native.reach import Surroundings
from physid.ode.problem import ODEProblem
from physid.ode.solution import Statistics


class Executable:
    """A program with its products, whose derivatives are written once."""

    def __init__(self, program: Program) -> None:
        b, n = program.b, program.k.size
        self.program, self.b = program, b
        w, dy, dp = b.input("w", n, STATE), b.input("dy", n, STATE), b.input("dp", program.raw.size, STATE)
        found = reverse(b, program.k, w, (), STATE | PARAMS)
        self.products: list[Ids] = [found.of(ids) for ids in (program.y, program.raw, program.t)]
        buffers = {int(program.y[0] >> SHIFT) - 1: dy}
        if program.raw.size:
            buffers[int(program.raw[0] >> SHIFT) - 1] = dp
        tangents = TangentCode(b, buffers, {})
        for place in reachable(b, program.k, ()):
            if b.deps[place] & (STATE | PARAMS):
                tangents.push(place)
        self.tangents = tangents.of(program.k)

    def run(self, ids: Sequence[Ids], **inputs: Tensor) -> list[Tensor]:
        """The numbers at these inputs, tensors of any shape under the names t, y, p, c, w, dy, dp."""
        given = {name: value.detach().reshape(-1).numpy() for name, value in inputs.items()}
        numbers = Numbers(self.b, given, judge=False)
        return [torch.from_numpy(np.array(numbers.of(part)[0])) for part in ids]


@dataclass
class InterpretedKernel(Kernel):
    """A kernel whose functions are a program's."""

    code: Executable = field(kw_only=True)

    def field(self, t: Tensor, y: Tensor, p: Tensor, c: Tensor) -> Tensor:
        """f at states [.., N] and as many times: [.., N]."""
        rows = y.detach().reshape(-1, self.n)
        k = [
            self.code.run([self.code.program.k], t=s, y=row, p=p, c=c)[0]
            for s, row in zip(t.view(-1), rows, strict=True)
        ]
        return torch.stack(k).view(y.shape)

    def vjp(self, t: Tensor, y: Tensor, p: Tensor, c: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """w^T df/dy [N], w^T df/dp [RAW], w^T df/dt [1] at one state."""
        gy, gp, gt = self.code.run(self.code.products, t=t, y=y, p=p, c=c, w=w)
        return gy, gp, gt

    def abreast(self, t: Tensor, y: Tensor, p: Tensor, c: Tensor, w: Tensor) -> list[Tensor]:
        """No lanes."""
        return []

    def jvp(self, t: Tensor, y: Tensor, p: Tensor, c: Tensor, dy: Tensor, dp: Tensor | None) -> tuple[Tensor, Tensor]:
        """f [N] and df [N, m]."""
        dp = torch.zeros(self.p, dy.shape[1], dtype=y.dtype) if dp is None else dp
        columns = [
            self.code.run([self.code.tangents], t=t, y=y, p=p, c=c, dy=dy[:, j], dp=dp[:, j])[0]
            for j in range(dy.shape[1])
        ]
        return self.field(t, y, p, c), torch.stack(columns, 1)


class _Evaluated(torch.autograd.Function):
    """f by a kernel, with its products as the derivative."""

    @staticmethod
    def forward(ctx: Any, run: InterpretedKernel, t: Tensor, y: Tensor, *captured: Tensor) -> Tensor:
        p, c = run.pack(captured)
        ctx.run, ctx.given, ctx.captured = run, (t, y.reshape(-1), p, c), captured
        return run.field(t, y.reshape(1, -1), p, c).view(y.shape)

    @staticmethod
    def backward(ctx: Any, w: Tensor) -> tuple[Any, ...]:
        gy, gp, gt = ctx.run.vjp(*ctx.given, w.reshape(-1))
        return (None, gt.view(ctx.given[0].shape), gy.view(w.shape), *ctx.run.pull(gp, ctx.captured))


@dataclass(frozen=True)
class Interpreted:
    """The eager march with f by a kernel; it calls itself native, since all that leads to it is."""

    kernel: InterpretedKernel
    library: Any = None
    constants: Tensor | None = None
    name: str = "native"

    def count_from_here(self) -> Callable[[int], None]:
        """As the compiled one."""
        return self.kernel.around.tallies.count_from_here()

    def _other(self, problem: ODEProblem) -> ODEProblem:
        captured = problem.captured

        def f(t: Tensor, y: Tensor) -> Tensor:
            found: Tensor = _Evaluated.apply(self.kernel, t, y, *captured)  # type: ignore[no-untyped-call]
            return found

        return replace(problem, f=f, named=captured, slope=None)

    def march(self, problem: ODEProblem, *options: Any, **more: Any) -> tuple[Outcome, Any]:
        """As the eager one."""
        other = self._other(problem)
        outcome, tape = EAGER.march(other, *options, **more)
        return outcome, (other, tape)

    def pull(
        self,
        problem: ODEProblem,
        kept: Any,
        captured: Sequence[Tensor],
        needs: Sequence[bool],
        need_times: bool,
        stats: Statistics,
        g: Tensor,
    ) -> Cotangents:
        """As the eager one."""
        other, tape = kept
        return EAGER.pull(other, tape, captured, needs, need_times, stats, g)


def _assembled(
    graph: Graph, around: Surroundings, flags: tuple[str, ...] = (), batched: bool = False, pushes: bool = False
) -> Kernel:
    try:
        program = lower(graph)
    except (TypeError, ValueError, KeyError, IndexError, NotImplementedError) as error:
        raise Unsupported(f"f cannot be written as C ({type(error).__name__}: {error})") from None
    sizes = Sizes(program.k.size, program.raw.size, program.raw.size, program.c.size, 0, True, program.b.assumed)
    places = tuple(around.tensors.get(id(tensor), tensor) for tensor in graph.constants)
    code = Executable(program)
    return InterpretedKernel(None, sizes, Sources(graph, flags, batched), places, graph.dtype, around, code=code)  # type: ignore[arg-type]


@contextmanager
def interpreted() -> Iterator[None]:
    """In here the compiled engine runs its programs by NumPy."""
    with (
        patch.object(compile, "assemble", _assembled),
        patch.object(choose, "engine_of", Interpreted),
        patch.object(choose, "Native", Interpreted),
        patch.object(cache, "Native", Interpreted),
    ):
        yield


__all__ = ["Executable", "interpreted"]
