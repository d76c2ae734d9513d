"""What the native engine remembers of the times at which f reads its inputs: proven, never trusted beyond its proof."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from variants import some

from physid.data.inputs import Inputs
from physid.machine import compiler_command
from physid.modelling.model import Model
from physid.modelling.unknown import Unknown
from physid.ode import reads, solve
from physid.ode.native.cache import recall
from physid.ode.reads import Foreseen
from physid.ode.rhs import layout_of

DOUBLE = torch.float64
pytestmark = pytest.mark.skipif(compiler_command() is None, reason="no C compiler")
Y0, ASKED = torch.tensor([0.4, -0.2], dtype=DOUBLE), torch.tensor([0.0, 1.7, 4.0], dtype=DOUBLE)


class Reading(Model):
    """An oscillator that is pushed by the input as it was at a time of some kind."""

    state_names: ClassVar[tuple[str, ...]] = ("x", "v")
    input_names: ClassVar[tuple[str, ...]] = ("u",)
    delay = Unknown(0.73)
    more = 0.0
    kind = "t"

    def when(self, t: Tensor, y: Tensor) -> Tensor:
        if self.kind == "branch":
            return t - self.delay if t > 1.0 else t
        if self.kind == "kept":
            with torch.no_grad():
                return t - self.delay
        times: dict[str, Tensor] = {
            "t": t,
            "late": t - self.delay,
            "stretched": 0.9 * t - self.delay / 2,
            "square": t * t / 4,
            "state": t - 0.1 * y[..., 0] ** 2,
        }
        return times[self.kind] - self.more if self.more else times[self.kind]

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        (u,) = self.inputs(self.when(t, y))
        x, v = y.unbind(-1)
        return torch.stack((v, u - torch.sin(x) - 0.3 * v), -1)


def reading(kind: str) -> Any:
    model = Reading()
    model.kind = kind
    model.drive(Inputs.through([0.0, 0.5, 1.1, 1.9, 2.4, 3.3, 4.0], [1.0, -0.5, -0.5, 2.0, 0.3, 1.5, -1.0], ["u"]))
    return model


def found(model: Any, engine: str) -> list[float]:
    """The sum of the states and its derivative by the delay."""
    y: Any = solve(model, Y0, ASKED, engine=engine, rtol=1e-9, atol=1e-9).y
    total = y.sum()
    (grad,) = torch.autograd.grad(total, [model.raw.delay], allow_unused=True)
    return [float(total.detach()), 0.0 if grad is None else float(grad)]


def foreseen(model: Reading) -> Foreseen | None:
    known = recall(model, None, layout_of(Y0, False))
    assert known is not None
    return known[1].foresees(known[0])


@pytest.mark.parametrize("kind", some(["t", "late", "stretched"], "late"))
def test_a_known_f_is_not_evaluated_for_its_reads(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = reading(kind)
    found(model, "native")
    known = foreseen(model)
    assert known is not None
    assert known.plain == (kind == "t")
    for delay in (0.73, 0.41, 0.5):  # a delay that moves, and one that makes jumps of two samples one sample apart
        with torch.no_grad():
            model.raw.delay.fill_(delay)
        expected = found(model, "eager")
        with monkeypatch.context() as patch:
            patch.setattr(reads.ReadProbe, "_read", lambda *_: pytest.fail("f was evaluated"))
            assert found(model, "native") == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_an_f_that_changes_is_looked_at_again() -> None:
    model = reading("t")
    found(model, "native")
    for change in ({"kind": "late"}, {"more": 0.31}):
        for name, value in change.items():
            setattr(model, name, value)
        assert found(model, "native") == pytest.approx(found(model, "eager"), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("kind", some(["square", "state", "kept"], "state", "kept"))
def test_what_the_record_does_not_show_is_not_foreseen(kind: str) -> None:
    model = reading(kind)
    with torch.no_grad():
        first: Any = solve(model, Y0, ASKED, engine="native", rtol=1e-8).y
        assert foreseen(model) is None
        again: Any = solve(model, Y0, ASKED, engine="native", rtol=1e-8).y
        eager: Any = solve(model, Y0, ASKED, engine="eager", rtol=1e-8).y
    torch.testing.assert_close(again, first)
    torch.testing.assert_close(again, eager, rtol=1e-6, atol=1e-6)


def test_a_branch_on_time_is_never_remembered() -> None:
    model = reading("branch")
    for _ in range(2):
        with torch.no_grad():
            assert "branch" in solve(model, Y0, ASKED, rtol=1e-6).engine_note
        assert recall(model, None, layout_of(Y0, False)) is None


def test_switches_that_change_in_place_are_seen() -> None:
    model = reading("t")
    before = found(model, "native")
    assert model.driver is not None
    with torch.no_grad():  # the pulse begins later: breaks and switches are moved together
        model.driver.breaks[1] = model.driver.switches[0] = 0.8
    moved = found(model, "native")
    assert moved != before
    assert moved == pytest.approx(found(model, "eager"), rel=1e-6, abs=1e-7)
