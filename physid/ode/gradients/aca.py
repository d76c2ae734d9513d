"""The gradient method `aca`: the exact derivative of the accepted steps, from checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from physid.errors import InputError
from physid.ode.backend import Backend, Engine
from physid.ode.control import Fixed
from physid.ode.eager.engine import EAGER
from physid.ode.eager.outcome import Outcome
from physid.ode.eager.pullback_stepsize import linked
from physid.ode.eager.replay import differentiable, pieces
from physid.ode.gradients.protocol import Left, fold_times, wants_gradient
from physid.ode.problem import ODEProblem
from physid.ode.rhs import made_from
from physid.ode.solution import Statistics
from physid.ode.torch_internals import inside_transform, transforms_active


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

    Where the eager engine solves with one step for all by a first-same-as-last method, it keeps the graphs of the
    stages of the first accepted steps, up to 64 MiB of what they save: the same gradient without a second evaluation
    of f. `remember=True` keeps them all, in memory that grows with the stages; `remember=False` none.

    Source: Zhuang et al. (2020), Algorithm 2; Griewank and Walther (2000) for the schedule.
    """

    name: str = "aca"
    step_aware: bool = False
    checkpoints: int | None = None
    remember: bool | None = None

    def __post_init__(self) -> None:
        if self.checkpoints is None:
            return
        if type(self.checkpoints) is not int or self.checkpoints < 1:
            raise InputError(f"checkpoints={self.checkpoints!r}: expected a whole number from 1 on; None keeps all.")
        if self.step_aware:
            raise InputError("checkpoints with step_aware=True: that gradient needs every step; leave one of them out.")

    @property
    def probed(self) -> bool:
        """Whether probes may be carried: not in steps that are differentiated through."""
        return not self.step_aware

    @property
    def fused(self) -> bool:
        """Whether nothing but the derivative of the frozen steps is taken, from stages that are all kept."""
        return not self.step_aware and self.checkpoints is None

    def solve(self, problem: ODEProblem, backend: Backend) -> tuple[Tensor, Outcome]:
        """March without a graph and leave checkpoints for the backward pass."""
        aware = self.step_aware and not isinstance(problem.control, Fixed)
        if aware and problem.moved is not None:
            raise InputError(
                "step_aware=True with times of jumps that unknowns move: the lengths of the steps would move with them "
                "in a way that this gradient does not follow. Leave step_aware out."
            )
        engine = backend.of(problem)
        if inside_transform():
            if problem.probes is not None:
                raise InputError("probes inside of a torch.func transform: leave them out there.")
            return transformed(problem, engine, aware)
        if not wants_gradient(problem):
            outcome = engine.solve(problem)
            return outcome.values, outcome
        if aware and engine is not EAGER and problem.entangled:
            engine = backend.by_torch("a step-aware gradient by a tensor and another one made from it")
        if engine is EAGER and problem.entangled:
            return transformed(problem, engine, aware)
        origin = problem.origin if isinstance(problem.origin, Tensor) else problem.y0
        march = Marched(engine, aware, self.checkpoints, self.remember)
        values = _Plain.apply(problem, march, origin, *problem.inputs[1:])  # type: ignore[no-untyped-call]
        outcome = march.the_outcome
        if outcome.fallback:
            backend.by_torch(outcome.fallback)
        return values, outcome


def transformed(problem: ODEProblem, engine: Engine, aware: bool = False) -> tuple[Tensor, Outcome]:
    """The discrete map itself, as a graph over the accepted steps.

    For torch.func, which differentiates what it sees, and for an f that uses a tensor and another one made from it: the
    partial derivatives by the two cannot be told apart step by step.

    Under vmap every sample has an accepted grid of its own, and the samples are solved one by one.
    """
    stay = None if problem.landings is None else replace(problem.landings, moved=None)
    still = problem.but(captured=[], slope=problem.derivative.detach(), landings=stay)
    march = Marched(engine, aware, None, False)
    problem.field.plain = True
    _Checkpointed.apply(still, march, problem.y0.detach(), problem.t.detach())  # type: ignore[no-untyped-call]
    problem.field.plain = False
    if march.kept is None:
        values = _Checkpointed.apply(problem, march, *problem.inputs)  # type: ignore[no-untyped-call]
        return values, march.the_outcome
    with problem.field.unseen():
        found = replayed(problem, engine, march.kept, problem.y0, problem.t, problem.moved)
        return found, march.the_outcome


