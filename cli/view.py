"""`physid view`: forecasts in space, in a window, as a page, a picture or a movie."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from physid.cli.console import Console
from physid.cli.files import check_file
from physid.cli.options import OUTPUT, json_option, quiet_option, trust_option
from physid.cli.sections import SectionCommand, option
from physid.store import write

if TYPE_CHECKING:
    from physid.predict.predictor import Predictor
    from physid.viewer import Tracks

SHOWN = "What is shown"
EPILOG = """\b
Examples:
  physid view runs/threebody
  physid view runs/a runs/b --html compared.html --theme dark
  physid view runs/threebody --png forecast.png --size 1600x1200
  physid view runs/threebody --mp4 forecast.mp4 --seconds 10
  physid view runs/lynx --channels u,v --png portrait.png

\b
Pictures and movies need OpenGL, the page does not. Ends with 5 where something
of the machine is missing, OpenGL or the writer of movies.
"""


@click.command(cls=SectionCommand, epilog=EPILOG)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@option("--html", "page", section=OUTPUT, type=click.Path(path_type=Path), metavar="FILE", help="Write a page.")
@option("--png", "image", section=OUTPUT, type=click.Path(path_type=Path), metavar="FILE", help="Write a picture.")
@option("--mp4", "film", section=OUTPUT, type=click.Path(path_type=Path), metavar="FILE", help="Write a movie.")
@option("--no-pictures", section=OUTPUT, is_flag=True, help="Leave out whatever needs OpenGL.")
@json_option
@quiet_option
@option(
    "--theme", section=SHOWN, type=click.Choice(["light", "dark"]), default="light", show_default=True, help="Colours."
)
@option("--size", section=SHOWN, metavar="WxH", help="Size in pixels, as in 1600x1200.")
@option("--until", section=SHOWN, type=float, metavar="T", help="End time. [default: the end of the data]")
@option("--experiment", section=SHOWN, metavar="NAME", help="Experiment of a fit of several. [default: the first]")
@option("--bodies", section=SHOWN, metavar="NAMES", help="Bodies to keep, as in jupiter,saturn or 1,3.")
@option("--camera", section=SHOWN, metavar="A,E[,D]", help="Azimuth and elevation in degrees. [default: -66,38]")
@option("--channels", section=SHOWN, metavar="NAMES", help="A phase portrait of two or three channels instead.")
@option("--title", section=SHOWN, metavar="TEXT", help="Title.")
@option(
    "--seconds",
    section=SHOWN,
    type=click.FloatRange(0.5, 600),
    default=10.0,
    show_default=True,
    help="Length of the movie.",
)
@trust_option
def command(runs: tuple[Path, ...], no_pictures: bool, json: bool, quiet: bool, trust: bool, **given: Any) -> int:
    """Show the forecasts of the run directories RUN: truth solid, forecast dashed, with bands of its uncertainty.

    Without a file a window opens, with one clock and one camera for all runs; where there is no display, a page is
    written and its path printed. What does not move in space is shown as phase portrait and time series.
    """
    for name, suffix in (("page", ".html"), ("image", ".png"), ("film", ".mp4")):
        check_file(given[name], (suffix,), f"--{suffix[1:]}")
    size = read_size(given["size"])
    console = Console(json=json, quiet=quiet)
    from physid.api.opening import open_run
    from physid.plots import find_bodies

    wants_gl = (given["image"] or given["film"]) and not no_pictures
    with ThreadPoolExecutor(1) as pool:  # the trial of OpenGL in its child process, while the runs are read
        from physid.viewer import gl

        trial = pool.submit(gl.probe) if wants_gl else None
        fits = [open_run(run, trust) for run in runs]
        if given["experiment"] is not None:
            fits = [fit.of(given["experiment"]) for fit in fits]
        if given["channels"] is None and all(find_bodies(fit.experiment.channels) for fit in fits):
            written = in_space(console, runs, fits, size, no_pictures, trial, given)
        else:
            written = as_figures(console, fits, given)
    console.event("done", status="ok", message=f"wrote {len(written)} files", runs=list(runs), files=written)
    return 0


def in_space(
    console: Console,
    paths: Sequence[Path],
    fits: Sequence[Predictor],
    size: tuple[int, int] | None,
    no_pictures: bool,
    trial: Any,
    given: dict[str, Any],
) -> list[Path]:
    """Show motion in space; the paths of what was written."""
    from physid.viewer import collect, gl, page, read_camera, save, show

    camera, theme = read_camera(given["camera"]), given["theme"]
    titles = [f"{path.name} · {fit.experiment.name}" for path, fit in zip(paths, fits, strict=True)]
    tracks = collect(fits, given["until"], read_bodies(given["bodies"]), titles if len(fits) > 1 else None)
    summary(console, paths, tracks)
    written: list[Path] = []
    if given["page"] is not None:
        text = str(page(tracks, theme, camera, given["title"] or ""))
        written.append(tell(console, write(given["page"], text.encode())))
    wanted = [given[name] for name in ("image", "film") if given[name] is not None]
    if no_pictures:
        for path in wanted:
            console.note(f"{path} left out, as --no-pictures says")
        return written
    settings: dict[str, Any] = {"camera": camera, "title": given["title"] or "", **({"size": size} if size else {})}
    if trial is not None:
        gl.require(found=trial.result())
    if given["image"] is not None:
        written.append(tell(console, save(given["image"], tracks, theme, **settings)))
    if given["film"] is not None:
        with movie_progress(console) as progress:
            settings |= {"seconds": given["seconds"], "progress": progress}
            save(given["film"], tracks, theme, **settings)
        written.append(tell(console, given["film"]))
    if not wanted and given["page"] is None:
        opened = show(tracks, theme, **settings)
        if isinstance(opened, Path):
            console.note("no window can be opened here; open this page in a browser:")
            written.append(tell(console, opened))
    return written


def as_figures(console: Console, fits: Sequence[Predictor], given: dict[str, Any]) -> list[Path]:
    """Show what is no motion in space as phase portraits and time series; the paths of what was written."""
    from physid.errors import InputError
    from physid.viewer import figures
    from physid.viewer.files import new_place

    if given["film"] is not None:
        raise InputError("--mp4 shows bodies that move in space, and here are none. Use --png or --html.")
    if given["image"] is not None and len(fits) > 1:
        raise InputError(f"--png of {len(fits)} runs that are not in space: expected one run. Use --html for several.")
    channels = None if given["channels"] is None else [name.strip() for name in given["channels"].split(",")]
    titled = []
    for fit in fits:
        found, sentence = figures.figures(fit, given["until"], channels, given["theme"])
        if sentence:
            console.note(sentence + " Choose others with --channels.")
        titled.append((given["title"] or f"{fit.experiment.name} · {fit.settings['model']}", found))
    written = []
    if given["image"] is not None:
        written.append(tell(console, write(given["image"], figures.figure_image(titled[0][1]))))
    if given["page"] is not None or given["image"] is None:
        text = figures.figure_page(titled, given["theme"])
        written.append(tell(console, write(given["page"] or new_place(), text.encode())))
    return written


def summary(console: Console, paths: Sequence[Path], tracks: Sequence[Tracks]) -> None:
    """A line for every run: how far its forecast is from the truth."""
    for path, run in zip(paths, tracks, strict=True):
        rms = f", rms distance from the {run.word} {run.score}" if run.rms is not None else ""
        console.note(f"{path}: {run.subtitle}{rms}")
        console.event("run", run=path, rms=run.rms, unit=run.unit, bodies=run.names, until=float(run.times[-1]))


def tell(console: Console, path: Path) -> Path:
    """Say what was written."""
    console.say(str(path))
    console.event("file", file=path, bytes=path.stat().st_size)
    return path


@contextmanager
def movie_progress(console: Console) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, a line every few seconds elsewhere."""
    if sys.stderr.isatty() and not console.json and not console.quiet:
        with click.progressbar(length=1, label="movie", file=sys.stderr) as bar:

            def draw(done: int, count: int) -> None:
                bar.length = count
                bar.update(done - bar.pos)

            yield draw
        return
    with console.progress("movie") as tell_fields:
        yield lambda done, count: tell_fields({"frame": done, "of": count})


def read_size(text: str | None) -> tuple[int, int] | None:
    """Width and height of WxH."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise click.UsageError(f"--size {text} is not WIDTHxHEIGHT, as in 1600x1200.")
    width, height = int(parts[0]), int(parts[1])
    if not (320 <= width <= 8000 and 240 <= height <= 8000):
        raise click.UsageError(f"--size {text}: expected 320x240 to 8000x8000.")
    return width, height


def read_bodies(text: str | None) -> list[str] | None:
    """Names of bodies; a number stands for the body of that number."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    return [f"body {name}" if name.isdigit() else name for name in names]
