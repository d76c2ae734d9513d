"""Exporters: the formats in which a run is written, physid's and those of installed packages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from physid.api.opening import OpenRun
from physid.catalog import Registry
from physid.errors import Diverged, InputError, PhysidError
from physid.formats import json_bytes

if TYPE_CHECKING:
    import pandas as pd

    from physid.predict.sheet import Sheet


@dataclass(frozen=True)
class Exporter:
    """One format: `write(run)` gives the bytes of a file that ends in `suffix`, as in ".csv".

    What it writes of a run it takes from `run.fit`, `run.trained` or `run.predictor`, each of which is an error in one
    line for a run that is not of that kind. `binary` says that the bytes are no text, which no terminal shows.
    """

    name: str
    suffix: str
    summary: str
    write: Callable[[OpenRun], bytes]
    binary: bool = False


def table(frame: pd.DataFrame, digits: str = "%.17g") -> bytes:
    """A table as CSV; seventeen digits, so that reading it back gives the same numbers."""
    return str(frame.to_csv(index=False, float_format=digits)).encode()


def _estimates(run: OpenRun) -> bytes:
    return table(run.fit.report().frame())


def _sheet(run: OpenRun) -> Sheet:
    """The forecasts of a run. Errors: Diverged for one that does not reach the end of the data."""
    from physid.predict.sheet import sheet

    made = sheet(run.predictor)
    if made.forecasts[0].message:
        raise Diverged(f"the forecast stopped: {made.forecasts[0].message}")
    return made


def _forecast(run: OpenRun) -> bytes:
    made = _sheet(run)
    return table(made.frame(), made.digits)


def _history(run: OpenRun) -> bytes:
    import pandas as pd

    return table(run.trained.frame() if run.is_training else pd.DataFrame(run.fit.history))


def _html(run: OpenRun) -> bytes:
    from physid.plots.page import page

    return page(run.fit).encode()


def _json(run: OpenRun) -> bytes:
    return json_bytes(run.trained.json() if run.is_training else run.fit.report().json())


def _latex(run: OpenRun) -> bytes:
    return run.fit.report().latex().encode()


def _text(run: OpenRun) -> bytes:
    return f"{run.trained if run.is_training else run.fit.report()}\n".encode()


def _png(run: OpenRun) -> bytes:
    from physid.plots import png, sheet_figure

    return png(sheet_figure(_sheet(run)))


def _svg(run: OpenRun) -> bytes:
    from physid.plots import sheet_figure, svg

    return svg(sheet_figure(_sheet(run)))


_ALL = (
    Exporter("estimates", ".csv", "The unknowns with errors, intervals, units and starts, a row each.", _estimates),
    Exporter(
        "forecast", ".csv", "The forecast to the end of the data with its bands, a row for every time.", _forecast
    ),
    Exporter("history", ".csv", "The history of the search, or of the epochs of a training.", _history),
    Exporter("html", ".html", "The report as one page with figures.", _html),
    Exporter("json", ".json", "The report as data.", _json),
    Exporter("latex", ".tex", "The unknowns as a LaTeX table.", _latex),
    Exporter("png", ".png", "The forecast beside the data, as a picture.", _png, binary=True),
    Exporter("svg", ".svg", "The forecast beside the data, as a drawing.", _svg),
    Exporter("text", ".txt", "The report.", _text),
)
EXPORTERS: Registry[Exporter] = Registry(
    "format",
    {one.name: one for one in _ALL},
    aliases={"csv": "estimates", "tex": "latex", "txt": "text"},
    group="physid.exporters",
    of=Exporter,
)


def export(run: OpenRun, exporter: Exporter) -> bytes:
    """The run in a format.

    Errors: as of what the exporter reads of the run, and InputError where one of an installed package fails.
    """
    owner = EXPORTERS.owner(exporter.name)
    said = f"format '{exporter.name}' of the installed package {owner}"
    if not owner or owner == "physid":
        return exporter.write(run)
    try:
        found = exporter.write(run)
    except PhysidError:
        raise
    except Exception as error:
        raise InputError(f"{said} failed: {type(error).__name__}: {error}. Mend or uninstall that package.") from error
    if not isinstance(found, bytes):
        raise InputError(
            f"{said} gave {type(found).__name__}, where bytes are allowed. Mend or uninstall that package."
        )
    return found
