"""Delays that are plain numbers, and transforms of torch.func over times of jumps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from test_delays import DOUBLE, ENGINES, TIMES, VALUES, driven
from torch import Tensor

from physid.data.inputs import Inputs
from physid.errors import InputError
from physid.modelling.model import Model
from physid.modelling.unknown import Unknown
from physid.ode import solve


@ENGINES
@pytest.mark.parametrize("delay", [1, 1.0, 2])
def test_a_delay_that_is_a_plain_number_compiles_whatever_its_type(delay: float, engine: str) -> None:
    """Whole numbers make jumps of u(t) and u(t - delay) meet; they do not move apart."""
    model = driven(
        type("Fixed", (Fixed,), {"delay": delay})(), "hold", np.arange(9.0), [1, -0.5, -0.5, 2, 0.3, 1.5, -1, 0.7, 0.2]
    )
    found = solve(model, torch.tensor([0.4], dtype=DOUBLE), [0.0, 7.5], engine=engine, rtol=1e-10, atol=1e-10)
    assert isinstance(found.y, Tensor)
    assert found.engine == engine
    if engine == "native":
        assert solve(model, torch.tensor([0.4], dtype=DOUBLE), [0.0, 7.5]).engine == "native"
    y, times, values = 0.4, np.arange(0.0, 7.6, 0.5), np.array([1, -0.5, -0.5, 2, 0.3, 1.5, -1, 0.7, 0.2])
    for start in times[:-1]:
        level = (0.7 * values[int(start)] + values[max(int(start) - int(delay), 0)]) / 0.3
        y = level + (y - level) * np.exp(-0.3 * 0.5)
    assert float(found.y[-1, 0].detach()) == pytest.approx(y, rel=1e-9)


class Fixed(Model):
    """x' = gain u(t) + u(t - delay) - .3 x with a delay that is known."""

    state_names: ClassVar[tuple[str, ...]] = ("x",)
    input_names: ClassVar[tuple[str, ...]] = ("u",)
    gain = Unknown(0.7)
    delay: ClassVar[float] = 1

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        return (self.gain * self.inputs(t)[0] + self.inputs(t - self.delay)[0])[..., None] - 0.3 * y


class Jumping:
    """x' = 2 - x until `at`, then -1 - x."""

    def __init__(self, at: Tensor) -> None:
        self.at, self.switches = at, at.reshape(1)

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.where(t < self.at, 2.0 + 0 * t, -1.0 + 0 * t)[..., None] - y


SIGNAL = Inputs.through(TIMES, VALUES, ["u"])


class Delayed:
    """x' = u(t - delay) - .3 x."""

    def __init__(self, delay: Tensor) -> None:
        self.delay, self.driver, self.reader = delay, SIGNAL, None

    @contextmanager
    def reading(self, reader: Any) -> Iterator[None]:
        self.reader = reader
        yield
        self.reader = None

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        u: Tensor = (self.reader or self.driver)(t - self.delay)
        return u - 0.3 * y


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # by an import of torch's
def test_torch_func_by_times_of_jumps_is_right_or_refused() -> None:
    """x(2) = -1 + (x(a) + 1) exp(a - 2), and so dx/da = d2x/da2 = 3 exp(a - 2)."""
    at, y0 = torch.tensor(1.3, dtype=DOUBLE), torch.zeros(1, dtype=DOUBLE)

    def end(f: Any) -> Tensor:
        y = solve(f, y0, [0.0, 2.0], rtol=1e-10, atol=1e-10).y
        assert isinstance(y, Tensor)
        return y[-1].sum()

    func, wanted = torch.func, pytest.approx(3 * np.exp(-0.7), rel=1e-8)
    grad = func.grad(lambda a: end(Jumping(a)))
    assert grad(at).item() == wanted
    assert func.jacrev(lambda a: end(Jumping(a)))(at).item() == wanted
    assert func.grad(grad)(at).item() == wanted
    for transform in (func.jacfwd, lambda f: lambda a: func.jvp(f, (a,), (a,))):
        with pytest.raises(InputError, match="forward-mode derivatives"):
            transform(lambda a: end(Jumping(a)))(at)
    for f in (lambda a: end(Jumping(a)), grad):
        with pytest.raises(InputError, match="vmap over the times at which f jumps"):
            func.vmap(f)(at.expand(2))
    for transform in (func.grad, func.jacrev, func.jacfwd, lambda f: lambda a: func.vmap(func.grad(f))(a.expand(2))):
        with pytest.raises(InputError, match="reads its inputs at another time than t"):
            transform(lambda a: end(Delayed(a)))(at)
