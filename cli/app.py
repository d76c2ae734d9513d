"""The group of commands, and how errors and interruptions end: one line on stderr and an exit code."""

from __future__ import annotations

import difflib
import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

import click

import physid
from physid.cli.interrupts import interrupts
from physid.cli.streams import OutputLost, guarded
from physid.cli.warned import warned
from physid.door import VARIABLE, factor
from physid.errors import PhysidError, visible

if TYPE_CHECKING:
    from physid.catalog import Registry

# The commands by the order of work, with what each does; the words stand here so that no command is imported for them.
GROUPS: dict[str, dict[str, str]] = {
    "Data and models": {
        "list": "List experiments, models, solvers, formats and other parts.",
        "data": "Print the columns, units and times read from FILE.",
        "simulate": "Write the trajectory of an experiment or of a run as a table.",
        "init": "Write a model, settings and toy data of your own to start from.",
        "check": "Check MODEL against its data before any fit.",
    },
    "Fit": {
        "fit": "Identify the unknowns of EXPERIMENT, print the report, write a run.",
        "train": "Train a network of the catalogue on a data set or an experiment.",
        "resume": "Continue an interrupted or killed run.",
    },
    "Look": {
        "report": "Print the report of the run directory RUN.",
        "forecast": "Forecast with the model of a run, with 95 % bands.",
        "view": "Show forecasts in space: a window, a page, a picture or a movie.",
        "export": "Write a run in another format: tables, page, LaTeX, picture.",
    },
    "Judge": {
        "compare": "Compare runs, or a network with itself under other solvers.",
        "profile": "Profile likelihoods of the unknowns of a run.",
        "discover": "Find the formula of a run's neural residual.",
        "verify": "Repeat a fit, or score a network again, and compare.",
    },
    "Paper and machine": {
        "reproduce": "Compute a table or figure of the paper.",
        "gradcheck": "Compare the gradient methods with finite differences.",
        "doctor": "Check the compiler, OpenGL and data of this machine.",
    },
}
COMMANDS = tuple(name for group in GROUPS.values() for name in group)
# Old names of `compare`, which still work: what to call instead.
FORMER = {"evaluate": "compare RUN --solver NAME", "reliability": "compare RUN..."}

# What the machine may have too little of: space, a quota, descriptors, memory.
SCARCE = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO)

EPILOG = """\b
Examples:
  physid fit threebody --knowledge full
  physid fit threebody --model drag.py:DragGravity --out runs/drag
  physid report runs/drag

\b
Exit codes:
  0 done, converged     3 not converged       6 a check failed
  1 defect of physid    4 diverged            124 time limit
  2 bad input           5 something missing   130, 143 interrupted
"""


@cache
def installed() -> Registry[click.Command]:
    """The commands of installed packages; made when a name is none of physid's, so that --help reads no metadata."""
    from physid.catalog import Registry

    places = {name: f"physid.cli.{name}:command" for name in COMMANDS}
    return Registry("command", places=places, group="physid.commands", of=click.Command)


