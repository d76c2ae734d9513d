"""Verdict on a fit: the worst finding that holds, in one word, with its reason, remedies and all tests.

adequate        no test speaks against the model
exact           the data are reproduced to the solver's own error
not tested      too few observations for any test
undetermined    an unknown that the data do not determine
inadequate      residuals correlated, heteroscedastic or not normal, by tests at a level of .01 together
no use          every trivial forecaster is better
does not fit    chi-squared of the known noise has p < 1e-6, or little of the data is explained
no optimum      the values are no optimum of least squares: such a fit has not converged

Source of the correction for several tests: Holm (1979).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from physid.inference.noise import NoiseModel
from physid.inference.uncertainty.residual_tests import (
    CORRELATED,
    EXCEEDED,
    HETEROSCEDASTIC,
    INTERPOLATION,
    LEVEL,
    NOT_NORMAL,
    OUTLIERS,
    ResidualTest,
)

WORST = ("no optimum", "does not fit", "no use", "inadequate", "undetermined", "not tested", "exact", "adequate")
MISFIT = 1e-6  # a p value of chi-squared below which a model does not fit
LITTLE = 20.0  # per cent of fit below which little is explained: two thirds of the spread are left as a variance
MOST = 2  # remedies that are named
SHOWN = 3  # channels that are named one by one
NO_OPTIMUM = (
    "These values are no optimum of least squares: neither standard errors nor residuals show whether the model is "
    "right."
)
STARTS = "many starts (--starts 20)"
MATCH = "rates matched first (--strategy match)"
LEAST = "least squares (--optimizer lm)"
LOSS = "a robust loss (--loss soft_l1)"
STUDENT = "heavy-tailed noise (--noise-model student)"
LOGNORMAL = "noise in proportion to the value (--noise-model lognormal)"
LINEAR = "inputs that run linearly between samples (--interpolation linear)"
TIGHT = "a tighter tolerance (--rtol 1e-10), as the solver's own error is of the residuals' size"
LACKING = "a term that the model lacks: the residuals over time stand in the page (physid report RUN --html FILE)"
LARGER = "a larger --sigma, if the noise may be larger than was said"
SEPARATE = "own standard deviations of the channels (--noise-model normal)"
FIX = "an unknown of them fixed or tied (--fix, --tie), a prior, or further measurements"
FORECAST = "a model of fewer unknowns or with more of the physics (--model)"


@dataclass(frozen=True)
class Verdict:
    """Verdict on a fit: `word`, `sentence` why, `remedies` to try, `others` that hold too, as (word, sentence)."""

    word: str
    sentence: str
    remedies: list[str] = field(default_factory=list)
    others: list[list[str]] = field(default_factory=list)


@dataclass(frozen=True)
class Evidence:
    """Evidence of a verdict.

    `size` says how large the residuals are, `count` is their number; `tests` are all tests made, `exact` the
    channels at the solver's own error of `channels`; `undetermined` names what the data do not determine; `explained`
    is the fit in per cent, None where it means nothing; `positive` says that all data are, `loose` that residuals are
    of the size of the solver's own error; `noise` is that of the fit, `search` holds what was asked of the search.
    """

    size: str
    tests: Sequence[ResidualTest]
    channels: Sequence[str]
    exact: Sequence[str]
    undetermined: Sequence[str]
    explained: float | None
    positive: bool
    loose: bool
    search: Mapping[str, Any]
    noise: NoiseModel


def rejected(tests: Sequence[ResidualTest], level: float = LEVEL) -> list[ResidualTest]:
    """The tests that reject at `level` over all of them together, by Holm's steps, the smallest p value first."""
    found = []
    for i, one in enumerate(sorted(tests, key=lambda one: one.p)):
        if one.p > level / (len(tests) - i):
            break
        found.append(one)
    return found


