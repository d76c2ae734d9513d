"""Detours of a recording: operations that are recorded as others which come to the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from physid.ode.native.compiler.conversions import Unsupported
from physid.ode.torch_internals import tree_leaves

LARGEST = 100_000  # numbers of a sparse matrix, its zeros included, that are written into the code
_aten: Any = torch.ops.aten
DENSE = {"_sparse_addmm": _aten.addmm.default, "_sparse_mm": _aten.mm.default}
PRODUCTS = ("mm", "addmm", "mv", "addmv", "bmm", "baddbmm")


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """softmax(q k^T scale) v without dropout, and the logarithms of the sums, as torch's fused operation has them."""
    scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if attn_mask is not None and attn_mask.dtype is torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return torch.softmax(scores, -1) @ value, torch.logsumexp(scores, -1)


def detour(
    name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], literal: Callable[[Tensor], Tensor]
) -> Callable[[], Any] | None:
    """What is recorded in the place of an operation, None: itself. `literal` makes a dense tensor of known numbers."""
    if name == "_scaled_dot_product_flash_attention_for_cpu":
        drops = kwargs.get("dropout_p", args[3] if len(args) > 3 else 0.0)
        return None if drops else lambda: attention(*args, **kwargs)
    leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    if all(leaf.layout is torch.strided for leaf in leaves):
        return None
    if name == "detach":
        return None
    if name not in PRODUCTS and name not in DENSE:
        raise Unsupported(f"a sparse tensor in {name}")

    def dense(x: Any) -> Any:
        if not isinstance(x, Tensor) or x.layout is torch.strided:
            return x
        if x.numel() > LARGEST:
            raise Unsupported(f"a sparse matrix of more than {LARGEST} numbers, zeros included")
        return literal(x)

    given = tuple(map(dense, args))
    return lambda: DENSE.get(name, func)(*given, **kwargs)
