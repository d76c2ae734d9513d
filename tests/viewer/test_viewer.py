"""Tracks, meshes and the camera: what is drawn, without drawing it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from viewing import circles

import physid
from physid import Experiment, SecondOrder, Trajectory, Unknown, positive
from physid.api.fit import Fit
from physid.errors import Diverged, InputError
from physid.models import VanDerPol
from physid.plots import LIGHT
from physid.predict.draws import draw
from physid.viewer import Camera, Page, Shown, collect, page, read_camera, tracks_of, tracks_of_fit
from physid.viewer.geometry import dashes, even, length, nice, tubes
from physid.viewer.layers import Layer, fold_time, frame_of, layers
from physid.viewer.tracks import FOLDS, grid


class Spring(SecondOrder):
    """One body on a spring: r'' = -k r, whose solution is known."""

    stiffness = Unknown(3.5, positive)

    def acceleration(self, t: Tensor, r: Tensor, v: Tensor) -> Tensor:
        return -self.stiffness * r


def positions(t: np.ndarray, k: float) -> np.ndarray:
    """The motion [T, 3] from (1, 0, 0.5) at the velocity (0, 1, 0)."""
    c, s = np.cos(np.sqrt(k) * t), np.sin(np.sqrt(k) * t) / np.sqrt(k)
    return np.stack([c, s, 0.5 * c], -1)


@pytest.fixture(scope="module")
def spring() -> Fit:
    """A spring of stiffness 4, seen with noise on [0, 2] and without on [0, 4]."""
    train, test = np.linspace(0.0, 2.0, 41), np.linspace(0.0, 4.0, 81)
    seen = positions(train, 4.0) + 0.05 * np.random.default_rng(0).standard_normal((41, 3))
    data = Experiment(
        "spring",
        Trajectory(train, seen[:, None]),  # type: ignore[arg-type]
        initial=[[[1.0, 0.0, 0.5]], [[0.0, 1.0, 0.0]]],  # type: ignore[arg-type]
        test=Trajectory(test, positions(test, 4.0)[:, None]),  # type: ignore[arg-type]
        channels=("x1", "y1", "z1"),
        sigma=0.05,
        truth={"stiffness": 4.0},
    )
    return physid.fit(Spring(), data)


def test_tracks_are_the_forecast_beside_the_truth(spring: Fit) -> None:
    tracks = tracks_of_fit(spring)
    assert tracks.names == ("body 1",)
    assert tracks.trained == 2.0
    assert tracks.truth[:, 0] == pytest.approx(positions(tracks.times, 4.0), abs=1e-4)
    assert tracks.forecast[:, 0] == pytest.approx(positions(tracks.times, spring.estimates[0].value), abs=1e-5)
    assert tracks.measured.sum() == 81
    late = np.isfinite(tracks.error[:, 0]) & (tracks.times > 2.0)
    assert tracks.rms == pytest.approx(np.sqrt((tracks.error[late] ** 2).mean()))


def test_a_band_is_the_distance_that_the_unknowns_make(spring: Fit) -> None:
    """sigma = |dr/dk| times the standard error of k; an ensemble spreads as widely."""
    tracks = tracks_of_fit(spring)
    one = spring.estimates[0]
    step = 1e-4
    slope = (positions(tracks.times, one.value + step) - positions(tracks.times, one.value - step)) / (2 * step)
    assert spring.covariance is not None
    wanted = np.linalg.norm(slope, axis=-1) * np.sqrt(spring.covariance[0, 0]) * spring.vector.slopes(spring.x)[0]
    assert tracks.sigma[:, 0] == pytest.approx(wanted, rel=1e-4, abs=1e-7)
    drawn = draw(spring, tracks.times, 200).reshape(200, len(tracks.times), 3)
    spread = np.sqrt((drawn.std(0) ** 2).sum(-1))
    wide = wanted > 0.3 * wanted.max()
    assert spread[wide] == pytest.approx(wanted[wide], rel=0.2)
    assert spring.model.values()["stiffness"].item() == one.value  # the fit is left as it was


def test_what_is_no_motion_in_space_is_refused() -> None:
    fit = physid.fit(VanDerPol(), physid.load("vanderpol", points=40))
    with pytest.raises(InputError, match="no coordinates of bodies"):
        tracks_of_fit(fit)


def test_a_forecast_that_never_was_finite_is_refused() -> None:
    t = np.linspace(0, 1, 5)
    bad = np.full((5, 2), np.nan)
    with pytest.raises(Diverged, match="too stiff"):
        tracks_of(physid.predict.forecast.Forecast(t, bad, bad, bad, ("x1", "y1"), message="too stiff"))


def test_motion_in_a_plane_and_a_forecast_that_stops() -> None:
    t = np.linspace(0, 1, 5)
    path = np.stack([t, t**2], -1)
    path[3:] = np.nan
    tracks = tracks_of(physid.predict.forecast.Forecast(t, path, path, path, ("a.x", "a.y"), unit="m"))
    assert tracks.forecast.shape == (3, 1, 3)
    assert (tracks.forecast[..., 2] == 0).all()
    assert tracks.rms is None
    assert tracks.names == ("a",)


def test_bodies_by_name() -> None:
    one = circles(3).only(["body 2"])
    assert (one.names, one.places, one.truth.shape[1]) == (("body 2",), (1,), 1)
    with pytest.raises(InputError, match="unknown body 'body 9'"):
        circles().only(["body 9"])
    with pytest.raises(InputError, match="differ in their units"):
        collect([circles(), circles(unit="m")])
    with pytest.raises(InputError, match="nothing was given"):
        collect([])


def test_times_of_a_picture() -> None:
    data = physid.load("threebody", points=50)
    times = grid(data, 3.0)
    known = np.unique(np.concatenate([data.train.times.numpy(), data.test.times.numpy()]))  # type: ignore[union-attr]
    assert np.isin(known, times).all()
    assert (times[0], times[-1]) == (0.0, 3.0)
    assert np.diff(times).max() < 0.02
    with pytest.raises(InputError, match="Give a later time"):
        grid(data, 0.0)


@given(st.floats(0.02, 0.2), st.floats(0.01, 0.2), st.floats(0.3, 1.0))
def test_dashes_stay_in_place_while_a_path_grows(dash: float, gap: float, part: float) -> None:
    angle = np.linspace(0, 5, 400)
    path = np.stack([np.cos(angle), np.sin(angle), 0.1 * angle], -1)
    whole, cut = dashes(path, dash, gap), dashes(path[: int(400 * part)], dash, gap)
    assert len(cut) <= len(whole)
    assert np.allclose(cut[:-1], whole[: len(cut) - 1])
    sizes = np.linalg.norm(np.diff(whole[:-1], axis=1), axis=-1).sum(1)
    assert sizes == pytest.approx(dash, rel=0.05)


@given(st.integers(2, 40), st.integers(0, 99))
def test_tubes_have_their_radius_and_unit_normals(points: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lines = np.cumsum(rng.normal(size=(2, points, 3)), axis=1)
    surface = tubes(lines, 0.01, sides=8)
    assert np.linalg.norm(surface.normals, axis=1) == pytest.approx(1.0)
    rings = surface.points.reshape(2, -1, 8, 3)[:, 3:-3]  # without the caps
    assert np.linalg.norm(rings - lines[:, :, None], axis=-1) == pytest.approx(0.01)
    assert surface.faces.min() == 0
    assert surface.faces.max() == len(surface.points) - 1


def test_even_spacing_keeps_ends_and_length() -> None:
    angle = np.linspace(0, 2, 300) ** 2
    path = np.stack([np.cos(angle), np.sin(angle), angle], -1)
    found, at = even(path, 0.05)
    assert np.allclose(found[[0, -1]], path[[0, -1]])
    steps = np.diff(length(found))
    assert steps == pytest.approx(steps.mean(), rel=0.02)
    assert steps.mean() <= 0.05
    assert (np.diff(at) > 0).all()
    assert [nice(x) for x in (0.7, 1.0, 3.0, 99.0)] == [0.5, 1.0, 2.0, 50.0]


def by_name(found: list[Layer]) -> dict[str, Layer]:
    return {layer.name: layer for layer in found}


def test_layers_grow_with_time_and_hide_what_is_not_wanted() -> None:
    run = circles(sigma=np.full((201, 2), 0.02))
    frame = frame_of([run])
    sizes = []
    for time in (0.1, 0.39, 0.7, 1.0):
        found = by_name(list(layers(run, LIGHT, frame, time)))
        sizes.append([len(found[f"forecast {part}"].surface.faces) for part in ("trained", "beyond")])
        assert bool(len(found["end of training"].surface.points)) == (time >= 0.4)
        assert np.allclose(found["body 0"].surface.points.mean(0), frame.place(at_time(run, 0, time)), atol=1e-3)
    assert [row[0] for row in sizes] == sorted(row[0] for row in sizes)
    assert sizes[0][1] == sizes[1][1] == 0 < sizes[2][1] < sizes[3][1]
    hidden = by_name(list(layers(run, LIGHT, frame, 1.0, Shown(truth=False, forecast=False, bands=False))))
    assert not any(len(layer.surface.points) for name, layer in hidden.items() if name != "end of training")
    late = by_name(list(layers(run, LIGHT, frame, 1.0, Shown(window=0.2))))
    assert not len(late["truth trained 0"].surface.points)
    assert 0 < len(late["truth beyond 0"].surface.faces) < len(found["truth beyond 0"].surface.faces)


def at_time(run: object, body: int, time: float) -> np.ndarray:
    angle = 2 * np.pi * time + body + 1
    return np.array([(body + 1) * np.cos(angle), (body + 1) * np.sin(angle), 0.2 * np.sin(2 * angle)])


def test_bands_are_as_wide_as_sigma_and_strands_replace_what_would_fold() -> None:
    run = circles(1, sigma=np.full((201, 1), 0.05))
    frame = frame_of([run])
    band = by_name(list(layers(run, LIGHT, frame, 1.0)))["band 2 sigma"].surface
    ring = band.points[40 * 24 : 41 * 24]
    assert np.linalg.norm(ring - ring.mean(0), axis=1) == pytest.approx(2 * 0.05 / frame.extent, rel=1e-3)
    growing = np.linspace(0.0, 2 * FOLDS * frame.extent, 201)[:, None]
    wide = replace(run, sigma=growing, strands=np.stack([run.forecast * k for k in (0.98, 1.02)]))
    fold = fold_time(wide, frame, 0)
    assert 0.1 < fold < 0.2  # where it is a quarter of what folds
    found = by_name(list(layers(wide, LIGHT, frame, 1.0)))
    assert len(found["strands"].surface.points)
    assert len(found["band 2 sigma"].surface.points) < len(band.points)


@given(st.floats(-180, 180), st.floats(-80, 80), st.floats(0.4, 3.0))
def test_the_camera_fits_and_looks_where_it_should(azimuth: float, elevation: float, aspect: float) -> None:
    run = circles()
    points = frame_of([run]).place(run.truth.reshape(-1, 3))
    box = (-0.8, 0.9, -0.5, 0.7)
    seen = Camera(azimuth, elevation).fitted(points, aspect, box).project(points, aspect)
    low, high = seen.min(0), seen.max(0)
    assert (low >= np.array([box[0], box[2]]) - 0.02).all()
    assert (high <= np.array([box[1], box[3]]) + 0.02).all()
    touches = np.concatenate([low - [box[0], box[2]], high - [box[1], box[3]]])
    assert np.abs(touches).min() < 0.03


def test_cameras_in_words() -> None:
    assert read_camera("20, 60") == Camera(20.0, 60.0)
    assert read_camera("20,60,3").distance == 3.0
    for bad in ("20", "a,b", "0,90", "0,0,-1", "1,2,3,4"):
        with pytest.raises(InputError, match="is not AZIMUTH,ELEVATION"):
            read_camera(bad)


def test_the_page_is_one_small_file_that_asks_for_nothing() -> None:
    text = str(page([circles(title="</script><b>a</b>"), circles()], "dark", title="two <runs>"))
    assert len(text.encode()) < 500_000
    assert "</script><b>" not in text
    assert "<title>two &lt;runs&gt;</title>" in text
    assert not re.search(r"https?://|@(TITLE|DATA|SCRIPT)@|src=|@import", text)
    data = json.loads(re.search(r'<script id="data"[^>]*>(.*?)</script>', text, re.S).group(1))  # type: ignore[union-attr]
    assert [run["title"] for run in data["runs"]] == ["</script><b>a</b>", "circles"]
    assert "srcdoc=" in Page(text)._repr_html_()


def test_without_a_display_a_page_is_written(spring: Fit, monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    for path in (spring.view(), spring.forecast(1.0).view(spring.experiment)):
        assert str(path).startswith(str(tmp_path))
        assert "spring" in Path(str(path)).read_text()