def faults(tests: Sequence[ResidualTest]) -> list[ResidualTest]:
    """Faults of the residuals, the worst first: correlation, then tests that presuppose none.

    Of a channel whose residuals are correlated neither a variance nor normality is judged; outliers are, where they lie
    beyond what a curve that is missed can do.
    """
    found = rejected(tests)
    coloured = {one.channel for one in found if one.kind == CORRELATED}
    strange = {one.channel for one in tests if one.kind == OUTLIERS and one.size > 0}
    kept = []
    for one in found:
        kind = one.kind
        if kind in (HETEROSCEDASTIC, NOT_NORMAL) and (one.channel in coloured or "" in coloured):
            continue
        if kind == OUTLIERS and not one.size > 0:
            kind = NOT_NORMAL
        elif kind == NOT_NORMAL and one.channel in strange:
            kind = OUTLIERS
        number = next((t.size for t in tests if t.kind == OUTLIERS and t.channel == one.channel), one.size)
        kept.append(replace(one, kind=kind, size=number if kind == OUTLIERS else one.size))
    kept.sort(key=lambda one: (one.kind != CORRELATED, one.p))
    return kept


def pronounce(evidence: Evidence) -> Verdict:
    """The verdict on residuals and unknowns."""
    found = [*_misfit(evidence), *_residuals(evidence), *_undetermined(evidence)]
    if not found:
        found = [_sound(evidence)]
    return worst(found)


def worst(found: Sequence[Verdict]) -> Verdict:
    """The worst of several verdicts, with its own remedies first and the others beside it."""
    order = sorted(found, key=lambda one: WORST.index(one.word))
    remedies = list(dict.fromkeys(text for one in order for text in one.remedies))[:MOST]
    others = [[one.word, one.sentence] for one in order[1:]] + [pair for one in order for pair in one.others]
    return replace(order[0], remedies=remedies, others=others)


def _misfit(e: Evidence) -> list[Verdict]:
    """Does not fit: more than the known noise is left, or nearly all of the data."""
    found, search = [], [STARTS] if int(e.search.get("starts") or 1) == 1 else []
    search += [MATCH] if e.search.get("strategy") not in ("match", "rates") else []
    chi = next((one for one in e.tests if one.kind == EXCEEDED), None)
    strange = any(one.kind == OUTLIERS for one in faults(e.tests))  # which are no part of what is to be explained
    if e.explained is not None and e.explained < LITTLE and not strange:
        found.append(Verdict("does not fit", f"Little is explained: the fit is {e.explained:.3g} %.", search))
    if chi is not None and chi.p < MISFIT:
        text = f"The residuals ({e.size}) exceed the known noise: chi-squared {chi.size:.3g} per degree of freedom."
        found.append(Verdict("does not fit", text, [*search[:1], LACKING]))
    return found


def _residuals(e: Evidence) -> list[Verdict]:
    """Inadequate: what the tests reject."""
    found = [one for one in faults(e.tests) if not (one.kind == EXCEEDED and one.p < MISFIT)]
    if not found:
        return []
    kinds = list(dict.fromkeys(one.kind for one in found))
    parts = [_named(kind, [one for one in found if one.kind == kind], e) for kind in kinds]
    missing = any(kind in (CORRELATED, EXCEEDED, INTERPOLATION) for kind in kinds)
    head = "Something is missing" if missing else "The noise is not what the fit takes it for"
    tail = (
        " The model does not explain all of the data; estimates may be biased by more than any standard error says."
        if missing
        else " Standard errors and intervals are those of that noise."
    )
    text = f"{head}: the residuals ({e.size}) {', and '.join(parts)}.{tail}"
    return [Verdict("inadequate", text, _remedies(kinds, found, e))]


def _named(kind: str, found: Sequence[ResidualTest], e: Evidence) -> str:
    """One kind of fault in words, with the channels and the smallest p value."""
    one = min(found, key=lambda one: one.p)
    channels = [name for name in dict.fromkeys(one.channel for one in found) if name]
    several = len(e.channels) > 1 and channels
    where = f" of {', '.join(channels[:SHOWN])}" if several else ""
    where += f" and {len(channels) - SHOWN} more" if len(channels) > SHOWN else ""
    p = probability(one.p)
    number = int(sum({one.channel: one.size for one in found}.values())) if kind == OUTLIERS else 0
    return {
        CORRELATED: f"{where.strip()} are correlated in time (Ljung-Box {p})".strip(),
        HETEROSCEDASTIC: f"{where.strip()} are not of one size (Breusch-Pagan {p})".strip(),
        NOT_NORMAL: f"{where.strip()} are not normal ({p})".strip(),
        OUTLIERS: f"hold {number} outlier{'s' if number > 1 else ''}{where} ({p})",
        INTERPOLATION: f"follow the slope of a held input ({100 * one.size:.0f} % of their variance, {p})",
        EXCEEDED: f"exceed the known noise (chi-squared {one.size:.3g} per degree of freedom, {p})",
    }[kind]


