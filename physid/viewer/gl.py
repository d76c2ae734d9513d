"""OpenGL: whether pictures can be made on this machine, tried in a child process, since a failure ends a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from physid.errors import MissingError

WINDOW = "VTK_DEFAULT_OPENGL_WINDOW"
EGL = "vtkEGLRenderWindow"
PACKAGES = "libegl1 libgl1-mesa-dri (Debian, Ubuntu) or mesa-libEGL mesa-dri-drivers (Fedora)"
SECONDS = 60.0

# Renders a small sphere and looks at its pixels; a machine without GL ends this process instead of ours.
PROBE = """
import json, re, pyvista
plotter = pyvista.Plotter(off_screen=True, window_size=(64, 64))
plotter.set_background("black")
plotter.add_mesh(pyvista.Sphere(), color="white", lighting=False)
image = plotter.screenshot(return_img=True)
said = plotter.render_window.ReportCapabilities()
found = re.search(r"OpenGL renderer string: *(.*)", said)
print(json.dumps({
    "window": plotter.render_window.GetClassName(),
    "renderer": found.group(1).strip() if found else "",
    "good": bool(image[32, 32].min() > 200 and image[0, 0].max() < 50),
}))
"""


@dataclass(frozen=True)
class Probe:
    """Result of the child process: the class of the render window and the renderer, or why no picture came about."""

    window: str = ""
    renderer: str = ""
    reason: str = ""

    @property
    def works(self) -> bool:
        """Whether the picture was right."""
        return not self.reason


def off_screen() -> None:
    """Let VTK render without a window system; to be called before VTK is imported, which it then keeps to."""
    os.environ.setdefault(WINDOW, EGL)


def load_pyvista() -> Any:
    """The package pyvista, imported when the first picture is made; VTK keeps to the kind of window it finds then."""
    return import_module("pyvista")


def has_display() -> bool:
    """Whether a window could be opened at all."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def probe(window: bool = False) -> Probe:
    """Try to render a sphere in a child process, off screen or with the machine's own kind of window."""
    environment = dict(os.environ)
    if not window:
        environment.setdefault(WINDOW, EGL)
    command = [sys.executable, "-c", PROBE]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Probe(reason=f"a trial took longer than {SECONDS:g} s")
    if done.returncode < 0:
        return Probe(reason=f"a trial was ended by {signal.Signals(-done.returncode).name}")
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no message"]
        return Probe(reason=f"a trial failed: {said[-1][:200]}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    reason = "" if found["good"] else "a trial rendered wrong pixels"
    return Probe(found["window"], found["renderer"], reason)


_proved: list[Probe] = []  # the probe that worked off screen, once it has: the machine is not tried again


def require(window: bool = False, found: Probe | None = None) -> Probe:
    """The probe of a machine that can make pictures; MissingError, in one line, on one that cannot.

    `found` is a probe that was made before; otherwise one is made, once in a process.
    """
    if found is None and _proved and not window:
        return _proved[0]
    found = found or probe(window)
    if not found.works:
        raise MissingError(
            f"pictures need OpenGL, which does not work here ({found.reason}): install {PACKAGES}, or do without: "
            "--html FILE writes a page that needs none, --no-pictures leaves pictures out."
        )
    if not window:
        off_screen()
        _proved[:] = [found]
    return found
