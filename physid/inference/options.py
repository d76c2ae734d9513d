"""How to fit: the optimiser with its settings, resolved and checked before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any

from torch import Tensor

from physid.data import holdout as held
from physid.door import bounded
from physid.errors import InputError, unknown_name
from physid.inference import noise as noise_models
from physid.ode import GRADIENTS, Fixed, Integrator
from physid.ode.gradients import registry
from physid.ode.methods import catalogue
from physid.ode.probes import MOST
from physid.ode.probes import read as read_probes
from physid.ode.tolerances import finite_tolerance

STARTS, SEEDS, WORKERS, EPOCHS, SEED = 10_000, 1000, 256, 10_000_000, 2**32 - 1  # at most, unless limits are raised
OPTIMIZERS = ("lm", "adam", "lbfgs")
STRATEGIES = ("auto", "full", "segments", "grow", "match", "stages", "rates")


@dataclass(frozen=True)
class Schedule:
    """Adam's settings: steps lr decay^epoch in the natural or the transformed unknowns, loss times discount^t."""

    epochs: int = 100
    lr: float = 0.1
    decay: float = 0.99
    betas: tuple[float, float] = (0.9, 0.999)
    discount: float = 1.0
    natural: bool = False


# The settings of the paper, as its text and its code have them. Source: Zhuang et al. (2020), section 4.4 and appendix.
PROTOCOLS: Mapping[str, tuple[Schedule, Integrator]] = {
    "paper-text": (Schedule(natural=True), Integrator("dopri5", 1e-5, 1e-5, control="paper")),
    "paper-code": (
        Schedule(decay=0.95, betas=(0.5, 0.5), discount=0.01, natural=True),
        Integrator("dopri5", 1e-7, 1e-7, control="paper"),
    ),
}
# without an absolute tolerance, which goes by the states (see `physid.modelling.state_sizes`)
DEFAULTS: Mapping[str, Integrator] = {
    "lm": Integrator("dopri8", 1e-10, gradient="forward", probes=1),
    "adam": Integrator("dopri5", 1e-7),
    "lbfgs": Integrator("dopri8", 1e-10),
}


@dataclass(frozen=True)
class FitPlan:
    """A resolved way to fit."""

    optimizer: str
    strategy: str
    protocol: str
    integrator: Integrator
    schedule: Schedule
    seed: int
    time_limit: float | None
    noise: str | None = None
    loss: str = "linear"
    loss_scale: float | None = None
    starts: int = 1
    seeds: int = 1
    workers: int | None = None
    holdout: str | float | None = None

    @property
    def gradient(self) -> str:
        """The name of the gradient method."""
        gradient = self.integrator.gradient
        return gradient if isinstance(gradient, str) else gradient.name

    def settings(self) -> dict[str, Any]:
        """The plan as data."""
        found: dict[str, Any] = {
            "optimizer": self.optimizer,
            "strategy": self.strategy if self.optimizer == "lm" else None,
            "protocol": self.protocol,
            **integrator_settings(self.integrator),
            "seed": self.seed,
            "time_limit": self.time_limit,
            "noise_model": self.noise,
            "loss": self.loss,
            "loss_scale": self.loss_scale,
            "starts": self.starts,
            "seeds": self.seeds,
            "workers": self.workers,
            "holdout": self.holdout,
        }
        if self.optimizer == "adam":
            names = ("epochs", "lr", "decay", "betas", "discount", "natural")
            found |= {name: getattr(self.schedule, name) for name in names}
        elif self.optimizer == "lbfgs":
            found["epochs"] = self.schedule.epochs
        return found


