"""Plan of a fit: optimizer, integrator and schedule, decided from its FitOptions and checked before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

from physid.errors import InputError, unknown_name
from physid.inference import noise_models
from physid.inference.fit_options import OPTIONS, PROTOCOL_NAMES, TYPED, FitOptions, flags_of, key_of
from physid.inference.search.catalogue import DESCENTS, name_of
from physid.ode import Fixed, Integrator
from physid.ode.gradients import registry
from physid.ode.methods import catalogue
from physid.ode.probes import read as read_probes
from physid.ode.tolerances import finite_tolerance


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
# without an absolute tolerance, which follows the sizes of the states (see `physid.modelling.state_sizes`)
DEFAULTS: Mapping[str, Integrator] = {
    "lm": Integrator("dopri8", 1e-10, gradient="forward", probes=1),
    "adam": Integrator("dopri5", 1e-7),
    "lbfgs": Integrator("dopri8", 1e-10),
}
OUTSIDE = Integrator("dopri8", 1e-10, gradient="forward")  # of an optimizer that is none of physid's


@dataclass(frozen=True, kw_only=True)
class FitPlan(FitOptions):
    """The options of a fit with everything decided: what is None here, the problem or the search decides."""

    optimizer: Any
    strategy: str
    protocol: str
    loss: str
    seeds: int
    integrator: Integrator
    schedule: Schedule = Schedule()

    @property
    def least_squares(self) -> bool:
        """Whether the optimizer uses residuals and their Jacobian, as all but the descents do."""
        return name_of(self.optimizer) not in DESCENTS

    def settings(self) -> dict[str, Any]:
        """The plan as data."""
        names = [name for name, one in TYPED.items() if name not in ("fix", "free", "tie", "epochs", "lr")]
        found = {key_of(flags_of(name)[0]): getattr(self, name) for name in names if not OPTIONS[name].solve}
        found |= integrator_settings(self.integrator) | {"optimizer": name_of(self.optimizer)}
        if self.optimizer != "lm":
            found["strategy"] = None
        if self.optimizer == "adam":
            found |= asdict(self.schedule)
        elif self.optimizer == "lbfgs":
            found["epochs"] = self.schedule.epochs
        return found


def resolve(options: FitOptions) -> FitPlan:
    """The plan of a fit; InputError for options that contradict each other."""
    protocol = options.protocol or "default"
    if protocol not in PROTOCOL_NAMES:
        raise unknown_name("protocol", protocol, PROTOCOL_NAMES)
    optimizer = options.optimizer or ("lm" if protocol == "default" else "adam")
    name = name_of(optimizer)
    _check(options, name, protocol)
    schedule, base = PROTOCOLS.get(protocol, (Schedule(), DEFAULTS.get(name, OUTSIDE)))
    if optimizer == "lbfgs":
        schedule = replace(schedule, epochs=200)
    schedule = replace(schedule, epochs=options.epochs or schedule.epochs, lr=options.lr or schedule.lr)
    chosen, said = options.integrator or base, options.of_solve()
    chosen = adapted(chosen, said) if said else chosen
    if name not in DESCENTS:
        chosen = replace(chosen, gradient="forward")
    elif options.gradient is not None:
        chosen = replace(chosen, gradient=options.gradient)
    if options.probes is not None:
        chosen = _probed(chosen, options.probes)
    for name in ("rtol", "atol"):
        if getattr(chosen, name) is not None:
            finite_tolerance(name, getattr(chosen, name))
    decided = {
        "optimizer": optimizer,
        "strategy": options.strategy or "auto",
        "protocol": protocol,
        "loss": options.loss or "linear",
        "seeds": options.seeds or 1,
        "integrator": chosen,
        "schedule": schedule,
    }
    return FitPlan(**{name: getattr(options, name) for name in OPTIONS} | decided)


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
    """Number of an integrator's probes; of gradient "forward", 1 for all its columns."""
    probes = read_probes(integrator.probes)
    return 0 if probes is None else probes.count


def _probed(integrator: Integrator, probes: int) -> Integrator:
    """The integrator with that many probes; InputError where probes are of no use."""
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
    return resolve(FitOptions(optimizer=optimizer, protocol=protocol)).integrator


def _check(options: FitOptions, optimizer: str, protocol: str) -> None:
    """Errors: InputError for options that contradict each other."""
    if protocol != "default" and optimizer != "adam":
        raise InputError(
            f"protocol {protocol} is that of adam, but the optimizer is {optimizer}. Leave one of them out."
        )
    if optimizer not in DESCENTS and options.gradient not in (None, "forward"):
        raise InputError(
            f"optimizer {optimizer} was given gradient {options.gradient}: it needs sensitivities, gradient forward. "
            "Leave the gradient out, or choose optimizer adam or lbfgs."
        )
    for name, value in options.said().items():
        about = OPTIONS[name]
        if about.optimizers and optimizer not in about.optimizers and value != about.neutral:
            owners = " and ".join(about.optimizers)
            raise InputError(
                f"{name}={value} was given with optimizer {optimizer}, but belongs to {owners}. Leave one of them out."
            )
    loss = options.loss or "linear"
    noise_models.read(options.noise or "equal", loss)
    if options.loss_scale is not None and loss == "linear":
        raise InputError(
            f"loss_scale={options.loss_scale:g} was given with loss linear, which does not bend. Give another loss, "
            "or leave the scale out."
        )
    if options.workers is not None and options.starts == 1:
        raise InputError(
            f"workers={options.workers} was given with one start: workers share many starts. Leave it out."
        )
    if (options.seeds or 1) > 1 and options.starts > 1:
        raise InputError(f"seeds={options.seeds} with {options.starts} starts: one of them can be many. Leave one out.")


def _plain(tolerance: Any) -> Any:
    """A tolerance as data: numbers, nested in lists as the state is."""
    if isinstance(tolerance, tuple | list):
        return [_plain(one) for one in tolerance]
    return tolerance.tolist() if isinstance(tolerance, Tensor) else tolerance
