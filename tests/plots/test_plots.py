"""Figures: the palette for every common kind of colour vision, and that what is drawn is what was found."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import physid
from physid.api.fit import Fit
from physid.data.experiment import Experiment, Trajectory
from physid.errors import InputError
from physid.models import LotkaVolterra, VanDerPol
from physid.plots import THEMES, Theme, choose_channels, find_bodies, pairs, phase, png, svg, theme_of, time_series
from physid.plots.look import channels, mix
from physid.plots.pairs import region

# Linear RGB as seen without one kind of cone: Machado, Oliveira and Fernandes (2009), severity 1.
VISION = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(color: str) -> np.ndarray:
    value = np.array(channels(color))
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    ratio = XYZ @ np.clip(rgb, 0.0, 1.0) / XYZ.sum(1)
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one: str, other: str) -> float:
    """The ratio of luminances of WCAG 2."""
    high, low = sorted((float(XYZ[1] @ linear(c)) for c in (one, other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_the_palette_is_told_apart_by_every_kind_of_colour_vision(theme: Theme, vision: str) -> None:
    seen = {color: lab(np.array(VISION[vision]) @ linear(color)) for color in (*theme.bodies[:3], theme.forecast)}
    distances = {pair: float(np.linalg.norm(seen[pair[0]] - seen[pair[1]])) for pair in itertools.combinations(seen, 2)}
    assert min(distances.values()) > 15.0, distances  # 2.3 is just noticeable


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_words_and_lines_stand_out_from_the_background(theme: Theme) -> None:
    for background in (theme.background, theme.top):
        assert contrast(theme.ink, background) > 7.0
        assert all(contrast(color, background) > 2.8 for color in (*theme.bodies, theme.forecast, theme.muted))


def test_themes_by_name() -> None:
    assert theme_of("dark") is theme_of(THEMES["dark"])
    with pytest.raises(InputError, match="Did you mean 'light'"):
        theme_of("ligth")
    assert mix("#000000", "#FFFFFF", 0.5) == "#808080"


@given(st.integers(1, 8), st.integers(1, 4), st.integers(0, 99))
def test_chosen_channels_are_many_enough_and_different(columns: int, count: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(20, columns))
    names = [f"c{i}" for i in range(columns)]
    found, sentence = choose_channels(values, names, None, count)
    assert len(set(found)) == len(found) == min(columns, count)
    assert bool(sentence) == (columns > count)


def test_chosen_channels_vary_and_are_independent() -> None:
    t = np.linspace(0, 7, 50)
    values = np.column_stack([0.1 * np.cos(3 * t), 5 * np.sin(t), 5.01 * np.sin(t), np.cos(t)])
    found, sentence = choose_channels(values, ["a", "b", "c", "d"], None, 2)
    assert found == [2, 3]  # the largest, and not its double
    assert sentence.startswith("c, d of 4 channels")
    assert choose_channels(values, ["a", "b", "c", "d"], ["d", "a"], 2)[0] == [3, 0]
    for bad in (["e"], ["a", "a"], []):
        with pytest.raises(InputError):
            choose_channels(values, ["a", "b", "c", "d"], bad, 2)


def test_bodies_among_channels() -> None:
    assert [(b.name, b.places) for b in find_bodies(["x1", "y1", "z1", "x2", "y2", "z2"])] == [
        ("body 1", (0, 1, 2)),
        ("body 2", (3, 4, 5)),
    ]
    assert [b.name for b in find_bodies(["jupiter.x", "jupiter.y"])] == ["jupiter"]
    for none in (["x", "y", "z"], ["x1", "y1", "z1", "T"], ["x1", "z1"], ["u", "v"], ["x1", "x_1", "y1"]):
        assert find_bodies(none) == []


@pytest.fixture(scope="module")
def lynx() -> Fit:
    return physid.fit(LotkaVolterra(), physid.load("lotka-volterra", noise=0.5, points=60))


def test_time_series_draw_the_forecast_and_its_band(lynx: Fit) -> None:
    forecast = lynx.forecast(40.0, points=81)
    figure = time_series(forecast, lynx.experiment, theme="dark")
    panels = figure.axes
    assert [axes.get_ylabel() for axes in panels] == ["u (thousands)", "v (thousands)"]
    for place, axes in enumerate(panels):
        (line,) = [line for line in axes.lines if line.get_label() == "forecast"]
        assert np.array_equal(line.get_ydata(), forecast.mean[:, place])
        (band,) = axes.collections
        box = band.get_paths()[0].get_extents()
        assert (box.y0, box.y1) == pytest.approx((forecast.low[:, place].min(), forecast.high[:, place].max()))
    assert [text.get_text() for text in panels[0].texts] == ["training", "forecast"]
    assert png(figure)[:8] == b"\x89PNG\r\n\x1a\n"
    assert b"<svg" in svg(figure)[:1000]
    assert THEMES["dark"].forecast.lower().encode() in svg(figure)
    with pytest.raises(InputError, match="unknown channel 'w'"):
        time_series(forecast, channels=["w"])


def test_phase_portraits(lynx: Fit) -> None:
    forecast = lynx.forecast(40.0, points=81)
    (axes,) = phase(forecast, lynx.experiment).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("u (thousands)", "v (thousands)")
    (dashed,) = [line for line in axes.lines if line.get_label() == "forecast"]
    assert np.array_equal(dashed.get_xydata(), forecast.mean[forecast.times >= lynx.experiment.train.times[-1].item()])
    with pytest.raises(InputError, match="two or three"):
        phase(forecast, channels=["u"])


def test_measurements_with_gaps_are_dots_in_a_phase_portrait_and_are_not_called_the_truth(lynx: Fit) -> None:
    whole = lynx.experiment.train
    gaps = whole.observations.clone()
    gaps[::3, 1] = math.nan
    train, test = Trajectory(whole.times[:40], gaps[:40]), Trajectory(whole.times[40:], gaps[40:])
    measured = Experiment("measured", train, lynx.experiment.initial, test=test)
    forecast = lynx.forecast(float(whole.times[-1]), points=81)
    (axes,) = phase(forecast, measured).axes
    lines = {str(line.get_label()): line for line in axes.lines}
    assert {"trained on", "measured", "model"} <= set(lines)
    assert "truth" not in lines
    assert lines["trained on"].get_linestyle() == lines["measured"].get_linestyle() == "None"
    assert np.array_equal(lines["model"].get_xydata(), forecast.mean[forecast.times <= float(train.times[-1])])


def test_phase_portraits_in_space_say_what_they_chose() -> None:
    t = np.linspace(0, 1, 30)
    mean = np.column_stack([np.sin((k + 1) * t) for k in range(5)])
    band = np.full_like(mean, np.nan)
    forecast = physid.predict.forecast.Forecast(t, mean, band, band, tuple("abcde"))
    figure = phase(forecast, dimension=3)
    assert "of 5 channels" in figure.get_supxlabel()
    assert figure.axes[0].name == "3d"


@pytest.mark.parametrize("level", [0.68, 0.95])
def test_ellipses_of_pairs_hold_their_confidence(lynx: Fit, level: float) -> None:
    """Draws of the unknowns from their covariance lie within the region as often as it says (Student's, many dof)."""
    assert lynx.covariance is not None
    assert lynx.statistics is not None
    edge = np.log(region(lynx, 0, 1, level))  # rates are positive: their transformed space is the logarithm
    x = lynx.x[:2]
    slopes = np.log(lynx.vector.natural(np.stack([lynx.x, lynx.x + 1e-6]))[:, :2])
    scale = (slopes[1] - slopes[0]) / 1e-6
    inverse = np.linalg.inv(lynx.covariance[:2, :2])
    off = (edge - np.log(lynx.vector.natural(lynx.x)[:2])) / scale
    squared = np.einsum("ti,ij,tj->t", off, inverse, off)
    known = lynx.statistics.sigma_known
    wanted = stats.chi2.ppf(level, 2) if known else 2 * stats.f.ppf(level, 2, lynx.statistics.dof)
    assert len(x) == 2
    assert squared == pytest.approx(wanted, rel=0.05)


def test_pairs_show_each_pair_with_truth_and_correlation(lynx: Fit) -> None:
    figure = pairs(lynx)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 4 + 6
    matrix = lynx.correlation
    assert matrix is not None
    titles = {axes.get_title(loc="left") for axes in shown}
    assert f"correlation {matrix[1, 0]:+.2f}" in titles
    assert {"alpha", "beta", "gamma", "delta"} < titles
    with pytest.raises(InputError, match="unknown unknown 'epsilon'"):
        pairs(lynx, ["epsilon", "alpha"])


def test_pairs_refuse_a_single_unknown() -> None:
    fit = physid.fit(VanDerPol(), physid.load("vanderpol", points=40))
    with pytest.raises(InputError, match="two or more"):
        pairs(fit)
