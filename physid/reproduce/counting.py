"""Counting what a gradient costs: passes through layers, bytes that are held, and the depth of the graph."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from physid.errors import Diverged
from physid.ode import ACA, PID, Adjoint, Gradient, Integrator, Naive


class Layers(nn.Module):
    """f(t, z) = a stack of tanh(W z + b), which counts the passes through its layers, both ways."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.weights = nn.ParameterList()
        self.offsets = nn.ParameterList()
        for _ in range(layers):
            weight = torch.randn(width, width, generator=random, dtype=torch.float64) * (1.6 / width**0.5)
            self.weights.append(nn.Parameter(weight))
            self.offsets.append(nn.Parameter(0.1 * torch.randn(width, generator=random, dtype=torch.float64)))
        self.passes = 0

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        """The derivative [width] at z."""
        for weight, offset in zip(self.weights, self.offsets, strict=True):
            z = torch.tanh(weight @ z + offset)
            self.passes += 1
            if z.requires_grad:
                z.register_hook(self._back)
        return z

    def _back(self, g: Tensor) -> None:
        self.passes += 1


class HeldTensors:
    """The most bytes that autograd holds: storages saved for the backward pass, each once, parameters not at all."""

    def __init__(self, module: nn.Module) -> None:
        self.own = {p.untyped_storage().data_ptr() for p in module.parameters()}
        self.users: Counter[int] = Counter()
        self.now = self.most = 0

    def pack(self, tensor: Tensor) -> _Saved:
        """Saved: counted until it is let go."""
        return _Saved(self, tensor.detach())

    @staticmethod
    def unpack(saved: _Saved) -> Tensor:
        """The saved tensor."""
        return saved.tensor

    def add(self, tensor: Tensor, sign: int) -> None:
        """One more use of a storage, or one less."""
        storage = tensor.untyped_storage()
        place = storage.data_ptr()
        if place in self.own:
            return
        before = self.users[place]
        self.users[place] += sign
        if (before == 0) != (self.users[place] == 0):
            self.now += sign * storage.nbytes()
            self.most = max(self.most, self.now)


class _Saved:
    """A saved tensor, which knows when nobody needs it any more."""

    def __init__(self, held: HeldTensors, tensor: Tensor) -> None:
        self.held, self.tensor = held, tensor
        held.add(tensor, 1)

    def __del__(self) -> None:
        self.held.add(self.tensor, -1)


class Counting(PID):
    """A controller that counts the attempts and the accepted steps of the solves that it controls."""

    def factor(self, exponent: float, ratios: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """The factor of the controller; called once an attempt."""
        tally: Counter[str] = self.__dict__.setdefault("tally", Counter())
        tally["attempts"] += 1
        tally["steps"] += int(bool((ratios[0] <= 1).all()))
        return super().factor(exponent, ratios)


def depth(root: Any) -> int:
    """Layers on the longest path of autograd's graph below `root`: each ends in one tanh."""
    longest: dict[Any, int] = {}
    stack = [(root, False)]
    while stack:
        node, seen = stack.pop()
        if node in longest:
            continue
        following = [child for child, _ in node.next_functions if child is not None]
        if not seen:
            stack.append((node, True))
            stack.extend((child, False) for child in following if child not in longest)
        else:
            here = int(type(node).__name__.startswith("TanhBackward"))
            longest[node] = here + max((longest[child] for child in following), default=0)
    return longest[root]


def count(method: str, layers: int, horizon: float, exponent: float, tolerance: float, width: int) -> dict[str, int]:
    """Cost, memory and depth of one gradient, and the layers, attempts and steps that they depend on."""
    f = Layers(layers, width)
    control = PID("counted", i=exponent)
    back = Counting("counted", i=exponent)
    gradients: dict[str, Gradient] = {"naive": Naive(), "adjoint": Adjoint(control=back), "aca": ACA(remember=False)}
    integrator = Integrator(
        "dopri5", tolerance, tolerance, control=control, gradient=gradients[method], engine="eager", max_steps=20_000
    )
    z0 = torch.linspace(-1.0, 1.0, width, dtype=torch.float64).requires_grad_()
    held = HeldTensors(f)
    with torch.autograd.graph.saved_tensors_hooks(held.pack, held.unpack):
        solution = integrator.solve(f, z0, [0.0, horizon])
        loss = torch.as_tensor(solution.y)[-1].square().sum()
        deep = depth(loss.grad_fn) if method == "naive" else 0
        loss.backward()
    if not bool(torch.isfinite(torch.as_tensor(z0.grad)).all()):
        raise Diverged(f"the gradient of {layers} layers over {horizon} is not finite.")
    found = solution.statistics
    tally = getattr(back, "tally", Counter())
    if method == "aca":
        deep = layers * found.backward_vjps
    elif method == "adjoint":
        deep = layers * found.backward_vjps * tally["steps"] // max(tally["attempts"], 1)
    return {
        "layers": layers,
        "steps": found.accepted,
        "attempts": found.accepted + found.rejected,
        "reverse_steps": tally["steps"],
        "reverse_attempts": tally["attempts"],
        "cost": f.passes,
        "memory": held.most + found.checkpoint_bytes,
        "depth": deep,
    }
