"""Networks of linear layers with tanh between them, their passes written out for speed."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

SPREAD = 0.1  # standard deviation of the weights at the start


class Perceptron(nn.Sequential):
    """Linear layers of these widths with tanh between them; weights N(0, 0.1^2), biases 0.

    x [..., widths[0]] -> [..., widths[-1]]. First derivatives only.
    """

    def __init__(self, *widths: int) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            linear = nn.Linear(inputs, outputs)
            nn.init.normal_(linear.weight, std=SPREAD)
            nn.init.zeros_(linear.bias)
            layers += [linear, nn.Tanh()]
        super().__init__(*layers[:-1])

    def forward(self, input: Tensor) -> Tensor:
        """The value of the last layer."""
        rows = input.reshape(-1, input.shape[-1])
        found: Tensor = _Layers.apply(rows, *self.parameters())  # type: ignore[no-untyped-call]
        return found.view(*input.shape[:-1], -1)


class _Layers(torch.autograd.Function):
    """All layers as one function of x [n, inputs] and of weight and bias of every layer."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *tensors: Tensor) -> Tensor:
        values = [x]
        for place in range(0, len(tensors) - 2, 2):
            values.append(tanh_layer(tensors[place + 1], values[-1], tensors[place]))
        ctx.save_for_backward(*tensors, *values)
        return torch.addmm(tensors[-1], values[-1], tensors[-2].T)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        count = 2 * len(ctx.saved_tensors) // 3
        tensors, values = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        needs, found = ctx.needs_input_grad, []
        for place in range(len(values) - 1, -1, -1):
            found.append(cotangent.sum(0) if needs[2 * place + 2] else None)
            found.append(cotangent.T @ values[place] if needs[2 * place + 1] else None)
            if place or needs[0]:
                cotangent = cotangent @ tensors[2 * place]
            if place:
                through_tanh(cotangent, values[place])
        return (cotangent if needs[0] else None, *reversed(found))


def tanh_layer(bias: Tensor, x: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
    """Tanh(x W^T + b) [n, outputs], as 2 sigmoid(2 (x W^T + b)) - 1, which torch computes several times as fast."""
    value = torch.addmm(bias, x, weight.T, beta=2, alpha=2, out=out)
    return as_tanh(value)


def as_tanh(doubled: Tensor) -> Tensor:
    """Tanh(u) in the place of 2 u."""
    return doubled.sigmoid_().mul_(2).sub_(1)


def through_tanh(cotangent: Tensor, value: Tensor) -> None:
    """The cotangent of tanh's argument, in the place of that of its `value`."""
    torch.ops.aten.tanh_backward.grad_input(cotangent, value, grad_input=cotangent)
