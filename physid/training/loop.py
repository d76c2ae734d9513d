"""Training loop: steps, epochs and scores, which stops between two steps and resumes there."""

from __future__ import annotations

import math
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from types import FrameType
from typing import Any

import torch
from torch import nn

from physid.errors import Diverged
from physid.inference.search.monitor import Progress
from physid.ode.hearing import TimeUp
from physid.training.learner import Batch, Collection, Learner, moved
from physid.training.processes import ALONE, Objective, Processes, parallel, size
from physid.training.recipe import Recipe


class Loop:
    """State of a training, and its steps.

    `epoch` and `step` count what is done; `sums` are those of the epoch so far; `history` has a row for each epoch.
    `keep` is called between steps, with the loop in a state that can be resumed; `board` with an epoch's row.
    """

    def __init__(
        self,
        learner: Learner,
        collection: Collection,
        recipe: Recipe,
        progress: Progress | None = None,
        time_limit: float | None = None,
        keep: Callable[[Loop], object] | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.learner, self.collection, self.recipe = learner, placed(collection, learner), recipe
        self.progress, self.time_limit, self.keep = progress, time_limit, keep
        self.optimizer = recipe.build(p for p in learner.parameters() if p.requires_grad)
        self.device = next(learner.parameters()).device
        self.processes = processes
        self.board: Callable[[dict[str, Any]], object] | None = None
        self.objective = parallel(learner, processes) if processes.several else Objective(learner, processes)
        self.steps = collection.steps(recipe.batch)
        self.epoch = self.step = 0
        self.sums: dict[str, float] = {}
        self.history: list[dict[str, Any]] = []
        self.started, self.before = time.perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        """Wall clock of the training, without the time in which it did not run."""
        return self.before + time.perf_counter() - self.started

    def run(self) -> None:
        """Train to the end of the recipe. Errors: KeyboardInterrupt and TimeUp, always between two steps; Diverged."""
        with between_steps() as stop:
            while self.epoch < self.recipe.epochs:
                self.learner.begin(self.epoch)
                batches = self.collection.batches(self.epoch, self.recipe.seed, self.recipe.batch)
                for batch in islice(batches, self.step, None):
                    self.take(batch)
                    self._pause(stop)
                self.conclude()
                self._pause(stop)

    def take(self, batch: Batch) -> None:
        """One step of the optimiser. Errors: Diverged when the loss is not a number."""
        self.learner.train()
        done = self.epoch * self.steps + self.step
        rate = self.recipe.rate.at(self.epoch, done, self.recipe.epochs * self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr * rate
        self.optimizer.zero_grad(set_to_none=True)
        share = self.processes.share(batch)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.recipe.amp):
            loss = self.objective(moved(share, self.device), size(share) / size(batch) if share is not batch else 1.0)
        loss.backward()
        value = self.processes.number(float(loss.detach()), self.device)
        if not math.isfinite(value):
            raise Diverged(f"the loss is {value} in epoch {self.epoch + 1}, step {self.step + 1}. Lower the rate lr.")
        if self.recipe.clip is not None:
            nn.utils.clip_grad_norm_(self.learner.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.step += 1
        for name, number in {"loss": value, **self.learner.tally()}.items():
            self.sums[name] = self.sums.get(name, 0.0) + number
        if self.progress is not None:
            self.progress(self._where(value))

    def conclude(self) -> None:
        """End an epoch: its means, and the scores of the test set when they are due."""
        row: dict[str, Any] = {"epoch": self.epoch + 1}
        row |= {name: total / max(1, self.step) for name, total in self.sums.items()}
        row["lr"] = self.optimizer.param_groups[0]["lr"]
        if (self.epoch + 1) % self.recipe.evaluate_every == 0 or self.epoch + 1 == self.recipe.epochs:
            found = evaluate(self.learner, self.collection, self.recipe, self.processes)
            row |= {f"test_{name}": value for name, value in found.items()}
        row |= {"seconds": self.seconds, "memory_mb": peak(self.device)}
        self.history.append(row)
        if self.board is not None:
            self.board(row)
        self.epoch, self.step, self.sums = self.epoch + 1, 0, {}

    def _pause(self, stop: Stop) -> None:
        """Checkpoint the training; end here if a signal or the time limit says so, all processes together."""
        if self.keep is not None:
            self.keep(self)
        late = self.time_limit is not None and time.perf_counter() - self.started >= self.time_limit
        if self.processes.several:
            stopped = self.processes.number(float(bool(stop.caught)), self.device)
            late = self.processes.number(float(late), self.device) > 0
            if stopped and not stop.caught:
                raise KeyboardInterrupt
        stop()
        if late:
            raise TimeUp

    def _where(self, loss: float) -> dict[str, Any]:
        """Fields of the progress after a step."""
        done, total = self.epoch * self.steps + self.step, self.recipe.epochs * self.steps
        left = self.seconds / done * (total - done)
        last = {k: v for k, v in (self.history[-1] if self.history else {}).items() if k.startswith("test_")}
        where = {"epoch": f"{self.epoch + 1}/{self.recipe.epochs}", "step": f"{self.step}/{self.steps}", "loss": loss}
        return {**where, **last, "left": f"{left:.0f} s"}


def evaluate(
    learner: Learner, collection: Collection, recipe: Recipe, processes: Processes = ALONE
) -> dict[str, float]:
    """The mean scores of the test set, by name; draws that a learner makes are those of the recipe's seed."""
    device = next(learner.parameters()).device
    was = learner.training
    sums: dict[str, float] = {}
    learner.eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(recipe.seed)
        for batch in collection.test(recipe.batch):
            whole = size(batch) < processes.count  # too few for all: every process takes them, and a part of the sums
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=recipe.amp):
                found = learner.scores(moved(batch if whole else processes.share(batch), device))
            for name, value in found.items():
                part = value.double().item() / (processes.count if whole else 1)
                sums[name] = sums.get(name, 0.0) + processes.number(part, device)
    learner.train(was)
    learner.tally()  # what scoring evaluated is none of the training's steps
    count = sums.pop("count", 0.0)
    return {name: total / count for name, total in sums.items()} if count else {}


def placed(collection: Collection, learner: nn.Module) -> Collection:
    """The collection on the device of the learner, where it can be put there; else its batches are moved."""
    put = getattr(collection, "to", None)
    found: Collection = collection if put is None else put(next(learner.parameters()).device)
    return found


def peak(device: torch.device) -> float:
    """The most memory that was held so far, MB: of the device, or resident memory of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


class Stop:
    """Raises, when it is called, what the signals that were caught would have raised."""

    def __init__(self) -> None:
        self.caught: list[tuple[int, FrameType | None]] = []
        self.before: dict[int, Any] = {}

    def catch(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; a second one does not wait."""
        self.caught.append((number, frame))
        if len(self.caught) > 1:
            self()

    def __call__(self) -> None:
        """Raise what the first signal asks for; nothing without one."""
        if self.caught:
            number, frame = self.caught[0]
            if callable(self.before[number]):
                self.before[number](number, frame)
            else:
                raise KeyboardInterrupt


@contextmanager
def between_steps() -> Iterator[Stop]:
    """Defers Ctrl-C and SIGTERM: calling the yielded Stop raises what the signal would have raised.

    Signals reach the main thread only; elsewhere nothing is caught.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    stop.before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ours = [number for number, handler in stop.before.items() if handler is not None and handler != signal.SIG_IGN]
    for number in ours:
        signal.signal(number, stop.catch)
    try:
        yield stop
    finally:
        for number in ours:
            signal.signal(number, stop.before[number])
