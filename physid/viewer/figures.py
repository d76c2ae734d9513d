"""Figures for states without positions in space: phase portrait and time series side by side, as PNG or page."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from physid.errors import visible
from physid.plots import phase, png, svg, theme_of, time_series
from physid.plots.look import Theme
from physid.predict.predictor import Predictor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS = 150.0
HEIGHT = 5.4  # inches
POINTS = 401  # of a path
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title>
<style>body {{ margin: 0; padding: 18px 22px; background: {background}; color: {ink}; font: 15px "DejaVu Sans", Verdana,
sans-serif; }} h1 {{ font-size: 21px; margin: 0 0 8px; }} section {{ display: flex; flex-wrap: wrap; gap: 18px; }}
figure {{ margin: 0; flex: 1 1 420px; max-width: 900px; }} svg {{ width: 100%; height: auto; }}</style></head>
<body>{body}</body></html>
"""


def figures(
    run: Predictor, until: float | None, channels: Sequence[str] | None, theme: str | Theme
) -> tuple[list[Figure], str]:
    """The phase portrait (of two channels or more) and the time series of a run; and what was chosen of many channels.

    With `channels` two or three, those; one alone has a time series only.
    """
    forecast = run.predict(run.times(until, POINTS))
    found = []
    sentence = ""
    if len(forecast.channels if channels is None else channels) >= 2:
        portrait = phase(forecast, channels=channels, theme=theme, size=HEIGHT)
        sentence = portrait.get_supxlabel()
        found.append(portrait)
    height = HEIGHT if found else None
    found.append(time_series(forecast, channels=channels, theme=theme, height=height))
    return found, sentence


def figure_image(found: Sequence[Figure]) -> bytes:
    """Figures side by side as one PNG; they are equally high."""
    from PIL import Image

    images = [Image.open(io.BytesIO(png(figure, DOTS))).convert("RGB") for figure in found]
    joined = Image.fromarray(np.concatenate([np.asarray(image) for image in images], axis=1))
    file = io.BytesIO()
    joined.save(file, format="PNG", optimize=True)
    return file.getvalue()


def figure_page(titled: Sequence[tuple[str, Sequence[Figure]]], theme: str | Theme) -> str:
    """A page that opens offline: for every run its title and figures, as SVG."""
    look = theme_of(theme)
    parts = []
    for title, found in titled:
        drawn = "".join(f"<figure>{_inline(svg(figure))}</figure>" for figure in found)
        parts.append(f"<h1>{html.escape(visible(title))}</h1><section>{drawn}</section>")
    title = html.escape(visible(", ".join(title for title, _ in titled)))
    return PAGE.format(title=title, background=look.background, ink=look.ink, body="".join(parts))


def _inline(image: bytes) -> str:
    """An SVG without what stands before its element."""
    text = image.decode()
    return text[text.index("<svg") :]
