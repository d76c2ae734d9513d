"""The native window: orbit with the mouse, a time slider, and keys that play, hide and save."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from physid.plots.look import Theme, theme_of
from physid.viewer.actors import Scene
from physid.viewer.camera import Camera
from physid.viewer.gl import load_pyvista
from physid.viewer.movie import Clock
from physid.viewer.still import StillLayout
from physid.viewer.tracks import Tracks

SIZE = (1280, 800)
LENGTH = 12.0  # seconds that the whole takes at speed 1
SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0)
TRAILS = (None, 0.5, 0.25, 0.1)  # parts of the whole that trails reach back
HELP = "space play  ·  ← → step  ·  + - speed  ·  w trail  ·  t f b r hide  ·  s picture  ·  0 view  ·  q close"


class Window:
    """Runs in a window with one clock; `keys` says what each key does, `act(key)` does it."""

    def __init__(
        self,
        runs: Sequence[Tracks],
        theme: str | Theme = "dark",
        size: tuple[int, int] = SIZE,
        camera: Camera | None = None,
        title: str = "",
        folder: Path | None = None,
    ) -> None:
        self.runs, self.size, self.folder = list(runs), size, folder or Path.cwd()
        self.theme = theme_of(theme)
        self.first = min(float(run.times[0]) for run in runs)
        self.last = max(float(run.times[-1]) for run in runs)
        self.playing, self.speed, self.trail = False, 1.0, 0
        self.saved: list[Path] = []
        title = title or (runs[0].title if len(runs) == 1 else "Forecasts compared")
        plotter = load_pyvista().Plotter(
            window_size=list(size), shape=(1, len(runs)), border=False, title=f"physid · {title}"
        )
        self.scene = Scene(runs, self.theme, size, camera, (-0.9, 0.9, -0.72, 0.78), plotter)
        self.plotter: Any = plotter
        self.clock = Clock(self.scene, StillLayout(size, len(runs)))
        self.keys: dict[str, Callable[[], object]] = self._keys()
        self._words()
        self._slider()
        self.plotter.link_views()
        for key in self.keys:
            self.plotter.add_key_event(key, lambda key=key: self.act(key))
        self._before = monotonic()
        self.move(self.last)

    def _keys(self) -> dict[str, Callable[[], object]]:
        """Actions of the keys; the names are those of VTK."""
        step = (self.last - self.first) / 100
        return {
            "space": self.play,
            "Right": lambda: self.move(self.scene.time + step),
            "Left": lambda: self.move(self.scene.time - step),
            "Home": lambda: self.move(self.first),
            "End": lambda: self.move(self.last),
            "plus": lambda: self.faster(1),
            "equal": lambda: self.faster(1),
            "minus": lambda: self.faster(-1),
            "w": self.shorter,
            "t": lambda: self.toggle("truth"),
            "f": lambda: self.toggle("forecast"),
            "b": lambda: self.toggle("bands"),
            "r": lambda: self.toggle("trails"),
            "s": self.save,
            "0": self.scene.look,
        }

    def act(self, key: str) -> None:
        """Do what the key does and redraw the window."""
        self.keys[key]()
        self.plotter.render()

    def move(self, time: float) -> None:
        """Show another time, here and on the slider."""
        time = min(max(time, self.first), self.last)
        self.scene.move(time)
        self.slider.GetRepresentation().SetValue(time)
        self.slider.GetRepresentation().SetTitleText(self.clock.text(time))

    def play(self) -> None:
        """Play, from the start when the end is reached, or pause."""
        self.playing = not self.playing
        self._before = monotonic()
        if self.playing and self.scene.time >= self.last:
            self.move(self.first)

    def tick(self) -> None:
        """Let the clock run on by the time that has passed."""
        if not self.playing:
            return
        now = monotonic()
        passed, self._before = now - self._before, now
        self.move(self.scene.time + (self.last - self.first) / LENGTH * self.speed * min(passed, 0.25))
        self.playing = self.scene.time < self.last
        self.plotter.render()

    def faster(self, by: int) -> None:
        """The next or the last speed."""
        place = SPEEDS.index(self.speed) + by
        self.speed = SPEEDS[min(max(place, 0), len(SPEEDS) - 1)]

    def shorter(self) -> None:
        """The next length of the trails: all, a half, a quarter, a tenth, and all again."""
        self.trail = (self.trail + 1) % len(TRAILS)
        part = TRAILS[self.trail]
        self.scene.show(window=None if part is None else part * (self.last - self.first))

    def toggle(self, name: str) -> None:
        """Show or hide truth, forecast, bands or trails."""
        self.scene.show(**{name: not getattr(self.scene.shown, name)})

    def save(self) -> Path:
        """Save what is seen as physid-1.png, or the next number that is free, in the folder."""
        number = next(n for n in range(1, 10_000) if not (self.folder / f"physid-{n}.png").exists())
        path = self.folder / f"physid-{number}.png"
        self.plotter.screenshot(str(path))
        self.saved.append(path)
        return path

    def show(self) -> None:
        """Open the window and stay until it is closed."""
        self.plotter.show(auto_close=False, interactive_update=True)
        self.plotter.add_timer_event(10**9, 33, lambda step: self.tick())
        self.plotter.iren.start()
        self.plotter.close()

    def _words(self) -> None:
        """Title and keys; with several runs the name and score of each."""
        font = self._font()
        height = self.size[1]
        for index, run in enumerate(self.runs):
            self.plotter.subplot(0, index)
            small = {"font_file": font, "color": self.theme.muted}
            name = run.title + (f"   rms distance {run.score}" if run.score else "")
            self.plotter.add_text(name, position=(18, height - 36), font_size=11, font_file=font, color=self.theme.ink)
            if index == 0:
                self.plotter.add_text(run.subtitle, position=(18, height - 60), font_size=8, **small)
                self.plotter.add_text(HELP, position=(18, 10), font_size=7, **small)
                self._legend()

    def _legend(self) -> None:
        """Bodies and forecast, by coloured words one under another."""
        run, font = self.runs[0], self._font()
        entries = [(name, self.theme.body(place)) for name, place in zip(run.names, run.places, strict=True)]
        for row, (name, color) in enumerate([*entries, ("forecast", self.theme.forecast)]):
            place = (18, self.size[1] - 92 - 21 * row)
            sign = "- -" if name == "forecast" else "—"
            self.plotter.add_text(f"{sign} {name}", position=place, font_size=9, font_file=font, color=color)

    def _font(self) -> str:
        """The font of all pictures, which comes with matplotlib."""
        import matplotlib

        return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")

    def _slider(self) -> None:
        """The time slider, in the first picture."""
        self.plotter.subplot(0, 0)
        self.slider: Any = self.plotter.add_slider_widget(
            self._slid,
            (self.first, self.last),
            value=self.last,
            pointa=(0.06, 0.115),
            pointb=(0.94, 0.115),
            color=self.theme.muted,
            title_color=self.theme.ink,
            title_height=0.022,
            slider_width=0.016,
            tube_width=0.004,
            fmt="",
            interaction_event="always",
        )
        self.slider.GetRepresentation().SetShowSliderLabel(False)

    def _slid(self, time: float) -> None:
        """The slider was moved by hand."""
        if hasattr(self, "slider"):
            self.playing = False
            self.move(float(time))
