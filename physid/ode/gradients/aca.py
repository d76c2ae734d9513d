"""How gradients pass through a solve: four frozen values with one method, `solve(problem) -> (states, outcome)`.

The march is handed in as a value, so that integration and differentiation do not know each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad

from physid.errors import InputError
from physid.ode.control import Fixed
from physid.ode.eager.backend import EAGER, Tier
from physid.ode.eager.march import March
from physid.ode.eager.outcome import Outcome
from physid.ode.eager.pullback_stepsize import linked
from physid.ode.eager.replay import differentiable, pieces
from physid.ode.problem import Problem
from physid.ode.solution import Statistics


class Gradient(Protocol):
    """A gradient method: turns a problem into states [T, L * N] that autograd can follow."""

    @property
    def name(self) -> str:
        """The name in messages and reports."""
        ...

    def solve(self, problem: Problem) -> tuple[Tensor, Outcome]:
        """Solve, and arrange for the backward pass."""
        ...


def wants_gradient(problem: Problem) -> bool:
    """Whether anything that the solve depends on asks for a gradient."""
    moves = problem.moved is not None
    tracked = problem.y0.requires_grad or problem.t.requires_grad or bool(problem.captured) or moves
    return torch.is_grad_enabled() and tracked


@dataclass(frozen=True)
class Naive:
    """Backpropagation through everything, rejected trials and the search for the step size included.

    Memory and depth grow with every attempt. Source: Zhuang et al. (2020), section 3.2.
    """

    name: str = "naive"

    def solve(self, problem: Problem) -> tuple[Tensor, Outcome]:
        """March inside of autograd's graph."""
        outcome = March(problem, traced=wants_gradient(problem)).run()
        return outcome.values, outcome


@dataclass(frozen=True)
class ACA:
    """The adaptive checkpoint adjoint: exact gradient of the discrete map over the accepted steps, in constant depth.

    The forward pass keeps (t, h, y) of accepted steps only; the backward pass replays them one at a time. Second
    derivatives replay the whole trajectory as one graph.

    `step_aware=True` follows the recursion of the step lengths too, through rejected attempts: the gradient of "naive"
    in the memory of checkpoints, and a few numbers per attempt. It is the derivative of the program that ran, which is
    not the one nearer to the solution's: by tolerances of 1e-2 to 1e-5 it may be off by more than plain
    ACA's. It suits studies of the discrete program; for exactness take `probes`, or tighter tolerances. After
    rejections it runs by torch.

    `checkpoints=K` holds at most K states of a solve (of every sample) in memory, the first one among them. A march of
    more steps is rebuilt from it in the binomial schedule, which takes the least number of steps forward again.

    `remember=True` keeps the graph of every stage of an accepted step, where the eager engine solves with one step for
    all by a first-same-as-last method: the same gradient without a second evaluation, in memory that grows with the
    stages.

    Source: Zhuang et al. (2020), Algorithm 2; Griewank and Walther (2000) for the schedule.
    """

    name: str = "aca"
    tier: Tier = EAGER
    step_aware: bool = False
    checkpoints: int | None = None
    remember: bool = False

    def __post_init__(self) -> None:
        if self.checkpoints is None:
            return
        if type(self.checkpoints) is not int or self.checkpoints < 1:
            raise InputError(f"checkpoints={self.checkpoints!r}: a whole number from 1 on is allowed; None keeps all.")
        if self.step_aware:
            raise InputError("checkpoints with step_aware=True: that gradient needs every step; leave one of them out.")

    def solve(self, problem: Problem) -> tuple[Tensor, Outcome]:
        """March without a graph and leave checkpoints for the backward pass."""
        aware = self.step_aware and not isinstance(problem.control, Fixed)
        if aware and problem.moved is not None:
            raise InputError(
                "step_aware=True with times of jumps that unknowns move: the lengths of the steps would move with them "
                "in a way that this gradient does not follow. Leave step_aware out."
            )
        holder = Holder(self.tier, aware)
        if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
            if problem.probes is not None:
                raise InputError("probes inside of a torch.func transform: leave them out there.")
            return transformed(problem, holder)
        if not wants_gradient(problem):
            outcome, _ = self.tier.march(problem, keep=False)
            return outcome.values, outcome
        if problem.entangled:
            return transformed(problem, Holder(EAGER, aware))
        holder.checkpoints = self.checkpoints
        origin = problem.origin if isinstance(problem.origin, Tensor) else problem.y0
        plain = self.tier is EAGER and self.checkpoints is None and not aware
        remember = self.remember and plain and problem.probes is None and _can_remember(problem)
        if remember:
            problem.field.recorded = []
        try:
            tensors = [origin, problem.t, *problem.captured, *_moved(problem)]
            values = _Plain.apply(problem, holder, *tensors)  # type: ignore[no-untyped-call]
        finally:
            if remember:
                problem.field.recorded = None
        return values, holder.the_outcome


