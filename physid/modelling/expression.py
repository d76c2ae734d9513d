"""Expressions in the unknowns of a model: arithmetic from settings files, parsed without evaluation of code.

Names, numbers, + - * / **, comparisons none, and the functions of FUNCTIONS; there are no attributes, no subscripts and
no calls of anything else, so that a file of a stranger's computes and does no more.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from physid.errors import InputError, unknown_name

FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "abs": torch.abs,
    "cos": torch.cos,
    "exp": torch.exp,
    "log": torch.log,
    "sin": torch.sin,
    "sqrt": torch.sqrt,
    "tanh": torch.tanh,
}
BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
LONGEST = 1000  # characters
LARGEST = 1e300  # of a number


class Expression:
    """An arithmetic expression of some names: `Expression("2 * length", ["length", "mass"])`.

    `names` [...] are those that it uses; called with their values, it gives its own, differentiable.

    Errors: InputError for what is no expression, and for a name that is not allowed, with the nearest one.
    """

    def __init__(self, text: str, allowed: Iterable[str]) -> None:
        self.text, known = text, list(allowed)
        try:
            if len(text) > LONGEST:
                raise InputError(f"an expression of {len(text)} characters: expected up to {LONGEST}. Shorten it.")
            self.root = ast.parse(text.strip(), mode="eval").body
            self.names = sorted(self._names(self.root, known))
            self._check(self.root, known)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"'{text}' is no expression: write arithmetic, as in 2 * length.") from None

    def __call__(self, values: Mapping[str, Tensor]) -> Tensor:
        """The value where the names have these values."""
        found = self._value(self.root, values)
        return found if isinstance(found, Tensor) else torch.as_tensor(found, dtype=torch.float64)

    def _names(self, node: ast.expr, known: list[str]) -> set[str]:
        """The names that `node` uses; InputError for anything but arithmetic."""
        if isinstance(node, ast.Name):
            if node.id not in known:
                raise unknown_name("name in an expression", node.id, known)
            return {node.id}
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
            if abs(node.value) > LARGEST:
                raise InputError(f"'{self.text[:60]}' holds a number beyond {LARGEST:g}. Choose another unit.")
            return set()
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            return self._names(node.operand, known)
        if isinstance(node, ast.BinOp) and type(node.op) in BINARY:
            return self._names(node.left, known) | self._names(node.right, known)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1 and not node.keywords:
            if node.func.id not in FUNCTIONS:
                raise unknown_name("function in an expression", node.func.id, FUNCTIONS)
            return self._names(node.args[0], known)
        raise InputError(
            f"'{self.text}' holds more than arithmetic: expected numbers, the unknowns' names, + - * / ** "
            f"and {', '.join(FUNCTIONS)}."
        )

    def _check(self, node: ast.expr, known: list[str]) -> None:
        """Errors: InputError for a part of numbers alone that is no real, finite number, as (-8)**0.5."""
        if not self._names(node, known):
            if not math.isfinite(float(self._value(node, {}))):
                raise InputError(
                    f"'{ast.unparse(node)[:60]}' in '{self.text[:60]}' is no real, finite number. Correct it."
                )
            return
        for part in ast.iter_child_nodes(node):
            if isinstance(part, ast.expr) and not (isinstance(node, ast.Call) and part is node.func):
                self._check(part, known)

    def _value(self, node: ast.expr, values: Mapping[str, Tensor]) -> Any:
        if isinstance(node, ast.Name):
            return values[node.id]
        if isinstance(node, ast.Constant):
            return float(node.value)  # type: ignore[arg-type]
        if isinstance(node, ast.UnaryOp):
            inner = self._value(node.operand, values)
            return -inner if isinstance(node.op, ast.USub) else inner
        if isinstance(node, ast.BinOp):
            try:
                found = BINARY[type(node.op)](self._value(node.left, values), self._value(node.right, values))
                return float("nan") if isinstance(found, complex) else found  # as torch has the root of a negative
            except (ZeroDivisionError, OverflowError):
                return float("nan")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            inner = self._value(node.args[0], values)
            return FUNCTIONS[node.func.id](torch.as_tensor(inner, dtype=torch.float64))
        raise AssertionError(node)


@dataclass(frozen=True)
class Tied:
    """The value of a tied unknown, computed from the others: by an expression, or by a function of the model."""

    name: str
    how: Expression | Callable[[Any], Any]

    def __call__(self, model: object) -> Tensor:
        """The natural value in `model`, differentiable."""
        if isinstance(self.how, Expression):
            return self.how({name: getattr(model, name) for name in self.how.names})
        return torch.as_tensor(self.how(model), dtype=torch.float64)

    @property
    def text(self) -> str | None:
        """The expression; None for a function."""
        return self.how.text if isinstance(self.how, Expression) else None
