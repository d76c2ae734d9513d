"""From the options of a fit to the arguments of `physid.fit`, checked before any data are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from physid.errors import InputError, MissingError, unknown_name
from physid.ode import GRADIENTS, METHODS

OPTIMIZERS = ("lm", "adam", "lbfgs")
STRATEGIES = ("auto", "full", "segments")
PROTOCOLS = ("default", "paper-text", "paper-code")
DTYPES = {"float64": torch.float64, "float32": torch.float32}
