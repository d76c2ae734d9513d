"""Report of a fit, as text of a hundred columns, as data and as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from physid.errors import PhysidError, visible
from physid.formats import plain
from physid.inference.early_inputs import early_reads
from physid.inference.result import FitResult
from physid.inference.search.one_start import tally
from physid.inference.uncertainty.estimates import Estimate
from physid.modelling.model import Model
from physid.modelling.modules import Weight
from physid.report.tables import COLUMNS, align, estimate_cells, number, tolerance, width, wrap
from physid.report.weight_groups import group_lines, groups

if TYPE_CHECKING:
    import pandas as pd

STRONG = 0.9  # correlations from here on are named
MOST = 12  # elements of the initial state that are listed, and correlations


@dataclass(frozen=True)
class Report:
    """The report of a fit: `str(report)`, `report.json()`, `report.frame()`."""

    fit: FitResult

    def __str__(self) -> str:
        """The report as text."""
        notes, method = ("\n".join(wrap(line) for line in lines) for lines in (self.notes(), self.method()))
        first = "\n".join(wrap(line) for line in [self.title(), *self.verdict()])
        parts = [first, self._estimates(), self._derived(), self._scores(), self._paper(), self.starts()]
        parts += [notes, method]
        return visible("\n\n".join(part for part in parts if part))

    def json(self) -> dict[str, Any]:
        """The report as data that JSON can say."""
        fit, statistics = self.fit, self.fit.statistics
        tests = {}
        if statistics is not None:
            names = [*("verdict", "sentence", "remedies", "others", "rms", "sigma", "sigma_known", "dof", "condition")]
            names += ["null_directions", "floor", "tests", "each"]
            tests = {name: getattr(statistics, name) for name in names} | {"errors": statistics.chosen}
            tests["hidden"] = statistics.null_directions  # the former name
        found: dict[str, Any] = plain(
            {
                "experiment": fit.experiment.name,
                "status": fit.status,
                "verdict": fit.verdict,
                "message": fit.message,
                "settings": fit.settings,
                "unknowns": [asdict(one) for one in fit.estimates],
                "derived": [asdict(one) for one in fit.derived],
                "combinations": [asdict(one) for one in fit.combinations],
                "weights": groups(fit),
                "shares": fit.shares,
                "correlations": [{"first": a, "second": b, "correlation": c} for a, b, c in self.strong()],
                "residuals": tests,
                "scores": fit.scores,
                "trivial": fit.trivial,
                "paper": fit.paper,
                "starts": self._starts(),
                "evaluations": fit.evaluations,
                "seconds": fit.seconds,
                "engine": fit.engine,
                "gradient_error": fit.gradient_error,
            }
        )
        return found

    def starts(self) -> str:
        """Outcome of many starts in a sentence; empty for one."""
        found = tally(self.fit.starts)
        return "" if found is None else wrap(found.sentence)

    def _starts(self) -> dict[str, Any] | None:
        """The counts of many starts and the record of each, as data."""
        found = tally(self.fit.starts)
        return None if found is None else {**asdict(found), "records": [asdict(one) for one in self.fit.starts]}

    def frame(self) -> pd.DataFrame:
        """The estimates with pandas, one row each."""
        import pandas as pd

        return pd.DataFrame([asdict(one) for one in self.fit.estimates])

    def strong(self) -> list[tuple[str, str, float]]:
        """The pairs of listed unknowns whose correlation is 0.9 or more, strongest first."""
        matrix, estimates = self.fit.correlation, self.fit.estimates
        if matrix is None:
            return []
        places = [i for i, one in enumerate(estimates) if one.listed]
        pairs = [(i, j) for i in places for j in places if j < i and abs(matrix[i, j]) >= STRONG]
        pairs.sort(key=lambda pair: -abs(matrix[pair]))
        return [(estimates[j].name, estimates[i].name, float(matrix[i, j])) for i, j in pairs]

    def title(self) -> str:
        """Experiment, model, status, verdict and message."""
        fit = self.fit
        more = len(fit.experiments) - 1
        name = fit.experiment.name if more < 1 else f"{fit.experiment.name} and {more} more"
        return f"{name} with model {fit.settings['model']}: {self.state()}. {fit.message}"

    def state(self) -> str:
        """Status and verdict, as in "converged, adequate"."""
        return ", ".join(filter(None, (self.fit.status, self.fit.verdict)))

    def verdict(self) -> list[str]:
        """The verdict's sentence, and what may help; empty where there is none."""
        statistics = self.fit.statistics
        if statistics is None or (self.fit.members and statistics.verdict != "no use"):
            return []
        tries = f"Try {'; or '.join(statistics.remedies)}." if statistics.remedies else ""
        return [text for text in (statistics.sentence, tries) if text]

    def _estimates(self) -> str:
        shown = [one for one in self.fit.listed if one.of != "initial"]
        initial = [one for one in self.fit.estimates if one.of == "initial"]
        shown += initial if len(initial) <= MOST else []
        lines = [self._table(shown)] if shown else []
        if len(initial) > MOST:
            lines.append(f"and {len(initial)} free elements of the initial state, in report.json()")
        return "\n".join([*lines, *self.weights()])

    def other(self) -> str:
        """The name of the errors that were not chosen, which stand beside the others."""
        statistics = self.fit.statistics
        return "" if statistics is None else "plain" if statistics.chosen == "robust" else "robust"

    def _table(self, shown: Sequence[Estimate]) -> str:
        """Estimates as a table that fits into the columns."""
        tables = [align(estimate_cells(shown, digits, self.other())) for digits in (10, 8, 7, 6, 5)]
        tables += [align(estimate_cells(shown, digits)) for digits in (6, 5)]
        lines = next((table for table in tables if width(table) <= COLUMNS), tables[-1])
        return "\n".join(line[:COLUMNS] for line in lines)

    def weights(self) -> list[str]:
        """A line on the weights of networks, which are not listed; none where there are none."""
        rest = [one for one in self.fit.estimates if not one.listed]
        if not rest:
            return []
        if any(isinstance(one, Weight) for one in self.fit.model.unknowns.values()):
            return [wrap(line) for line in group_lines(self.fit)]
        names = list(dict.fromkeys(one.of for one in rest))
        used = sum(one.value != 0.0 for one in rest)
        dropped = (
            f", {len(rest) - used} of them dropped"
            if used < len(rest) and type(self.fit.model).prune is not Model.prune
            else ""
        )
        size = math.sqrt(sum(one.value**2 for one in rest) / max(used, 1))
        return [f"{len(rest)} weights ({', '.join(names)}{dropped}), rms {size:.3g}, in report.json()"]

    def _derived(self) -> str:
        """Derived quantities, and the shares of the model's parts."""
        parts = ["read out of the unknowns:\n" + self._table(self.fit.derived)] if self.fit.derived else []
        if self.fit.combinations:
            parts.insert(0, "identifiable combinations:\n" + self._table(self.fit.combinations))
        return "\n\n".join([*parts, *map(wrap, self.shared())])

    def shared(self) -> list[str]:
        """Shares of the model's parts in the derivative of each state, a sentence for each part."""
        return [
            f"The {part} part of the derivative along the data (rms over rms): "
            + ", ".join(f"{state} {100 * share:.2g} %" for state, share in shares.items())
            + "."
            for part, shares in self.fit.shares.items()
        ]

    def _scores(self) -> str:
        cells = self.score_cells()
        over = "sum over channels, mean over time" if self.fit.experiment.metric == "sum" else "mean"
        beyond = (
            "; forecast: the part of the test beyond training" if any(row[0] == "forecast" for row in cells) else ""
        )
        lines = [*align(cells), f"(mse: {over}{beyond})"] if len(cells) > 1 else []
        return "\n".join([*lines, *([wrap(self.merits())] if self.merits() else [])])

    def _paper(self) -> str:
        paper = self.fit.paper
        if paper is None:
            return ""
        rows: list[tuple[str, ...]] = [
            ("protocol " + self.fit.settings["protocol"], "sum over channels", "mean over channels")
        ]
        for name in ("train", "test", "forecast"):
            rows.append((f"{name} mse", *(number(paper[name][key], 4) for key in ("sum", "mean"))))
        if paper["published_mse"] is not None:
            text = f"{paper['published_mse']:g} +- {paper['published_sd']:g}"
            rows.append(("published test mse", text, text))
        lines = align(rows)
        if paper["published_mse"] is not None:
            lines.append("(Zhuang et al., 2020, table 5, do not say which of the two readings is theirs)")
        if paper["recovered"] is not None:
            lines.append(f"recovered: {str(paper['recovered']).lower()} (every unknown within 1 % of the truth)")
        return "\n".join(lines)

    def latex(self) -> str:
        """The estimates as a LaTeX table (tabular), to be put into a document as it is."""
        from physid.report.latex import tabular

        return tabular([*self.fit.listed, *self.fit.combinations, *self.fit.derived])

    def cells(self, digits: int = 8) -> list[list[str]]:
        """The estimates as cells of a table, the head first, without columns in which nothing stands."""
        shown = [*self.fit.listed, *self.fit.combinations, *self.fit.derived]
        return estimate_cells(shown, digits, self.other())

    def score_cells(self) -> list[list[str]]:
        """The scores as cells of a table, the head first; that of a forecast beside those of trivial forecasters."""
        known = [(name, score) for name, score in self.fit.scores.items() if score is not None]
        if any(name == "forecast" for name, _ in known):
            known += [(f"forecast by {name}", score) for name, score in self.fit.trivial.items()]
        rows = [[name, f"{score['mse']:.4g}", f"{score['rmse']:.4g}"] for name, score in known]
        return [["score", "mse", "rmse"], *rows]

    def others(self) -> list[str]:
        """Findings beside the verdict, a line each."""
        statistics = self.fit.statistics
        return [] if statistics is None else [f"Also {word}: {sentence}" for word, sentence in statistics.others]

    def test_cells(self) -> list[list[str]]:
        """Every test of the residuals as cells of a table, the head first."""
        rows = [["looks for", "channel", "p", "size", "at .01 over all"]]
        for one in [] if self.fit.statistics is None else self.fit.statistics.each:
            said = "rejected" if one["rejected"] else "not rejected"
            rows.append([one["kind"], one["channel"] or "all", f"{one['p']:.2g}", f"{one['size']:.3g}", said])
        return rows

    def notes(self) -> list[str]:
        """Notes on the estimates, a sentence or two each."""
        statistics = self.fit.statistics
        if self.fit.members:
            count = len(self.fit.members)
            return [f"Scores and forecasts are of the mean over {count} seeds, bands of their spread: no covariance."]
        if statistics is None:
            late = self.fit.status in ("time limit", "interrupted")
            why = "the search ended before they were known" if late else "the model could not be solved at these values"
            return [f"No standard errors: {why}."]
        notes = []
        if statistics.reason:
            notes.append(f"No standard errors: {statistics.reason}.")
        elif statistics.chosen == "robust":
            notes.append("Errors and intervals: robust, as the residuals are correlated; the plain ones stand beside.")
        elif statistics.robust_reason and statistics.verdict in ("inadequate", "does not fit"):
            notes.append("Errors and intervals: plain, for independent residuals.")
        if statistics.floor and len(statistics.floor) < len(self.fit.experiment.channels):
            named = ", ".join(statistics.floor)
            notes.append(f"At the solver's error or the file's last digit, so left out of the likelihood: {named}.")
        bound = [one.name for one in self.fit.estimates if one.at_bound]
        if bound:
            notes.append(f"At a bound of its domain: {', '.join(bound)}. Its interval means nothing.")
        if statistics.robust_reason and not statistics.reason:
            notes.append(f"No robust errors: {statistics.robust_reason}.")
        notes += [self._combinations(), *self._hidden(), self._early()]
        return [note for note in [*notes, self._correlations()] if note]

    def _early(self) -> str:
        """Reads of inputs before their record; empty for a run without its model."""
        try:
            return early_reads(self.fit.vector, self.fit.x)
        except PhysidError:
            return ""

    def _hidden(self) -> list[str]:
        """The unidentifiable directions; those among weights alone are counted."""
        found = self.fit.statistics.null_directions if self.fit.statistics is not None else []
        names = [f" {one.name}" for one in self.fit.listed]
        named = [text for text in found if any(name in f" {text}" for name in names) or not self.weights()]
        lines = [f"Not identifiable: the data do not determine {text}." for text in named]
        if len(named) < len(found):
            lines.append(f"{len(found) - len(named)} directions of the weights are determined by penalties alone.")
        return lines

    def _combinations(self) -> str:
        """Number and names of the identifiable combinations."""
        statistics = self.fit.statistics
        if statistics is None or not statistics.null_directions or self.weights():
            return ""
        lost = [one.name for one, seen in zip(self.fit.estimates, statistics.identifiable, strict=True) if not seen]
        count = len(lost) - len(statistics.null_directions)
        what = f"{count} combination{'s' if count != 1 else ''} of {', '.join(lost)}"
        seen = statistics.identifiable_combinations
        named = f": {'; '.join(seen)}" if seen else ""
        bent = any(power != round(power) for row in statistics.powers for power in row)
        named += " (powers as they are at these values)" if bent else ""
        return f"Only {what} can be identified from these data{named}." if count else ""

    def merits(self) -> str:
        """The figures of merit."""
        statistics = self.fit.statistics
        if statistics is None or statistics.verdict == "exact" or "aic" not in statistics.tests:
            return ""
        tests = statistics.tests
        parts = [
            ("fit", tests["fit_percent"], "{:.2f} %"),
            ("chi-squared per degree of freedom", tests.get("chi_squared_per_dof"), "{:.3f}"),
            ("log-likelihood", tests["log_likelihood"], "{:.3f}"),
            ("AIC", tests["aic"], "{:.2f}"),
            ("BIC", tests["bic"], "{:.2f}"),
            ("normality p", tests["normality_p"], "{:.2g}"),
        ]
        return ", ".join(f"{name} {form.format(value)}" for name, value, form in parts if value is not None)

    def _correlations(self) -> str:
        """The strong correlations, but of those among the elements of the initial state only the number."""
        initial = {one.name for one in self.fit.estimates if one.of == "initial"}
        strong = self.strong()
        named = [one for one in strong if not initial.issuperset(one[:2])]
        parts = [f"{a} with {b} {c:+.4f}" for a, b, c in named[:MOST]]
        if len(named) > MOST:
            parts.append(f"{len(named) - MOST} more of the unknowns")
        if len(strong) > len(named):
            parts.append(f"{len(strong) - len(named)} within the initial state")
        return f"Strong correlations: {', '.join(parts)}." if parts else ""

    def method(self) -> list[str]:
        """Method of the fit, in lines."""
        fit, settings = self.fit, self.fit.settings
        how = settings["optimizer"] + (f" ({settings['strategy']})" if settings.get("strategy") else "")
        note = settings.get("engine_note")
        tolerances = f"rtol {tolerance(settings['rtol'])}, atol {tolerance(settings['atol'])}"
        lines = [
            f"Objective: {settings['objective']}.",
            f"Method: {how}, gradient {settings['gradient']}, solver {settings['solver']}, {tolerances}, engine "
            f"{note or fit.engine}; {fit.evaluations} evaluations, {fit.seconds:.1f} s.",
        ]
        if fit.gradient_error is not None:
            lines.append(f"Derivatives of the predictions are exact to {fit.gradient_error:.1e} of their size.")
        sources = [one.source for one in fit.experiments or [fit.experiment] if one.source]
        if sources:
            lines.append(f"Data: {'; '.join(dict.fromkeys(sources))}.")
        return lines
