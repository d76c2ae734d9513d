"""The gradient methods by name."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from typing import Any

from torch import Tensor

from physid.catalog import Registry
from physid.errors import InputError
from physid.ode.backend import Backend
from physid.ode.eager.outcome import Outcome
from physid.ode.gradients.aca import ACA
from physid.ode.gradients.adjoint import Adjoint
from physid.ode.gradients.forward import Forward
from physid.ode.gradients.naive import Naive
from physid.ode.gradients.protocol import Gradient
from physid.ode.problem import ODEProblem

GRADIENTS: Registry[Gradient] = Registry(
    "gradient method",
    {"aca": ACA(), "naive": Naive(), "adjoint": Adjoint(), "forward": Forward()},
    group="physid.gradients",
    of=Gradient,
)


def check_probes(gradient: Gradient) -> None:
    """InputError where probes are of no use to a gradient method."""
    if getattr(gradient, "probed", False):
        return
    name = "aca, step-aware" if getattr(gradient, "step_aware", False) else gradient.name
    raise InputError(
        f"probes with gradient '{name}', whose steps they would have to be differentiated through or do not bear upon: "
        "expected gradient 'aca' or 'forward'. Leave probes out, or choose one of these."
    )


def lookup(gradient: Gradient | str, checkpoints: int | None = None) -> Gradient:
    """The gradient method of that name; values pass through. `checkpoints` is for one with such a field."""
    found: Any = GRADIENTS.lookup(gradient) if isinstance(gradient, str) else gradient
    kind: Any = type(found)
    if _takes_no_backend(kind):
        found = _Former(found.name, found)
    if checkpoints is None:
        return found  # type: ignore[no-any-return]
    if not (is_dataclass(found) and any(one.name == "checkpoints" for one in fields(found))):
        raise InputError(
            f"checkpoints={checkpoints} with gradient '{found.name}': it keeps no states; use gradient='aca'."
        )
    return replace(found, checkpoints=checkpoints)  # type: ignore[return-value, type-var]


@lru_cache(maxsize=64)
def _takes_no_backend(kind: Any) -> bool:
    return len(inspect.signature(kind.solve).parameters) == 2


@dataclass(frozen=True)
class _Former:
    """A gradient method as they once were, `solve(problem)`."""

    name: str
    method: Any

    def solve(self, problem: ODEProblem, backend: Backend) -> tuple[Tensor, Outcome]:
        """By torch, as it does it."""
        warnings.warn(
            f"gradient '{self.name}' has solve(problem): it is now solve(problem, backend). Change it; one that solves "
            "by backend.solve is compiled, too.",
            DeprecationWarning,
            stacklevel=3,
        )
        backend.by_torch(f"gradient '{self.name}' takes no backend")
        found: tuple[Tensor, Outcome] = self.method.solve(problem)
        return found
