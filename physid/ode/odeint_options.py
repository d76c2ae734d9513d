"""Options of torchdiffeq's interface: its methods and options in the engine's terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from physid.errors import InputError, unknown_name
from physid.ode.control import CONTROLS, Control, Fixed
from physid.ode.methods import catalogue
from physid.ode.methods.catalogue import Tableau, with_interpolation
from physid.ode.probes import Probes
from physid.ode.problem import ODEProblem, Recall, pose
from physid.ode.request import Limits, Norm, SolveOptions, Tolerance, is_plain, read_times
from physid.ode.rhs import RightHandSide, State

Options = Mapping[str, Any]
ADAPTIVE = (
    "first_step",
    "min_step",
    "max_step",
    "max_num_steps",
    "safety",
    "ifactor",
    "dfactor",
    "step_t",
    "jump_t",
    "norm",
    "dtype",
    "checkpoints",
)
FIXED = ("step_size", "grid_constructor", "interp", "perturb", "norm", "checkpoints")
LACKING = {"explicit_adams": "rk4", "implicit_adams": "rk4", "fixed_adams": "rk4", "scipy_solver": "dopri8"}
MOST_KEPT = 64  # tolerances, whose requests are kept


@dataclass(frozen=True)
class Setup:
    """torchdiffeq's method and options in the engine's terms."""

    tableau: Tableau
    control: Control
    limits: Limits
    norm: Norm | None = None
    stops: Tensor | None = None
    jumps: Tensor | None = None
    perturb: bool = False
    grid_constructor: Callable[..., Tensor] | None = None
    probes: Probes | None = None
    _kept: dict[tuple[Any, Any], SolveOptions] = field(default_factory=dict, init=False, compare=False, repr=False)

    def pose(
        self,
        f: RightHandSide,
        y0: State,
        t: Tensor | Sequence[float],
        rtol: Tolerance,
        atol: Tolerance,
        params: Sequence[Tensor] | None,
        recall: Recall | None = None,
    ) -> ODEProblem:
        """The checked problem; `recall` may know f from an earlier solve."""
        if self.grid_constructor is not None:
            stops = constructed(self.grid_constructor, f, y0, read_times(t))
            asked = replace(self.asked(rtol, atol), stops=stops)
        else:
            asked = self._known(rtol, atol)
        return pose(f, y0, t, params=params, recall=recall, asked=asked)

    def asked(self, rtol: Tolerance, atol: Tolerance) -> SolveOptions:
        """Options of the solve with these tolerances."""
        return SolveOptions(
            solver=self.tableau,
            rtol=rtol,
            atol=atol,
            control=self.control,
            limits=self.limits,
            norm=self.norm,
            stops=self.stops,
            jumps=self.jumps,
            perturb=self.perturb,
            probes=self.probes,
        )

    def _known(self, rtol: Tolerance, atol: Tolerance) -> SolveOptions:
        """The same, made once for tolerances that are numbers."""
        if not (is_plain(rtol) and is_plain(atol)):
            return self.asked(rtol, atol)
        found = self._kept.get((rtol, atol))
        if found is None:
            if len(self._kept) > MOST_KEPT:
                self._kept.clear()
            found = self._kept[rtol, atol] = self.asked(rtol, atol)
        return found


def read_options(method: str | None, options: Options | None) -> Setup:
    """Check method and options; an unknown one is an error with the nearest known name."""
    given = tuple((options or {}).items())
    plain = all(type(value) in (float, int, str, bool, type(None)) for _, value in given)
    return _kept_setup(method or "dopri5", given) if plain else _read(method or "dopri5", given)


def _read(name: str, options: tuple[tuple[str, Any], ...]) -> Setup:
    """The setup of a method with options by name."""
    if name in LACKING:
        raise InputError(
            f"method '{name}' is not here; the nearest is '{LACKING[name]}'. "
            f"Allowed: {', '.join(sorted(catalogue.METHODS))}."
        )
    tableau = catalogue.lookup({"rk4": "rk4_38", "rk4_classic": "rk4"}.get(name, name))
    given = dict(options)
    allowed = ADAPTIVE if tableau.adaptive else FIXED
    for key in given:
        if key not in allowed:
            raise unknown_name(f"option of method '{name}'", key, allowed)
    return _adaptive(tableau, given) if tableau.adaptive else _fixed(tableau, given)


_kept_setup = lru_cache(maxsize=64, typed=True)(_read)


def _adaptive(tableau: Tableau, given: dict[str, Any]) -> Setup:
    if given.get("dtype", torch.float64) != torch.float64:
        raise InputError(f"option dtype={given['dtype']}: time is kept in float64; leave it out.")
    control = replace(
        CONTROLS["i"],
        safety=float(given.get("safety", 0.9)),
        shrink=float(given.get("dfactor", 0.2)),
        grow=float(given.get("ifactor", 10.0)),
    )
    first = given.get("first_step")
    limits = Limits(
        None if first is None else abs(float(first)),
        float(given.get("min_step", 0.0)),
        float(given.get("max_step", float("inf"))),
        int(given.get("max_num_steps", 2**31 - 1)),
    )
    stops, jumps = (_times(given.get(key), key) for key in ("step_t", "jump_t"))
    return Setup(tableau, control, limits, given.get("norm"), stops, jumps)


def _fixed(tableau: Tableau, given: dict[str, Any]) -> Setup:
    if given.get("step_size") is not None and given.get("grid_constructor") is not None:
        raise InputError("options step_size and grid_constructor exclude each other: give one of them.")
    interp = given.get("interp", "linear")
    if interp not in ("linear", "cubic"):
        raise unknown_name("interp", interp, ("linear", "cubic"))
    step = given.get("step_size")
    return Setup(
        with_interpolation(tableau, interp),
        Fixed(None if step is None else float(step)),
        Limits(max_steps=2**31 - 1),
        perturb=bool(given.get("perturb", False)),
        grid_constructor=given.get("grid_constructor"),
    )


def _times(value: Any, name: str) -> Tensor | None:
    if value is None:
        return None
    times = torch.as_tensor(value)
    if name == "step_t" and times.requires_grad and torch.is_grad_enabled():
        raise InputError(f"option {name} asks for a gradient, which has no derivative here: give {name}.detach().")
    times = times.to("cpu", torch.float64).reshape(-1)
    if not bool(torch.isfinite(times).all()):
        raise InputError(f"option {name} holds a time that is not finite.")
    return times


def constructed(constructor: Callable[..., Tensor], f: RightHandSide, y0: State, t: Tensor) -> Tensor:
    """The times of a grid that a function of the user's makes; InputError where it is none of the solve over t."""
    grid = torch.as_tensor(constructor(f, y0, t)).detach().cpu().double().reshape(-1)
    if len(grid) < 2 or float(grid[0]) != float(t[0]) or float(grid[-1]) != float(t[-1]):
        raise InputError(
            f"grid_constructor returned a grid that does not run from t[0] = {float(t[0])} to t[-1] = {float(t[-1])}."
        )
    return grid
