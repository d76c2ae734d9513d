"""Conversions out of torch while f is recorded, through NumPy, lists, text or addresses, which a graph cannot follow.

Operations of torch are seen below autograd (`trace`); these go past them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from physid.ode.torch_internals import TYPED_STORAGE, tree_leaves


class Unsupported(Exception):
    """Why f does not become C, in one line."""


class NotFinite(Unsupported):
    """A parameter or constant is not finite: f would have to be written in another way for this solve."""


LEAVING: dict[Any, str] = {
    Tensor.numpy: "NumPy",
    Tensor.__array__: "NumPy",
    Tensor.__dlpack__: "another library",
    Tensor.tolist: "a list",
    Tensor.__repr__: "text",
    Tensor.__format__: "text",
    Tensor.__deepcopy__: "a copy of the object",
    Tensor.__reduce_ex__: "a copy of the object",
    Tensor.data_ptr: "an address",
    Tensor.untyped_storage: "its storage",
    Tensor.storage: "its storage",
    TYPED_STORAGE: "its storage",
    Tensor.data.__get__: ".data, past the gradient",  # type: ignore[attr-defined]
    Tensor.detach_: "detach_, past the gradient",
    torch.detach_: "detach_, past the gradient",
    torch.tensor: "torch.tensor, which copies values without their gradient: use torch.stack",
    torch.as_tensor: "torch.as_tensor, which copies values without their gradient: use torch.stack",
    torch.asarray: "torch.asarray, which copies values without their gradient: use torch.stack",
    Tensor.new_tensor: "new_tensor, which copies values without their gradient: use torch.stack",
    torch.scalar_tensor: "scalar_tensor",
    torch.full: "torch.full",
}
NUMBERS = (
    *(Tensor.item, Tensor.__float__, Tensor.__int__, Tensor.__bool__, Tensor.__index__, Tensor.__complex__),
    *(torch.equal, Tensor.equal, torch.allclose, Tensor.allclose, torch.is_nonzero, Tensor.is_nonzero),
)
DETACHES = (Tensor.detach, torch.detach)
THROUGH = (torch.as_tensor, torch.asarray)  # a tensor goes through them as it is


class LeavingValues(TorchFunctionMode):
    """Raises Unsupported where a number that `depends` leaves torch; `cut` is filled while f detaches a tensor."""

    def __init__(self, depends: Callable[[Tensor], bool], cut: list[bool]) -> None:
        super().__init__()
        self.depends, self.cut = depends, cut

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function of torch unless values leave by it."""
        kwargs = kwargs or {}
        way = LEAVING.get(func)
        if way and not (func in THROUGH and args and isinstance(args[0], Tensor)) and self._given(args, kwargs):
            raise Unsupported(f"values of t, y or parameters that leave torch by {way}")
        if func in NUMBERS and self._given(args, kwargs):
            raise Unsupported(f"a Python number or branch made from a tensor's value ({func.__name__})")
        if func in DETACHES:  # torch's own factories detach too, which cuts nothing
            self.cut.append(True)
            try:
                return func(*args, **kwargs)
            finally:
                self.cut.clear()
        return func(*args, **kwargs)

    def _given(self, args: Any, kwargs: Any) -> bool:
        return any(isinstance(leaf, Tensor) and self.depends(leaf) for leaf in tree_leaves((args, kwargs)))
