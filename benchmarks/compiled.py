"""diffrax on the workloads of `native.py`: the gradient as one compiled function of parameters and initial state."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

Run = Callable[[float, Sequence[Tensor]], Any]


def diffrax_run(kind: str, t: Tensor, batched: bool) -> Run | None:
    """(tolerance, [*parameters, y0]) -> gradients, for the `kind` of right-hand side; None without diffrax.

    The checkpointed adjoint and the elementary controller, its defaults; a batch by vmap, so that samples have steps of
    their own. What is measured ends when the gradients are there.
    """
    if importlib.util.find_spec("diffrax") is None or importlib.util.find_spec("jax") is None:
        return None
    jax, diffrax = importlib.import_module("jax"), importlib.import_module("diffrax")
    jnp = jax.numpy
    jax.config.update("jax_enable_x64", True)
    times, field = jnp.asarray(t.numpy()), FIELDS[kind](jnp)

    def one(y0: Any, params: Any, tol: Any) -> Any:
        control = diffrax.PIDController(rtol=tol, atol=tol)
        term, save = diffrax.ODETerm(lambda t, y, p: field(y, p)), diffrax.SaveAt(ts=times)
        found = diffrax.diffeqsolve(
            term, diffrax.Dopri5(), times[0], times[-1], None, y0, params, saveat=save, stepsize_controller=control
        )
        return found.ys

    def loss(leaves: Any, tol: Any) -> Any:
        *params, y0 = leaves
        shared = None if kind == "three bodies" else 0
        ys = jax.vmap(one, (0, shared, None))(y0, params, tol) if batched else one(y0, params, tol)
        if kind == "van der Pol":
            return (ys**2).mean()
        return (ys[..., 0, :, :] ** 2).sum((-2, -1)).mean()

    gradient = jax.jit(jax.grad(loss))

    def run(tol: float, leaves: Sequence[Tensor]) -> Any:
        return jax.block_until_ready(gradient([jnp.asarray(x.detach().numpy()) for x in leaves], tol))

    return run


def three_bodies(jnp: Any) -> Callable[[Any, Any], Any]:
    """G = 1; the parameters are [mass]."""
    first, second = jnp.array([0, 0, 1]), jnp.array([1, 2, 2])

    def field(y: Any, params: Any) -> Any:
        (mass,) = params
        apart = y[0][second] - y[0][first]
        pull = apart * (apart * apart).sum(-1, keepdims=True) ** -1.5
        a = jnp.zeros_like(y[0]).at[first].add(pull * mass[second, None]).at[second].add(-pull * mass[first, None])
        return jnp.stack([y[1], a])

    return field


def features(jnp: Any) -> Callable[[Any, Any], Any]:
    """Accelerations from 36 features; the parameters are weights and biases."""
    first, second = jnp.array([0, 0, 1]), jnp.array([1, 2, 2])

    def field(y: Any, params: Any) -> Any:
        apart = y[0][second] - y[0][first]
        pull = apart * (apart * apart).sum(-1, keepdims=True) ** -1.5
        x = jnp.concatenate([part.reshape(-1) for part in (y[0], y[1], apart, pull)])
        for i in range(0, len(params), 2):
            x = params[i] @ (jnp.tanh(x) if i else x) + params[i + 1]
        return jnp.stack([y[1], x.reshape(3, 3)])

    return field


def van_der_pol(jnp: Any) -> Callable[[Any, Any], Any]:
    """y'' = damping (1 - y^2) y' - y; the parameters are [damping]."""

    def field(y: Any, params: Any) -> Any:
        return jnp.stack([y[1], params[0] * (1 - y[0] ** 2) * y[1] - y[0]])

    return field


FIELDS: dict[str, Callable[[Any], Callable[[Any, Any], Any]]] = {
    "three bodies": three_bodies,
    "features": features,
    "van der Pol": van_der_pol,
}
