"""Where a training stands, as one file of plain tensors: weights, moments, random state, counts and history."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from physid.formats import json_bytes
from physid.training.loop import Loop

CHECKPOINT = "checkpoint.safetensors"
DAMAGE = (safetensors.SafetensorError, ValueError, KeyError, TypeError, IndexError, RuntimeError)


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module, each tensor on its own."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in module.state_dict().items()}


def snapshot(loop: Loop, request: str) -> bytes:
    """Where `loop` stands; `request` is the sha256 of what was asked."""
    tensors = {f"learner.{name}": value for name, value in state_of(loop.learner).items()}
    for number, moments in loop.optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{number}.{name}"] = value.detach().cpu().contiguous().clone()
    tensors["random.cpu"] = torch.get_rng_state()
    if loop.device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(loop.device)
    about = {"request": request, "epoch": loop.epoch, "step": loop.step, "sums": loop.sums}
    about |= {"history": loop.history, "seconds": loop.seconds}
    tensors["about"] = torch.from_numpy(np.frombuffer(json_bytes(about), np.uint8).copy())
    return safetensors.torch.save(tensors)


def recall(loop: Loop, data: bytes, request: str) -> None:
    """Put `loop` where a snapshot stood. Errors: DAMAGE, ValueError for the snapshot of another training."""
    tensors = safetensors.torch.load(data)
    about: dict[str, Any] = json.loads(tensors["about"].numpy().tobytes())
    if about["request"] != request:
        raise ValueError("the checkpoint belongs to another training")
    loop.learner.load_state_dict(_part(tensors, "learner."))
    state: dict[int, dict[str, Any]] = {}
    for name, value in _part(tensors, "optimizer.").items():
        number, _, moment = name.partition(".")
        state.setdefault(int(number), {})[moment] = value
    loop.optimizer.load_state_dict({**loop.optimizer.state_dict(), "state": state})
    torch.set_rng_state(tensors["random.cpu"])
    if loop.device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random.cuda"], loop.device)
    loop.epoch, loop.step, loop.sums = about["epoch"], about["step"], about["sums"]
    loop.history, loop.before = about["history"], about["seconds"]


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
