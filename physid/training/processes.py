"""Data-parallel training: processes that train one learner, each on its share of a batch, as one would on the whole.

`torchrun --nproc-per-node N -m physid fit ...` starts them. Whatever is a mean over the batch is one over all shares:
the loss, the gradient, the statistics of batch norm, and the error by which an ODE's steps are chosen.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from physid.errors import InputError
from physid.training.learner import Batch


@dataclass(frozen=True)
class Processes:
    """The processes that train together: which one this is, and how many there are."""

    rank: int = 0
    count: int = 1

    @property
    def several(self) -> bool:
        """Whether there is more than one."""
        return self.count > 1

    def share(self, batch: Batch) -> Batch:
        """This process's part of a batch, along the first axis. Errors: InputError when there are too few samples."""
        return batch if not self.several else self._part(batch)

    def _part(self, batch: Batch) -> Batch:
        if isinstance(batch, Tensor):
            if len(batch) < self.count:
                raise InputError(
                    f"a batch of {len(batch)} samples for {self.count} processes: give each of them one at least, by "
                    "another size of batch or fewer processes."
                )
            return batch.tensor_split(self.count)[self.rank]
        if isinstance(batch, Mapping):
            return {name: self._part(part) for name, part in batch.items()}
        if isinstance(batch, tuple) and hasattr(batch, "_fields"):
            return type(batch)(*(self._part(part) for part in batch))
        if isinstance(batch, tuple | list):
            return type(batch)(self._part(part) for part in batch)
        return batch

    def sum(self, value: Tensor) -> Tensor:
        """The sum over the processes, which autograd can follow."""
        return value if not self.several else _Sum.apply(value)  # type: ignore[no-untyped-call]

    def number(self, value: float, device: torch.device) -> float:
        """The sum of a number over the processes."""
        if not self.several:
            return value
        return float(self.sum(torch.tensor(value, dtype=torch.float64, device=device)))

    def rms(self, values: Tensor) -> Tensor:
        """The root mean square [] over the shares of all processes, as `physid.ode.control.rms` of one."""
        square = self.sum(torch.stack([values.square().sum(), values.new_tensor(float(values.numel()))]))
        return (square[0] / square[1]).clamp(min=1e-30).sqrt()


ALONE = Processes()


def joined(device: torch.device) -> Processes:
    """The processes that torchrun started, connected; `ALONE` without torchrun."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "RANK" not in os.environ:
        return ALONE
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Processes(dist.get_rank(), dist.get_world_size())


def left() -> None:
    """Disconnect what `joined` connected."""
    if dist.is_initialized():
        dist.destroy_process_group()


def local(device: str) -> str:
    """The device of this process: under torchrun "cuda" is the GPU of its number."""
    number = os.environ.get("LOCAL_RANK")
    return f"cuda:{number}" if number is not None and device.startswith("cuda") else device


class _Sum(torch.autograd.Function):
    """The sum over the processes; its cotangent is summed as well, since every process has a loss of its own."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        total = g.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


class SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm whose mean and variance are those of the whole batch, wherever its samples lie; on any device.

    torch's own SyncBatchNorm needs CUDA. In evaluation it is ordinary batch norm.
    """

    processes: Processes = ALONE

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes, [B, C, ...]."""

    def forward(self, input: Tensor) -> Tensor:
        """The normalised input."""
        if not self.training:
            return super().forward(input)
        axes = [axis for axis in range(input.ndim) if axis != 1]
        shape = [1, -1, *(1 for _ in axes[1:])]
        x = input if input.dtype == torch.float64 else input.float()
        total = self.processes.sum(torch.cat([x.sum(axes), x.new_tensor([x.numel() / x.shape[1]])]))
        mean, number = total[:-1] / total[-1], total[-1].detach()
        centred = x - mean.view(shape)
        variance = self.processes.sum(centred.square().sum(axes)) / number
        self._move(mean.detach(), variance.detach() * (number / (number - 1).clamp(min=1)))
        value = centred * (variance + self.eps).rsqrt().view(shape)
        if self.weight is not None:
            value = value * self.weight.view(shape) + self.bias.view(shape)
        return value.to(input.dtype)

    def _move(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics as torch does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        factor = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), factor)
        self.running_var.lerp_(variance.to(self.running_var.dtype), factor)


def share_batch_norm(module: nn.Module, processes: Processes) -> None:
    """Let every batch norm inside of `module` see the whole batch; names and tensors of its state stay as they are."""
    for name, part in list(module.named_children()):
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and not isinstance(part, SharedBatchNorm):
            shared = SharedBatchNorm(part.num_features, part.eps, part.momentum, part.affine, part.track_running_stats)
            shared.processes = processes
            shared._parameters, shared._buffers = part._parameters, part._buffers
            shared.train(part.training)
            setattr(module, name, shared)
        else:
            share_batch_norm(part, processes)


class Objective(nn.Module):
    """The loss of a learner as a forward pass, for DistributedDataParallel, which hooks into one.

    A process gives its share of the mean over the whole batch.
    """

    def __init__(self, learner: Any, processes: Processes) -> None:
        super().__init__()
        self.learner, self.processes = learner, processes

    def forward(self, batch: Batch, part: float) -> Tensor:
        """`part` of the mean loss of a share of the batch."""
        loss: Tensor = self.learner.loss(batch)
        return loss * part


def parallel(learner: Any, processes: Processes) -> nn.Module:
    """The learner's loss, whose backward pass leaves the gradient of the whole batch in every process."""
    share_batch_norm(learner, processes)
    learner.join(processes)
    objective = Objective(learner, processes)
    wrapped = nn.parallel.DistributedDataParallel(objective)
    wrapped.register_comm_hook(None, lambda state, bucket: _summed(bucket))
    return wrapped


def _summed(bucket: Any) -> torch.futures.Future[Tensor]:
    """Sums gradients, where torch's default averages them: the losses are shares of one mean already."""
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    summed: torch.futures.Future[Tensor] = work.get_future().then(lambda done: done.value()[0])
    return summed


def size(batch: Batch) -> int:
    """The number of samples of a batch: the length of its first tensor."""
    if isinstance(batch, Tensor):
        return len(batch)
    parts = batch.values() if isinstance(batch, Mapping) else batch
    return next(size(part) for part in parts)
