"""`simulate`, the one way to solve and observe: against truth, and every user of it with the fit's own integrator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from physid import Experiment, Inputs, Integrator, Model, Trajectory, Unknown, fit
from physid.inference.options import default_integrator
from physid.inference.parameters import vector_of
from physid.inference.simulate import simulate
from physid.inference.uncertainty.contributions import along
from physid.inference.uncertainty.scores import score
from physid.predict.draws import draw
from physid.predict.residuals import residual_table

Array = NDArray[np.float64]
LOSS, FIRST = 0.01, 20.0
TIMES = np.linspace(7.0, 100.0, 12)


class Pot(Model):
    """A pot T' = gain power - 0.01 T, heated by a power that is held and jumps at 40 and 60."""

    state_names: ClassVar[tuple[str, ...]] = ("T",)
    input_names: ClassVar[tuple[str, ...]] = ("power",)
    gain = Unknown(1e-3)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        (power,) = self.inputs(t)
        return self.gain * power[..., None] - LOSS * y


def exact(gain: float, times: Array, first: float = FIRST) -> Array:
    """T of the pot, piece by piece."""
    found = []
    for end in times:
        value, begin = first, 0.0
        for stop, power in ((40.0, 1000.0), (60.0, 0.0), (200.0, 500.0)):
            rest, span = gain * power / LOSS, min(stop, end) - begin
            if span <= 0:
                break
            value, begin = rest + (value - rest) * np.exp(-LOSS * span), stop
        found.append(value)
    return np.array(found)


def pot(sigma: float = 0.0, **more: Any) -> Experiment:
    """A record of the pot with the gain 1.5e-3."""
    power = Inputs.through([0.0, 40.0, 60.0, 200.0], [[1000.0], [0.0], [500.0], [500.0]], ["power"])
    errors = sigma * np.random.default_rng(0).standard_normal(len(TIMES))
    data = Trajectory(torch.from_numpy(TIMES), torch.from_numpy((exact(1.5e-3, TIMES) + errors)[:, None]))
    return Experiment("pot", data, torch.tensor([FIRST]), inputs=power, **{"initial_time": 0.0, **more})


@pytest.mark.parametrize("engine", ["native", "eager"])
@pytest.mark.parametrize("gains", [(1e-3,), (1e-3, 2e-3, 4e-3)])
@pytest.mark.parametrize("sensitivities", [False, True])
def test_every_vector_is_solved_as_it_is_alone(engine: str, gains: tuple[float, ...], sensitivities: bool) -> None:
    model = Pot()
    vector = vector_of(model, pot(initial_free=torch.tensor([True])))
    asked = replace(default_integrator(), engine=engine)
    xs = [np.array([gain, 0.5]) for gain in gains]
    found = simulate(vector, xs, TIMES, asked, sensitivities)
    begin = FIRST + 0.5 * float(vector.scale[0])
    for gain, one in zip(gains, found, strict=True):
        assert one.ok
        assert one.solution.engine == engine
        assert one.states.shape == (len(TIMES), 1)
        assert one.mean[:, 0] == pytest.approx(exact(gain, TIMES, begin), rel=1e-8)
        if sensitivities:
            by_gain = (exact(gain * 1.001, TIMES, begin) - exact(gain * 0.999, TIMES, begin)) / (0.002 * gain)
            by_start = np.exp(-LOSS * TIMES) * vector.scale[0]
            assert one.slopes[:, 0] == pytest.approx(np.column_stack([by_gain, by_start]), rel=1e-6)
        else:
            with pytest.raises(TypeError, match="without sensitivities"):
                _ = one.slopes


