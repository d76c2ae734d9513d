"""HTML page of a fit: the report with its figures in one file, without network or script."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from physid.errors import InputError, visible
from physid.inference.marginal import part
from physid.inference.result import FitResult
from physid.plots.fits import profiles, waterfall
from physid.plots.look import Theme, svg, theme_of
from physid.plots.pairs import pairs
from physid.plots.residuals import correlogram, residuals
from physid.plots.series import time_series
from physid.predict.forecast import forecast
from physid.report.text import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 6  # experiments that are drawn
GOOD = ("", "adequate", "exact", "not tested")  # verdicts that find no fault
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"  # no script, nothing from elsewhere
STYLE = """
:root{color-scheme:%(name)s}
*{box-sizing:border-box}
body{margin:0 auto;max-width:64rem;padding:2.2rem 1.4rem 4rem;background:%(background)s;color:%(ink)s;
 font:15px/1.5 "DejaVu Sans",Verdana,system-ui,sans-serif}
h1{font-size:1.55rem;margin:0 0 .3rem}
h2{font-size:1.05rem;margin:2.2rem 0 .6rem;padding-bottom:.25rem;border-bottom:1px solid %(faint)s}
p{margin:.45rem 0;max-width:52rem}
.state{display:inline-block;padding:.1rem .6rem;border-radius:1rem;border:1px solid %(muted)s;font-size:.85rem}
.state.good{color:%(good)s;border-color:%(good)s}
.muted{color:%(quiet)s;font-size:.87rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem}
th{text-align:left;font-weight:600;color:%(quiet)s}
th,td{padding:.22rem 1.1rem .22rem 0;border-bottom:1px solid %(faint)s;white-space:nowrap}
td.number,th.number{text-align:right}
figure{margin:1rem 0}
figure svg{width:100%%;height:auto;display:block}
figcaption{color:%(quiet)s;font-size:.85rem}
code{background:%(shade)s;padding:.05rem .3rem;border-radius:.2rem}
@media print{body{max-width:none;padding:0}h2{break-after:avoid}figure,table{break-inside:avoid}}
"""


def page(fit: FitResult, theme: str | Theme = "light") -> str:
    """The page: estimates, scores, what the residuals say, and the figures that can be drawn of this fit."""
    found, report = theme_of(theme), Report(fit)
    title = _escaped(f"{fit.experiment.name}: {fit.settings['model']}")
    good = " good" if fit.status == "converged" and fit.verdict in GOOD else ""
    parts = [
        f"<h1>{title}</h1>",
        f'<p><span class="state{good}">{_escaped(report.state())}</span> {_escaped(fit.message)}</p>',
        *(f"<p>{_escaped(line)}</p>" for line in report.verdict()),
        "<h2>Unknowns</h2>",
        table(report.cells()),
        *(f"<p>{_escaped(line)}</p>" for line in [*report.weights(), *report.shared()]),
        *(f"<p>{_escaped(note)}</p>" for note in report.notes()),
        "<h2>Scores</h2>",
        table(report.score_cells()),
        f'<p class="muted">{_escaped(report.merits())}</p>',
        *_figures(fit, found),
        *_tests(report),
        "<h2>How</h2>",
        *(f'<p class="muted">{_escaped(line)}</p>' for line in report.method()),
    ]
    return document(title, parts, found)


def document(title: str, parts: Sequence[str], theme: Theme) -> str:
    """The whole page around its parts."""
    names = ("name", "background", "ink", "muted", "faint", "shade")
    colors = {name: getattr(theme, name) for name in names}
    colors |= {"good": theme.bodies[1], "quiet": "#5C6577" if theme.name == "light" else theme.muted}
    view = '<meta name="viewport" content="width=device-width,initial-scale=1">'
    view += f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    head = f'<meta charset="utf-8">{view}<title>{title}</title><style>{STYLE % colors}</style>'
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def table(cells: Sequence[Sequence[str]]) -> str:
    """A table of cells, the head first; columns of numbers are set to the right."""
    head, *rows = cells
    right = [all(_is_number(row[i]) for row in rows) for i in range(len(head))]
    kinds = [' class="number"' if flag else "" for flag in right]
    top = "".join(f"<th{kind}>{_escaped(cell)}</th>" for cell, kind in zip(head, kinds, strict=True))
    body = "".join(
        f"<tr>{''.join(f'<td{kind}>{_escaped(cell)}</td>' for cell, kind in zip(row, kinds, strict=True))}</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _escaped(text: str) -> str:
    """A text of strangers as a page shows it."""
    return html.escape(visible(text))


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[-+]?[\d.]*(e[-+]?\d+)?", text))


def _tests(report: Report) -> Iterator[str]:
    """All that holds besides the verdict, and every test of the residuals."""
    cells, others = report.test_cells(), report.others()
    if len(cells) > 1 or others:
        yield "<h2>Tests of the residuals</h2>"
        yield from (f"<p>{_escaped(line)}</p>" for line in others)
    if len(cells) > 1:
        yield table(cells)


def _figures(fit: FitResult, theme: Theme) -> Iterator[str]:
    """The figures, each under its heading, as far as there is something to draw."""
    if fit.status == "diverged" or fit.statistics is None:
        return
    starts = [float(getattr(one, "cost", float("nan"))) for one in getattr(fit, "starts", None) or ()]
    plans: list[tuple[str, str, Callable[[], Figure]]] = [
        *(plan for one in fit.experiments[:MOST] for plan in _of_experiment(fit, one.name, theme)),
        ("Pairs of unknowns", "Regions of 68 % and 95 % confidence.", lambda: pairs(fit, theme=theme)),
    ]
    if fit.profiles:
        plans.append(("Profile likelihoods", "", lambda: profiles(fit, theme)))
    if len(starts) > 1:
        plans.append(("Starts", Report(fit).starts(), lambda: waterfall(starts, theme)))
    for name, caption, draw in plans:
        try:
            picture = picture_of(draw(), name)
        except InputError:  # nothing to draw, such as pairs of one unknown
            continue
        words = f"<figcaption>{_escaped(caption)}</figcaption>" if caption else ""
        yield f"<h2>{_escaped(name)}</h2><figure>{picture}{words}</figure>"


def _of_experiment(whole: FitResult, name: str, theme: Theme) -> Iterator[tuple[str, str, Callable[[], Figure]]]:
    """The figures of one experiment."""
    fit, which = part(whole, name), "" if len(whole.experiments) == 1 else f", {name}"
    last = fit.experiment.test or fit.experiment.train
    found = forecast(fit, float(last.times[-1]))
    sentence = "" if fit.statistics is None else fit.statistics.sentence
    yield f"Trajectories{which}", str(found), lambda: time_series(found, fit.experiment, theme=theme)
    yield f"Residuals{which}", "" if which else sentence, lambda: residuals(fit, theme)
    yield f"Autocorrelation of the residuals{which}", "", lambda: correlogram(fit, theme)


def picture_of(figure: Figure, name: str) -> str:
    """The figure as an SVG element that stands in a page among others: its ids are its own."""
    text = svg(figure).decode()
    text = text[text.index("<svg") :]
    width = 1.35 * 72 * figure.get_figwidth()  # points of CSS: as in print, and a little more
    prefix = re.sub(r"\W+", "-", name.lower())
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(xlink:href="#|href="#|url\(#)', lambda found: f"{found.group(0)}{prefix}-", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{_escaped(name)}" style="max-width:{width:.0f}px" ', 1)