def resolve(
    optimizer: str | None = None,
    strategy: str | None = None,
    integrator: Integrator | None = None,
    gradient: str | None = None,
    protocol: str | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    time_limit: float | None = None,
    *,
    noise: str | None = None,
    loss: str | None = None,
    loss_scale: float | None = None,
    starts: int | None = 1,
    seeds: int | None = None,
    workers: int | None = None,
    holdout: str | float | None = None,
    probes: int | None = None,
) -> FitPlan:
    """The plan for the arguments of `fit`; InputError for unknown names and for options that contradict each other."""
    protocol = protocol or "default"
    if protocol not in ("default", *PROTOCOLS):
        raise unknown_name("protocol", protocol, ("default", *PROTOCOLS))
    strategy = strategy or "auto"
    optimizer = optimizer or ("lm" if protocol == "default" else "adam")
    if optimizer not in OPTIMIZERS:
        raise unknown_name("optimizer", optimizer, OPTIMIZERS)
    if strategy not in STRATEGIES:
        raise unknown_name("strategy", strategy, STRATEGIES)
    if gradient is not None and gradient not in GRADIENTS:
        raise GRADIENTS.unknown(gradient)
    _check(optimizer, strategy, gradient, protocol, epochs, lr, time_limit)
    bounded("seed", seed, SEED, 0)
    schedule, base = PROTOCOLS.get(protocol, (Schedule(), DEFAULTS[optimizer]))
    if optimizer == "lbfgs":
        schedule = replace(schedule, epochs=200)
    schedule = replace(schedule, epochs=epochs or schedule.epochs, lr=lr or schedule.lr)
    chosen = integrator or base
    if optimizer == "lm":
        chosen = replace(chosen, gradient="forward")
    elif gradient is not None:
        chosen = replace(chosen, gradient=gradient)
    if probes is not None:
        chosen = _probed(chosen, probes)
    for name in ("rtol", "atol"):
        if getattr(chosen, name) is not None:
            finite_tolerance(name, getattr(chosen, name))
    loss, starts, holdout = loss or "linear", 1 if starts is None else starts, held.read(holdout)
    _check_more(optimizer, noise, loss, loss_scale, starts, workers)
    plan = FitPlan(optimizer, strategy, protocol, chosen, schedule, seed, time_limit)
    plan = replace(plan, seeds=_seeds(seeds, starts))
    return replace(plan, noise=noise, loss=loss, loss_scale=loss_scale, starts=starts, workers=workers, holdout=holdout)


# the options of a fit, as they are where nothing is asked
UNASKED: Mapping[str, Any] = {name: one.default for name, one in signature(resolve).parameters.items()}


def integrator_settings(integrator: Integrator) -> dict[str, Any]:
    """An integrator as data."""
    solver, control, gradient = integrator.solver, integrator.control, integrator.gradient
    return {
        "gradient": gradient if isinstance(gradient, str) else gradient.name,
        "solver": solver if isinstance(solver, str) else solver.name,
        "rtol": _plain(integrator.rtol),
        "atol": _plain(integrator.atol),
        "control": control if isinstance(control, str | None) else control.name,
        "exact": integrator.exact,
        "max_steps": integrator.max_steps,
        "probes": number_of(integrator),
    }


def number_of(integrator: Integrator) -> int:
    """How many probes an integrator has; of gradient "forward", 1 for all its columns."""
    probes = read_probes(integrator.probes)
    return 0 if probes is None else probes.count


def _probed(integrator: Integrator, probes: int) -> Integrator:
    """The integrator with that many probes; InputError for no such number, and where probes are of no use."""
    if type(probes) is not int or not 0 <= probes <= MOST:
        raise InputError(
            f"probes={probes!r}: a whole number from 0 (none) to {MOST} is allowed. With lm 1 means all columns."
        )
    if probes and not chooses(integrator):
        solver = integrator.solver if isinstance(integrator.solver, str) else integrator.solver.name
        raise InputError(
            f"probes={probes} with steps of fixed length (solver {solver}): probes choose the steps by the error of "
            "the gradient. Leave them out, or take a solver that chooses its steps, as dopri5."
        )
    if probes:
        registry.check_probes(registry.lookup(integrator.gradient))
    return replace(integrator, probes=probes)


