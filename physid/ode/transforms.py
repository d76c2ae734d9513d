"""Refusals for torch.func transforms and forward-mode tangents where jumps move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from torch import Tensor
from torch.autograd import forward_ad

from physid.errors import InputError
from physid.ode.torch_internals import forward_mode, inside_transform, is_mapped


class Reading(Protocol):
    """Knowledge of the times at which f reads its inputs."""

    plain: bool


Some = TypeVar("Some", bound=Reading)


def refuse_transformed(switches: Tensor | None) -> Tensor | None:
    """The times of jumps; InputError for those that torch.func.vmap or forward-mode tangents move."""
    if switches is None:
        return None
    if is_mapped(switches):
        raise InputError(
            "torch.func.vmap over the times at which f jumps: every sample would land on steps of its own. Solve the "
            "samples one by one."
        )
    if forward_mode() and not switches.requires_grad and forward_ad.unpack_dual(switches).tangent is not None:
        raise InputError(
            "forward-mode derivatives (torch.func.jvp, jacfwd) by the times at which f jumps are not there. Use "
            "torch.func.grad or jacrev, or gradient='forward'."
        )
    return switches


def plain_where_transformed(probe: Callable[[], Some]) -> Some:
    """The reads of f; InputError for other times than t inside of a transform."""
    if not inside_transform():
        return probe()
    try:
        found = probe()
    except RuntimeError:  # a mapped time cannot look up its piece
        found = None
    if found is None or not found.plain:
        raise InputError(
            "torch.func over a solve whose f reads its inputs at another time than t: the transform cannot see when f "
            "jumps. Differentiate it by torch.autograd, or with gradient='forward'."
        )
    return found
