"""A command of one's own: `physid cost RUN`, among the commands of physid."""

from pathlib import Path

import click

from physid.cli import main
from physid.cli.app import group
from physid.cli.console import Console
from physid.cli.options import json_option, run_argument, trust_option


@click.command(epilog="\b\nExamples:\n  physid cost runs/threebody")
@run_argument
@trust_option
@json_option
def cost(run: Path, trust: bool, json: bool) -> int:
    """Say what the fit in the run directory RUN cost."""
    from physid.api.opening import OpenRun  # here, so that --help loads none of it

    console, fit = Console(json=json), OpenRun.open(run, trust=trust).fit
    console.say(f"{fit.evaluations} evaluations in {fit.seconds:.1f} s")
    console.event("done", status="ok", evaluations=fit.evaluations, seconds=fit.seconds)
    return 0


# An installed package names it in its pyproject.toml instead: [project.entry-points."physid.commands"].
group.add_command(cost)
if __name__ == "__main__":
    main(["cost", "--help"])