def replayed(problem: ODEProblem, engine: Engine, kept: Any, y0: Tensor, t: Tensor, moved: Tensor | None) -> Tensor:
    """The states [T, L * N] over the steps that a march kept, as one graph from y0 [L * N], t and jumps that move."""
    tape = engine.tape(problem, kept)
    steps = pieces(problem, tape, y0, t, moved) if tape.choices is None else linked(problem, tape, y0, t)
    return differentiable(problem, steps, y0, t, moved)


@dataclass(slots=True)
class Job:
    """Data of a backward pass beside tensors."""

    problem: ODEProblem
    engine: Engine
    kept: Any
    statistics: Statistics


class Marched(Left):
    """A march of an engine, with what it is to keep and what it leaves."""

    def __init__(self, engine: Engine, *options: Any) -> None:
        super().__init__()
        self.engine, self.options = engine, options
        self.kept: Any = None

    def run(self, problem: ODEProblem) -> Tensor:
        """The states [T, L * N]."""
        self.outcome, self.kept = self.engine.march(problem, *self.options)
        return self.outcome.values

    def job(self, problem: ODEProblem) -> Job:
        """Data of this march's backward pass."""
        return Job(problem, self.engine, self.kept, self.the_outcome.statistics)


class _Checkpointed(torch.autograd.Function):
    """States [T, L * N] as a function of y0, t and the captured tensors."""

    @staticmethod
    def forward(problem: ODEProblem, march: Marched, y0: Tensor, t: Tensor, *captured: Tensor) -> Tensor:
        if y0 is not problem.y0:  # a torch.func transform has taken its wrapper off
            problem = problem.but(y0=y0, slope=problem.field(problem.start, y0).detach())
        return march.run(problem)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        problem, march, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)
        ctx.job = march.job(problem)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        if transforms_active():
            raise InputError("torch.func.vmap over a gradient through a solve: solve the samples with batched=True.")
        job: Job = ctx.job
        y0, t, *captured = ctx.saved_tensors
        needs = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():
            return (None, None, *_twice(job, y0, t, captured, g, needs))
        g = g.reshape(g.shape[0], -1)
        count = len(captured) - (job.problem.moved is not None)
        asked = (captured[:count], needs[2 : 2 + count], needs[1])
        ybar, params, tbar, jbar = job.engine.pull(job.problem, job.kept, *asked, job.statistics, g)
        jumps = () if count == len(captured) else (jbar,)
        return (None, None, ybar.view(y0.shape) if needs[0] else None, fold_times(tbar, t), *params, *jumps)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        y0, t, *captured = ctx.saved_tensors
        return _forward_mode(ctx.job, (y0, t, *captured), tangents[2:])

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *args: Any) -> tuple[Tensor, int]:
        """One solve per sample, each with its own steps."""
        problem, march, *tensors = args
        rows = []
        for sample in range(info.batch_size):
            picked = [x if d is None else x.select(d, sample) for x, d in zip(tensors, dims[2:], strict=True)]
            rows.append(_Checkpointed.apply(problem, march, *picked))  # type: ignore[no-untyped-call]
        march.kept = None
        return torch.stack(rows), 0


