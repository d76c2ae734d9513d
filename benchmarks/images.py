"""Images: memory and time of a training step by gradient method, of one ODE block beside its peers, and of options.

OMP_NUM_THREADS=1 PHYSID_DATA=... python benchmarks/images.py step|block|options [--width 64] [--batch 16] [--rounds 3]
OMP_NUM_THREADS=1 python benchmarks/images.py curves PICTURE RUN...

Times are seconds of the processor, of one thread, so that other work on the machine counts little. Memory is the growth
of the resident peak in a process of its own. `curves` draws what trainings wrote: the test error against epochs and
against seconds.
"""

from __future__ import annotations

import argparse
import csv
import gc
import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from timing import table, versions

from physid.datasets import collect
from physid.models.node18 import NODE18, TRAINING, ResNet18
from physid.models.odeblock import ConvField, OdeBlock

# Zhuang et al. (2020), appendix D: solver and tolerance with which each method was trained
METHODS = {
    "aca": {"gradient": "aca"},
    "naive": {"gradient": "naive", "solver": "dopri5", "rtol": 1e-5, "atol": 1e-5},
    "adjoint": {"gradient": "adjoint", "solver": "dopri5", "rtol": 1e-5, "atol": 1e-5},
    "naive, as aca": {"gradient": "naive"},
    "adjoint, as aca": {"gradient": "adjoint"},
    "resnet18": None,
}
BLOCK = ("physid aca", "physid naive", "torchdiffeq", "torchdiffeq adjoint", "TorchDiffEqPack aca")


def resident(kind: str) -> float:
    """MiB of this process that are resident (VmRSS), or were at most since `forget` (VmHWM); Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024


def forget() -> float:
    """Let the peak begin anew; what is resident now, MiB."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def network(method: str, width: int) -> NODE18:
    """NODE18 integrated as the method asks."""
    torch.manual_seed(0)
    how = METHODS[method]
    return ResNet18(width=width) if how is None else NODE18(width=width).integrate(**how)


def images(count: int) -> tuple[Tensor, Tensor]:
    """The first images of CIFAR-10."""
    return next(collect("cifar10", images=count, augment="no").batches(0, 0, count))


def step(method: str, width: int, batch: int, rounds: int) -> tuple[float, float, float, dict[str, int]]:
    """Seconds of a step forwards and in all, growth of the peak in MiB, and the evaluations, after a small step."""
    net, data = network(method, width), images(batch)
    small = NODE18(width=4)
    small.loss((data[0][:2], data[1][:2])).backward()
    before, times = forget(), []
    for _ in range(rounds):
        net.zero_grad()
        began = time.process_time()
        loss = net.loss(data)
        middle = time.process_time()
        loss.backward()
        times.append((time.process_time() - began, middle - began))
    total, forward = min(times)
    return forward, total, resident("VmHWM") - before, net.costs()


