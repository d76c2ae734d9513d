"""An ODE block of a convolutional network: dz/dt = f(z) on [0, 1], by the eager engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from physid.ode import ACA, Adjoint, Fixed, Integrator, Statistics
from physid.ode.torch_internals import function_modes


class ConvField(nn.Module):
    """f(z) = ReLU BN conv3x3 ReLU BN conv3x3 z, [B, C, H, W] -> [B, C, H, W]; without skip and without time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, z: Tensor) -> Tensor:
        """dz/dt."""
        inner = F.relu(self.bn1(self.conv1(z)), inplace=True)
        return F.relu(self.bn2(self.conv2(inner)), inplace=True)


class RightHandSide:
    """f(t, y) for the engine: the field on states [B, H, W, C] or [B, C, H, W], under the autocast of the forward pass.

    A backward pass that replays f runs outside of `torch.autocast`; here f remembers whether it was inside.
    """

    def __init__(self, block: OdeBlock, like: Tensor) -> None:
        self.field = block.field  # the engine finds parameters and running statistics here
        self.run: Any = block.field if block.compiled is None else block.compiled
        self.last = block.channels_last
        kind = like.device.type
        self.autocast = (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        """dy/dt in the type of y."""
        kind, dtype, enabled = self.autocast
        run = self.field if function_modes() else self.run  # a recorded f is not compiled
        # weights that were cast without a graph must not be found again by an evaluation that needs one
        with torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=torch.is_grad_enabled()):
            k = run(y.permute(0, 3, 1, 2) if self.last else y)
        slope: Tensor = (k.permute(0, 2, 3, 1) if self.last else k).to(y.dtype)
        return slope


class Unseen:
    """f as the engine does not see into it, so that running statistics move at every evaluation."""

    __slots__ = ("inner",)

    def __init__(self, inner: RightHandSide) -> None:
        self.inner = inner

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        """dy/dt."""
        return self.inner(t, y)


class OdeBlock(nn.Module):
    """z(1) of dz/dt = f(z), z(0) = x, for a field of images; see `NODE18` for the options."""

    def __init__(
        self, field: nn.Module, integrator: Integrator, channels_last: bool = True, paper_compat: bool = False
    ) -> None:
        super().__init__()
        self.field = field
        self.integrator = integrator
        self.channels_last = channels_last
        self.paper_compat = paper_compat
        self.compiled: Any = None
        self.norm: Callable[[Any], Tensor] | None = None
        self.statistics: Statistics | None = None
        self.grid: Any = None

    def forward(self, x: Tensor) -> Tensor:
        """z(1) [B, C, H, W], in float32 at least, since the steps are chosen by small differences of states."""
        x = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        if self.is_residual:
            self.statistics = Statistics(evaluations=1, accepted=1)
            f = RightHandSide(self, x)
            f.last = False
            return x + f(x.new_zeros(()), x)
        state = x.permute(0, 2, 3, 1) if self.channels_last else x
        f = RightHandSide(self, x)
        shown: Any = Unseen(f) if self.paper_compat else f
        solution = self._shared().solve(shown, state, [0.0, 1.0], params=list(self.field.parameters()))
        self.statistics, self.grid = solution.statistics, solution.grid
        end = solution.y[-1]
        return end.permute(0, 3, 1, 2) if self.channels_last else end

    @property
    def is_residual(self) -> bool:
        """Whether the solve is one Euler step that is differentiated as it is, z(1) = x + f(x)."""
        chosen = self.integrator
        one = isinstance(chosen.control, Fixed) and chosen.control.step in (None, 1.0)
        return chosen.solver == "euler" and one and chosen.gradient == "naive"

    def _shared(self) -> Integrator:
        """The integrator, with the error measured over all processes that share the batch.

        The adjoint's reverse steps are then chosen by the state and its adjoint, without the parameters' shares. No
        graphs of steps are kept from one block's march to its pullback: memory is what images are short of.
        """
        chosen, norm = self.integrator, self.norm
        if chosen.gradient == "aca" and chosen.checkpoints is None:
            chosen = replace(chosen, gradient=ACA(remember=False))
        if norm is None:
            return chosen
        if chosen.gradient == "adjoint":
            reverse = Adjoint(norm=lambda state: torch.maximum(norm(state[1]), norm(state[2])))
            return replace(chosen, norm=norm, gradient=reverse)
        return replace(chosen, norm=norm)

    def compile(self, *arguments: Any, **options: Any) -> None:
        """Compile f by torch.compile; the solve around it stays eager."""
        object.__setattr__(self, "compiled", torch.compile(self.field, *arguments, **options))

    def cost(self, name: str) -> int:
        """A statistic of the last solve."""
        return 0 if self.statistics is None else int(getattr(self.statistics, name))
