"""Tableau: the coefficients of a Runge-Kutta method."""

from __future__ import annotations

from dataclasses import dataclass

from physid.errors import InputError

Row = tuple[float, ...]


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta method with its embedded error and its dense output.

    k_i = f(t + c_i h, y + h sum_j a_ij k_j),  y(t + h) = y + h sum_i b_i k_i,
    y(t + theta h) = y + h sum_i b_i(theta) k_i.

    `order` is that of the propagated solution, `error` = b - b_hat the weights of the embedded error of order
    `error_order` (None for a method of fixed steps). With `error3` the two errors make
    |h| e^2 / sqrt(e^2 + 0.01 e3^2), and `error_order` is that of the whole. `dense[i]` holds the coefficients of
    theta, theta^2, ... of b_i(theta), over the stages and the extra ones (`extra_c`, `extra_a`), which are evaluated
    only where an output lies inside of a step. InputError where the sizes disagree.
    """

    name: str
    source: str
    order: int
    c: Row
    a: tuple[Row, ...]
    b: Row
    dense: tuple[Row, ...]
    dense_order: int
    error: Row | None = None
    error_order: int | None = None
    error3: Row | None = None
    extra_c: Row = ()
    extra_a: tuple[Row, ...] = ()

    def __post_init__(self) -> None:
        total = self.stages + len(self.extra_c)
        lengths = [len(row) for row in (*self.a, *self.extra_a)]
        weights = [row for row in (self.c, self.error, self.error3) if row is not None]
        if lengths != list(range(total)) or any(len(row) != self.stages for row in weights):
            raise InputError(
                f"tableau '{self.name}': row i of a must have i entries, and c, b and the errors one for each of the "
                f"{self.stages} stages; a has rows of {lengths} entries. Correct the numbers."
            )
        if len(self.dense) != total or len({len(row) for row in self.dense}) != 1:
            raise InputError(
                f"tableau '{self.name}': dense must have {total} rows of equal length, one for each stage and extra "
                f"stage; it has rows of {[len(row) for row in self.dense]} entries. Pad them with zeros."
            )
        if (self.error is None) != (self.error_order is None):
            raise InputError(f"tableau '{self.name}': error and error_order belong together. Give both or neither.")

    @property
    def stages(self) -> int:
        """Evaluations of f in a step, the one shared with the next step included."""
        return len(self.b)

    @property
    def fsal(self) -> bool:
        """First same as last: the last stage is f(t + h, y(t + h)), which the next step starts with."""
        return self.stages > 1 and self.c[-1] == 1 and (*self.a[-1], 0.0) == self.b

    @property
    def adaptive(self) -> bool:
        """Whether there is an embedded error to choose the step by."""
        return self.error is not None

    @property
    def exponent(self) -> float:
        """1 / (min(order, error_order) + 1): the error grows as the step to the inverse of this power."""
        return 1 / (min(self.order, self.error_order or self.order) + 1)
