"""Reports as data, as LaTeX and as a page; several runs beside one another."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import physid
from physid import Fit
from physid.cli.app import main
from physid.errors import InputError
from physid.inference.uncertainty.estimates import Estimate
from physid.models import Pendulum
from physid.plots.fits import waterfall
from physid.plots.page import page, table
from physid.report.comparison import Comparison
from physid.report.latex import number, rounded, tabular

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs: two of the same data, one of others."""
    folder = tmp_path_factory.mktemp("runs")
    common = ["--noise", "0.05", "--points", "30", "--quiet"]
    for name, arguments in (("a", ["pendulum"]), ("b", ["pendulum", "--rtol", "1e-6"]), ("c", ["exponential"])):
        assert main(["fit", *arguments, *common, "--out", str(folder / name)]) == 0
    assert main(["profile", str(folder / "a"), "--unknown", "length"]) == 0
    return folder


class Reader(HTMLParser):
    """Collects the tags, the ids and what is fetched from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.refers: list[str] = []
        self.outside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)
        found = dict(attrs)
        self.ids += [value for name, value in attrs if name == "id" and value]
        for name in ("src", "href", "xlink:href"):
            if found.get(name):
                (self.refers if str(found[name]).startswith("#") else self.outside).append(str(found[name]))
        if tag in ("script", "link", "iframe", "img"):
            self.outside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_the_page_stands_alone(theme: str, desk: Path) -> None:
    text = page(Fit.load(desk / "a"), theme)
    found = Reader(text)
    assert found.open == []
    assert found.outside == []
    assert len(set(found.ids)) == len(found.ids)
    assert {one[1:] for one in found.refers} <= set(found.ids)
    for name in re.findall(r"url\(#([^)]*)\)", text):
        assert name in found.ids
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    drawn = [
        "Trajectories",
        "Residuals",
        "Autocorrelation of the residuals",
        "Pairs of unknowns",
        "Profile likelihoods",
    ]
    assert headings == ["Unknowns", "Scores", *drawn, "Tests of the residuals", "How"]
    assert text.count("<svg") == 5
    assert "length" in text
    assert "held-out observations" in text


def test_the_page_of_one_unknown_has_no_pairs(desk: Path) -> None:
    assert "Pairs of unknowns" not in page(Fit.load(desk / "c"))


def test_what_a_user_wrote_is_no_markup() -> None:
    text = table([["<b>", "x"], ["a & b", "1.5"]])
    assert "<b>" not in text
    assert "a &amp; b" in text
    assert '<td class="number">1.5</td>' in text


def test_report_by_command(desk: Path, tmp_path: Path, capsys: Captured) -> None:
    html, tex = tmp_path / "a.html", tmp_path / "a.tex"
    assert main(["report", str(desk / "a"), "--html", str(html), "--tex", str(tex)]) == 0
    assert html.read_text().startswith("<!doctype html>")
    assert tex.read_text().count(r"\\") == 3
    assert "AIC" in capsys.readouterr().out
    assert main(["report", str(desk / "a"), "--html", str(tmp_path / "a.pdf")]) == 2
    assert main(["report", str(desk / "a"), "--html", str(html), "--theme", "drak"]) == 2
    assert "Did you mean 'dark'" in capsys.readouterr().err


def test_report_as_table(desk: Path) -> None:
    fit = Fit.load(desk / "a")
    frame = fit.report().frame()
    assert list(frame["name"]) == ["length", "friction"]
    assert frame["value"].tolist() == [one.value for one in fit.estimates]
    data = json.loads(json.dumps(fit.report().json(), allow_nan=False))
    assert data["residuals"]["tests"]["aic"] == pytest.approx(fit.statistics.tests["aic"] if fit.statistics else 0)


def test_latex_rounds_by_the_error() -> None:
    assert rounded(0.69678, 0.0032) == r"0.6968 \pm 0.0032"
    assert rounded(12345678.0, 4321.0) == r"(1.23457 \pm 0.00043) \times 10^{7}"
    assert rounded(-2.5e-9, 3e-11) == r"(-2.500 \pm 0.030) \times 10^{-9}"
    assert number(1.5e-12) == r"1.5 \times 10^{-12}"
    one = Estimate("k_1[0]", 1.0, None, None, None, "m^2 %", 1.0, None)
    assert tabular([one]).splitlines()[4] == r"k\_1[0] & $1$ &  & m\textasciicircum{}2 \% \\"


@given(st.floats(-1e12, 1e12).filter(lambda v: abs(v) > 1e-12), st.floats(1e-10, 1e6))
def test_latex_says_the_number(value: float, error: float) -> None:
    text = rounded(value, error)
    mantissa, power = re.sub(r"[()]", "", text.partition(r" \times")[0]), re.search(r"10\^{(-?\d+)}", text)
    size = 10.0 ** int(power.group(1)) if power else 1.0
    shown, shown_error = (float(part) * size for part in mantissa.split(r" \pm "))
    assert abs(shown - value) <= 0.06 * error + 1e-9 * abs(value)
    assert shown_error == pytest.approx(error, rel=0.06)


def test_comparison(desk: Path, tmp_path: Path, capsys: Captured) -> None:
    files = [tmp_path / f"x{kind}" for kind in (".csv", ".json", ".tex", ".png", ".svg")]
    outs = [part for file in files for part in ("--out", str(file))]
    assert main(["compare", *(str(desk / name) for name in "ab"), *outs]) == 0
    text = capsys.readouterr().out
    assert "of AIC and BIC the lower is the better" in text
    frame = pd.read_csv(files[0], index_col=0)
    assert list(frame) == ["a", "b"]
    known = Fit.load(desk / "a")
    assert float(str(frame.loc["length", "a"])) == pytest.approx(known.estimates[0].value)
    assert json.loads(files[1].read_text())["runs"]["b"]["status"] == "converged"
    assert "length" in files[2].read_text()
    assert files[3].read_bytes()[:4] == b"\x89PNG"
    assert main(["compare", *(str(desk / name) for name in "ac"), "--json"]) == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "do not compare" in done["note"]
    assert "length" not in done["runs"]["c"] or done["runs"]["c"]["length"] is None


def test_one_run_is_no_comparison(desk: Path, capsys: Captured) -> None:
    assert main(["compare", str(desk / "a")]) == 2
    assert "one run was given: two or more are needed" in capsys.readouterr().err
    with pytest.raises(InputError):
        Comparison([Fit.load(desk / "a")], ["a"])


def test_the_waterfall_counts_the_starts_that_agree() -> None:
    figure = waterfall([1.0, 1.0000001, float("inf"), 50.0, 1.0])
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "3 of 5 starts agree, 1 failed"
    assert axes.get_yscale() == "log"
    assert list(axes.lines[0].get_ydata()) == [1.0, 1.0, 1.0000001, 50.0]  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no start finished"):
        waterfall([float("nan")])


def test_fits_that_hold_out_different_parts_are_not_of_the_same_data() -> None:
    measured = physid.load("pendulum", noise=0.05, points=30)
    whole, part = physid.fit(Pendulum(), measured), physid.fit(Pendulum(), measured, holdout=0.2)
    again = physid.fit(Pendulum(), measured, strategy="full")
    assert "of the same data" in Comparison([whole, again], ["a", "b"]).note
    assert "of different data" in Comparison([whole, part], ["a", "b"]).note
