"""Horizons tables: read with care, found or fetched, and the experiment they make."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from physid.datasets import load
from physid.datasets.fetch import cache_folder, download
from physid.datasets.horizons import FOLDER, TARGETS, parse_table
from physid.datasets.solarsystem import GM
from physid.errors import InputError, MissingError

# The head and the foot of an answer of the service, recorded and shortened.
HEAD = """\
API VERSION: 1.2
API SOURCE: NASA/JPL Horizons API

*******************************************************************************
 Revised: April 12, 2021               {body}                              {number}

 PHYSICAL DATA:
  GM (km^3/s^2)         = 126686531.900     GM 1-sigma (km^3/s^2) =  +- 1.2732
*******************************************************************************
Ephemeris / API_USER Sat Jul 10 13:40:38 2021 Pasadena, USA      / Horizons
*******************************************************************************
Target body name: {body} ({number})                   {{source: jup365_merged}}
Center body name: Solar System Barycenter (0)     {{source: DE441}}
Center-site name: BODY CENTER
*******************************************************************************
Start time      : A.D. 1900-Jan-01 00:00:00.0000 TDB
Stop  time      : A.D. 2100-Jan-01 00:00:00.0000 TDB
Step-size       : 72000 minutes
*******************************************************************************
Output units    : AU-D
Output type     : GEOMETRIC cartesian states
Output format   : 2 (position and velocity)
Reference frame : ICRF
*******************************************************************************
JDTDB
   X     Y     Z
   VX    VY    VZ