def _can_remember(problem: Problem) -> bool:
    """Whether the stages of a step are those that the backward pass asks for, one after the other."""
    field, tableau = problem.field, problem.tableau
    plain = field.random is None and not field.buffers and not problem.t.requires_grad
    return plain and problem.layout.lanes == 1 and tableau.fsal and not tableau.extra_c and not len(problem.jumps)


def _moved(problem: Problem) -> list[Tensor]:
    """The times of jumps that move, a last argument beside the tensors that f depends on; empty where none do."""
    return [] if problem.moved is None else [problem.moved]


def transformed(problem: Problem, holder: Holder) -> tuple[Tensor, Outcome]:
    """The discrete map itself, as a graph over the accepted steps.

    For torch.func, which differentiates what it sees, and for an f that uses a tensor and another one made from it: the
    partial derivatives by the two cannot be told apart step by step.

    Under vmap every sample has an accepted grid of its own, and the samples are solved one by one.
    """
    stay = None if problem.landings is None else replace(problem.landings, moved=None)
    still = problem.but(captured=[], slope=problem.derivative.detach(), landings=stay)
    problem.field.plain = True
    _Checkpointed.apply(still, holder, problem.y0.detach(), problem.t.detach())  # type: ignore[no-untyped-call]
    problem.field.plain = False
    if holder.kept is None:
        tensors = [problem.y0, problem.t, *problem.captured, *_moved(problem)]
        values = _Checkpointed.apply(problem, holder, *tensors)  # type: ignore[no-untyped-call]
        return values, holder.the_outcome
    with problem.field.unseen():
        found = replayed(problem, holder.tier, holder.kept, problem.y0, problem.t, problem.moved)
        return found, holder.the_outcome


def replayed(problem: Problem, tier: Tier, kept: Any, y0: Tensor, t: Tensor, moved: Tensor | None) -> Tensor:
    """The states [T, L * N] over the steps that a march kept, as one graph from y0 [L * N], t and jumps that move."""
    tape = tier.tape(problem, kept)
    steps = pieces(problem, tape, y0, t, moved) if tape.choices is None else linked(problem, tape, y0, t)
    return differentiable(problem, steps, y0, t, moved)


@dataclass(slots=True)
class Job:
    """What the backward pass needs beside tensors."""

    problem: Problem
    tier: Tier
    kept: Any
    statistics: Statistics


class Holder:
    """Carries what autograd cannot from a Function's forward to its caller; no pytree, so that it is never copied."""

    def __init__(self, tier: Tier, aware: bool = False) -> None:
        self.tier, self.aware = tier, aware
        self.checkpoints: int | None = None
        self.outcome: Outcome | None = None
        self.kept: Any = None
        self.derivatives: tuple[Tensor, ...] = ()

    @property
    def the_outcome(self) -> Outcome:
        """The outcome of the march, which must have run."""
        if self.outcome is None:
            raise RuntimeError("the march has not run")
        return self.outcome


class _Checkpointed(torch.autograd.Function):
    """States [T, L * N] as a function of y0, t and the captured tensors."""

    @staticmethod
    def forward(problem: Problem, holder: Holder, y0: Tensor, t: Tensor, *captured: Tensor) -> Tensor:
        if y0 is not problem.y0:  # a torch.func transform has taken its wrapper off
            problem = problem.but(y0=y0, slope=problem.field(problem.start, y0).detach())
        holder.outcome, holder.kept = holder.tier.march(problem, keep=True, aware=holder.aware)
        return holder.outcome.values

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        problem, holder, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)
        ctx.job = Job(problem, holder.tier, holder.kept, holder.the_outcome.statistics)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        if torch._C._are_functorch_transforms_active():
            raise InputError("torch.func.vmap over a gradient through a solve: solve the samples with batched=True.")
        job: Job = ctx.job
        y0, t, *captured = ctx.saved_tensors
        needs = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():
            return (None, None, *_twice(job, y0, t, captured, g, needs))
        g = g.reshape(g.shape[0], -1)
        count = len(captured) - len(_moved(job.problem))
        asked = (captured[:count], needs[2 : 2 + count], needs[1])
        ybar, params, tbar, jbar = job.tier.pull(job.problem, job.kept, *asked, job.statistics, g)
        jumps = () if count == len(captured) else (jbar,)
        return (None, None, ybar.view(y0.shape) if needs[0] else None, fold_times(tbar, t), *params, *jumps)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        y0, t, *captured = ctx.saved_tensors
        return _forward_mode(ctx.job, (y0, t, *captured), tangents[2:])

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *args: Any) -> tuple[Tensor, int]:
        """One solve per sample, each with its own steps."""
        problem, holder, *tensors = args
        rows = []
        for sample in range(info.batch_size):
            picked = [x if d is None else x.select(d, sample) for x, d in zip(tensors, dims[2:], strict=True)]
            rows.append(_Checkpointed.apply(problem, holder, *picked))  # type: ignore[no-untyped-call]
        holder.kept = None
        return torch.stack(rows), 0


