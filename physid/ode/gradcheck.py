"""`gradcheck`: whether the gradient of a solve can be trusted, and what limits it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from physid.errors import InputError
from physid.ode.request import Tolerance
from physid.ode.rhs import RightHandSide
from physid.ode.solve import Integrator

METHODS = ("aca", "naive", "adjoint", "forward")
TIGHTER = 1e-4  # the reference's tolerances, as a share of those under test
FLOOR = 1e-12  # and how tight they get at most
AGREE = 1e-3  # finite differences of a noisy function are good to this, relative to the largest component


@dataclass(frozen=True)
class Row:
    """One way to the gradient: its values, its relative difference to the reference, and what it cost."""

    method: str
    gradient: tuple[float, ...]
    difference: float
    evaluations: int
    seconds: float
    bytes: int


@dataclass(frozen=True)
class GradientAudit:
    """Gradients of one loss at one point by every method; `ok` is false where derivatives are wrong."""

    names: tuple[str, ...]
    rows: tuple[Row, ...]
    verdict: str
    ok: bool

    def row(self, method: str) -> Row:
        """The row of that method."""
        return next(row for row in self.rows if row.method == method)

    def json(self) -> dict[str, Any]:
        """Plain numbers and strings."""
        rows = [{**row.__dict__, "gradient": list(row.gradient)} for row in self.rows]
        return {"names": list(self.names), "rows": rows, "verdict": self.verdict, "ok": self.ok}

    def frame(self) -> Any:
        """A pandas DataFrame, one row per method."""
        import pandas

        return pandas.DataFrame([row.__dict__ for row in self.rows]).set_index("method")

    def __str__(self) -> str:
        head = f"{'method':<18}{'difference':>12}{'evaluations':>13}{'seconds':>10}{'bytes':>12}"
        lines = [
            f"{row.method:<18}{row.difference:>12.1e}{row.evaluations:>13d}{row.seconds:>10.3f}{row.bytes:>12d}"
            for row in self.rows
        ]
        return "\n".join([head, *lines, self.verdict])


def gradcheck(
    f: RightHandSide,
    y0: Tensor,
    t: Tensor | Sequence[float],
    *,
    loss: Callable[[Tensor], Tensor] | None = None,
    params: Sequence[Tensor] | None = None,
    names: Sequence[str] | None = None,
    integrator: Integrator | None = None,
) -> GradientAudit:
    """Gradients of loss(states [T, *state]) by y0 (if it requires gradients) and the parameters, by every method.

    Differences are relative to the largest component of the reference: ACA at 1e-4 times the tolerances. Finite
    differences are central, at the reference's tolerances. The default loss is the sum of squares of the last state.
    Errors: InputError where nothing requires a gradient; SolveError.
    """
    integrator = integrator or Integrator()
    measure = loss if loss is not None else lambda states: states[-1].square().sum()
    start = y0.detach().clone().requires_grad_(y0.requires_grad)
    found = integrator.pose(f, start, t, params, False).captured
    targets = [*([start] if y0.requires_grad else []), *(x for x in found if x is not start)]
    if not targets:
        raise InputError("nothing requires a gradient: call .requires_grad_() on y0 or on a parameter of f.")
    tight = replace(integrator, rtol=_tighter(integrator.rtol), atol=_tighter(integrator.absolute))
    reference = _by_method(f, start, t, measure, targets, replace(tight, gradient="aca"))
    scale = max(float(reference[0].abs().max()), 1e-300)
    rows = [_row("aca, tighter", reference, reference[0], scale)]
    for method in METHODS:
        rows.append(
            _row(
                method,
                _by_method(f, start, t, measure, targets, _on_its_engine(integrator, method)),
                reference[0],
                scale,
            )
        )
    rows.append(_row("finite differences", _by_differences(f, start, t, measure, targets, tight), reference[0], scale))
    labels = tuple(names) if names is not None else _labels(targets, y0.requires_grad)
    verdict, ok = _judge(rows, labels, reference[0], scale, integrator)
    return GradientAudit(labels, tuple(rows), verdict, ok)


def _on_its_engine(integrator: Integrator, method: str) -> Integrator:
    """With this gradient method; one that is not compiled is compared as it is, though the others run natively."""
    engine = "auto" if method in ("naive", "adjoint") and integrator.engine == "native" else integrator.engine
    return replace(integrator, gradient=method, engine=engine)


def _tighter(tolerance: Tolerance) -> float:
    return max(float(torch.as_tensor(tolerance, dtype=torch.float64).min()) * TIGHTER, FLOOR)


Measured = tuple[Tensor, int, float, int]


def _row(method: str, measured: Measured, reference: Tensor, scale: float) -> Row:
    gradient, evaluations, seconds, size = measured
    difference = float((gradient - reference).abs().max()) / scale
    return Row(method, tuple(gradient.tolist()), difference, evaluations, seconds, size)


def _by_method(
    f: RightHandSide,
    y0: Tensor,
    t: Tensor | Sequence[float],
    loss: Callable[[Tensor], Tensor],
    targets: list[Tensor],
    integrator: Integrator,
) -> Measured:
    kept = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    begin = time.perf_counter()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        solution = integrator.solve(f, y0, t, params=[x for x in targets if x is not y0])
        value = loss(solution.y)  # type: ignore[arg-type]
    found = torch.autograd.grad(value, targets, allow_unused=True)
    seconds = time.perf_counter() - begin
    flat = [torch.zeros_like(x) if g is None else g for g, x in zip(found, targets, strict=True)]
    stats = solution.statistics
    gradient = torch.cat([g.reshape(-1).double().cpu() for g in flat])
    return gradient, stats.evaluations + stats.backward_evaluations, seconds, kept + stats.checkpoint_bytes


def _by_differences(
    f: RightHandSide,
    y0: Tensor,
    t: Tensor | Sequence[float],
    loss: Callable[[Tensor], Tensor],
    targets: list[Tensor],
    integrator: Integrator,
) -> Measured:
    """Central differences, every component moved by the cube root of the tolerance times its size."""
    begin, count, columns = time.perf_counter(), 0, []
    relative = float(torch.as_tensor(integrator.rtol).min()) ** (1 / 3)
    with torch.no_grad():
        for target in targets:
            flat = target.reshape(-1) if target.is_contiguous() else target.view(-1)
            for index in range(flat.numel()):
                kept = flat[index].clone()
                step = relative * max(float(kept.abs()), 1e-2)
                sides = []
                for sign in (1.0, -1.0):
                    flat[index] = kept + sign * step
                    solution = integrator.solve(f, y0, t)
                    count += solution.statistics.evaluations
                    sides.append(float(loss(solution.y)))  # type: ignore[arg-type]
                flat[index] = kept
                columns.append((sides[0] - sides[1]) / (2 * step))
    return torch.tensor(columns, dtype=torch.float64), count, time.perf_counter() - begin, 0


def _labels(targets: list[Tensor], with_state: bool) -> tuple[str, ...]:
    labels: list[str] = []
    for index, target in enumerate(targets):
        name = "y0" if with_state and index == 0 else f"parameter {index - int(with_state)}"
        labels += [name] if target.numel() == 1 else [f"{name}[{i}]" for i in range(target.numel())]
    return tuple(labels)


def _judge(
    rows: list[Row], labels: tuple[str, ...], reference: Tensor, scale: float, integrator: Integrator
) -> tuple[str, bool]:
    """Verdict on the numbers, and whether derivatives are right."""
    by = {row.method: row for row in rows}
    aca = torch.tensor(by["aca"].gradient, dtype=torch.float64)
    spread = float((aca - torch.tensor(by["forward"].gradient, dtype=torch.float64)).abs().max()) / scale
    if by["finite differences"].difference > AGREE:
        return (
            f"Wrong: finite differences differ by {by['finite differences'].difference:.1e} from the gradient at tight"
            " tolerance: f is not smooth there, or hides a parameter from autograd (detach, .item(), numpy).",
            False,
        )
    if spread > 1e-8:
        return (
            f"Wrong: aca and forward differ by {spread:.1e} on the same steps: f does not act alike under vmap.",
            False,
        )
    worst = int((aca - reference).abs().argmax())
    own = abs(float(aca[worst] - reference[worst])) / max(abs(float(reference[worst])), 1e-300)
    if by["aca"].difference > 1e-3:
        return (
            f"The tolerance limits the gradient: at rtol={integrator.rtol} {labels[worst]} is off by {100 * own:.3g} %,"
            " whatever the method: tighten rtol and atol.",
            True,
        )
    return f"Good: aca is within {by['aca'].difference:.1e} of the tight reference.", True


@dataclass(frozen=True)
class ToyRow:
    """Relative gradient errors of the toy problem for one k and T."""

    k: float
    horizon: float
    errors: dict[str, float]


def toy(
    horizons: Sequence[float] = (1.0, 2.0, 5.0, 10.0),
    rates: Sequence[float] = (1.0, -1.0),
    *,
    z0: float = 1.0,
    integrator: Integrator | None = None,
    methods: Sequence[str] = METHODS,
) -> list[ToyRow]:
    """dz/dt = k z, L = z(T)^2: relative error of dL/dz0 against 2 z0 exp(2 k T), for every k and T.

    Source: Zhuang et al. (2020), section 4.2 and Fig. 6: dopri5 at 1e-5 with their controller; k, z0, T are unstated.
    """
    chosen = integrator or Integrator("dopri5", 1e-5, 1e-5, control="paper")
    table = []
    for k in rates:
        for horizon in horizons:
            truth = 2 * z0 * torch.exp(torch.tensor(2 * k * horizon, dtype=torch.float64))
            errors = {}
            for method in methods:
                z = torch.tensor([z0], dtype=torch.float64, requires_grad=True)
                solution = _on_its_engine(chosen, method).solve(_growth(k), z, [0.0, horizon])
                (slope,) = torch.autograd.grad(solution.y[-1].square().sum(), z)
                errors[method] = float(((slope - truth) / truth).abs())
            table.append(ToyRow(k, horizon, errors))
    return table


def _growth(k: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda t, z: k * z
