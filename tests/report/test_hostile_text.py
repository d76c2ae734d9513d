"""Names, units and sentences of strangers are shown as text: on a terminal, in figures, in pages."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from viewing import circles

from physid.cli import main
from physid.errors import InputError, visible
from physid.plots.look import LIGHT, labelled, look, new_figure, png, shown
from physid.plots.page import document
from physid.reading.units import convert
from physid.viewer import page

ESCAPE = "x\x1b]0;pwned\x07\x1b[31m \u202egnp.exe\x9b2J"


def test_what_steers_a_terminal_is_written_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = visible(ESCAPE)
    assert said == r"x\x1b]0;pwned\x07\x1b[31m \u202egnp.exe\x9b2J"
    assert visible("Größe 温度 µ²\n\t") == "Größe 温度 µ²\n\t"
    (tmp_path / "a.csv").write_text(f"t [s],{ESCAPE}\n0,1\n1,2\n2,3\n", encoding="utf-8")
    assert main(["data", str(tmp_path / "a.csv")]) == 0
    out = capsys.readouterr().out
    assert r"x\x1b]0;pwned" in out
    (tmp_path / "a.csv").write_text(f"t [s],{ESCAPE}\n0,1\n1,inf\n", encoding="utf-8")
    assert main(["data", str(tmp_path / "a.csv")]) == 2
    error = capsys.readouterr().err
    assert r"\x1b[31m" in error
    for text in (out, error):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)


@pytest.mark.parametrize("name", [r"x $\frac{$", r"$x$ and \$", "$^$", "_hidden", ESCAPE[:8]])
def test_a_name_is_no_mathematics_in_a_figure(name: str) -> None:
    with look("light"):
        figure = new_figure(3.0, 2.0)
        axes = figure.subplots()
        axes.plot([0, 1], [1, 2], label=shown(name))
        axes.set_ylabel(labelled(name, "$m^"))
        legend = axes.legend()
    assert len(legend.get_texts()) == 1
    text, mathematics = axes.yaxis.label._preprocess_math(axes.yaxis.label.get_text())  # type: ignore[attr-defined]
    assert mathematics is False
    assert text.lstrip("\N{ZERO WIDTH SPACE}") == f"{visible(name)} ($m^)"
    assert png(figure).startswith(b"\x89PNG")
    plt.close("all")


def test_marks_in_names_are_text_in_the_viewer_s_page() -> None:
    title = "@DATA@ @SCRIPT@ @ALLOWED@ </script><b>\u202e"
    text = str(page(circles(sigma=np.full((201, 2), 0.1), title=title)))
    shown_title = r"<title>@DATA@ @SCRIPT@ @ALLOWED@ &lt;/script&gt;&lt;b&gt;\u202e</title>"
    assert shown_title in text
    assert text.count("</script>") == 2
    script = text[text.rindex("<script>") + len("<script>") : text.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in text
    assert "script-src 'unsafe-inline'" not in text


def test_a_report_s_page_lets_no_script_run() -> None:
    text = document("a title", ["<p>words</p>"], LIGHT)
    assert "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\"" in text
    assert text.index("Content-Security-Policy") < text.index("<style>")


@pytest.mark.parametrize(
    "unit",
    ["m**9**9**9**9", "10^9999999999", "10⁹⁹⁹⁹⁹⁹⁹⁹⁹", "((10**99)**99)**99", "(9**9)**(9**9)", "9**9e9", "9**-9**9"],
)
def test_units_of_absurd_powers_end_at_once(unit: str) -> None:
    began = time.process_time()
    with pytest.raises(InputError, match=r"a.csv, column 'x': the unit \[.*\] has powers beyond what is read"):
        convert(np.ones(3), unit, "m", "a.csv, column 'x'")
    assert time.process_time() - began < 2.0


@pytest.mark.parametrize(
    ("unit", "wanted", "factor"),
    [("mm^2", "m**2", 1e-6), ("cm³", "m^3", 1e-6), ("s⁻¹", "1/min", 60.0), ("km^(1/2)", "m^0.5", 1000**0.5)],
)
def test_units_with_powers_are_read(unit: str, wanted: str, factor: float) -> None:
    assert np.allclose(convert(np.ones(2), unit, wanted, "x"), factor, rtol=1e-12)