*******************************************************************************
$$SOE
"""
FOOT = """\
$$EOE
*******************************************************************************
Coordinate system description:
"""


def printed(body: str, rows: int = 80) -> str:
    """A table as the service prints it: circles about the barycentre, every 100 days from 1970."""
    number, _ = TARGETS[body]
    place = list(TARGETS).index(body)
    radius, rate = (5.0 * place, 1e-3 / place) if place else (5e-3, 1e-3)
    lines = []
    for k in range(rows):
        epoch = 2440600.5 + 100.0 * k
        c, s = radius * np.cos(rate * 100.0 * k), radius * np.sin(rate * 100.0 * k)
        lines.append(f"{epoch:.9f} = A.D. 1970-Jan-15 00:00:00.0000 TDB ")
        lines.append(f" X ={c:22.15E} Y ={s:22.15E} Z ={0.1 * radius:22.15E}")
        lines.append(f" VX={-rate * s:22.15E} VY={rate * c:22.15E} VZ={0.0:22.15E}")
    return HEAD.format(body=body.capitalize(), number=number) + "\n".join(lines) + "\n" + FOOT


TEXT = printed("jupiter")


def test_a_table_is_read() -> None:
    table = parse_table(TEXT, "Jupiter.txt", "jupiter")
    assert table.epochs.shape == (80,)
    assert table.states.shape == (80, 2, 3)
    assert table.epochs[1] == 2440700.5
    np.testing.assert_allclose(table.states[0], [[5.0, 0.0, 0.5], [0.0, 5e-3, 0.0]], atol=1e-15)
    np.testing.assert_array_equal(table.at(table.epochs[3:5]), table.states[3:5])


def test_the_hash_is_of_the_lines_of_the_table() -> None:
    lines = TEXT.split("$$SOE\n")[1].split("$$EOE")[0].splitlines()
    expected = hashlib.sha256("\n".join(line.rstrip() for line in lines).encode()).hexdigest()
    elsewhere = TEXT.replace("Sat Jul 10", "Sun Jul 11").replace("\n", "\r\n")
    assert parse_table(TEXT, "a", "jupiter").sha256 == expected == parse_table(elsewhere, "b", "jupiter").sha256
    assert parse_table(TEXT.replace("000E-01", "001E-01", 1), "c", "jupiter").sha256 != expected


def cut(text: str, start: int, stop: int) -> str:
    """`text` without the lines from `start` to before `stop`, counted from one."""
    lines = text.splitlines(keepends=True)
    return "".join(lines[: start - 1] + lines[stop - 1 :])


FIRST = TEXT[: TEXT.index("$$SOE")].count("\n") + 2  # the line of the first epoch
BROKEN: dict[str, tuple[Callable[[str], str], str]] = {
    "empty": (lambda text: "", r"0 lines are \$\$SOE.*begins with 'nothing'"),
    "refusal": (lambda text: 'No matches found for "599"', r"0 lines are \$\$SOE.*No matches found"),
    "cut short": (lambda text: text[: text.index("$$EOE")], r"0 lines are \$\$EOE"),
    "twice": (lambda text: text + text, r"2 lines are \$\$SOE"),
    "marks swapped": (
        lambda text: text.replace("$$SOE", "$$X").replace("$$EOE", "$$SOE").replace("$$X", "$$EOE"),
        r"\$\$EOE stands before \$\$SOE",
    ),
    "no rows": (lambda text: cut(text, FIRST, FIRST + 240), f"line {FIRST}: the table ends after 0 lines"),
    "other body": (lambda text: text.replace("Jupiter", "Saturn"), r"'Target body name' is 'Saturn.*COMMAND='599'"),
    "heliocentric": (lambda text: text.replace("Solar System Barycenter (0)", "Sun (10)"), "CENTER='500@0'"),
    "kilometres": (lambda text: text.replace("AU-D", "KM-S"), "'Output units' is 'KM-S': expected AU-D"),
    "apparent": (lambda text: text.replace("GEOMETRIC", "LT+S"), "VEC_CORR='NONE'"),
    "positions alone": (lambda text: text.replace(": 2 (position and velocity)", ": 1 (position)"), "VEC_TABLE='2'"),
    "ecliptic": (lambda text: text.replace(": ICRF", ": Ecliptic of J2000.0"), "REF_PLANE='FRAME'"),
    "no units": (lambda text: text.replace("Output units", "Units"), "no line says 'Output units'"),
    "line missing": (lambda text: cut(text, FIRST + 1, FIRST + 2), f"line {FIRST + 1}: 'VX=.* is not a position"),
    "line at the end missing": (lambda text: cut(text, FIRST + 239, FIRST + 240), "the table ends after 239 lines"),
    "comma separated": (lambda text: text.replace(" = A.D.", ", A.D."), f"line {FIRST}: .*is not an epoch"),
    "overflow": (lambda text: text.replace("E-01", "E-01E", 1), f"line {FIRST + 1}: .*is not a position"),
    "infinite": (lambda text: text.replace(" X = 5.000000000000000E+00", " X = 5.0E+999", 1), "is not a position"),
    "repeated": (
        lambda text: text.replace("2440700.5", "2440600.5"),
        f"line {FIRST + 3}: the epoch is not later than the one before",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_table_is_refused_with_its_line(case: str) -> None:
    spoil, message = BROKEN[case]
    spoilt = spoil(TEXT)
    assert spoilt != TEXT
    with pytest.raises(InputError, match=r"^Jupiter\.txt[,:] .*" + message):
        parse_table(spoilt, "Jupiter.txt", "jupiter")


@given(place=st.floats(0.0, 1.0), character=st.sampled_from(list("\0x9-.E$*\n =")))
def test_a_changed_character_is_refused_or_read(place: float, character: str) -> None:
    at = int(place * (len(TEXT) - 1))
    refusal, table = None, None
    try:
        table = parse_table(TEXT[:at] + character + TEXT[at + 1 :], "Jupiter.txt", "jupiter")
    except InputError as error:
        refusal = str(error)
    assert refusal is None or refusal.startswith("Jupiter.txt")
    assert table is None or (table.states.shape == (80, 2, 3) and bool(np.isfinite(table.states).all()))


def write_tables(folder: Path, *bodies: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for body in bodies:
        (folder / f"{body.capitalize()}.txt").write_text(printed(body))
    return folder


def test_tables_are_found_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = write_tables(tmp_path / "data" / FOLDER, "sun", "jupiter")
    monkeypatch.setenv("PHYSID_DATA", str(tmp_path / "data"))
    found = load("solarsystem", bodies="jupiter, Sun", window="1970-1985")
    assert found.channels == ("jupiter.x", "jupiter.y", "jupiter.z")
    assert found.initial_free.tolist() == [[[False] * 3, [True] * 3]] * 2
    assert found.start["gm"].tolist() == [2.95e-4, 0.0]
    with pytest.raises(InputError, match=r"has no Saturn\.txt"):
        load("solarsystem", bodies="sun,saturn", window="1970-1985")
    with pytest.raises(InputError, match=r"has no Sun\.txt"):
        load("solarsystem", tables=str(write_tables(tmp_path / "other", "jupiter")))
    monkeypatch.setenv("PHYSID_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"PHYSID_DATA is .*no folder"):
        load("solarsystem")
    monkeypatch.delenv("PHYSID_DATA")
    monkeypatch.setenv("PHYSID_CACHE", str(tmp_path / "cache"))
    write_tables(tmp_path / "cache" / FOLDER, "sun", "jupiter")
    assert load("solarsystem", bodies="sun,jupiter", window=(1970, 1985)).data_hash == found.data_hash
    assert load("solarsystem", bodies="sun,jupiter", window="1970-1985", tables=named).data_hash == found.data_hash


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": "1960-1985"}, "a window inside it with at least 8"),
        ({"window": "1970-1971"}, "has 4 epochs common to the tables, which cover 1970.0-1991.7"),
        ({"window": "1985-1970"}, "the earlier first"),
        ({"window": "1970"}, "the earlier first"),
        ({"window": "nan-1990"}, "the earlier first"),
        ({"bodies": "jupiter"}, "the sun and one or more others"),
        ({"bodies": "sun"}, "the sun and one or more others"),
        ({"bodies": "sun,sun,jupiter"}, "each once"),
        ({"bodies": "sun,mars"}, "out of sun, jupiter"),
        ({"tables": "/no/such/folder"}, "a folder that exists"),
    ],
)
def test_what_the_tables_do_not_hold_is_refused(tmp_path: Path, options: dict[str, str], message: str) -> None:
    folder = write_tables(tmp_path, "sun", "jupiter")
    with pytest.raises(InputError, match=message):
        load("solarsystem", **{"tables": str(folder), "bodies": "sun,jupiter", **options})


def test_without_later_epochs_there_is_no_test(tmp_path: Path) -> None:
    folder = write_tables(tmp_path, "sun", "jupiter")
    assert load("solarsystem", tables=folder, bodies="sun,jupiter", window="1970-1991.7").test is None


class Service:
    """A local service that answers as Horizons does; `answer` decides what it sends for a body."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.answer: Callable[[str], tuple[int, bytes]] = lambda body: (200, printed(body).encode())
        bodies = {number: body for body, (number, _) in TARGETS.items()}
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = {name: values[0].strip("'") for name, values in parse_qs(urlparse(self.path).query).items()}
                service.asked.append(query)
                status, text = service.answer(bodies[query["COMMAND"]])
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *arguments: object) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/horizons.api"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Service]:
    """A running service, and an empty cache."""
    running = Service()
    thread = threading.Thread(target=running.server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.delenv("PHYSID_DATA", raising=False)
    monkeypatch.setenv("PHYSID_HORIZONS", running.url)
    monkeypatch.setenv("PHYSID_CACHE", str(tmp_path / "cache"))
    yield running
    running.server.shutdown()
    thread.join()
    running.server.server_close()


def cached() -> list[str]:
    return sorted(path.name for path in (cache_folder() / FOLDER).iterdir())


def test_tables_are_fetched_once_and_kept(service: Service) -> None:
    first = load("solarsystem", window="1970-1985")
    assert [query["COMMAND"] for query in service.asked] == ["10", "599", "699", "799", "899"]
    asked = service.asked[1]
    needed = {"CENTER": "500@0", "OUT_UNITS": "AU-D", "VEC_TABLE": "2", "REF_PLANE": "FRAME", "VEC_CORR": "NONE"}
    assert needed.items() <= asked.items()
    assert asked["format"] == "text"
    assert asked["STEP_SIZE"] == "50 d"
    assert cached() == ["Jupiter.txt", "Neptune.txt", "Saturn.txt", "Sun.txt", "Uranus.txt"]
    assert load("solarsystem", window="1970-1985").data_hash == first.data_hash
    assert len(service.asked) == 5


@pytest.mark.parametrize(
    ("status", "text", "message"),
    [
        (503, b"busy", "503"),
        (200, b"No ephemeris for target", "the answer of the service: .*No ephemeris for target"),
        (200, TEXT.encode()[:5000], r"0 lines are \$\$EOE"),
        (200, printed("saturn").encode(), "Target body name"),
    ],
)
def test_a_bad_answer_leaves_nothing_behind(service: Service, status: int, text: bytes, message: str) -> None:
    service.answer = lambda body: (status, text) if body == "jupiter" else (200, printed(body).encode())
    with pytest.raises(MissingError, match=message) as caught:
        load("solarsystem", window="1970-1985")
    assert "the table of jupiter is not on this machine" in str(caught.value)
    assert "Sun.txt, Jupiter.txt, Saturn.txt" in str(caught.value)
    assert str(cache_folder() / FOLDER) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert cached() == ["Sun.txt"]


def test_without_a_network_one_line_says_what_to_do(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHYSID_HORIZONS", "http://127.0.0.1:9/horizons.api")
    with pytest.raises(
        MissingError, match=r"Put the Horizons vector tables .* into .*, or name their folder"
    ) as caught:
        load("solarsystem")
    assert caught.value.exit_code == 5
    assert "\n" not in str(caught.value)


def test_a_cache_that_cannot_be_written_has_a_stand_in(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PHYSID_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    load("solarsystem", window="1970-1985")
    assert cache_folder().parent == tmp_path
    assert cached() == ["Jupiter.txt", "Neptune.txt", "Saturn.txt", "Sun.txt", "Uranus.txt"]


def test_download_checks_the_sha256(service: Service, tmp_path: Path) -> None:
    url = f"{service.url}?COMMAND=%27599%27"
    right = hashlib.sha256(TEXT.encode()).hexdigest()
    assert download(url, tmp_path / "here" / "table.txt", sha256=right).read_text() == TEXT
    with pytest.raises(MissingError, match="sent a file with sha256"):
        download(url, tmp_path / "other.txt", sha256="0" * 64)
    assert not list(tmp_path.glob("*other*"))
    with pytest.raises(MissingError, match="no address of https"):
        download("nonsense:/", tmp_path / "other.txt")


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PHYSID_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("PHYSID_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "physid"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    assert cache_folder().name == "physid"
    assert tmp_path in cache_folder().parents


@pytest.mark.data
def test_the_measured_tables() -> None:
    experiment = load("solarsystem")
    assert len(experiment.train) == 110
    assert experiment.test is not None
    assert experiment.test.times[0] > experiment.train.times[-1]
    assert experiment.train.observations.shape == (110, 4, 3)
    # Kepler's third law, GM = 4 pi^2 a^3 / T^2, from Jupiter's published mean motion: right to a thousandth
    motion, axis = np.deg2rad(0.0831294), 5.2026
    assert motion**2 * axis**3 == pytest.approx(experiment.truth["gm"][:2].sum(), rel=2e-3)
    distance = experiment.train.observations[:, 0].norm(dim=-1)
    assert 4.9 < distance.min().item() < distance.max().item() < 5.5
    assert experiment.data_hash == load("solarsystem", window="1940-1950").data_hash
    assert experiment.data_hash != load("solarsystem", bodies="sun,jupiter").data_hash
    assert set(GM) == set(TARGETS)
