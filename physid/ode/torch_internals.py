"""The names of torch that its makers call private, all of them here: what to change when torch changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["TorchDispatchMode", "tree_leaves", "tree_map"]

_functorch: Any = torch._C._functorch
BATCH_NORM, DROPOUT = _BatchNorm, _DropoutNd  # of any number of dimensions
TYPED_STORAGE: Any = Tensor._typed_storage
function_modes: Any = _get_current_function_mode_stack  # that are at work now, the innermost last

# Whether code runs inside of torch.func's grad, vjp, jvp or vmap.
transforms_active: Any = torch._C._are_functorch_transforms_active


def forward_mode() -> bool:
    """Whether code runs inside of forward-mode differentiation."""
    return forward_ad._current_level >= 0


def inside_transform() -> bool:
    """Whether code runs inside of any of them."""
    active: bool = transforms_active()
    return active or forward_ad._current_level >= 0


def is_wrapped(tensor: Tensor) -> bool:
    """Whether a tensor is one of a transform of torch.func."""
    found: bool = _functorch.is_functorch_wrapped_tensor(tensor)
    return found


def is_mapped(tensor: Tensor) -> bool:
    """Whether a tensor is one of torch.func.vmap's, under whatever other transforms."""
    while _functorch.is_functorch_wrapped_tensor(tensor):
        if _functorch.is_batchedtensor(tensor):
            return True
        tensor = _functorch.get_unwrapped(tensor)
    return False


def version_of(tensor: Tensor) -> int:
    """Number of in-place changes of a tensor."""
    return tensor._version


def storage_id(tensor: Tensor) -> int:
    """A number that tensors have in common which share their memory."""
    found: int = tensor.untyped_storage()._cdata
    return found


def flattened(tensors: list[Tensor]) -> Tensor:
    """Dense tensors of one type as one row of numbers."""
    flat: Tensor = torch._C._nn.flatten_dense_tensors(tensors)
    return flat


def unflattened(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The tensors that `flattened` joined, in the shapes of `like`."""
    return list(torch._C._nn.unflatten_dense_tensors(flat, list(like)))


def undispatched() -> AbstractContextManager[Any]:
    """In here no dispatch mode of Python sees an operation."""
    found: AbstractContextManager[Any] = torch._C._DisableTorchDispatch()
    return found


def unoverridden() -> AbstractContextManager[Any]:
    """In here no function mode of Python sees a call."""
    found: AbstractContextManager[Any] = torch._C.DisableTorchFunction()
    return found


def decompositions() -> Mapping[Any, Any]:
    """Operations of aten in terms of others; imported when asked for, which takes a second."""
    from torch._decomp import decomposition_table

    return decomposition_table
