"""The page in a real browser with the network off: by its pixels, by its slider, by keys and by touch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from browser import PROGRAM, Browser
from viewing import circles, like

from physid.plots import DARK, LIGHT
from physid.viewer import page

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("page")
    run = circles(sigma=np.full((201, 2), 0.1), title="circles of a test")
    path = page(run).save(folder / "a.html")
    try:
        browser = Browser(path, folder / "home", (900, 640))
    except (RuntimeError, OSError) as error:
        pytest.skip(f"Chromium does not start: {error}")
    with browser:
        yield browser


def slide(browser: Browser, part: float) -> None:
    """Move the slider by hand."""
    browser.run(f"(() => {{ const s = $('slider'); s.value = {1000 * part}; s.dispatchEvent(new Event('input')); }})()")


def scene(image: np.ndarray) -> np.ndarray:
    """The part of the page in which the scene is."""
    return image[125:460]


def test_it_opens_without_the_network_and_without_an_error(browser: Browser) -> None:
    assert browser.run("document.title") == "circles of a test"
    assert browser.run("$('legend').innerText.split('\\n').map((x) => x.trim()).filter(Boolean).join('|')") == (
        "body 1, truth|body 2, truth|forecast|±1σ, ±2σ|end of training"
    )
    assert browser.run("performance.getEntriesByType('resource').length") == 0
    assert browser.errors == []


def test_the_scene_is_drawn_and_grows_with_the_slider(browser: Browser) -> None:
    if not browser.run("Boolean(document.createElement('canvas').getContext('webgl2'))"):
        pytest.skip("this Chromium has no WebGL 2")
    counts = []
    for part in (0.02, 0.5, 0.75, 1.0):
        slide(browser, part)
        image = scene(browser.picture())
        counts.append(int(like(image, LIGHT.forecast, 0.15).sum()))
        assert browser.run("physid.state.time") == pytest.approx(part, abs=1e-6)
    assert counts[0] < counts[1] < counts[2] < counts[3]
    assert counts[3] > 4 * counts[0] > 0
    browser.key("b")  # the bands would tint the colours
    browser.key("f")
    image = scene(browser.picture())
    for body in range(2):
        assert like(image, LIGHT.body(body)).sum() > 100
    assert like(image, LIGHT.forecast).sum() < counts[3] // 20  # the edge of a word at most
    for key in "bf":
        browser.key(key)


def test_bodies_are_where_the_camera_projects_them(browser: Browser) -> None:
    if not browser.run("Boolean(scene.gl)"):
        pytest.skip("this Chromium has no WebGL 2")
    slide(browser, 0.25)
    for key in "fbr":
        browser.key(key)
    image = browser.picture()
    where = """(() => { const run = runs[0], box = $('scene').getBoundingClientRect();
        const view = camera.matrix(scene.points, box.width / box.height).m;
        const p = [...at(run.truth[BODY], run.times, 0.25), 1];
        const [x, y, , w] = [0, 1, 2, 3].map((r) => [0, 1, 2, 3].reduce((s, c) => s + view[4 * c + r] * p[c], 0));
        return [box.left + (x / w + 1) / 2 * box.width, box.top + (1 - y / w) / 2 * box.height]; })()"""
    for body in range(2):
        mask = like(image, LIGHT.body(body))
        mask[:110] = mask[480:] = False
        rows, columns = np.nonzero(mask)
        wanted = browser.run(where.replace("BODY", str(body)))
        assert (columns.mean(), rows.mean()) == pytest.approx(wanted, abs=2.0)
    for key in "fbr":
        browser.key(key)


def test_keys_play_step_and_change_the_theme(browser: Browser) -> None:
    browser.key("Home")
    assert browser.run("physid.state.time") == 0.0
    browser.key("ArrowRight")
    assert browser.run("physid.state.time") == pytest.approx(0.01)
    browser.key(" ")
    browser.wait("physid.state.time > 0.03")
    browser.key(" ")
    assert browser.run("physid.state.playing") is False
    browser.key("d")
    assert like(browser.picture()[:110], DARK.body(0)).sum() > 30
    browser.key("d")
    browser.key("b")
    assert browser.run("$('show-bands').getAttribute('aria-pressed')") == "false"
    browser.key("b")


def test_a_finger_turns_the_scene_and_a_phone_has_room(browser: Browser) -> None:
    before = browser.run("[camera.azimuth, camera.elevation]")
    browser.touch((300, 300), (340, 310), (400, 320))
    after = browser.run("[camera.azimuth, camera.elevation]")
    assert after != before
    browser.key("0")
    assert browser.run("[camera.azimuth, camera.elevation]") == before
    browser.resize(390, 700, mobile=True)
    assert browser.run("document.documentElement.scrollWidth") <= 390
    assert browser.run("$('main').clientHeight") > 200
    assert browser.run("$('play').getBoundingClientRect().bottom") <= 700
    browser.resize(900, 640)
    assert browser.errors == []
