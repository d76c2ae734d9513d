"""NODE18, ResNet18 and ANODE18: one network for small images, whose residual blocks are ODEs.

Source: Zhuang et al. (2020), section 4.2; He et al. (2016), Deep residual learning for image recognition.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from physid.errors import InputError
from physid.models.odeblock import ConvField, OdeBlock
from physid.ode import Integrator
from physid.training import Learner

STAGES = (1, 2, 4, 8)  # widths over that of the stem
STRIDES = (1, 2, 2, 2)
COSTS = ("evaluations", "backward_evaluations", "accepted", "rejected", "checkpoint_bytes")
TRAINING = Integrator("heun_euler", rtol=1e-2, atol=1e-2, control="paper", gradient="aca", engine="eager")


class Strided(nn.Conv2d):
    """A 1 x 1 convolution of every s-th pixel, [B, c, H, W] -> [B, C, H/s, W/s], without a strided kernel.

    The strided one of oneDNN 3.12 (in torch 2.13) writes past its memory in the backward pass, with the channels last
    and fewer than 8 of them, on processors without AVX-512.
    """

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__(inputs, width, 1, bias=False)
        self.every = stride

    def forward(self, input: Tensor) -> Tensor:
        """The convolution of the pixels kept."""
        return super().forward(input[..., :: self.every, :: self.every])


class ResidualBlock(nn.Module):
    """An ordinary residual block: ReLU(shortcut(x) + BN conv ReLU BN conv x), [B, c, H, W] -> [B, C, H/s, W/s]."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != width:
            self.shortcut = nn.Sequential(Strided(inputs, width, stride), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        return F.relu(inner + self.shortcut(x), inplace=True)


class NODE18(Learner):
    """Stem, four stages of an ordinary residual block and an ODE block each, average pool, linear: images to logits.

    dz/dt = f(z), t in [0, 1], f = ReLU BN conv ReLU BN conv, in the four ODE blocks. Of width 64 and 10 classes it has
    11,173,962 parameters, as ResNet18, which is the same network with one Euler step. How it is integrated may change
    at any time, after training too: `integrate(solver="bosh3", rtol=1e-3)`.

    `channels_last` keeps the states in memory with the channels last. `paper_compat=True` lets the running statistics
    of batch norm move at every evaluation of f, rejected attempts and the replay of the backward pass included, as in
    the authors' code; otherwise each stage of an accepted step moves them once.

    Images [B, 3, H, W], logits [B, classes]. Errors: SolveError when a block's ODE cannot be solved.
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        width: int = 64,
        integrator: Integrator = TRAINING,
        channels_last: bool = True,
        paper_compat: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("num_classes", num_classes), ("width", width)):
            if value < 1:
                raise InputError(f"{name}={value}: expected a whole number from 1 up.")
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        parts: list[nn.Module] = []
        inputs = width
        for factor, stride in zip(STAGES, STRIDES, strict=True):
            parts.append(ResidualBlock(inputs, factor * width, stride))
            parts.append(OdeBlock(ConvField(factor * width), integrator, channels_last, paper_compat))
            inputs = factor * width
        self.stages = nn.Sequential(*parts)
        self.head = nn.Linear(inputs, num_classes)
        self.channels_last = channels_last
        self.num_classes = num_classes
        if channels_last:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def blocks(self) -> list[OdeBlock]:
        """The four ODE blocks."""
        return [part for part in self.stages if isinstance(part, OdeBlock)]

    @property
    def integrator(self) -> Integrator:
        """Integrator of the blocks."""
        return self.blocks[0].integrator

    @integrator.setter
    def integrator(self, chosen: Integrator) -> None:
        for block in self.blocks:
            block.integrator = chosen

    def integrate(self, **changes: Any) -> NODE18:
        """Integrate otherwise from now on; `changes` are those of `Integrator.changed`."""
        self.integrator = self.integrator.changed(**changes)
        return self

    def compile_fields(self) -> NODE18:
        """Compile every f by torch.compile, which takes a while at its first evaluation."""
        for block in self.blocks:
            block.compile()
        return self

    def forward(self, batch: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """Logits [B, classes] of images, or of a batch of images and classes."""
        images = batch if isinstance(batch, Tensor) else batch[0]
        images = images.to(self.head.weight.dtype)
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        features = self.stages(self.stem(images))
        return self.head(features.mean((2, 3)))  # type: ignore[no-any-return]

    def logits(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Logits [B, classes], in float32 at least."""
        found: Tensor = self(batch)
        return found if found.dtype == torch.float64 else found.float()

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Cross-entropy, mean over the batch of images and classes."""
        return F.cross_entropy(self.logits(batch), batch[1])

    def scores(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """Sums over the batch: cross-entropy, misclassified images, images."""
        logits, labels = self.logits(batch), batch[1]
        return {
            "loss": F.cross_entropy(logits, labels, reduction="sum"),
            "error": (logits.argmax(1) != labels).sum(),
            "count": torch.tensor(len(labels)),
        }

    def costs(self) -> dict[str, int]:
        """Cost of the last solves, over all blocks: evaluations forwards and backwards, steps, checkpoint bytes."""
        return {name: sum(block.cost(name) for block in self.blocks) for name in COSTS}

    def join(self, processes: Any) -> None:
        """Choose the steps by the error over the whole batch, of which every process has a share."""
        for block in self.blocks:
            block.norm = processes.rms

    def tally(self) -> dict[str, float]:
        """The costs of the last step."""
        found = {name: float(value) for name, value in self.costs().items()}
        for block in self.blocks:
            block.statistics = None
        return found


def ResNet18(num_classes: int = 10, **options: Any) -> NODE18:
    """ResNet18 for small images: `NODE18` with one Euler step of length 1 in each block, backpropagated as it is."""
    integrator = TRAINING.changed(solver="euler", gradient="naive")
    return NODE18(num_classes, integrator=integrator, **options)


def ANODE18(num_classes: int = 10, *, steps: int = 2, **options: Any) -> NODE18:
    """`NODE18` with `steps` Euler steps of equal length, checkpointed at every step.

    The paper leaves the solver and the number of steps unstated; two Euler steps are this project's choice.

    Source: Gholami, Keutzer and Biros (2019), ANODE: Unconditionally accurate memory-efficient gradients for neural
    ODEs.
    """
    if steps < 1:
        raise InputError(f"steps={steps}: expected a whole number from 1 up.")
    return NODE18(num_classes, integrator=TRAINING.changed(solver="euler", step=1 / steps), **options)
