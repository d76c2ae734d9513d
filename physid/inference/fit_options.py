"""FitOptions: every option of a fit, declared once.

The signature of `physid.fit`, the flags and help of `physid fit`, the keys of a settings file with their JSON Schema,
the checks, and what a run directory says of its options derive from the fields of FitOptions and their metadata.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Self

from physid.errors import InputError, unknown_name
from physid.option_readers import Refused, Schema, Values, mapping, named, number, text, texts, whole

if TYPE_CHECKING:
    from physid.inference.noise import NoiseModel
    from physid.modelling.unknown import Tie
    from physid.ode import Integrator

STARTS, SEEDS, WORKERS, EPOCHS, SEED = 10_000, 1000, 256, 10_000_000, 2**32 - 1  # at most, unless limits are raised
STEPS, PROBES = 10**12, 64
STRATEGIES = ("auto", "full", "segments", "grow", "match", "stages", "rates")
PROTOCOL_NAMES = ("default", "paper-text", "paper-code")
ENGINES = ("auto", "native", "eager")
METHOD, SOLVER, DATA = "Method", "Solver", "Data"
META = "physid"  # the key of what stands here in the metadata of a field


@dataclass(frozen=True)
class FitOption:
    """Metadata of an option, beside its name and default.

    `otherwise`: what an option that is left out means, where its default does not say it. `flag` is its spelling in the
    command line (by default that of its name), `aliases` are further spellings, also in a settings file. `optimizers`
    have it; without any, all do. An option of a `solve` is a field of Integrator. Those without `typed` are options in
    Python alone.
    """

    help: str
    read: Values
    metavar: str
    section: str = METHOD
    otherwise: str = ""
    flag: str = ""
    aliases: tuple[str, ...] = ()
    optimizers: tuple[str, ...] = ()
    neutral: Any = None
    solve: bool = False
    typed: bool = True


def _option(default: Any, help: str, read: Values, metavar: str = "NAME", **more: Any) -> Any:
    return field(default=default, metadata={META: FitOption(help, read, metavar, **more)})


def _solvers() -> Any:
    from physid.ode import METHODS

    return METHODS


def _gradients() -> Any:
    from physid.ode import GRADIENTS

    return GRADIENTS


def _losses() -> Any:
    from physid.inference.noise_models import LOSSES

    return LOSSES


def _noise(value: Any) -> Any:
    if isinstance(value, str):
        return NOISE_NAME(value)
    from physid.inference.noise import NoiseModel
    from physid.inference.noise_models import text_of

    if not isinstance(value, NoiseModel):
        raise TypeError
    return text_of(value)


def _optimizer(value: Any) -> Any:
    from physid.inference.search.catalogue import chosen

    return chosen(value)


def _integrator(value: Any) -> Any:
    from physid.ode import Integrator

    if not isinstance(value, Integrator):
        raise TypeError
    return value


def _holdout(value: Any) -> Any:
    from physid.data.holdout import read

    return read(value)


def _numeric(value: Any) -> bool:
    """Whether a value is None, a number, an array, or a list of such."""
    if value is None or hasattr(value, "__array__"):
        return True
    if isinstance(value, list | tuple):
        return all(map(_numeric, value))
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e300


NUMERIC: Schema = {"type": ["number", "array", "null"]}
POSITIVE = number(0, above=True)
LM = ("lm",)
PROTOCOL = text("the name of a protocol")  # networks have their own
NOISE_NAME = text("the name of a noise model")
OPTIMIZER = Values(_optimizer, lambda: "a name, FILE.py:NAME, a class or a function", lambda: {"type": "string"})
INTEGRATOR = Values(_integrator, lambda: "a physid.Integrator", dict)


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """The options of a fit; None, the default of most, takes what suits model and data.

    Errors: InputError for a value that cannot be. Which options contradict each other says
    `physid.inference.options.resolve`.
    """

    optimizer: Any = _option(  # noqa: RUF009  # it makes a field
        None, "optimizer: lm, adam, lbfgs or FILE.py:NAME", OPTIMIZER, otherwise="lm"
    )
    strategy: str | None = _option(
        None,
        f"way of lm to the optimum: {', '.join(STRATEGIES)}",
        named("strategy", lambda: STRATEGIES),
        optimizers=LM,
        neutral="auto",
    )
    protocol: str | None = _option(
        None, "settings of a paper, Zhuang et al. (2020): paper-text or paper-code", PROTOCOL
    )
    epochs: int | None = _option(
        None, "epochs of adam, iterations of lbfgs", whole(1, EPOCHS), "N", optimizers=("adam", "lbfgs")
    )
    lr: float | None = _option(None, "learning rate of adam, at its beginning", POSITIVE, "X", optimizers=("adam",))
    time_limit: float | None = _option(
        None, "seconds after which the fit ends with the best so far (exit 124)", POSITIVE, "S"
    )
    starts: int = _option(
        1, "starts that are tried: the guess, and draws from priors", whole(1, STARTS), "K", optimizers=LM
    )
    workers: int | None = _option(
        None, "processes that share the starts", whole(1, WORKERS), "N", otherwise="one batch", optimizers=LM
    )
    seeds: int | None = _option(
        None,
        "seeds from which weights are fitted, for bands",
        whole(1, SEEDS),
        "K",
        otherwise="the model's",
        aliases=("--ensemble",),
    )
    noise: str | NoiseModel | None = _option(  # noqa: RUF009  # it makes a field
        None,
        "noise model: equal, normal, lognormal, student[:NU]",
        Values(_noise, NOISE_NAME.words, NOISE_NAME.schema),
        otherwise="the model's",
        flag="--noise-model",
        optimizers=LM,
        neutral="equal",
    )
    loss: str | None = _option(
        None,
        "loss: linear, soft_l1, huber, cauchy or arctan",
        named("loss", _losses),
        otherwise="linear",
        optimizers=LM,
        neutral="linear",
    )
    loss_scale: float | None = _option(
        None, "error at which the loss bends", POSITIVE, "X", otherwise="from the noise", optimizers=LM
    )
    holdout: str | float | None = _option(
        None,
        "kept for the test: a part of the times, a window A:B, or an experiment",
        Values(
            _holdout,
            lambda: "a part from 0 to below 1, a window A:B, or the name of an experiment",
            lambda: {"type": ["number", "string"]},
        ),
        "WHAT",
    )
    fix: Mapping[str, Any] | None = _option(
        None,
        "holds an unknown at a value; a name alone, where it is",
        mapping("a mapping from unknowns to values", _numeric, NUMERIC),
        "NAME=VALUE",
    )
    free: Sequence[str] = _option(
        (), "identifies an unknown that the model fixes or ties", texts("a list of unknowns"), "NAME"
    )
    tie: Mapping[str, Tie] | None = _option(
        None,
        "computes an unknown from others, as in 'width=2 * length'",
        mapping(
            "a mapping from unknowns to expressions",
            lambda one: isinstance(one, str) or callable(one),
            {"type": "string"},
        ),
        "NAME=EXPR",
    )
    integrator: Integrator | None = _option(  # noqa: RUF009  # it makes a field
        None,
        "the whole integrator; options of solver, gradient and tolerances change it",
        INTEGRATOR,
        section=SOLVER,
        typed=False,
    )
    solver: str | None = _option(
        None, "a solver of `physid list solvers`", named("solver", _solvers), section=SOLVER, solve=True
    )
    gradient: str | None = _option(
        None,
        "gradient: aca, naive, adjoint or forward",
        named("gradient method", _gradients),
        section=SOLVER,
        otherwise="forward with lm, else aca",
    )
    engine: str | None = _option(
        None,
        "engine: auto, native (f as compiled C) or eager (by torch)",
        named("engine", lambda: ENGINES),
        section=SOLVER,
        otherwise="auto",
        solve=True,
    )
    rtol: float | None = _option(None, "relative tolerance of a step", number(0), "X", section=SOLVER, solve=True)
    atol: float | None = _option(
        None,
        "absolute tolerance of a step",
        number(0),
        "X",
        section=SOLVER,
        otherwise="rtol times the size of each state",
        solve=True,
    )
    max_steps: int | None = _option(
        None,
        "most steps of a solve",
        whole(1, STEPS),
        "N",
        section=SOLVER,
        otherwise="100000, and 100 an interval of the record",
        solve=True,
    )
    probes: int | None = _option(
        None,
        "tangents held to the tolerances: 0 none, 1 all of lm",
        whole(0, PROBES, fixed=True),
        "N",
        section=SOLVER,
        otherwise="1 if compiled",
    )
    seed: int = _option(0, "seed of noise and random starts", whole(0, SEED), "N", section=DATA)

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if value is None or value is one.default:
                value = one.default
            elif one.name in OPTIONS:
                value = read(one.name, value, one.name)
            object.__setattr__(self, one.name, value)

    def said(self) -> dict[str, Any]:
        """The options that are not as by default, by name."""
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name)) != one.default}

    def of_solve(self) -> dict[str, Any]:
        """The options of the integrator, by the names of its fields."""
        asked = {name: getattr(self, name) for name, one in OPTIONS.items() if one.solve}
        return {name: value for name, value in asked.items() if value is not None}

    @classmethod
    def of(cls, options: FitOptions | None, keywords: Mapping[str, Any]) -> Self:
        """Options with those of keywords, which win. Errors: InputError for one that is none, with the nearest name."""
        for name in keywords:
            if name not in OPTIONS:
                raise unknown_name("option of fit", name, OPTIONS)
        given = {} if options is None else {name: getattr(options, name) for name in OPTIONS}
        return cls(**given | {name: value for name, value in keywords.items() if value is not None})


OPTIONS: Mapping[str, FitOption] = {one.name: one.metadata[META] for one in fields(FitOptions)}
TYPED = {name: one for name, one in OPTIONS.items() if one.typed}


def default_of(name: str) -> Any:
    """The default of an option; None where what suits model and data is taken."""
    return next(one.default for one in fields(FitOptions) if one.name == name)


def default_words(name: str) -> str:
    """The default in brackets, empty where there is none."""
    default = OPTIONS[name].otherwise or default_of(name)
    return "" if default in (None, ()) else f" [default: {default}]"


def flags_of(name: str) -> tuple[str, ...]:
    """The spellings of an option in the command line, the usual one first."""
    return OPTIONS[name].flag or f"--{name.replace('_', '-')}", *OPTIONS[name].aliases


def key_of(flag: str) -> str:
    """A flag as the key of a setting, as in noise_model."""
    return flag.strip("-").replace("-", "_")


def read(name: str, value: Any, said: str, option: FitOption | None = None) -> Any:
    """The value of an option, from text or a value, which `said` names. Errors: InputError for one that cannot be."""
    try:
        return (option or OPTIONS[name]).read(value)
    except Refused as error:
        raise InputError(f"{said}: expected {error}, got {shown(value)}. Give another value.") from None


def shown(value: Any) -> str:
    """A value as a message shows it, cut where it is long."""
    try:
        said = repr(value)
    except ValueError:  # an integer of thousands of digits
        return "an enormous number"
    return said if len(said) <= 80 else said[:77] + "..."


def explained() -> str:
    """The meaning of the options, one a paragraph, as `help(physid.fit)` shows it."""
    lines = []
    for name, one in OPTIONS.items():
        lines += wrap(f"{name}: {one.help}{default_words(name)}", 112, subsequent_indent="    ")
    return "\n".join(f"    {line}" for line in ["Options:", *lines])