class _Plain(torch.autograd.Function):
    """The same outside of torch.func, without what its calls cost; a state that is one tensor keeps its shape."""

    @staticmethod
    def forward(ctx: Any, problem: Problem, holder: Holder, *tensors: Tensor) -> Tensor:
        outcome, kept = holder.tier.march(problem, True, holder.aware, holder.checkpoints)
        holder.outcome = outcome
        ctx.save_for_backward(*tensors)
        ctx.job = Job(problem, holder.tier, kept, outcome.statistics)
        values, layout = outcome.values, problem.layout
        shape = values.shape if layout.is_tuple else (values.shape[0], *layout.shapes[0])
        return values.resize_(shape)  # not a view, which nobody could write into

    backward = _Checkpointed.backward


class Apart:
    """Takes partial derivatives by a tensor and by what it is made of, with a graph that knows of both."""

    def __init__(self) -> None:
        self.used = self.stop = False

    def of(self, tensor: Tensor) -> Tensor:
        """The same tensor, behind which no derivative is taken while it is closed."""
        self.used = True
        found: Tensor = _Gate.apply(tensor, self)  # type: ignore[no-untyped-call]
        return found

    @contextmanager
    def closed(self) -> Iterator[None]:
        """In here derivatives end at the tensor."""
        self.stop = True
        try:
            yield
        finally:
            self.stop = False


class _Gate(torch.autograd.Function):
    """The identity."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, apart: Apart) -> Tensor:
        ctx.apart = apart
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, None]:
        return (None if ctx.apart.stop else g), None


def fold_times(tbar: Tensor | None, t: Tensor) -> Tensor | None:
    """Cotangents [T, L] as those of t [T] or [T, L]."""
    if tbar is None:
        return None
    return tbar if t.ndim == 2 else tbar.sum(1)


def _twice(
    job: Job, y0: Tensor, t: Tensor, captured: list[Tensor], g: Tensor, needs: tuple[bool, ...]
) -> list[Tensor | None]:
    """The backward pass under create_graph: a differentiable replay from y0, since checkpoints are no constants."""
    problem = job.problem
    inputs = [y0, t, *captured]
    wanted = [tensor for tensor, need in zip(inputs, needs, strict=True) if need]
    with torch.enable_grad(), problem.field.unseen():
        apart = Apart()
        if problem.moved is not None:  # made of what f depends on, too
            inputs[-1] = apart.of(captured[-1])
            wanted = [tensor for tensor, need in zip(inputs, needs, strict=True) if need]
        values = replayed(problem, job.tier, job.kept, y0.reshape(-1), t, inputs[-1] if apart.used else None)
        reached = torch.nan_to_num(values)
        with apart.closed():
            found = torch.autograd.grad(reached, wanted, g.reshape(values.shape), create_graph=True, allow_unused=True)
    pending = iter(found)
    return [next(pending) if need else None for need in needs]


def _forward_mode(job: Job, inputs: tuple[Tensor, ...], tangents: tuple[Tensor | None, ...]) -> Tensor:
    """J v over the accepted grid, as the derivative of w -> w^T J with respect to w."""
    problem = job.problem
    with torch.enable_grad(), problem.field.unseen():
        y0, t = inputs[0].detach().requires_grad_(), inputs[1].detach().requires_grad_()
        apart, wanted = Apart(), [y0, t, *inputs[2:]]
        if problem.moved is not None:
            wanted[-1] = apart.of(wanted[-1])
        values = replayed(problem, job.tier, job.kept, y0.reshape(-1), t, wanted[-1] if apart.used else None)
        seed = torch.zeros_like(values, requires_grad=True)
        pairs = [(x, v) for x, v in zip(wanted, tangents, strict=True) if v is not None]
        with apart.closed():
            products = torch.autograd.grad(values, [x for x, _ in pairs], seed, create_graph=True, allow_unused=True)
        total = sum((p * v).sum() for p, (_, v) in zip(products, pairs, strict=True) if p is not None)
        if not isinstance(total, Tensor):
            return torch.zeros_like(values)
        return torch.autograd.grad(total, seed)[0]
