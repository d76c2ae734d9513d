"""Exporters: the formats in which a run is written, physid's and those of installed packages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from physid.api.opening import OpenRun
from physid.catalog import Registry
from physid.errors import Diverged, InputError, PhysidError
from physid.formats import json_bytes, table_bytes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from physid.inference.result import FitResult
    from physid.predict.sheet import Sheet
    from physid.report.comparison import Comparison


@dataclass(frozen=True)
class Exporter:
    """One format: `write(run)` gives the bytes of a file that ends in `suffix`, as in ".csv".

    What it writes of a run it takes from `run.fit`, `run.trained`, `run.predictor` or `run.found`; the first three are
    an error in one line for a run that is not of that kind. `binary` says that the bytes are no text, which no terminal
    shows.
    """

    name: str
    suffix: str
    summary: str
    write: Callable[..., bytes]
    binary: bool = False


def table(frame: pd.DataFrame, digits: str = "%.17g") -> bytes:
    """A table as CSV; seventeen digits, so that reading it back gives the same numbers."""
    return str(frame.to_csv(index=False, float_format=digits)).encode()


def document(suffix: str, csv: Callable[[], bytes], json: Callable[[], Any], figure: Callable[[], Figure]) -> bytes:
    """A .csv, .json, .png or .svg file by its `suffix`, of the form that it takes."""
    if suffix == ".csv":
        return csv()
    if suffix == ".json":
        return json_bytes(json())
    from physid.plots import png, svg

    return (png if suffix == ".png" else svg)(figure())


def sheet_document(made: Sheet, suffix: str) -> bytes:
    """Forecasts as a .csv, .json, .png or .svg file."""

    def figure() -> Figure:
        from physid.plots import sheet_figure

        return sheet_figure(made)

    return document(suffix, lambda: table(made.frame(), made.digits), made.json, figure)


def profiles_document(fit: FitResult, suffix: str) -> bytes:
    """The profile likelihoods of a fit as a .csv, .json, .png or .svg file. Errors: InputError when none was made."""
    from physid.plots.fits import profiles

    if not fit.profiles:
        raise InputError("no profile was made of this fit. Make them first: physid profile RUN.")
    rows = [(one.name, value, tau) for one in fit.profiles for value, tau in zip(one.values, one.tau, strict=True)]
    data = [asdict(one) for one in fit.profiles]
    return document(suffix, lambda: table_bytes(("unknown", "value", "tau"), rows), lambda: data, lambda: profiles(fit))


def comparison_document(found: Comparison, suffix: str) -> bytes:
    """A comparison as a .csv, .json, .tex, .png or .svg file."""

    def figure() -> Figure:
        from physid.plots.fits import compare

        return compare(found.fits, found.names)

    if suffix == ".tex":
        return found.latex().encode()
    return document(suffix, lambda: found.frame().to_csv(index_label="what").encode(), found.json, figure)


def _estimates(run: OpenRun) -> bytes:
    return table(run.fit.report().frame())


def _forecast(run: OpenRun, suffix: str) -> bytes:
    """The forecasts of a run. Errors: Diverged for one that does not reach the end of the data."""
    from physid.predict.sheet import sheet

    made = sheet(run.predictor)
    if made.forecasts[0].message:
        raise Diverged(f"the forecast stopped: {made.forecasts[0].message}")
    return sheet_document(made, suffix)


def _history(run: OpenRun) -> bytes:
    import pandas as pd

    return table(run.trained.frame() if run.kind == "training" else pd.DataFrame(run.fit.history))


def _html(run: OpenRun, theme: str = "light") -> bytes:
    from physid.plots.page import page

    return page(run.fit, theme).encode()


def _latex(run: OpenRun) -> bytes:
    return run.fit.report().latex().encode()


def _profiles(run: OpenRun) -> bytes:
    return profiles_document(run.fit, ".csv")


def _report(run: OpenRun) -> Any:
    """The report of a run of any kind: text by `str`, data by its method `json`."""
    return run.fit.report() if run.kind == "fit" else run.found


_ALL = (
    Exporter("estimates", ".csv", "The unknowns with errors, intervals, units and starts, a row each.", _estimates),
    Exporter(
        "forecast", ".csv", "The forecast to the end of the data with its bands.", partial(_forecast, suffix=".csv")
    ),
    Exporter("history", ".csv", "The history of the search, or of the epochs of a training.", _history),
    Exporter("html", ".html", "The report as one page with figures.", _html),
    Exporter("json", ".json", "The report as data.", lambda run: json_bytes(_report(run).json())),
    Exporter("latex", ".tex", "The unknowns as a LaTeX table.", _latex),
    Exporter(
        "png", ".png", "The forecast beside the data, as a picture.", partial(_forecast, suffix=".png"), binary=True
    ),
    Exporter("profiles", ".csv", "The profile likelihoods that physid profile made, a row for every point.", _profiles),
    Exporter("svg", ".svg", "The forecast beside the data, as a drawing.", partial(_forecast, suffix=".svg")),
    Exporter("text", ".txt", "The report.", lambda run: f"{_report(run)}\n".encode()),
)
EXPORTERS: Registry[Exporter] = Registry(
    "format",
    {one.name: one for one in _ALL},
    aliases={"csv": "estimates", "tex": "latex", "txt": "text"},
    group="physid.exporters",
    of=Exporter,
)


def export(run: OpenRun, exporter: Exporter, **settings: Any) -> bytes:
    """The run in a format; `settings` are those of the exporter, as the theme of a page.

    Errors: as of what the exporter reads of the run, and InputError where one of an installed package fails.
    """
    owner = EXPORTERS.owner(exporter.name)
    said = f"format '{exporter.name}' of the installed package {owner}"
    if not owner or owner == "physid":
        return exporter.write(run, **settings)
    try:
        found = exporter.write(run, **settings)
    except PhysidError:
        raise
    except Exception as error:
        raise InputError(f"{said} failed: {type(error).__name__}: {error}. Mend or uninstall that package.") from error
    if not isinstance(found, bytes):
        raise InputError(f"{said} gave {type(found).__name__}: expected bytes. Mend or uninstall that package.")
    return found
