"""`physid gradcheck`: how good a gradient is, by every method at the same point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from physid.cli.console import Console
from physid.cli.options import (
    DATA,
    data_options,
    experiment_options,
    fit_options,
    json_option,
    knowledge_option,
    model_option,
)
from physid.cli.sections import SectionCommand, option

if TYPE_CHECKING:
    from physid.ode import GradientAudit, Integrator

# the options of a fit that an audit takes, with its own defaults
OPTIONS = {
    "seed": "",
    "solver": "A solver of `physid list solvers`. [default: dopri5]",
    "engine": "",
    "rtol": "Relative tolerance of a step. [default: 1e-5]",
    "atol": "Absolute tolerance of a step. [default: 1e-5]",
}
COLUMNS = ("method", "relative difference", "evaluations", "seconds", "bytes")


@click.command(
    cls=SectionCommand,
    epilog="""\b
Examples:
  physid gradcheck
  physid gradcheck toy --rates=-2 --horizons 1,5 --rtol 1e-8 --atol 1e-8
  physid gradcheck threebody --rtol 1e-5 --atol 1e-5

Ends with 6 if a derivative is wrong; a tolerance that limits the gradient is noted, but is no failure.""",
)
@click.argument("experiment", metavar="[EXPERIMENT]", default="toy")
@knowledge_option
@model_option
@experiment_options
@fit_options(OPTIONS, OPTIONS, settings=False)
@option("--rates", section=DATA, metavar="K,...", help="Values of k of the toy. [default: 1,-1]")
@option("--horizons", section=DATA, metavar="T,...", help="End times of the toy. [default: 1,2,5,10]")
@json_option
def command(
    experiment: str,
    knowledge: str | None,
    model: str | None,
    rates: str | None,
    horizons: str | None,
    json: bool,
    **options: Any,
) -> int:
    """Compare aca, naive, adjoint, forward, a tighter tolerance and finite differences at one point.

    Without EXPERIMENT, or with "toy": dz/dt = k z, L = z(T)^2, for both signs of k, against the exact dL/dz(0) =
    2 z(0) exp(2 k T). Otherwise the mean squared error of the experiment's model at its start, by its unknowns.
    The default is dopri5 at 1e-5, as in figure 6 of the paper.
    """
    from physid.cli.method import asked_for
    from physid.ode import Integrator

    console = Console(json=json)
    asked, options = asked_for(options)
    options = data_options(options)
    integrator = replace(Integrator("dopri5", 1e-5, 1e-5), **asked.of_solve())
    if experiment != "toy":
        if rates is not None or horizons is not None:
            raise click.UsageError("--rates and --horizons belong to the toy problem. Leave them out.")
        audit = audit_experiment(experiment, knowledge, model, asked.seed, options, integrator)
        tell_audit(console, experiment, audit)
    else:
        given = [name for name, value in {"knowledge": knowledge, "model": model, **options}.items() if value]
        if given:
            raise click.UsageError(f"the toy problem takes no {', '.join(given)}. Name an experiment, or leave it out.")
        audit = audit_toy(
            console,
            numbers("--rates", rates, (1.0, -1.0)),
            numbers("--horizons", horizons, (1.0, 2.0, 5.0, 10.0)),
            integrator,
        )
    console.say(audit.verdict)
    status = "ok" if audit.ok else "wrong"
    console.event("done", status=status, message=audit.verdict, experiment=experiment, **audit.json())
    return 0 if audit.ok else 6


def numbers(name: str, text: str | None, default: tuple[float, ...]) -> tuple[float, ...]:
    """The numbers in `text`, separated by commas."""
    try:
        return default if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise click.UsageError(f"{name} {text} is no list of numbers. Write it as in {name}=1,-1.") from None


def tell_audit(console: Console, title: str, audit: GradientAudit) -> None:
    """The table of one audit."""
    rows = [(row.method, f"{row.difference:.1e}", row.evaluations, row.seconds, row.bytes) for row in audit.rows]
    console.table(title, COLUMNS, rows)


def audit_toy(
    console: Console, rates: tuple[float, ...], horizons: tuple[float, ...], integrator: Integrator
) -> GradientAudit:
    """The sweep over k and T as a table, and the full audit of its last point."""
    import torch

    from physid.ode import gradcheck
    from physid.ode.gradcheck import METHODS, toy

    rows = toy(horizons, rates, integrator=integrator)
    for row in rows:
        console.event("toy", k=row.k, horizon=row.horizon, errors=row.errors)
    cells = [(row.k, row.horizon, *(f"{row.errors[name]:.1e}" for name in METHODS)) for row in rows]
    console.table("dz/dt = k z, L = z(T)^2: relative error of dL/dz(0)", ("k", "T", *METHODS), cells)
    console.say()
    k, horizon = rates[-1], horizons[-1]
    start = torch.ones(1, dtype=torch.float64, requires_grad=True)
    audit = gradcheck(lambda t, z: k * z, start, [0.0, horizon], names=["z(0)"], integrator=integrator)
    tell_audit(console, f"k = {k:g}, T = {horizon:g}, against aca at a tighter tolerance", audit)
    return audit


def audit_experiment(
    name: str, knowledge: str | None, model: str | None, seed: int, options: Mapping[str, Any], integrator: Integrator
) -> GradientAudit:
    """The audit of the mean squared error of an experiment's model, by its raw unknowns, at its start."""
    import torch

    from physid.cli.choose import build_model, load_experiment
    from physid.ode import gradcheck

    data = load_experiment(name, options, seed=seed)
    system = build_model(data, knowledge, model)
    train = data.train
    times = torch.cat([torch.tensor([data.initial_time], dtype=torch.float64), train.times])
    measured = torch.nan_to_num(train.observations)

    def loss(states: torch.Tensor) -> torch.Tensor:
        error = torch.where(train.mask, system.observe(states[1:]) - measured, 0.0)
        return error.square().sum() / train.mask.sum()

    free = system.free()
    labels = [label for key, raw in free.items() for label in labels_of(key, raw.shape)]
    return gradcheck(
        system, data.initial, times, loss=loss, params=list(free.values()), names=labels, integrator=integrator
    )


def labels_of(name: str, shape: tuple[int, ...]) -> list[str]:
    """`name`, or `name[0]`, `name[1]`, ... for a vector."""
    from itertools import product

    return [name + "".join(f"[{i}]" for i in index) for index in product(*map(range, shape))]
