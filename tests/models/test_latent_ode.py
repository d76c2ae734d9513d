"""The latent ODE: its encoder against autograd, its decoder against SciPy, its loss against torch's distributions."""

from __future__ import annotations

import copy
import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oscillators import batch, write_table
from scipy.integrate import solve_ivp
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from benchmarks.latent_plain import PlainEncoder, PlainLatentODE
from physid.api.train import Trained, train
from physid.data.series import Series
from physid.datasets import collect
from physid.models import NETWORKS, LatentODE, network
from physid.models.odernn import OdeRnn
from physid.models.odernn_loop import EncoderLoop, euler_steps
from physid.models.perceptron import Perceptron
from physid.ode import ACA, Integrator

SMALL: dict[str, Any] = {"latent": 4, "recognition": 5, "width": 7, "depth": 1, "units": 6}


def small(integrator: Integrator | None = None, **options: Any) -> LatentODE:
    torch.manual_seed(1)
    return LatentODE(3, **SMALL, integrator=integrator, **options).double()


def gradients(value: Tensor, module: nn.Module) -> list[Tensor]:
    found = torch.autograd.grad(value, list(module.parameters()), allow_unused=True)
    return [torch.zeros(1) if g is None else g for g in found]


def close(one: list[Tensor], other: list[Tensor], within: float = 1e-11) -> None:
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=within, atol=within * float(1e-12 + b.abs().max()))


def test_the_papers_size() -> None:
    assert sum(p.numel() for p in LatentODE().parameters()) == 617_619