class LazyGroup(click.Group):
    """A group whose commands live in `physid.cli.<name>` and are imported when they are asked for.

    Those that a program adds by `group.add_command`, and those of installed packages, stand beside them.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of work, not of the alphabet."""
        return [*COMMANDS, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command `cmd_name`, or None."""
        if cmd_name in COMMANDS or cmd_name in FORMER:
            home = "compare" if cmd_name in FORMER else cmd_name
            command: click.Command = import_module(f"physid.cli.{home}").command
            return command
        return super().get_command(ctx, cmd_name) or installed().get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As in click; the error for an unknown command names the nearest one."""
        known = self.list_commands(ctx)
        if args and args[0] in FORMER:
            click.echo(f"physid: note: `physid {args[0]}` is now `physid {FORMER[args[0]]}`.", err=True)
        elif args and args[0] not in known and not args[0].startswith("-"):
            others = installed()
            if args[0] not in others:
                near = difflib.get_close_matches(args[0].lower(), [*known, *FORMER, *others], n=1, cutoff=0.5)
                hint = f" Did you mean '{near[0]}'?" if near else ""
                raise click.UsageError(f"unknown command '{args[0]}'.{hint} Allowed: {', '.join(known)}.", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands by the order of work, those that were added last."""
        added = {name: command.get_short_help_str(70) for name, command in self.commands.items()}
        for title, rows in {**GROUPS, **({"Added": added} if added else {})}.items():
            with formatter.section(title):
                formatter.write_dl(list(rows.items()), col_max=12)


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(physid.__version__, message="physid %(version)s")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error; or PHYSID_DEBUG=1.")
@click.option(
    "--limits",
    type=click.FloatRange(0, min_open=True),
    expose_value=False,
    metavar="X",
    help="Raise every limit of size, number and time X-fold; or PHYSID_LIMITS=X.",
)
@click.pass_context
def group(ctx: click.Context) -> None:
    """Identify the unknowns of a differential equation from measured trajectories.

    Physics that is known enters as it is; what is unknown is fitted to the data, with standard errors, and the
    identified model forecasts.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line on `argv` (default: the process's arguments) and return the exit code."""
    # The systems are small: torch's threads would wait for one another (measured: 18 times slower on a busy machine).
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    limits = os.environ.get(VARIABLE)
    try:
        with interrupts() as heard, guarded(), warned():
            code = _run(list(sys.argv[1:] if argv is None else argv))
    finally:
        if limits is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = limits
    return 143 if heard.terminated and code == 130 else code


def _anywhere(argv: list[str]) -> tuple[list[str], bool]:
    """The words without --debug and --limits X, which may stand after the command too, and whether to show tracebacks.

    What --limits says goes into the environment, so that processes of this one know it. Errors: click.UsageError.
    """
    kept, words = [], iter(argv)
    debug = os.environ.get("PHYSID_DEBUG", "") not in ("", "0")
    for word in words:
        name, sign, value = word.partition("=")
        if word == "--debug":
            debug = True
        elif name == "--limits":
            value = value if sign else next(words, "")
            if not value:
                raise click.UsageError("Option '--limits' requires an argument.")
            os.environ[VARIABLE] = value
            factor()
        else:
            kept.append(word)
    return kept, debug


def _run(argv: list[str]) -> int:
    """The exit code of one command; every error becomes one line on stderr."""
    debug = "--debug" in argv
    try:
        argv, debug = _anywhere(argv)
        result = group.main(args=argv, prog_name="physid", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except OutputLost as lost:
        return 141 if lost.gone else _end(f"error: {lost}", lost.exit_code, debug)
    except (click.Abort, KeyboardInterrupt, SystemExit, GeneratorExit) as error:
        first = error.__cause__ or error.__context__ or error  # click puts its own in the place of some
        if slip := _slip(error) or _slip(first):
            return _end(f"error: {slip}", 2, debug)
        if isinstance(error, SystemExit | GeneratorExit):
            raise
        return _end("interrupted.", 130)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "physid"
        return _end(f"error: {error.format_message()} See {path} --help.", 2, debug)
    except PhysidError as error:
        return _end(f"error: {error}", error.exit_code, debug)
    except OSError as error:
        if slip := _slip(error):
            return _end(f"error: {slip}", 2, debug)
        if error.filename is None:
            if error.errno not in SCARCE:
                return _defect(error, debug)
            return _end(f"error: {error.strerror}. Make room, and try again.", 5, debug)
        return _end(f"error: {error.filename}: {error.strerror}. Give a path that can be used.", 2, debug)
    except MemoryError:
        return _end("error: the memory is used up. Ask for less at a time, or use a larger machine.", 5, debug)
    except Exception as error:
        if "can't allocate memory" in str(error):  # as torch says it
            return _end("error: the memory is used up. Ask for less at a time, or use a larger machine.", 5, debug)
        slip = _slip(error)
        return _end(f"error: {slip}", 2, debug) if slip else _defect(error, debug)


def _slip(error: BaseException) -> str | None:
    """The fault of a line of the user's own model or experiment, if it raised the error."""
    if "physid.modelling.address" not in sys.modules:  # then no such file was read
        return None
    from physid.modelling.address import blame

    return blame(error)


def _end(message: str, code: int, debug: bool = False) -> int:
    """Print `message` as one line (after the traceback, if asked for) and return `code`."""
    with suppress(OutputLost):
        if debug:
            traceback.print_exc()
        click.echo(f"physid: {' '.join(visible(message).split())}", err=True)
    return code


def _defect(error: Exception, debug: bool) -> int:
    """Say that this is a defect of ours, and where its traceback is."""
    what = f"defect: {type(error).__name__}: {error}. This is a defect of physid, not of your input"
    if debug:
        return _end(what + ".", 1, debug)
    with tempfile.NamedTemporaryFile("w", prefix="physid-traceback-", suffix=".txt", delete=False) as file:
        traceback.print_exc(file=file)
    return _end(f"{what}; the traceback is in {file.name}, and --debug shows it.", 1)