def adapted(integrator: Integrator, changes: Mapping[str, Any]) -> Integrator:
    """The integrator with these changes; without probes where its solver does not choose its steps."""
    found = replace(integrator, **changes)
    return found if chooses(found) or "probes" in changes else replace(found, probes=0)


def chooses(integrator: Integrator) -> bool:
    """Whether the solver chooses its steps by the tolerances."""
    solver, control = integrator.solver, integrator.control
    tableau = catalogue.lookup(solver) if isinstance(solver, str) else solver
    return tableau.adaptive and not isinstance(control, Fixed) and control != "fixed"


def default_integrator(optimizer: str | None = None, protocol: str | None = None) -> Integrator:
    """The integrator that `fit` takes when none is given, to be changed by dataclasses.replace."""
    return resolve(optimizer, protocol=protocol).integrator


def _check(
    optimizer: str,
    strategy: str,
    gradient: str | None,
    protocol: str,
    epochs: int | None,
    lr: float | None,
    time_limit: float | None,
) -> None:
    """Refuse contradictions, and numbers that cannot be."""
    if protocol != "default" and optimizer != "adam":
        raise InputError(
            f"protocol {protocol} is that of adam, but the optimizer is {optimizer}. Leave one of them out."
        )
    if optimizer == "lm":
        if gradient not in (None, "forward"):
            raise InputError(
                f"optimizer lm was given gradient {gradient}: it needs sensitivities, gradient forward. Leave the "
                "gradient out, or choose optimizer adam or lbfgs."
            )
        for name, value in (("epochs", epochs), ("lr", lr)):
            if value is not None:
                raise InputError(
                    f"{name}={value} was given with optimizer lm, which has none. Leave it out or use adam."
                )
    elif strategy != "auto":
        raise InputError(
            f"strategy {strategy} was given with optimizer {optimizer}: strategies belong to lm. Leave it out."
        )
    if optimizer == "lbfgs" and lr is not None:
        raise InputError(f"lr={lr} was given with optimizer lbfgs, which searches its steps. Leave it out or use adam.")
    for name, number in (("epochs", epochs), ("lr", lr), ("time_limit", time_limit)):
        if number is not None and not (0 < number < float("inf")):
            raise InputError(f"{name}={number}: a positive number is allowed.")
    bounded("epochs", epochs or 1, EPOCHS)


def _check_more(
    optimizer: str,
    noise: str | None,
    loss: str,
    loss_scale: float | None,
    starts: int,
    workers: int | None,
) -> None:
    """Refuse what only least squares can do elsewhere, and numbers that cannot be."""
    noise_models.read(noise or "equal", loss)
    if loss_scale is not None and (loss == "linear" or not 0 < loss_scale < float("inf")):
        raise InputError(
            f"loss_scale={loss_scale} with loss {loss}: a positive number is allowed, and only with a loss."
        )
    if optimizer != "lm" and (noise not in (None, "equal") or loss != "linear" or starts > 1):
        what = f"loss {loss}" if loss != "linear" else f"noise model {noise}" if starts == 1 else f"{starts} starts"
        raise InputError(f"{what} was given with optimizer {optimizer}: it belongs to lm. Leave one of them out.")
    bounded("starts", starts, STARTS)
    bounded("workers", 1 if workers is None else workers, WORKERS)
    if workers is not None and starts == 1:
        raise InputError(f"workers={workers} was given with one start: workers share many starts. Leave it out.")


def _seeds(seeds: int | None, starts: int) -> int:
    """How many seeds; InputError for none, and for many starts besides."""
    found = 1 if seeds is None else seeds
    bounded("seeds", found, SEEDS)
    if found < 1 or (found > 1 and starts > 1):
        raise InputError(
            f"seeds={found} with {starts} starts: a whole number from 1 up, and one start or one seed. Leave one out."
        )
    return found


def _plain(tolerance: Any) -> Any:
    """A tolerance as data: numbers, nested in lists as the state is."""
    if isinstance(tolerance, tuple | list):
        return [_plain(one) for one in tolerance]
    return tolerance.tolist() if isinstance(tolerance, Tensor) else tolerance
