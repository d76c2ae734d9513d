"""The standalone page: one file that opens offline in any browser, its scene drawn by WebGL from the tracks in it."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any

import numpy as np

from physid.arrays import Array
from physid.errors import visible
from physid.plots.look import THEMES, Theme, theme_of
from physid.viewer import layers
from physid.viewer.camera import Camera
from physid.viewer.layers import Frame, fold_time, frame_of, radius_of
from physid.viewer.still import error_range, time_label
from physid.viewer.tracks import Tracks

FEW = 300  # times of a strand


def page(runs: Sequence[Tracks], theme: str | Theme = "light", camera: Camera | None = None, title: str = "") -> str:
    """The page as HTML for one run or several side by side; it needs no OpenGL to be made.

    The tracks are in it as 32-bit numbers; tubes, dashes and bands are made from them in the browser. Keys: space
    plays, the arrows step, t, f, b and r hide truth, forecast, bands and trails, w shortens the trails, d changes the
    theme, s saves a picture, 0 brings back the first view.
    """
    folder = files("physid.viewer")
    script = (
        '\n"use strict";\n' + "\n".join((folder / name).read_text() for name in ("page_scene.js", "page.js")) + "\n"
    )
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()  # this script and no other
    content = content_of(runs, theme_of(theme), camera or Camera(), title)
    text = json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    page = (folder / "page.html").read_text()
    title = html.escape(visible(content["title"]))
    parts = {"@TITLE@": title, "@DATA@": text, "@SCRIPT@": script, "@ALLOWED@": f"'sha256-{allowed}'"}
    return re.sub("|".join(parts), lambda found: parts[found[0]], page)  # marks inside of the parts are text


def content_of(runs: Sequence[Tracks], theme: Theme, camera: Camera, title: str) -> dict[str, Any]:
    """Content of the page, as JSON."""
    frame = frame_of(runs)
    low, high = error_range(runs)
    bodies = sorted({(place, name) for run in runs for place, name in zip(run.places, run.names, strict=True)})
    word = f", {runs[0].word}" if len(runs) == 1 and runs[0].rms is not None else ""
    subtitle = runs[0].subtitle + (f" · rms distance {runs[0].score}" if len(runs) == 1 and runs[0].score else "")
    span = max(float(run.times[-1]) for run in runs) - min(float(run.times[0]) for run in runs)
    return {
        "title": title or (runs[0].title if len(runs) == 1 else "Forecasts compared"),
        "subtitle": subtitle,
        "theme": theme.name if theme.name in THEMES else "light",
        "themes": {name: asdict(one) for name, one in {**THEMES, theme.name: theme}.items()},
        "camera": [camera.azimuth, camera.elevation, 0 if camera.distance == Camera.distance else camera.distance],
        "bodies": [[name + word, place % len(theme.bodies)] for place, name in bodies],
        "timeUnit": runs[0].time_unit,
        "digits": int(np.clip(2 - np.floor(np.log10(span)), 0, 9)),
        "errors": [low, high],
        "errorLabel": visible(f"error ({runs[0].unit})" if runs[0].unit else "error"),
        "hasBands": any(has_bands(run, frame) for run in runs),
        "hasStrands": any(len(run.strands) for run in runs),
        "runs": [_run(run, runs, frame, theme) for run in runs],
    }


def has_bands(run: Tracks, frame: Frame) -> bool:
    """Whether a band of the run is wide enough to be seen."""
    return bool(np.nanmax(run.sigma, initial=0.0) > 1e-3 * frame.extent)


def _run(run: Tracks, runs: Sequence[Tracks], frame: Frame, theme: Theme) -> dict[str, Any]:
    """One run, its lengths in units of the picture."""
    known = bool(np.isfinite(run.sigma).all())
    few = np.unique(np.linspace(0, len(run.times) - 1, FEW).astype(int))
    folds = [fold_time(run, frame, b) for b in range(len(run.names))]
    ground, _ = layers.floor(runs, frame, theme)
    return {
        "title": run.title,
        "score": run.score,
        "names": list(run.names),
        "colors": [place % len(theme.bodies) for place in run.places],
        "sizes": [radius_of(run, b) for b in range(len(run.names))],
        "trained": run.trained,
        "known": run.rms is not None,
        "timeLabel": time_label(run),
        "center": frame.place(np.zeros(3)).tolist() if run.center else None,
        "times": packed(run.times),
        "truth": packed(frame.place(run.truth)),
        "forecast": packed(frame.place(run.forecast)),
        "error": packed(run.error),
        "sigma": packed(run.sigma / frame.extent) if known else None,
        "fold": [float(fold) if np.isfinite(fold) else None for fold in folds],
        "strandTimes": packed(run.times[few]),
        "strands": [packed(frame.place(strand[few])) for strand in run.strands],
        "floor": [packed(line) for layer in ground for line in layer.lines],
        "look": {
            "tube": layers.TUBE,
            "thin": layers.THIN,
            "pale": layers.PALE,
            "dash": [layers.DASH, layers.GAP],
            "sphere": layers.SPHERE,
            "step": layers.STEP,
        },
    }


def packed(values: Array) -> str:
    """Numbers as base64 of little-endian 32-bit floats."""
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode()
