"""Search: optimizers and strategies, from starting values to the optimum of an inference problem."""

from __future__ import annotations
