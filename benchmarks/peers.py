"""Other engines on the same problems; one that is not installed is left out with a line that says so."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from problems import Counted, RightHandSide
from torch import Tensor

Solve = Callable[[RightHandSide, Tensor, Tensor, float, tuple[Tensor, ...]], tuple[Tensor, int]]


def installed(name: str) -> Any:
    """The module, or None with one line about its absence."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        print(f"{name}: left out ({error})", file=sys.stderr)
        return None


def solvers() -> dict[str, Solve]:
    """Engines for torch: f, y0, t, tolerance, parameters -> states at t [T, *state] and evaluations of f."""
    found: dict[str, Solve] = {}
    if torchdiffeq := installed("torchdiffeq"):

        def naive(
            f: RightHandSide, y0: Tensor, t: Tensor, tol: float, params: tuple[Tensor, ...]
        ) -> tuple[Tensor, int]:
            counted = Counted(f)
            return torchdiffeq.odeint(counted, y0, t, rtol=tol, atol=tol, method="dopri5"), counted.count

        def adjoint(
            f: RightHandSide, y0: Tensor, t: Tensor, tol: float, params: tuple[Tensor, ...]
        ) -> tuple[Tensor, int]:
            counted = Counted(f)
            y = torchdiffeq.odeint_adjoint(counted, y0, t, rtol=tol, atol=tol, method="dopri5", adjoint_params=params)
            return y, counted.count

        found |= {"torchdiffeq": naive, "torchdiffeq adjoint": adjoint}
    if pack := installed("TorchDiffEqPack"):

        def interpolating(
            f: RightHandSide, y0: Tensor, t: Tensor, tol: float, params: tuple[Tensor, ...]
        ) -> tuple[Tensor, int]:
            counted = Counted(f)
            options = {"method": "Dopri5", "h": None, "t0": float(t[0]), "t1": float(t[-1]), "rtol": tol, "atol": tol}
            options |= {"t_eval": t.tolist(), "print_neval": False, "neval_max": 500_000, "regenerate_graph": False}
            return pack.odesolve(counted, y0, options=options), counted.count

        found["TorchDiffEqPack"] = interpolating
    if torchode := installed("torchode"):
        found["torchode"] = lambda *given: _torchode(torchode, given[0], given[1][None], *given[2:4])
    return found


def batched_solvers() -> dict[str, Solve]:
    """The same for states [B, *state]; torchdiffeq takes one step for all."""
    found = solvers()
    found.pop("torchdiffeq adjoint", None)
    found.pop("TorchDiffEqPack", None)
    if torchode := installed("torchode"):
        found["torchode"] = lambda *given: _torchode(torchode, *given[:4])
    return found


def _torchode(torchode: Any, f: RightHandSide, y0: Tensor, t: Tensor, tol: float) -> tuple[Tensor, int]:
    shape = y0.shape
    term = torchode.ODETerm(lambda t, y: f(t, y.view(shape)).reshape(shape[0], -1))
    method = torchode.Dopri5(term=term)
    controller = torchode.IntegralController(atol=tol, rtol=tol, term=term)
    problem = torchode.InitialValueProblem(y0=y0.reshape(shape[0], -1), t_eval=t.expand(shape[0], -1))
    solution = torchode.AutoDiffAdjoint(method, controller).solve(problem)
    y = solution.ys.transpose(0, 1).reshape(len(t), *shape)
    return (y[:, 0] if shape[0] == 1 else y), int(solution.stats["n_f_evals"].max())


def diffrax_three_bodies(t: Tensor) -> dict[str, Callable[[float, Tensor, Tensor], tuple[Tensor, int]]]:
    """Compiled loss and gradient by diffrax: tolerance, masses, state -> dL/dm and attempted steps."""
    diffrax = installed("diffrax")
    if diffrax is None:
        return {}
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    times = jnp.asarray(t.numpy())
    first, second = jnp.array([0, 0, 1]), jnp.array([1, 2, 2])

    def field(_: Any, y: Any, mass: Any) -> Any:
        apart = y[0][second] - y[0][first]
        pull = apart * (apart * apart).sum(-1, keepdims=True) ** -1.5
        a = jnp.zeros_like(y[0]).at[first].add(pull * mass[second, None]).at[second].add(-pull * mass[first, None])
        return jnp.stack([y[1], a])

    def loss(leaves: Any, tol: Any) -> Any:
        mass, y0 = leaves
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            diffrax.Dopri5(),
            0.0,
            1.0,
            None,
            y0,
            mass,
            saveat=diffrax.SaveAt(ts=times),
            stepsize_controller=diffrax.PIDController(rtol=tol, atol=tol),
            adjoint=diffrax.RecursiveCheckpointAdjoint(),
            max_steps=4096,
        )
        return (solution.ys[:, 0] ** 2).sum((1, 2)).mean(), solution.stats["num_steps"]

    compiled = jax.jit(jax.value_and_grad(loss, has_aux=True))

    def run(tol: float, mass: Tensor, y0: Tensor) -> tuple[Tensor, int]:
        (_, steps), slopes = compiled((jnp.asarray(mass.detach().numpy()), jnp.asarray(y0.detach().numpy())), tol)
        return torch.tensor(slopes[0].tolist(), dtype=torch.float64), int(steps)

    return {"diffrax, compiled": run}
