"""A training step of the latent ODE beside the same model on torchdiffeq, interleaved in one process.

    python benchmarks/latent.py [--repeats 7] [--train 100] [--adjoint 2] [--curve 50] [--weights FILE]

Times are of this thread's processor, with one thread for torch, so that other work disturbs them little. The batch has
50 series of the hopper (random numbers without the extra mujoco), 10 % and 50 % observed, solved on either side by
dopri5 at rtol 1e-3 and atol 1e-4; first with fresh weights, then with those after some steps of training, whose
equation takes more evaluations, and with those of a run, its model.safetensors or checkpoint.safetensors, for which the
gradients are compared with that at a tight tolerance too; last with the decoder's weights times 2.5, which makes its
equation steep. The curves are those of training both from the same weights
with the same draws.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torchdiffeq
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from latent_plain import PlainLatentODE

from physid.data.series import Series
from physid.datasets import collect
from physid.errors import MissingError
from physid.models import LatentODE
from physid.ode import Integrator

CHANNELS = 14


def batches(observed: float) -> Callable[[int], Series]:
    """What gives the batch of an iteration."""
    try:
        collection = collect("hopper", observed=observed, trajectories=500)
    except MissingError as error:
        print(f"{error} Random numbers are used.")
        draw = torch.Generator().manual_seed(0)
        x, t = torch.rand(400, 100, CHANNELS, generator=draw), torch.arange(100) / 200
        mask = (torch.rand(400, 100, 1, generator=draw) < observed).float().expand_as(x)
        rows = [slice(i, i + 50) for i in range(0, 400, 50)]
        return lambda i: Series(t, (x * mask)[rows[i % 8]], mask[rows[i % 8]], x[rows[i % 8]], torch.ones_like(x[:50]))
    dealt = {epoch: list(collection.batches(epoch, 0, 50)) for epoch in range(20)}
    return lambda i: dealt[i // 8 % 20][i % 8]


def adjoint(f: Any, first: Tensor, times: Tensor, **settings: Any) -> Any:
    """torchdiffeq's odeint_adjoint."""
    return torchdiffeq.odeint_adjoint(f, first, times, **settings)


def midpoint(f: Any, first: Tensor, times: Tensor, **settings: Any) -> Any:
    """torchdiffeq's midpoint rule on the times of the batch."""
    return torchdiffeq.odeint(f, first, times, method="midpoint")


def timed(model: LatentODE, data: Series) -> float:
    """Seconds of loss and gradient."""
    torch.manual_seed(0)
    model.zero_grad()
    began = time.thread_time()
    model.loss(data).backward()
    return time.thread_time() - began


def compare(models: Mapping[str, LatentODE], data: Series, repeats: Mapping[str, int]) -> dict[str, float]:
    """The median seconds of every model, one after the other in turn."""
    found: dict[str, list[float]] = {name: [] for name in models}
    timed(models["physid"], data)
    for turn in range(max(repeats.values())):
        for name, model in models.items():
            if turn < repeats[name]:
                found[name].append(timed(model, data))
    return {name: statistics.median(times) for name, times in found.items() if times}


def steps(
    model: LatentODE, deal: Callable[[int], Series], count: int, cast: torch.dtype, size: int = 50
) -> list[float]:
    """The losses of some steps of Adamax, the rate falling by 0.999 each."""
    optimizer, losses = torch.optim.Adamax(model.parameters(), 0.01), []
    for i in range(count):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * 0.999**i
        data = deal(i)
        data = Series(data.times.to(cast), *(x[:size].to(cast) for x in data[1:]))
        torch.manual_seed(i)
        optimizer.zero_grad()
        loss = model.loss(data)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def apart(one: list[float], other: list[float]) -> float:
    """The largest relative difference."""
    return max(abs(a - b) / abs(b) for a, b in zip(one, other, strict=True))


