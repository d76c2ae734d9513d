"""The look of every picture: two palettes, and the style of the figures that follows from them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from physid.errors import unknown_name, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Theme:
    """Colours as #RRGGBB: the background and its upper end, ink for words, muted for axes, faint for grids and floor.

    `forecast` is orange, and nothing else is; the first three `bodies` and it are distinguished by every common kind of
    colour vision (those of LIGHT are after Okabe and Ito, 2008). `shade` lies under the range that was trained on.
    """

    name: str
    background: str
    top: str
    ink: str
    muted: str
    faint: str
    shade: str
    forecast: str
    bodies: tuple[str, ...]

    def body(self, index: int) -> str:
        """The colour of body or channel `index`; colours return after the last."""
        return self.bodies[index % len(self.bodies)]


LIGHT = Theme(
    name="light",
    background="#FFFFFF",
    top="#FFFFFF",
    ink="#1A2030",
    muted="#7A8496",
    faint="#DADDE4",
    shade="#F1F3F5",
    forecast="#E8760A",
    bodies=("#0072B2", "#009E73", "#A0528A", "#3B3F8F", "#5A6B7B"),
)
DARK = Theme(
    name="dark",
    background="#05080F",
    top="#16203A",
    ink="#E9EDF5",
    muted="#8791A6",
    faint="#2A3350",
    shade="#12161F",
    forecast="#FFA033",
    bodies=("#58A2F6", "#41EABC", "#D18EC4", "#B7BCF7", "#C3CBD6"),
)
THEMES: Mapping[str, Theme] = {"light": LIGHT, "dark": DARK}


def theme_of(theme: str | Theme) -> Theme:
    """The theme of that name; InputError for a name that is none."""
    if isinstance(theme, Theme):
        return theme
    if theme not in THEMES:
        raise unknown_name("theme", theme, THEMES)
    return THEMES[theme]


def mix(color: str, other: str, weight: float) -> str:
    """The colour `weight` of the way from `color` to `other`."""
    pairs = zip(channels(color), channels(other), strict=True)
    return "#" + "".join(f"{round(255 * ((1 - weight) * a + weight * b)):02X}" for a, b in pairs)


def channels(color: str) -> tuple[float, float, float]:
    """Red, green and blue on [0, 1] of #RRGGBB."""
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def parameters(theme: Theme) -> dict[str, Any]:
    """The settings of matplotlib (rcParams) that make the look."""
    return {
        "font.family": "DejaVu Sans",  # comes with matplotlib, so that a picture is the same everywhere
        "font.size": 10.0,
        "figure.facecolor": theme.background,
        "savefig.facecolor": theme.background,
        "axes.facecolor": theme.background,
        "axes.edgecolor": theme.muted,
        "axes.linewidth": 0.9,
        "axes.labelcolor": theme.ink,
        "axes.titlecolor": theme.ink,
        "axes.titlelocation": "left",
        "axes.titlesize": 11.0,
        "axes.titleweight": "bold",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.unicode_minus": True,
        "grid.color": theme.faint,
        "grid.linewidth": 0.6,
        "text.color": theme.ink,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "legend.frameon": False,
        "legend.labelcolor": theme.ink,
        "lines.linewidth": 1.9,
        "lines.solid_capstyle": "round",
    }


@contextmanager
def look(theme: str | Theme) -> Iterator[Theme]:
    """matplotlib in the look of `theme` for as long as a figure is made or drawn; nothing of it stays."""
    import matplotlib

    found = theme_of(theme)
    settings: Any = parameters(found)
    with matplotlib.rc_context(settings):
        yield found


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, without pyplot and its global list; to be called within `look`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def mark_training(axes: Axes, theme: Theme, end: float, words: bool = True) -> None:
    """Shade what was trained on, up to the time `end`, with a line at its end and the two words above it."""
    axes.axvspan(axes.get_xlim()[0], end, color=theme.shade, zorder=-2, linewidth=0)
    axes.axvline(end, color=theme.forecast, linewidth=1.3, zorder=1)
    if words:
        where: dict[str, Any] = {"xycoords": axes.get_xaxis_transform(), "textcoords": "offset points", "fontsize": 8.5}
        axes.annotate("training", (end, 1.0), (-6, 4), ha="right", color=theme.muted, **where)
        axes.annotate("forecast", (end, 1.0), (6, 4), ha="left", color=theme.forecast, **where)


def labelled(name: str, unit: str) -> str:
    """A name with its unit in brackets, if it has one, as a figure shows it."""
    return shown(f"{name} ({unit})" if unit else name)


def shown(text: str) -> str:
    """A text of strangers for matplotlib: its $ begin no mathematics, a first _ does not hide it from the legend."""
    text = visible(text).replace("$", r"\$")
    return f"\N{ZERO WIDTH SPACE}{text}" if text.startswith("_") else text


def png(figure: Figure, dots: float = 150.0) -> bytes:
    """The figure as PNG, `dots` to an inch."""
    return _written(figure, "png", dpi=dots, metadata={"Software": "physid"})


def svg(figure: Figure) -> bytes:
    """The figure as SVG, its letters as paths, so that it looks alike everywhere."""
    return _written(figure, "svg", metadata={"Date": None})


def _written(figure: Figure, kind: str, **settings: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format=kind, facecolor=figure.get_facecolor(), **settings)
    return file.getvalue()
