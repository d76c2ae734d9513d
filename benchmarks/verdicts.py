"""Does the verdict accuse good fits, and does it name faults?

    python benchmarks/verdicts.py [--fits 100] [--only NAME,...]

Good fits are of the model that made the data, with independent normal noise: a decay, an oscillator seen by its
position, predator and prey on two channels, and a heated body driven by a held input. Each fault is put into data of
one of them. All begin near the truth but where the frequency is lost. A good fit is accused when its verdict is not
adequate; a fault is named when the verdict's sentence or remedies say the words that belong to it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from torch import Tensor

from physid import Experiment, Fit, Model, Trajectory, Unknown, fit, positive
from physid.data.inputs import Inputs

Array = NDArray[np.float64]
Random = np.random.Generator


class Decay(Model):
    """x' = -k x."""

    state_names: ClassVar[tuple[str, ...]] = ("x",)
    k = Unknown(0.4, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        """dx/dt."""
        return -self.k * y


class Oscillator(Model):
    """x'' = -w^2 x - 2 z w x', of which the position is seen."""

    state_names: ClassVar[tuple[str, ...]] = ("x", "v")
    channel_names: ClassVar[tuple[str, ...]] = ("x",)
    w = Unknown(1.9, positive)
    z = Unknown(0.07, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        """dy/dt."""
        x, v = y.unbind(-1)
        return torch.stack((v, -(self.w**2) * x - 2 * self.z * self.w * v), -1)

    def observe(self, y: Tensor) -> Tensor:
        """The position."""
        return y[..., :1]


class Prey(Model):
    """u' = a u - b u v, v' = b u v - c v."""

    state_names: ClassVar[tuple[str, ...]] = ("u", "v")
    a = Unknown(0.9, positive)
    b = Unknown(0.45, positive)
    c = Unknown(1.1, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        """dy/dt."""
        u, v = y.unbind(-1)
        return torch.stack((self.a * u - self.b * u * v, self.b * u * v - self.c * v), -1)


class Body(Model):
    """x' = gain p - loss x, with the power p held between samples."""

    state_names: ClassVar[tuple[str, ...]] = ("x",)
    input_names: ClassVar[tuple[str, ...]] = ("p",)
    gain = Unknown(0.8, positive)
    loss = Unknown(0.4, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        """dx/dt."""
        (p,) = self.inputs(t)
        return self.gain * p[..., None] - self.loss * y


def experiment(times: Array, values: Array, start: list[float], **more: Any) -> Experiment:
    """Data with free initial values."""
    return Experiment(
        "made",
        Trajectory(torch.from_numpy(times), torch.from_numpy(values)),
        torch.tensor(start, dtype=torch.float64),
        initial_time=0.0,
        initial_free=torch.ones(len(start), dtype=torch.bool),
        initial_scale=torch.ones(len(start)),
        **more,
    )


def solved(rate: Callable[[float, Array], Any], start: list[float], times: Array) -> Array:
    """The states [T, N]."""
    return np.asarray(solve_ivp(rate, (0.0, times[-1]), start, t_eval=times, rtol=1e-10, atol=1e-12).y.T)


T = np.linspace(0.0, 8.0, 60)
LONG = np.linspace(0.0, 12.0, 80)
CURVES = {
    "decay": 2.0 * np.exp(-0.5 * T)[:, None],
    "oscillator": solved(lambda t, y: [y[1], -4.0 * y[0] - 0.2 * y[1]], [1.0, 0.0], LONG)[:, :1],
    "prey": solved(lambda t, y: [y[0] - 0.5 * y[0] * y[1], 0.5 * y[0] * y[1] - y[1]], [1.0, 1.0], T),
    "drag": solved(lambda t, y: [y[1], -4.0 * y[0] - 0.5 * y[1] * abs(y[1])], [1.0, 0.0], LONG)[:, :1],
    "saturating": solved(lambda t, y: [-1.2 * y[0] / (0.6 + y[0])], [2.0], T),
}
STEPS = np.linspace(0.0, 20.0, 81)


def heated(random: Random, kind: str) -> Experiment:
    """The body under a slow random power, which is held or runs linearly; the fit takes it as held."""
    power = 1.0 + np.cumsum(0.35 * random.standard_normal(len(STEPS)))
    a, h = 0.5, STEPS[1] - STEPS[0]
    kept = np.exp(-a * h)
    slope = np.diff(power) / h if kind == "linear" else np.zeros(len(STEPS) - 1)
    x = np.ones((len(STEPS), 1))
    for i in range(len(STEPS) - 1):  # x' = power - a x, exactly
        x[i + 1] = kept * x[i] + (1 - kept) * power[i] / a + slope[i] * (h / a - (1 - kept) / a**2)
    values = x + 0.02 * random.standard_normal(x.shape)
    return experiment(STEPS, values, [1.0], inputs=Inputs.through(STEPS, power, ["p"]))


def decaying(noise: Array, **more: Any) -> tuple[Model, Experiment]:
    """The decay with that noise."""
    return Decay(), experiment(T, CURVES["decay"] + noise[:, None], [2.0], **more)


def coloured(random: Random, rho: float, size: float) -> Array:
    """First-order autoregressive noise."""
    e = np.zeros(len(T))
    e[0] = random.standard_normal()
    for i in range(1, len(e)):
        e[i] = rho * e[i - 1] + np.sqrt(1 - rho * rho) * random.standard_normal()
    return size * e


def struck(random: Random) -> Array:
    """Normal noise with three outliers of ten to twenty standard deviations."""
    e = 0.05 * random.standard_normal(len(T))
    places = random.choice(len(T), 3, replace=False)
    e[places] += 0.05 * random.uniform(10, 20, 3) * random.choice([-1.0, 1.0], 3)
    return e


def lost(random: Random) -> tuple[Model, Experiment]:
    """An oscillator sampled sparsely whose frequency is guessed at a seventh: one start ends far off."""
    times = np.sort(random.uniform(0.0, 20.0, 60))
    values = np.exp(-0.05 * times) * np.cos(7.0 * times) + 0.05 * random.standard_normal(60)
    return Oscillator(w=1.0, z=0.1), experiment(times, values[:, None], [1.0, 0.0])


@dataclass(frozen=True)
class Case:
    """What is fitted, and the words by which a fault is named; a good fit has none."""

    name: str
    make: Callable[[Random], tuple[Model, Experiment]]
    words: str = ""


def noisy(name: str, size: float, random: Random) -> Array:
    """A curve with independent normal noise."""
    return CURVES[name] + size * random.standard_normal(CURVES[name].shape)


GOOD = (
    Case("decay", lambda r: decaying(0.05 * r.standard_normal(len(T)))),
    Case("oscillator", lambda r: (Oscillator(), experiment(LONG, noisy("oscillator", 0.05, r), [1.0, 0.0]))),
    Case("prey", lambda r: (Prey(), experiment(T, noisy("prey", 0.1, r), [1.0, 1.0], channels=("u", "v")))),
    Case("heated body", lambda r: (Body(gain=0.8, loss=0.4), heated(r, "hold"))),
)
FAULTS = (
    Case("correlated noise, rho .7", lambda r: decaying(coloured(r, 0.7, 0.05)), "correlated in time"),
    Case(
        "wrong law: saturating decay",
        lambda r: (Decay(), experiment(T, noisy("saturating", 0.02, r), [2.0])),
        "correlated in time",
    ),
    Case(
        "wrong law: quadratic drag",
        lambda r: (Oscillator(), experiment(LONG, noisy("drag", 0.02, r), [1.0, 0.0])),
        "correlated in time",
    ),
    Case("three outliers of 60", lambda r: decaying(struck(r)), "outlier"),
    Case(
        "noise of a tenth of the value",
        lambda r: decaying(0.1 * CURVES["decay"][:, 0] * r.standard_normal(len(T))),
        "not of one size",
    ),
    Case("exponential noise", lambda r: decaying(0.05 * (r.exponential(size=len(T)) - 1.0)), "not normal|outlier"),
    Case(
        "inputs that run linearly", lambda r: (Body(gain=0.8, loss=0.4), heated(r, "linear")), "slope of a held input"
    ),
    Case("frequency lost", lost, "--starts 20"),
    Case(
        "noise known too small by a half",
        lambda r: decaying(0.05 * r.standard_normal(len(T)), sigma=0.033),
        "exceed the known noise",
    ),
)


def run(case: Case, fits: int) -> tuple[int, int, dict[str, int]]:
    """How many were fitted, how many are accused or named, and the verdicts' numbers."""
    hits, done, words = 0, 0, dict[str, int]()
    for seed in range(fits):
        model, data = case.make(np.random.default_rng(1000 + seed))
        found: Fit = fit(model, data, strategy="full")
        if found.statistics is None or (not case.words and found.status != "converged"):
            print(f"{case.name}, seed {seed}: {found.status}: {found.message}", flush=True)
        known = found.statistics
        sentence = "" if known is None else " ".join([known.sentence, *known.remedies])
        told = found.verdict != "adequate" and any(word in sentence for word in case.words.split("|"))
        hits += told if case.words else found.verdict != "adequate"
        words[found.verdict] = words.get(found.verdict, 0) + 1
        done += 1
    return done, hits, words


def main() -> None:
    """Fit and print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fits", type=int, default=100, help="of each case")
    parser.add_argument("--only", default="", help="cases whose names begin so, separated by commas")
    options = parser.parse_args()
    torch.set_num_threads(1)
    accused = fitted = 0
    for case in [*GOOD, *FAULTS]:
        if not case.name.startswith(tuple(options.only.split(","))):
            continue
        began = time.process_time()
        done, hits, words = run(case, options.fits)
        seconds = (time.process_time() - began) / max(done, 1)
        what = "named" if case.words else "accused"
        print(f"{case.name}: {hits} of {done} {what}; {words}; {seconds:.2f} s of processor time a fit", flush=True)
        if not case.words:
            accused, fitted = accused + hits, fitted + done
    print(f"good fits accused: {accused} of {fitted}")


if __name__ == "__main__":
    main()
