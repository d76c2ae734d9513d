"""Checkpoints of accepted steps, as the adaptive checkpoint adjoint stores them."""

from __future__ import annotations

import torch
from torch import Tensor

from physid.ode.eager.remembered import Remembered, Stage

SMALLEST = 1024  # bytes of a block

START, STEP, LANE, FIRST, COUNT, END_OUTPUT = range(6)
RATIO, TRIED, FLAGS = range(3)
LENGTH, OWNER = range(2)  # of a rejected attempt, whose FLAGS stand in the same place
CUT, KEPT, CAPPED, BROKEN, LIMITED = (1 << bit for bit in range(5))


class Rows:
    """Rows of equal width in blocks that grow by an eighth of what is there, so that little is kept in vain."""

    def __init__(self, width: int, dtype: torch.dtype, device: torch.device) -> None:
        self.width, self.dtype, self.device = width, dtype, device
        self.row_bytes = width * dtype.itemsize
        self.blocks: list[Tensor] = []
        self.starts: list[int] = []
        self.length = self.room = 0

    def append(self, rows: Tensor) -> None:
        """Copy rows [m, width] to the end."""
        while rows.shape[0]:
            if not self.room:
                self.room = max(SMALLEST // self.row_bytes, self.length // 8, rows.shape[0])
                self.blocks.append(torch.empty(self.room, self.width, dtype=self.dtype, device=self.device))
                self.starts.append(self.length)
            block, take = self.blocks[-1], min(self.room, rows.shape[0])
            begin = block.shape[0] - self.room
            block[begin : begin + take] = rows[:take]
            rows = rows[take:]
            self.room -= take
            self.length += take

    def row(self, index: int) -> Tensor:
        """Row `index` [width], a view; cheap when called in descending or ascending order."""
        block = len(self.starts) - 1
        while self.starts[block] > index:
            block -= 1
        return self.blocks[block][index - self.starts[block]]

    def whole(self) -> Tensor:
        """All rows [length, width] in one block."""
        if len(self.blocks) != 1 or self.room:
            filled = torch.cat([*self.blocks, torch.empty(0, self.width, dtype=self.dtype, device=self.device)])
            self.blocks, self.starts, self.room = [filled[: self.length].contiguous()], [0], 0
        return self.blocks[0]

    @property
    def bytes(self) -> int:
        """Bytes held."""
        return sum(block.numel() * block.element_size() for block in self.blocks)


class Choices:
    """Step control of every attempt, beside the tape: three numbers each.

    RATIO is its error over the tolerance; before it as many attempts of its lane as TRIED were rejected. FLAGS say
    whether it was CUT at the stop ahead or LIMITED to the shortest or longest length, whether the length wanted before
    was KEPT after it, and whether it came right after a rejection, so that the factor after it was CAPPED at 1. Of a
    rejected attempt LENGTH is kept, the step's row, and whether its error was no number (BROKEN).
    """

    def __init__(self, lanes: int) -> None:
        self.rows = Rows(3, torch.float64, torch.device("cpu"))
        self.rejected = Rows(3, torch.float64, torch.device("cpu"))
        self.pending: list[list[tuple[float, int]]] = [[] for _ in range(lanes)]

    def note(
        self, good: Tensor, bad: Tensor, ratio: Tensor, finite: Tensor, h: Tensor, flags: dict[int, Tensor]
    ) -> None:
        """Keep an attempt of length h, which the lanes `good` accepted and the lanes `bad` did not."""
        for lane in torch.nonzero(bad).flatten().tolist():
            packed = sum(bit for bit in (CUT, LIMITED) if bool(flags[bit][lane]))
            self.pending[lane].append((float(h[lane]), packed if bool(finite[lane]) else packed | BROKEN))
        lanes = torch.nonzero(good).flatten().tolist()
        tried = torch.tensor([len(self.pending[lane]) for lane in lanes], dtype=torch.float64)
        self.keep(ratio[good], tried, {bit: flag[good] for bit, flag in flags.items()})
        first = self.rows.length - len(lanes)
        for place, lane in enumerate(lanes):
            if self.pending[lane]:
                attempts = [(length, first + place, packed) for length, packed in self.pending[lane]]
                self.rejected.append(torch.tensor(attempts, dtype=torch.float64))
                self.pending[lane] = []

    def keep(self, ratio: Tensor, tried: Tensor, flags: dict[int, Tensor]) -> None:
        """Keep accepted steps [m]."""
        packed = sum((bit * flag for bit, flag in flags.items()), torch.zeros_like(ratio))
        self.rows.append(torch.stack([ratio, tried, packed], 1))

    @property
    def bytes(self) -> int:
        """Bytes held."""
        return self.rows.bytes + self.rejected.bytes


class Tape:
    """Accepted steps in the order in which they were taken: start, step, lane, outputs inside, state at the start.

    Only the states are as wide as the problem; the rest is six numbers per step, with `aware` three more per attempt.
    With `most`, a march that accepts more often keeps no states: they are rebuilt from the first one, `most` of them at
    a time (`binomial`).
    """

    def __init__(
        self,
        lanes: int,
        width: int,
        dtype: torch.dtype,
        device: torch.device,
        most: int | None = None,
        aware: bool = False,
    ) -> None:
        self.lanes, self.width = lanes, width
        self.most, self.kept = most, 0
        self.states = Rows(width, dtype, device)
        self.meta = Rows(6, torch.float64, torch.device("cpu"))
        self.choices = Choices(lanes) if aware else None
        self.remembered: Remembered | None = None
        self.numbers: int | None = None  # that the graph of one evaluation saves, where it is known
        self.graphs: list[list[Stage]] = []  # of the first steps, the stages after 0

    def remember(self, count: int) -> None:
        """Keep the graphs of the last `count` evaluations as those of the step just accepted, where there are any."""
        if self.remembered is not None and (stages := self.remembered.accepted(count)) is not None:
            self.graphs.append(stages)

    def keep(self, states: Tensor) -> None:
        """Keep the states [m, N] at the starts of steps that were accepted together."""
        self.kept += 1
        if not self.thinned:
            self.states.append(states)
        elif self.states.length:
            self.states = Rows(self.width, states.dtype, states.device)

    @property
    def thinned(self) -> bool:
        """Whether there were too many states to be kept."""
        return self.most is not None and self.kept > self.most

    @property
    def bytes(self) -> int:
        """Bytes held."""
        return self.states.bytes + self.meta.bytes + (self.choices.bytes if self.choices else 0)

    def waves(self) -> tuple[Tensor, Tensor]:
        """Row of the w-th step of every lane [W, L], and the number of steps of every lane [L].

        A lane that has fewer steps points to its first row (or, without any, to row 0), where f is known to be finite.
        """
        lanes = self.meta.whole()[:, LANE].long()
        counts = torch.bincount(lanes, minlength=self.lanes)
        order = torch.argsort(lanes, stable=True)
        begins = counts.cumsum(0) - counts
        longest = int(counts.max()) if len(counts) else 0
        wave = torch.arange(longest)[:, None]
        inside = wave < counts
        position = torch.where(inside, begins + wave, begins).clamp(max=max(len(order) - 1, 0))
        return order[position], counts
