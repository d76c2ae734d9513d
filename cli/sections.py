"""A command whose long list of options is shown in sections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

OTHER = "Options"


class SectionOption(click.Option):
    """An option that knows under which heading of the help it stands; `record` is what the help says in its place."""

    def __init__(
        self, *arguments: Any, section: str = OTHER, record: tuple[str, str] | None = None, **settings: Any
    ) -> None:
        super().__init__(*arguments, **settings)
        self.section, self.record = section, record

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The spelling and the help."""
        return super().get_help_record(ctx) if self.hidden or self.record is None else self.record


class SectionCommand(click.Command):
    """A command whose help shows its options by section, in the order in which the sections first appear."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one definition list per section; --help stands in the last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        options = [one for one in self.get_params(ctx) if isinstance(one, click.Option)]
        last = OTHER
        for one in sorted(options, key=lambda one: not isinstance(one, SectionOption)):  # --help comes last
            record = one.get_help_record(ctx)
            if record is not None:
                last = getattr(one, "section", last)
                sections.setdefault(last, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def option(*names: str, section: str = OTHER, **settings: Any) -> Callable[[F], F]:
    """`click.option` with a section."""
    return click.option(*names, cls=SectionOption, section=section, **settings)