def curves(deal: Callable[[int], Series], count: int) -> None:
    """Training with either, at equal steps in float64, and at equal tolerance in float32."""
    torch.manual_seed(0)
    ours, plain = (
        LatentODE(integrator=Integrator("midpoint", engine="eager")).double(),
        PlainLatentODE(midpoint).double(),
    )
    plain.load_state_dict(ours.state_dict())
    a, b = (steps(model, deal, count, torch.float64, size=8) for model in (ours, plain))
    print(
        f"{count} iterations, midpoint on the times, float64: losses {a[0]:.6g} to {a[-1]:.6g}, apart {apart(a, b):.1e}"
    )
    torch.manual_seed(0)
    ours, plain = LatentODE(), PlainLatentODE(torchdiffeq.odeint)
    plain.load_state_dict(ours.state_dict())
    a, b = (steps(model, deal, count, torch.float32) for model in (ours, plain))
    print(f"{count} iterations, dopri5 1e-3 / 1e-4, float32: losses {a[0]:.6g} to {a[-1]:.6g}, apart {apart(a, b):.1e}")


def chosen(names: Iterable[str]) -> list[str]:
    """The names of the weights in a file of a training."""
    return [name for name in names if name.startswith("learner.")] or list(names)


def gradients(model: LatentODE, data: Series) -> None:
    """The error of the gradient by every method, in float64 at the tolerance of the experiment."""
    wide = Series(*(x.double() for x in data))
    found = {}
    for name, tolerance in (("truth", 1e-10), ("aca", 1e-3), ("naive", 1e-3), ("adjoint", 1e-3)):
        method = "aca" if name == "truth" else name
        other = LatentODE(integrator=Integrator(rtol=tolerance, atol=tolerance / 10, gradient=method, engine="eager"))
        other.double().load_state_dict(model.state_dict())
        torch.manual_seed(0)
        other.loss(wide).backward()
        found[name] = torch.cat([p.grad.flatten() for p in other.parameters() if p.grad is not None])
    truth = found.pop("truth")
    told = ", ".join(f"{name} {float((g - truth).norm() / truth.norm()):.2e}" for name, g in found.items())
    print(f"relative error of the gradient at rtol 1e-3, atol 1e-4: {told}", flush=True)


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, default in (("repeats", 7), ("train", 100), ("adjoint", 2), ("curve", 50)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--weights", type=Path, help="model.safetensors or checkpoint.safetensors of a training")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.autograd.set_multithreading_enabled(False)  # type: ignore[no-untyped-call]
    torch.manual_seed(0)
    ours = LatentODE()
    models: dict[str, LatentODE] = {"physid": ours, "odeint": PlainLatentODE(torchdiffeq.odeint)}
    models["odeint_adjoint"] = PlainLatentODE(adjoint)
    repeats = {"physid": given.repeats, "odeint": given.repeats, "odeint_adjoint": given.adjoint}
    sparse = batches(0.1)
    states = [("fresh", sparse), ("fresh, 50 % observed", batches(0.5)), (f"{given.train} steps", sparse)]
    for state, deal in states + ([("run", sparse)] if given.weights else []) + [("steep", sparse)]:
        if state.startswith("steep"):
            with torch.no_grad():
                for name, weight in ours.field.named_parameters():
                    weight.mul_(2.5 if name.endswith("weight") else 1.0)
        if state == "run":
            found = safetensors.torch.load_file(given.weights)
            ours.load_state_dict({name.removeprefix("learner."): found[name] for name in chosen(found)})
            gradients(ours, deal(0))
        if state.endswith("steps"):
            steps(ours, sparse, given.train, torch.float32)
        for name in ("odeint", "odeint_adjoint"):
            models[name].load_state_dict(ours.state_dict())
        found = compare(models, deal(0), repeats)
        ours.tally()
        timed(ours, deal(0))
        told = ", ".join(f"{name} {1e3 * seconds:.0f} ms" for name, seconds in found.items())
        ratios = ", ".join(
            f"{found[name] / found['physid']:.2f} x" for name in ("odeint", "odeint_adjoint") if name in found
        )
        print(f"{state}: {told}; {ratios}; {ours.tally()['evaluations']:.0f} evaluations forward", flush=True)
    if given.curve:
        curves(sparse, given.curve)


if __name__ == "__main__":
    main()
