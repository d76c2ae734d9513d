"""Console output of a command: tables and progress on a terminal, plain lines elsewhere, JSON lines with --json."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from physid.errors import visible

Row = Sequence[object]


class Console:
    """The output of one command: results on stdout, progress and notes on stderr; with JSON only events on stdout."""

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json = json
        self.quiet = quiet

    def event(self, event: str, **fields: Any) -> None:
        """One JSON line, if JSON was asked for."""
        if self.json:
            from physid.formats import plain

            click.echo(json.dumps({"event": event, **plain(fields)}, allow_nan=False))

    def say(self, text: str = "") -> None:
        """A line of the result, for people."""
        if not self.json:
            click.echo(visible(text))

    def note(self, text: str) -> None:
        """A line beside the result: on stderr, unless --quiet."""
        if not self.quiet and not self.json:
            click.echo(visible(text), err=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """A table: drawn by rich on a terminal, aligned plain columns elsewhere."""
        if self.json:
            return
        from physid.formats import text_of

        title, columns = visible(title), [visible(column) for column in columns]
        cells = [[visible(text_of(cell)) for cell in row] for row in rows]
        if sys.stdout.isatty():
            _draw(title, columns, cells)
        else:
            click.echo(plain_table(title, columns, cells))

    @contextmanager
    def progress(self, title: str) -> Iterator[Progress]:
        """Progress of one long job: a live line on a terminal, a line every few seconds elsewhere."""
        live = sys.stderr.isatty() and not self.json and not self.quiet
        if not live:
            yield Progress(self, title)
            return
        from rich.console import Console as RichConsole
        from rich.text import Text

        with RichConsole(stderr=True).status(Text(visible(title))) as status:
            yield Progress(self, title, show=lambda line: status.update(Text(visible(line))))


class Progress:
    """Called with the fields of a step; shows at most one line every few seconds where there is no live line."""

    every = 2.0  # seconds between plain lines

    def __init__(self, console: Console, title: str, show: Any = None) -> None:
        self.console = console
        self.title = title
        self.show = show
        self.last = time.monotonic()

    def __call__(self, fields: Mapping[str, Any]) -> None:
        """Tell the fields of one step of the job."""
        if self.console.json and not self.console.quiet:
            self.console.event("progress", **fields)
            return
        from physid.formats import text_of

        line = f"{self.title}: " + ", ".join(f"{name} {text_of(value)}" for name, value in fields.items())
        if self.show is not None:
            self.show(line)
        elif time.monotonic() - self.last >= self.every:
            self.last = time.monotonic()
            self.console.note(line)


def plain_table(title: str, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """The rows `cells` under their `columns`, aligned by spaces."""
    widths = [max(len(row[i]) for row in [columns, *cells]) for i in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [columns, *cells]]
    return "\n".join([*([title] if title else []), *(line.rstrip() for line in lines)])


def _draw(title: str, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.console import Console as RichConsole
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left")
    for column in columns:
        table.add_column(Text(column), overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    RichConsole().print(table)
