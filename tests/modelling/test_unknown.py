"""Unknowns and their domains: bijections, bounds, messages, and the descriptor on a model."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from physid.errors import InputError
from physid.modelling.model import Model
from physid.modelling.unknown import Domain, Normal, Unknown, between, positive, real

DOMAINS = (real, positive, between(-2.0, 3.0), between(0.0, 1.0), Domain("above", 2.0))


class Decay(Model):
    """One unknown of each kind."""

    state_names = ("x",)
    rate = Unknown(0.5, positive, unit="1/s", prior=Normal(0.4, 0.1))
    share = Unknown([0.1, 0.2], between(0.0, 1.0))
    offset = Unknown(0.0, fixed=True)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        return self.offset - self.rate * self.share.sum() * y


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
@given(raw=st.floats(-15.0, 15.0))
def test_domain_is_a_bijection(domain: Domain, raw: float) -> None:
    value = domain.to_value(torch.tensor(raw, dtype=torch.float64))
    assert domain.contains(value)
    torch.testing.assert_close(domain.to_value(domain.to_raw(value)), value, rtol=1e-9, atol=1e-12)
    assert float(domain.to_raw(value)) == pytest.approx(raw, rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
def test_domain_is_smooth(domain: Domain) -> None:
    raw = torch.linspace(-3.0, 3.0, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(domain.to_value, raw)
    assert torch.autograd.gradgradcheck(domain.to_value, raw)


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
def test_domain_is_open(domain: Domain) -> None:
    for outside in (math.nan, math.inf, -math.inf, domain.low, domain.high, domain.low - 1.0, domain.high + 1.0):
        assert not domain.contains(outside)


def test_at_bound_is_within_a_millionth_of_the_range() -> None:
    values = torch.tensor([1e-7, 9e-6, 5.0, 10.0 - 9e-6, 10.0 - 2e-5], dtype=torch.float64)
    assert between(0.0, 10.0).at_bound(values).tolist() == [True, True, False, True, False]
    assert positive.at_bound(torch.tensor([5e-7, 1.0])).tolist() == [True, False]
    assert not bool(positive.at_bound(torch.tensor(3e-9), size=3e-4))
    assert bool(positive.at_bound(torch.tensor(3e-11), size=3e-4))
    assert not bool(real.at_bound(torch.tensor(0.0)))


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (0.0, math.inf), (math.nan, 1.0)])
def test_between_refuses_what_is_no_interval(low: float, high: float) -> None:
    with pytest.raises(InputError, match="two finite bounds"):
        between(low, high)


@pytest.mark.parametrize(("mean", "sd"), [(0.0, 0.0), (0.0, -1.0), (math.nan, 1.0), (0.0, math.inf)])
def test_prior_needs_a_width(mean: float, sd: float) -> None:
    with pytest.raises(InputError, match="positive sd"):
        Normal(mean, sd)


def test_prior_residual_is_in_standard_deviations() -> None:
    assert Decay.rate.prior is not None
    torch.testing.assert_close(Decay.rate.prior.residual(torch.tensor(0.6)), torch.tensor(2.0))


def test_descriptor_gives_the_unknown_on_the_class_and_the_value_on_a_model() -> None:
    model = Decay(rate=2.0)
    assert Decay.rate.unit == "1/s"
    assert isinstance(model.rate, Tensor)
    torch.testing.assert_close(model.rate.detach(), torch.tensor(2.0, dtype=torch.float64))
    assert set(dict(model.named_parameters())) == {"raw.rate", "raw.share", "raw.offset"}


@pytest.mark.parametrize("value", [3.0, torch.tensor(3.0), torch.nn.Parameter(torch.tensor(3.0))])
def test_value_is_set_in_natural_units(value: Any) -> None:
    model = Decay()
    raw = model.raw.rate
    model.rate = value
    assert model.raw.rate is raw
    assert model.rate.item() == pytest.approx(3.0)


def test_value_is_differentiable() -> None:
    model = Decay(rate=2.0)
    (gradient,) = torch.autograd.grad(model.rate, model.free()["rate"])
    assert float(gradient) == pytest.approx(2.0)  # d exp(raw) / d raw


def test_a_number_is_repeated_but_another_shape_is_refused() -> None:
    assert Decay(share=0.5).share.tolist() == [0.5, 0.5]
    with pytest.raises(InputError, match=r"shape \[3\]: expected shape \[2\] or a single number"):
        Decay(share=[0.1, 0.2, 0.3])


@pytest.mark.parametrize("value", [-1.0, 0.0, math.nan, math.inf])
def test_values_outside_the_domain_are_refused(value: float) -> None:
    for attempt in (
        lambda: Decay(rate=value),
        lambda: setattr(Decay(), "rate", value),
        lambda: Decay().fix("rate", value),
    ):
        with pytest.raises(InputError, match=r"'rate' was given .*outside its domain: .*\(0, inf\)"):
            attempt()


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(InputError, match="'rate' was given 'fast': expected a number"):
        Decay(rate="fast")
    with pytest.raises(InputError, match="a number or a list"):
        Unknown(None)
    with pytest.raises(InputError, match="outside its domain"):
        Unknown(-1.0, positive)


@pytest.mark.parametrize("name", ["half", "training", "raw", "state_names", "forward", "values"])
def test_names_that_models_have_already_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"cannot be called '{name}': models already have that"):
        type("Bad", (Model,), {name: Unknown(1.0)})


def test_use_before_init_is_told_apart_from_a_missing_attribute() -> None:
    class Early(Model):
        rate = Unknown(1.0)

        def __init__(self) -> None:
            self.twice = 2 * self.rate
            super().__init__()

    with pytest.raises(
        InputError, match=r"Early\.__init__ does not call super\(\)\.__init__\(\) before it uses the model"
    ):
        Early()