def test_perceptron_is_a_chain_of_layers() -> None:
    torch.manual_seed(0)
    ours = Perceptron(3, 8, 8, 2).double()
    x = torch.randn(4, 5, 3, dtype=torch.float64, requires_grad=True)
    plain = nn.Sequential.forward(ours, x)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(ours(x), plain, rtol=1e-13, atol=1e-14)
    seed = torch.randn_like(plain)
    for a, b in zip(*(torch.autograd.grad(v, [x, *ours.parameters()], seed) for v in (ours(x), plain)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
    assert float(ours[0].weight.detach().std()) < 0.2  # type: ignore[operator]
    assert not bool(ours[2].bias.any())  # type: ignore[operator]


def series() -> dict[str, Series]:
    """Batches with all that can be missing."""
    usual = batch()
    none = usual._replace(observed=torch.zeros_like(usual.observed), values=torch.zeros_like(usual.values))
    lone = usual.observed.clone()
    lone[1] = 0
    lone[2, :, 1:] = 0
    lone[3], lone[3, 7, 0] = 0, 1
    first = torch.zeros_like(lone)
    first[:, 0] = 1
    found = {"usual": usual, "dense": batch(part=1.0), "sparse": batch(part=0.05), "none": none}
    for name, mask in (("lone", lone), ("first", first)):
        found[name] = usual._replace(observed=mask, values=usual.targets * mask)
    return found


@pytest.mark.parametrize("name", list(series()))
def test_encoder_is_that_of_autograd(name: str) -> None:
    """An empty series, single observations, absent channels, times without any, and none at all."""
    data = series()[name]
    torch.manual_seed(0)
    ours = OdeRnn(3, 5, 7, 1, 6).double()
    plain = copy.deepcopy(ours)
    plain.__class__ = PlainEncoder
    args = data.times, data.values, data.observed
    seeds = torch.randn(2, 5, 5, dtype=torch.float64)
    found = [encoder(*args) for encoder in (ours, plain)]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    assert bool((found[0][1] >= 0).all())
    values = [(torch.stack(pair) * seeds).sum() for pair in found]
    close(gradients(values[0], ours), gradients(values[1], plain))
    with torch.no_grad():
        for a, b in zip(ours(*args), found[0], strict=True):
            assert torch.equal(a, b)


def test_encoder_keeps_its_passes_apart() -> None:
    """Two passes forward before the first one back; a copy; float32."""
    torch.manual_seed(0)
    encoder = OdeRnn(3, 5, 7, 1, 6).double()
    one, other = batch(seed=1), batch(seed=2)
    sums = [sum(x.sum() for x in encoder(*b[:3])) for b in (one, other)]
    together = [gradients(value, encoder) for value in sums]
    for data, found in zip((one, other), together, strict=True):
        close(gradients(sum(x.sum() for x in encoder(*data[:3])), encoder), found)
    single = copy.deepcopy(encoder).float()
    for a, b in zip(single(*(x.float() for x in one[:3])), encoder(*one[:3]), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5)


def test_euler_steps_as_in_the_source() -> None:
    steps = euler_steps([0.495, 0.49, 0.48, 0.45, 0.0])
    assert [len(one) for one in steps] == [1, 1, 1, 2, 44]
    assert steps[0] == [pytest.approx(-0.01)]
    assert [sum(one) for one in steps] == pytest.approx([-0.01, -0.005, -0.01, -0.03, -0.45])
    assert euler_steps([0.3]) == [[pytest.approx(-0.01)]]


@pytest.mark.parametrize("own", [False, True])
def test_decoder_solves_the_equation(own: bool) -> None:
    model = small(Integrator("dopri5", 1e-9, 1e-11, engine="eager"), own_steps=own)
    first, times = torch.randn(2, 3, 4, dtype=torch.float64), torch.linspace(0, 2, 7, dtype=torch.float64)
    found = model.decode(first, times).detach()
    assert found.shape == (2, 3, 7, 4)

    def slope(t: float, z: np.ndarray) -> np.ndarray:
        return model.field(torch.from_numpy(z)).detach().numpy()  # type: ignore[no-any-return]

    for s in range(2):
        for b in range(3):
            truth = solve_ivp(slope, (0, 2), first[s, b].numpy(), "DOP853", times.numpy(), rtol=1e-12, atol=1e-13).y.T
            np.testing.assert_allclose(found[s, b], truth, rtol=0, atol=1e-8)
    assert model.tally()["evaluations"] > 0


def test_own_steps_do_not_depend_on_the_neighbours() -> None:
    model = small(own_steps=True)
    first, times = 3 * torch.randn(1, 4, 4, dtype=torch.float64), torch.linspace(0, 4, 5, dtype=torch.float64)
    together = model.decode(first, times)
    for b in range(4):
        torch.testing.assert_close(model.decode(first[:, b : b + 1], times), together[:, b : b + 1], rtol=0, atol=1e-13)


@pytest.mark.parametrize("solver", ["dopri5", "tsit5", "bosh3", "heun_euler", "dopri8", "rk4"])
@pytest.mark.parametrize("batched", [False, True])
def test_remembered_stages_give_the_same_gradient(solver: str, batched: bool) -> None:
    """To the last bit, rejected attempts included; with own steps, and without a first-same-as-last stage, too."""
    torch.manual_seed(3)
    field = nn.Sequential(nn.Linear(80, 20), nn.Tanh(), nn.Linear(20, 80)).double()
    with torch.no_grad():
        field[0].weight.mul_(20)  # type: ignore[operator]
    times, found = torch.linspace(0, 1, 5, dtype=torch.float64), []
    for remember in (False, True, None):
        start = torch.randn(3, 80, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        integrator = Integrator(solver, 1e-3, 1e-4, gradient=ACA(remember=remember), engine="eager")
        solution = integrator.solve(lambda t, y: field(y), start, times, batched=batched)
        rejected = solution.statistics.rejected
        value = torch.as_tensor(solution.y).square().sum()
        found.append(torch.autograd.grad(value, [start, *field.parameters()]))
    assert rejected or solver in ("dopri8", "rk4")
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("epoch", [0, 10, 30])
def test_loss_is_that_of_the_source(epoch: int) -> None:
    model, data = small(), batch()
    model.begin(epoch)
    torch.manual_seed(5)
    found = model.loss(data)
    torch.manual_seed(5)
    mean, spread = model.encode(data)
    states = mean + spread * torch.randn(3, *mean.shape, dtype=torch.float64)
    predicted = model.readout(model.decode(states, data.times))
    terms = []
    for sample in range(3):
        logs = Normal(predicted[sample], 1e-3).log_prob(data.targets) * data.wanted
        per_series = torch.stack([log.sum() / wanted.sum() for log, wanted in zip(logs, data.wanted, strict=True)])
        divergence = kl_divergence(Normal(mean, spread), Normal(torch.zeros(()).double(), torch.ones(()).double()))
        weight = 0 if epoch < 10 else 1 - 0.99 ** (epoch - 10)
        terms.append(per_series.mean() - weight * divergence.mean())
    torch.testing.assert_close(found, -torch.stack(terms).logsumexp(0))
    torch.manual_seed(5)
    scores = model.scores(data)
    square = ((predicted - data.targets) ** 2 * data.wanted).sum((2, 3)) / data.wanted.sum((1, 2))
    torch.testing.assert_close(scores["mse"] / scores["count"], square.mean())


@pytest.mark.parametrize("gradient", ["aca", "naive", "adjoint"])
def test_gradient_methods_agree(gradient: str) -> None:
    """At a tight tolerance, where all three are the gradient of the loss; the noise of the draws is the same."""
    found = []
    for name in ("aca", gradient):
        model = small(Integrator("dopri5", 1e-9, 1e-10, gradient=name, engine="eager"))
        torch.manual_seed(2)
        found.append(gradients(model.loss(batch()), model))
    close(found[1], found[0], 1e-4)


@pytest.mark.peer
def test_training_is_that_of_torchdiffeq_at_equal_steps() -> None:
    """Losses over four steps of Adamax, with the 3/8 rule on the times of the batch: the same steps on either side."""
    import torchdiffeq

    def solver(f: Any, first: Tensor, times: Tensor, **tolerances: Any) -> Tensor:
        return torchdiffeq.odeint(f, first, times, method="rk4")  # type: ignore[no-any-return]

    ours = small(Integrator("rk4_38", engine="eager"))
    plain = PlainLatentODE(solver, channels=3, **SMALL).double()
    plain.load_state_dict(ours.state_dict())
    curves = []
    for model in (ours, plain):
        optimizer, losses = torch.optim.Adamax(model.parameters(), 0.01), []
        for step in range(4):
            torch.manual_seed(step)
            optimizer.zero_grad()
            loss = model.loss(batch(seed=step))
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        curves.append(losses)
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-9)
    assert curves[0][-1] < curves[0][0]


@pytest.mark.parametrize("name", ["latent-ode", "rnn", "gru"])
def test_a_step_in_bfloat16(tmp_path: Path, name: str) -> None:
    collection = collect("series", table=str(write_table(tmp_path / "swings.csv")), group="series")
    learner = network(name, collection, width=5)
    trained = train(learner, collection, replace(NETWORKS[name].recipe, epochs=1, amp=True))
    assert np.isfinite(trained.history[0]["loss"])


def test_passes_leave_nothing_behind() -> None:
    encoder = OdeRnn(3, 5, 7, 1, 6).double()
    for back in (True, False):
        mean, spread = encoder(*batch()[:3])
        if back:
            (mean.sum() + spread.sum()).backward()
        del mean, spread
    gc.collect()
    assert not [thing for thing in gc.get_objects() if type(thing) is EncoderLoop]


def test_a_second_pass_back_is_refused() -> None:
    mean, _ = OdeRnn(3, 5, 7, 1, 6).double()(*batch()[:3])
    mean.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="pulled back before"):
        mean.sum().backward()


def test_it_learns_and_resumes_to_the_same_bits(tmp_path: Path) -> None:
    collection = collect("series", table=str(write_table(tmp_path / "swings.csv", 24)), group="series", observed=0.6)
    recipe = replace(NETWORKS["latent-ode"].recipe, epochs=6, batch=8, evaluate_every=6)

    def learner() -> Any:
        torch.manual_seed(0)
        return network("latent-ode", collection, latent=3, recognition=6, width=16, depth=0, units=12)

    whole = train(learner(), collection, recipe)
    assert whole.history[-1]["loss"] < 0.5 * whole.history[0]["loss"]
    run = tmp_path / "run"

    def stop(row: Any) -> None:
        if row["epoch"].startswith("3/") and row["step"].startswith("2/"):
            raise KeyboardInterrupt

    assert train(learner(), collection, recipe, out=run, progress=stop).status == "interrupted"
    again = Trained.resume(run)
    assert again.scores == whole.scores
    for a, b in zip(again.learner.parameters(), whole.learner.parameters(), strict=True):
        assert torch.equal(a, b)
