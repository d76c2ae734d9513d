"""The rows of a training for TensorBoard, where it is installed: in the folder `tensorboard` of the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from physid.door import refused


class Board:
    """Writes every number of an epoch's row under its name; does nothing where TensorBoard is not installed."""

    def __init__(self, run: Path) -> None:
        self.folder = run / "tensorboard"
        self.writer: Any = None
        self.missing = False

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Write a row; its epoch is the step."""
        if self.writer is None and not self.missing:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                self.missing = True
            else:
                if self.folder.is_symlink():
                    raise refused(self.folder, "a link")
                self.writer = SummaryWriter(str(self.folder))
        if self.writer is not None:
            for name, value in row.items():
                if name != "epoch":
                    self.writer.add_scalar(name, value, row["epoch"])
            self.writer.flush()

    def close(self) -> None:
        """Let go of the file."""
        if self.writer is not None:
            self.writer.close()
