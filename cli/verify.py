"""`physid verify`: a run replayed and compared."""

from __future__ import annotations

from pathlib import Path

import click

from physid.cli.console import Console
from physid.cli.options import json_option, quiet_option, run_argument, trust_option


@click.command(
    epilog="""\b
Examples:
  physid verify runs/threebody

\b
Ends with 0 the same, 6 something differs."""
)
@run_argument
@trust_option
@json_option
@quiet_option
def command(run: Path, trust: bool, json: bool, quiet: bool) -> int:
    """Compare the files of the run directory RUN with their sums, then fit again from its settings and its data.

    An estimate agrees within a thousandth of its standard error or a millionth of its size. Of a training the stored
    weights are scored again on its test set; a score agrees within a thousandth of its size.
    """
    from physid.errors import CheckFailed
    from physid.runs.verify import verify

    console = Console(json=json, quiet=quiet)
    with console.progress(f"verify {run}") as progress:
        found = verify(run, trust=trust, progress=progress)
    for note in found.notes:
        console.note(f"note: {note}")
    fields = {"run": run, "differences": found.differences, "notes": found.notes, found.what: found.compared}
    if not found.ok:
        console.event("done", status="different", message=found.differences[0], **fields)
        raise CheckFailed(f"{run} does not verify: {'; '.join(found.differences)}.")
    console.say(f"{run}: the same; every file is intact and {found.compared} {found.what} come out again")
    console.event("done", status="ok", message="the same", **fields)
    return 0
