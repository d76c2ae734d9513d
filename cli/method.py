"""From the options of a fit to the arguments of `physid.fit`, checked before any data are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from physid.errors import InputError, MissingError, unknown_name

DTYPES = {"float64": torch.float64, "float32": torch.float32}


def place(model: nn.Module, device: str, dtype: str) -> None:
    """Move `model` to a device and a precision; InputError for names, MissingError for a device that is not there."""
    if dtype not in DTYPES:
        raise unknown_name("dtype", dtype, DTYPES)
    try:
        target = torch.device(device)
    except RuntimeError:
        raise InputError(f"unknown device '{device}'. Allowed: cpu, cuda, cuda:N.") from None
    if target.type not in ("cpu", "cuda"):
        raise InputError(f"device '{device}' cannot be used. Allowed: cpu, cuda, cuda:N.")
    if target.type == "cuda" and (target.index or 0) >= torch.cuda.device_count():
        raise MissingError(f"device '{device}' is not there: torch sees {torch.cuda.device_count()}. Use --device cpu.")
    model.to(device=target, dtype=DTYPES[dtype])
