"""Driven models in the native engine: inputs read by C, steps that land on their jumps."""

from __future__ import annotations

from itertools import product
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from variants import some

from physid import Unknown, positive
from physid.data.inputs import KINDS, Inputs
from physid.machine import compiler_command
from physid.modelling.model import Model
from physid.ode import Fixed, Integrator, sensitivities, solve

pytestmark = pytest.mark.skipif(compiler_command() is None, reason="no C compiler")

DOUBLE = torch.float64
TIMES = torch.linspace(0, 3, 13, dtype=DOUBLE)


class Driven(Model):
    """A damped pendulum pushed by two inputs."""

    input_names: ClassVar[tuple[str, ...]] = ("push", "wind")
    stiffness = Unknown(2.0, positive)
    drag = Unknown(0.3, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        push, wind = self.inputs(t)
        x, v = y.unbind(-1)
        return torch.stack([v, push - self.stiffness * torch.sin(x) - self.drag * (v - wind) + 0.1 * t], -1)


def inputs(kind: str, count: int = 9, shift: float = 0.0) -> Inputs:
    times = torch.linspace(-0.1, 3.2, count, dtype=DOUBLE)
    values = torch.stack([torch.sin(3 * times + shift), torch.cos(2 * times)], 1)
    return Inputs.through(times, values, Driven.input_names, kind)


def driven(kind: str, **options: Any) -> Driven:
    model = Driven()
    model.drive(inputs(kind, **options))
    return model


def gradients(model: Driven, engine: str, y0: Tensor | None = None, **options: Any) -> tuple[Any, list[Tensor]]:
    y0 = torch.tensor([0.4, -0.2], dtype=DOUBLE) if y0 is None else y0
    y0, t = y0.clone().requires_grad_(), TIMES.clone().requires_grad_()
    solution = solve(model, y0, t, engine=engine, **options)
    assert isinstance(solution.y, Tensor)
    weight = torch.linspace(0.5, 1.5, len(t), dtype=DOUBLE).view(-1, *[1] * y0.ndim)
    return solution, [
        solution.y.detach(),
        *torch.autograd.grad((weight * solution.y).sum(), [y0, t, *model.parameters()]),
    ]


def assert_alike(ours: list[Tensor], theirs: list[Tensor], tol: float) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert float((a - b).abs().max()) <= tol * (1 + float(b.abs().max()))


@pytest.mark.parametrize(
    ("solver", "kind"),
    some(product(["dopri5", "bosh3", "dopri8"], KINDS), *zip(["dopri5", "bosh3", "dopri8"], KINDS, strict=True)),
)
def test_driven_models_agree(kind: str, solver: str) -> None:
    options: dict[str, Any] = {"solver": solver, "rtol": 1e-6, "atol": 1e-6}
    native, ours = gradients(driven(kind), "native", **options)
    eager, theirs = gradients(driven(kind), "eager", **options)
    assert (native.engine, eager.engine) == ("native", "eager")
    assert torch.allclose(native.grid, eager.grid, rtol=1e-9)
    assert native.statistics.evaluations == eager.statistics.evaluations
    assert_alike(ours, theirs, 1e-9)
    ours, theirs = (gradients(driven(kind), e, solver=solver, control=Fixed(0.21))[1] for e in ("native", "eager"))
    assert_alike(ours, theirs, 1e-12)


def test_steps_land_on_the_jumps() -> None:
    model = driven("hold")
    solution, _ = gradients(model, "native", rtol=1e-6, atol=1e-6)
    inside = model.switches[(model.switches > 0) & (model.switches < 3)]  # type: ignore[index, operator]
    assert len(inside) >= 6
    assert float((solution.grid[:, None] - inside).abs().amin(0).max()) < 1e-14


def test_sensitivities_and_samples() -> None:
    model, integrator = driven("hold"), Integrator(rtol=1e-7, atol=1e-7)
    y0 = torch.tensor([[0.4, -0.2], [1.0, 0.5]], dtype=DOUBLE)
    found = [
        sensitivities(
            model, y0, TIMES, params=list(model.parameters()), integrator=Integrator(engine=engine), batched=True
        )
        for engine in ("native", "eager")
    ]
    assert [by.solution.engine for by in found] == ["native", "eager"]
    assert_alike([found[0].y0, *found[0].params], [found[1].y0, *found[1].params], 1e-8)
    ours = gradients(model, "native", y0, batched=True, rtol=integrator.rtol)[1]
    assert_alike(ours, gradients(model, "eager", y0, batched=True, rtol=integrator.rtol)[1], 1e-8)


def test_other_inputs_are_noticed() -> None:
    model = driven("linear")
    options: dict[str, Any] = {"control": Fixed(0.2), "solver": "rk4"}
    for other in (inputs("linear", shift=1.0), inputs("linear", count=21), inputs("hold"), inputs("cubic", count=5)):
        model.drive(other)
        assert_alike(gradients(model, "native", **options)[1], gradients(model, "eager", **options)[1], 1e-12)


def test_what_the_table_cannot_hold_stays_eager() -> None:
    model = driven("linear")
    single = solve(model.float(), torch.ones(2), [0.0, 1.0])
    assert (single.engine, "inputs of a state of dtype torch.float32" in single.engine_note) == ("eager", True)
    model = driven("linear")
    model.drive(Inputs.stack([inputs("linear"), inputs("linear", shift=1.0)]))
    several = solve(model, torch.ones(2, 2, dtype=DOUBLE), [0.0, 1.0], batched=True)
    assert (several.engine, "inputs that differ between samples" in several.engine_note) == ("eager", True)
