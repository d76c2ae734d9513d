"""Probes: tangents that are carried in the error norm, so that the tolerance holds for the gradient, too.

Error control by the state alone says nothing of dy/dp: where only the derivative moves, steps grow without bound. A
probe is the derivative of the state in one direction v of the unknowns and the initial state,

    s' = (df/dy) s + (df/dp) v_p,    s(t0) = v_0,

and a step is accepted when its error in the state and in every probe, each by the norm of the state, is within the
tolerance. Components of v are of the typical size of what they belong to, so that s has the units of the state, and
atol and rtol mean for it what they mean there.

Source: Hindmarsh et al. (2005), SUNDIALS (errors of sensitivities in the norm); random directions in place of columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from physid.errors import InputError

MOST = 64  # probes of a solve; more of them are no better than all columns, which gradient "forward" has


@dataclass(frozen=True)
class Probes:
    """Random directions of a solve: their number, and the sizes of their components.

    `sizes` [Q]: a typical change of every parameter, over the elements of all of `params`, in order; `initial` [N]: of
    every component of a sample's initial state; 0 leaves one out. Without them the size of a number is its magnitude,
    that of a zero the rms of the tensor (of the sample's state) that holds it, and where all of it is zero, 1.
    Every component of a direction is its size times a factor drawn from +-[.5, 1.5] by `seed`, the same for all samples
    of a batch. With gradient "forward" the columns that it carries, each as long as its size, take the place of these.
    """

    count: int = 1
    sizes: tuple[float, ...] | None = None
    initial: tuple[float, ...] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if type(self.count) is not int or not 1 <= self.count <= MOST:
            raise InputError(
                f"{self.count!r} probes: expected a whole number from 1 to {MOST}. One is often enough; 0, in place "
                "of Probes, carries none."
            )
        for name in ("sizes", "initial"):
            given = getattr(self, name)
            if given is not None:
                values = tuple(float(value) for value in given)
                if not all(0 <= value < float("inf") for value in values):
                    raise InputError(f"{name} of probes {values}: expected finite numbers that are not negative.")
                object.__setattr__(self, name, values)


def read(probes: Probes | int | None) -> Probes | None:
    """The probes that a number of them means, None for 0; InputError for what is neither."""
    if isinstance(probes, Probes):
        return probes
    if probes is None or (type(probes) is int and probes == 0):
        return None
    if type(probes) is not int:
        raise InputError(f"probes={probes!r}: expected a whole number of them, or a value of Probes.")
    return Probes(probes)


def check(probes: Probes, fixed: bool, dtype: torch.dtype) -> None:
    """InputError where they cannot work."""
    if fixed:
        raise InputError(
            "probes with steps of fixed length: they choose the steps by the error of the gradient. Leave probes out, "
            "or take an adaptive solver with control='i'."
        )
    if dtype.is_complex:
        raise InputError("probes with a complex state: expected real states. Split it into two parts.")