def _remedies(kinds: Sequence[str], found: Sequence[ResidualTest], e: Evidence) -> list[str]:
    """Remedies, the likeliest first."""
    noise, kept = e.noise, []
    if INTERPOLATION in kinds:
        kept.append(LINEAR)
    if OUTLIERS in kinds:
        kept += [LOSS, STUDENT]
    if HETEROSCEDASTIC in kinds:
        one = next(one for one in found if one.kind == HETEROSCEDASTIC)
        if e.positive and one.size > 1.0 and not noise.logarithms:
            kept.append(LOGNORMAL)
        else:
            kept.append(SEPARATE if noise.heavy_tailed else STUDENT)
    if NOT_NORMAL in kinds:
        heavy = max(one.size for one in found if one.kind == NOT_NORMAL) > 0
        kept.append(STUDENT if heavy or not e.positive else LOGNORMAL)
    if CORRELATED in kinds or EXCEEDED in kinds:
        kept.append(TIGHT if e.loose else LACKING)
    if EXCEEDED in kinds:
        kept.append(LARGER)
    used = {LOSS: not noise.likelihood, STUDENT: noise.heavy_tailed}
    return [text for text in dict.fromkeys(kept) if not used.get(text)]


def _undetermined(e: Evidence) -> list[Verdict]:
    """Undetermined: unknowns that the data do not move."""
    if not e.undetermined:
        return []
    return [Verdict("undetermined", f"The data do not determine {'; nor '.join(e.undetermined)}.", [FIX])]


def _sound(e: Evidence) -> Verdict:
    """Nothing speaks against the model: exact, not tested, or adequate."""
    if e.exact and len(e.exact) == len(e.channels):
        return Verdict(
            "exact",
            f"The model reproduces the data to the solver's precision ({e.size}); there is no noise from which "
            "standard errors follow, and they do not bound the solver's own error.",
        )
    white = [one for one in e.tests if one.kind == CORRELATED]
    if not white:
        return Verdict("not tested", "There are too few observations to test whether the residuals are noise.")
    lowest, close = min(white, key=lambda one: one.p), min(e.tests, key=lambda one: one.p)
    if close.p < LEVEL:
        text = (
            f"No test speaks against the model at the level of {LEVEL:g} over all {len(e.tests)} together; nearest to "
            f"it: the residuals ({e.size}) {_named(close.kind, [close], e)}."
        )
    else:
        text = f"The residuals ({e.size}) are like independent noise (Ljung-Box {probability(lowest.p)})."
    return Verdict("adequate", text)


def no_optimum_remedies(search: Mapping[str, Any]) -> list[str]:
    """Remedies that may lead to an optimum."""
    return [LEAST] if search.get("optimizer", "lm") != "lm" else [STARTS, MATCH]


def useless(forecast: float | None, trivial: Mapping[str, float]) -> Verdict | None:
    """No use: every trivial forecaster has a smaller error than the model; None where that is not so."""
    if not trivial or (forecast is not None and forecast <= max(trivial.values())):
        return None
    what = "cannot be made" if forecast is None else f"has an rmse of {forecast:.3g}"
    others = ", ".join(f"{name} {error:.3g}" for name, error in trivial.items())
    return Verdict("no use", f"The forecast {what}; every trivial one is better ({others}).", [STARTS, FORECAST])


def tests_data(tests: Sequence[ResidualTest]) -> list[dict[str, Any]]:
    """The tests as data, with Holm's verdict on each."""
    bad = rejected(tests)
    return [{**asdict(one), "rejected": one in bad} for one in tests]


def probability(p: float) -> str:
    """A p value in words."""
    return f"p = {p:.2g}" if p >= 1e-16 else "p < 1e-16"
