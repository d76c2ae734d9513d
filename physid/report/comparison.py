"""Comparison table of several fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from physid.data.experiment import contents, hash_numbers
from physid.errors import InputError
from physid.formats import plain
from physid.inference.result import FitResult
from physid.predict.networks import NetworkRun

if TYPE_CHECKING:
    import pandas as pd

TESTS = ("fit_percent", "chi_squared_per_dof", "log_likelihood", "aic", "bic")
DIGITS = 6


# A result that stands in a table beside others: a fit, or a network that forecasts.
Compared: TypeAlias = FitResult | NetworkRun


@dataclass(frozen=True)
class Comparison:
    """Runs beside one another, under a name each: `str(comparison)`, `.frame()`, `.json()`.

    AIC and BIC compare fits of the same data alone; `note` says when they are not. Errors: InputError for fewer than
    two fits.
    """

    fits: Sequence[Compared]
    names: Sequence[str]

    def __post_init__(self) -> None:
        """Refuse what cannot be compared."""
        if len(self.fits) < 2 or len(self.names) != len(self.fits):
            raise InputError(f"{len(self.fits)} runs were given: two or more are needed to compare.")

    @property
    def note(self) -> str:
        """Whether figures of merit compare."""
        if len({_trained_on(fit) for fit in self.fits}) == 1:
            return "All fits are of the same data; of AIC and BIC the lower is the better."
        return "The fits are of different data: AIC, BIC and likelihoods do not compare."

    def rows(self) -> dict[str, list[Any]]:
        """The table by rows: what is compared, then a value for each fit, None where there is none."""
        found: dict[str, list[Any]] = {
            "model": [fit.settings["model"] for fit in self.fits],
            "status": [fit.status for fit in self.fits],
            "verdict": [None if fit.statistics is None else fit.statistics.verdict for fit in self.fits],
        }
        known = [{one.name: one for one in [*fit.derived, *fit.listed]} for fit in self.fits]
        for name in dict.fromkeys(name for one in known for name in one if one[name].of != "initial"):
            there = [one.get(name) for one in known]
            found[name] = [None if one is None else one.value for one in there]
            found[f"{name} +-"] = [None if one is None else one.stderr for one in there]
        for part in dict.fromkeys(name for fit in self.fits for name in fit.scores):
            scores = [fit.scores.get(part) for fit in self.fits]
            found[f"{part} rmse"] = [None if score is None else score["rmse"] for score in scores]
        for name in dict.fromkeys(name for fit in self.fits for name in fit.trivial):
            others = [fit.trivial.get(name) for fit in self.fits]
            found[f"forecast rmse by {name}"] = [None if score is None else score["rmse"] for score in others]
        for name in TESTS:
            found[name.replace("_", " ")] = [
                None if fit.statistics is None else fit.statistics.tests.get(name) for fit in self.fits
            ]
        found["unknowns"] = [len(fit.estimates) for fit in self.fits]
        found["evaluations"] = [fit.evaluations for fit in self.fits]
        found["seconds"] = [fit.seconds for fit in self.fits]
        return {name: row for name, row in found.items() if any(value is not None for value in row)}

    def frame(self) -> pd.DataFrame:
        """The table with pandas, a column for each fit."""
        import pandas as pd

        return pd.DataFrame.from_dict(self.rows(), orient="index", columns=list(self.names))

    def json(self) -> dict[str, Any]:
        """The table as data that JSON can say, by fits."""
        rows = self.rows()
        fits = {name: {key: row[i] for key, row in rows.items()} for i, name in enumerate(self.names)}
        found: dict[str, Any] = plain({"note": self.note, "runs": fits})
        return found

    def cells(self) -> list[list[str]]:
        """The table as cells, the head first; a value and its error share a row."""
        rows = self.rows()
        found = [["", *self.names]]
        for name, row in rows.items():
            if name.endswith(" +-"):
                continue
            errors = rows.get(f"{name} +-", [None] * len(row))
            found.append([name, *(_cell(value, error) for value, error in zip(row, errors, strict=True))])
        return found

    def __str__(self) -> str:
        """The table as text."""
        cells = self.cells()
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        lines = ["  ".join(c.ljust(width) for c, width in zip(row, widths, strict=True)).rstrip() for row in cells]
        return "\n".join([*lines, "", self.note])

    def latex(self) -> str:
        """The table as a LaTeX tabular."""
        from physid.report.latex import escape

        lines = [" & ".join(escape(cell) for cell in row) + r" \\" for row in self.cells()]
        body = "\n".join([lines[0], r"\hline", *lines[1:]])
        return f"\\begin{{tabular}}{{l{'l' * len(self.fits)}}}\n\\hline\n{body}\n\\hline\n\\end{{tabular}}\n"


def _trained_on(fit: Compared) -> tuple[str, ...]:
    """Hashes of what a fit was trained on, of all of its experiments: less what it held out."""
    return tuple(sorted(hash_numbers(*contents(one.train)) for one in fit.experiments))


def _cell(value: Any, error: float | None) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.{DIGITS}g}" + (f" +- {error:.2g}" if error is not None else "")
