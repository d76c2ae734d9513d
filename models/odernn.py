"""The ODE-RNN: a recurrent encoder whose state follows a differential equation between the observations.

Its forward and backward passes are written out. The loop over the times costs a few matrix products each, and the
gradients of all weights are taken after it, in one product per layer over all times at once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from physid.models.odernn_loop import EncoderLoop, EncoderPlan, Workspace
from physid.models.perceptron import Perceptron


class OdeRnn(nn.Module):
    """Encodes irregular series, from the last observation back to the first, into the distribution of a state.

    Between observations the mean y [B, R] follows dy/dt = net(y) by Euler steps and the spread s [B, R] rests; at an
    observation x (values and their mask) both pass a gated unit, with c = (y, s, x):

        u, r = sigmoid(net_u(c)), sigmoid(net_r(c));  (y', s') = net_n(r y, r s, x)
        y <- (1 - u) y' + u y;  s <- (1 - u) |s'| + u s

    Source: Rubanova, Chen and Duvenaud (2019), Latent ODEs for Irregularly-Sampled Time Series, algorithm 1.
    """

    def __init__(self, channels: int, state: int = 30, width: int = 300, depth: int = 3, units: int = 100) -> None:
        super().__init__()
        self.state, self.workspace = state, Workspace()
        self.field = Perceptron(state, *[width] * (depth + 1), state)
        seen = 2 * state + 2 * channels
        self.update, self.reset = Perceptron(seen, units, state), Perceptron(seen, units, state)
        self.fresh = Perceptron(seen, units, 2 * state)

    def forward(self, times: Tensor, values: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and spread [B, R] at the first time, of values and observed [B, T, C] at rising times [T]."""
        with torch.autocast(values.device.type, enabled=False):
            return self._encode(EncoderPlan.of(times, values, observed), len(values))

    def _encode(self, plan: EncoderPlan, batch: int) -> tuple[Tensor, Tensor]:
        """Mean and spread [B, R] at the first time of the plan."""
        tensors = [p for net in (self.field, self.update, self.reset, self.fresh) for p in net.parameters()]
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            state: Tensor = _Encoded.apply(plan, self.workspace, batch, *tensors)  # type: ignore[no-untyped-call]
        else:
            state = EncoderLoop(plan, batch, tensors, keep=False).run()
        mean, spread = state.chunk(2, -1)
        return mean, spread


class _Encoded(torch.autograd.Function):
    """The state at the first time as a function of all weights; its own loop back, which has no second derivatives."""

    @staticmethod
    def forward(ctx: Any, plan: EncoderPlan, workspace: Workspace, batch: int, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors)
        ctx.loop = EncoderLoop(plan, batch, tensors, True, workspace)
        return ctx.loop.run()  # type: ignore[no-any-return]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        ctx.saved_tensors  # noqa: B018 - raises where a weight was changed in place since, or at a second pass
        if not ctx.loop.layers:
            raise RuntimeError("the encoder's pass was pulled back before, and keeps nothing for a second time")
        found = ctx.loop.pull(cotangent)
        ctx.loop.release()
        return (None, None, None, *found)