def test_what_a_solve_does_not_reach_is_no_number_and_hurts_no_other() -> None:
    class Growth(Model):
        state_names: ClassVar[tuple[str, ...]] = ("x",)
        rate = Unknown(1.0)

        def field(self, t: Tensor, y: Tensor) -> Tensor:
            return self.rate * y * y

    data = Trajectory(torch.tensor([0.2, 0.5]), torch.ones(2, 1))
    vector = vector_of(Growth(), Experiment("growth", data, torch.tensor([1.0]), initial_time=0.0))
    for sensitivities in (False, True):
        xs = np.array([[1.0], [3.0]])  # x = 1 / (1 - rate t)
        good, bad = simulate(vector, xs, [0.2, 0.5], default_integrator(), sensitivities)
        assert (good.ok, bad.ok) == (True, False)
        assert good.mean[:, 0] == pytest.approx([1.25, 2.0], rel=1e-8)
        assert bad.mean[0, 0] == pytest.approx(2.5, rel=1e-8)
        assert np.isnan(bad.mean[1, 0])
        assert not sensitivities or np.isnan(bad.slopes[1]).all()
    assert simulate(vector, [], [0.2], default_integrator()) == []


LOOSE = Integrator("bosh3", 1e-3, 1e-3, engine="eager", gradient="forward")


def test_everything_said_of_a_fit_is_solved_by_its_integrator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws took torch and no jumps of the inputs, scores the steps of a gradient: all as the fit has it."""
    experiment = replace(pot(0.5), test=pot().train)
    found = fit(Pot(), experiment, integrator=LOOSE)
    own, solved = Integrator.solve, list[Integrator]()

    def watched(self: Integrator, *given: Any, **more: Any) -> Any:
        solved.append(self)
        return own(self, *given, **more)

    monkeypatch.setattr(Integrator, "solve", watched)
    (mean,) = (one.mean for one in simulate(found.vector, [found.x], TIMES, found.integrator))
    assert np.abs(mean[:, 0] - exact(found.estimates[0].value, TIMES)).max() > 1e-6  # as loose as it was asked for
    assert experiment.test is not None
    scored = experiment.score(torch.from_numpy(mean), experiment.test)
    assert score(found.vector, found.x, found.integrator)["test"] == scored
    times, states = along(found.vector, found.x, found.integrator)
    assert times.tolist() == [0.0, *TIMES]
    assert states[1:, 0].numpy() == pytest.approx(mean[:, 0], abs=0.0)
    drawn = draw(found, TIMES, 3)
    residual_table(found)
    assert all((one.solver, one.engine, one.rtol) == ("bosh3", "eager", 1e-3) for one in solved[:3])
    assert {one.solver for one in solved} == {"bosh3"}
    assert {one.max_steps for one in solved} == {found.integrator.max_steps}
    assert drawn.shape == (3, len(TIMES), 1)


def test_draws_of_a_driven_fit_are_exact_and_as_wide_as_those_of_a_forecast() -> None:
    found = fit(Pot(), pot(0.5))
    drawn = draw(found, TIMES, 400)[:, :, 0]
    few = draw(found, TIMES, 4)[:, :, 0]
    assert few.std() > 0
    gains = np.interp(drawn[:, -1], *np.array([[exact(g, TIMES)[-1], g] for g in np.linspace(1e-3, 2e-3, 2000)]).T)
    for gain, row in zip(gains[:20], drawn[:20], strict=True):
        assert row == pytest.approx(exact(gain, TIMES), rel=1e-5)  # on the curve of one gain, through both jumps
    band = found.forecast(TIMES, draws=400)
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    assert low == pytest.approx(band.low[:, 0])  # the same draws, Student's t where the noise was estimated
    assert high == pytest.approx(band.high[:, 0])


def test_a_validation_record_is_driven_by_its_own_inputs_from_the_fitted_start() -> None:
    other = Inputs.through([0.0, 200.0], [[200.0], [200.0]], ["power"])
    rest = 1.5e-3 * 200.0 / LOSS
    values = rest + (FIRST - rest) * np.exp(-LOSS * TIMES)
    record = Trajectory(torch.from_numpy(TIMES), torch.from_numpy(values[:, None]))
    beside = Experiment(
        "again", record, torch.tensor([0.0]), initial_free=torch.tensor([True]), inputs=other, initial_time=0.0
    )
    found = fit(Pot(), pot(validation=beside, initial_free=torch.tensor([True])))
    assert found.scores["validation"] is not None
    assert found.scores["validation"]["rmse"] < 1e-5
    assert found.model.driver is found.experiment.inputs