class _Plain(torch.autograd.Function):
    """The same outside of torch.func, without what its calls cost; a state that is one tensor keeps its shape."""

    @staticmethod
    def forward(ctx: Any, problem: ODEProblem, march: Marched, *tensors: Tensor) -> Tensor:
        values, layout = march.run(problem), problem.layout
        ctx.save_for_backward(*tensors)
        ctx.job = march.job(problem)
        shape = values.shape if layout.is_tuple else (values.shape[0], *layout.shapes[0])
        return values.resize_(shape)  # not a view, which nobody could write into

    backward = _Checkpointed.backward


class Apart:
    """Takes partial derivatives by a tensor and by what it is made of, with a graph that knows of both."""

    def __init__(self) -> None:
        self.stop = False

    def of(self, tensor: Tensor) -> Tensor:
        """The same tensor, behind which no derivative is taken while it is closed."""
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


def _twice(
    job: Job, y0: Tensor, t: Tensor, captured: list[Tensor], g: Tensor, needs: tuple[bool, ...]
) -> list[Tensor | None]:
    """The backward pass under create_graph: a differentiable replay from y0, since checkpoints are no constants."""
    problem, count = job.problem, len(captured) - (job.problem.moved is not None)
    with torch.enable_grad(), problem.field.unseen():
        apart = Apart()  # start, times and moving jumps may be made of what f depends on
        inputs = [apart.of(y0), apart.of(t), *captured[:count], *map(apart.of, captured[count:])]
        moved = None if problem.moved is None else inputs[-1]
        values = replayed(problem, job.engine, job.kept, inputs[0].reshape(-1), inputs[1], moved)
        with apart.closed():
            return _partial(torch.nan_to_num(values), inputs, g.reshape(values.shape), needs, count)


def _partial(values: Tensor, inputs: list[Tensor], g: Tensor, needs: Sequence[bool], count: int) -> list[Tensor | None]:
    """The products of g with the partial derivatives by (y0, t, `count` captured tensors, ..), with their graph.

    Autograd gives total ones: what reaches a captured tensor by way of others that are made from it is taken off.
    """
    held = inputs[2 : 2 + count]
    made = made_from(held)
    places = [i for i, need in enumerate(needs) if need or (any(made) and 2 <= i < 2 + count)]
    grads = torch.autograd.grad(values, [inputs[i] for i in places], g, create_graph=True, allow_unused=True)
    found: list[Tensor | None] = [None] * len(inputs)
    for i, grad in zip(places, grads, strict=True):
        found[i] = grad
    for i in sorted(range(count), key=lambda i: -len(made[i])):  # first those from which no other one is made
        users = [(held[k], found[2 + k]) for k in range(count) if i in made[k] and found[2 + k] is not None]
        total = found[2 + i]
        if users and total is not None:
            outer, cotangents = zip(*users, strict=True)
            (through,) = torch.autograd.grad(outer, held[i], cotangents, create_graph=True, allow_unused=True)
            found[2 + i] = total if through is None else total - through
    return [grad if need else None for grad, need in zip(found, needs, strict=True)]


def _forward_mode(job: Job, inputs: tuple[Tensor, ...], tangents: tuple[Tensor | None, ...]) -> Tensor:
    """J v over the accepted grid, as the derivative of w -> w^T J with respect to w."""
    problem, count = job.problem, len(inputs) - 2 - (job.problem.moved is not None)
    with torch.enable_grad(), problem.field.unseen():
        y0, t = inputs[0].detach().requires_grad_(), inputs[1].detach().requires_grad_()
        apart = Apart()
        wanted = [y0, t, *inputs[2 : 2 + count], *map(apart.of, inputs[2 + count :])]
        moved = None if problem.moved is None else wanted[-1]
        values = replayed(problem, job.engine, job.kept, y0.reshape(-1), t, moved)
        seed = torch.zeros_like(values, requires_grad=True)
        with apart.closed():
            products = _partial(values, wanted, seed, [v is not None for v in tangents], count)
        total = sum((p * v).sum() for p, v in zip(products, tangents, strict=True) if p is not None and v is not None)
        if not isinstance(total, Tensor):
            return torch.zeros_like(values)
        return torch.autograd.grad(total, seed)[0]