def block(rival: str, field: ConvField, x: Tensor) -> Callable[[], Tensor]:
    """The end state of one block by a rival's solver, heun_euler at 1e-2."""
    t = torch.tensor([0.0, 1.0])
    if rival.startswith("physid"):
        ours = OdeBlock(field, TRAINING)
        ours.integrator = NODE18(width=1).integrate(gradient=rival.split()[1]).integrator
        return lambda: ours(x)
    if rival.startswith("torchdiffeq"):
        import torchdiffeq

        solve = torchdiffeq.odeint_adjoint if "adjoint" in rival else torchdiffeq.odeint

        class Flow(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.field = field

            def forward(self, t: Tensor, y: Tensor) -> Tensor:
                return field(y)

        return lambda: solve(Flow(), x, t, rtol=1e-2, atol=1e-2, method="adaptive_heun")[-1]
    from TorchDiffEqPack import odesolve_adjoint

    class Rhs(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.field = field

        def forward(self, t: Tensor, y: Tensor) -> Tensor:
            return field(y)

    options = {"method": "RK12", "h": None, "t0": 0.0, "t1": 1.0, "rtol": 1e-2, "atol": 1e-2, "print_neval": False}
    options |= {"neval_max": 100_000, "safety": None, "t_eval": None}
    return lambda: odesolve_adjoint(Rhs(), x, dict(options))


def rivals() -> list[str]:
    """The rivals that are installed."""
    return [name for name in BLOCK if importlib.util.find_spec(name.split()[0]) is not None]


def posed() -> tuple[ConvField, Tensor]:
    """The block of the design: 64 channels, 16 x 16, batch 64."""
    torch.manual_seed(0)
    return ConvField(64), torch.randn(64, 64, 16, 16).requires_grad_()


def once(run: Callable[[], Tensor], field: ConvField, x: Tensor) -> float:
    """Seconds of a solve and its gradient."""
    field.zero_grad()
    x.grad = None
    began = time.process_time()
    run().square().mean().backward()
    return time.process_time() - began


def block_memory(rival: str) -> tuple[float, int]:
    """Growth of the peak in MiB in one solve and its gradient, after a small one, and the evaluations of f."""
    field, x = posed()
    calls: list[int] = []
    small = torch.randn(2, 64, 16, 16).requires_grad_()
    once(block(rival, field, small), field, small)
    before = forget()
    field.register_forward_hook(lambda *told: calls.append(1))
    once(block(rival, field, x), field, x)
    return resident("VmHWM") - before, len(calls)


def alone(*arguments: str) -> list[str]:
    """What this script prints in a process of its own."""
    answer = subprocess.run([sys.executable, __file__, "one", *arguments], capture_output=True, text=True, check=True)
    return answer.stdout.split()


def show_steps(width: int, batch: int, rounds: int) -> None:
    rows = []
    for method in METHODS:
        forward, total, memory, evaluations, backward = alone("step", method, str(width), str(batch), str(rounds))
        rows.append(
            [method, f"{float(total):.2f}", f"{float(forward):.2f}", f"{float(memory):.0f}", evaluations, backward]
        )
        print(rows[-1], file=sys.stderr)
    head = ["gradient", "s per step", "forward", "growth of the peak, MiB", "evaluations", "backward"]
    print(f"NODE18, width {width}, {batch} images of CIFAR-10\n\n{table(head, rows)}")


def show_block(rounds: int) -> None:
    field, x = posed()
    names = rivals()
    runs = {name: block(name, field, x) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            spent = once(run, field, x)
            if turn:
                seconds[name].append(spent)
    rows = []
    for name in names:
        memory, evaluations = alone("block", name)
        rows.append([name, f"{min(seconds[name]):.2f}", f"{float(memory):.0f}", evaluations])
    head = ["", "s", "growth of the peak, MiB", "evaluations"]
    print(f"conv block, 64 channels, 16 x 16, batch 64\n\n{table(head, rows)}")


def show_options(width: int, batch: int, rounds: int, compiled: bool) -> None:
    data, rows = images(batch), []
    kinds = [("channels first", False, False, False), ("channels last", True, False, False)]
    kinds += [("channels last, bfloat16", True, True, False)]
    kinds += [("channels last, compiled", True, False, True)] if compiled else []
    for name, last, amp, compile_ in kinds:
        torch.manual_seed(0)
        net, times = NODE18(width=width, channels_last=last), []
        if compile_:
            net.compile_fields()
        for _ in range(rounds + 1):
            net.zero_grad()
            began = time.process_time()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
                loss = net.loss(data)
            loss.backward()
            times.append(time.process_time() - began)
        rows.append([name, f"{min(times[1:]):.2f}", f"{times[0]:.1f}", str(net.costs()["evaluations"])])
    head = ["", "s per step", "first step", "evaluations"]
    print(f"NODE18 by aca, width {width}, {batch} images\n\n{table(head, rows)}")


def curves(picture: Path, runs: list[Path]) -> None:
    """Draw the test error of trainings against epochs and against seconds."""
    from physid.plots import png
    from physid.plots.curves import learning_curves

    rows = {}
    for run in runs:
        with (run / "metrics.csv").open() as file:
            rows[run.name] = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    picture.write_bytes(png(learning_curves(rows, level=(90.0, "chance"))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("step", "block", "options", "curves", "one"))
    parser.add_argument("rest", nargs="*")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="time torch.compile too, which takes minutes")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.what == "one" and chosen.rest[0] == "step":
        forward, total, memory, costs = step(chosen.rest[1], *(int(x) for x in chosen.rest[2:]))
        print(forward, total, memory, costs["evaluations"], costs["backward_evaluations"])
    elif chosen.what == "one":
        print(*block_memory(chosen.rest[1]))
    elif chosen.what == "curves":
        curves(Path(chosen.rest[0]), [Path(run) for run in chosen.rest[1:]])
    else:
        print(versions(), end="\n\n")
        if chosen.what == "step":
            show_steps(chosen.width, chosen.batch, chosen.rounds)
        elif chosen.what == "block":
            show_block(chosen.rounds)
        else:
            show_options(chosen.width, chosen.batch, chosen.rounds, chosen.compile)


if __name__ == "__main__":
    main()
