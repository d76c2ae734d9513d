"""What would cost hours or memory by a slip, or by a stranger's server, is refused before it costs anything."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from physid.cli.app import main
from physid.datasets import fetch
from physid.datasets.fetch import download
from physid.errors import InputError, MissingError
from physid.inference.fit_options import FitOptions

Captured = pytest.CaptureFixture[str]
Answer = Callable[[BaseHTTPRequestHandler], None]


def headers(handler: BaseHTTPRequestHandler, **sent: str) -> None:
    handler.send_response(200 if "Location" not in sent else 302)
    for name, value in sent.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()


def short(handler: BaseHTTPRequestHandler) -> None:
    """Promises a hundred bytes and sends ten."""
    headers(handler, Content_Length="100")
    handler.wfile.write(bytes(10))


def huge(handler: BaseHTTPRequestHandler) -> None:
    headers(handler, Content_Length=str(2**40))


def endless(handler: BaseHTTPRequestHandler) -> None:
    """Says nothing of a length, and never ends."""
    headers(handler)
    try:
        while True:
            handler.wfile.write(bytes(1 << 16))
    except OSError:
        pass


def slow(handler: BaseHTTPRequestHandler) -> None:
    """A byte now and then: no single wait is long."""
    headers(handler, Content_Length="1000")
    try:
        for _ in range(200):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.05)
    except OSError:
        pass


def silent(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(3.0)


def elsewhere(handler: BaseHTTPRequestHandler) -> None:
    headers(handler, Location="http://127.0.0.1:9/other")


def local_file(handler: BaseHTTPRequestHandler) -> None:
    headers(handler, Location="file:///etc/passwd")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], str]]:
    """Makes the address of a server that answers so."""
    running = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self)

            def log_message(self, format: str, *arguments: object) -> None:
                """Keep quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        running.append(server)
        return f"http://127.0.0.1:{server.server_port}/file"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (short, "10 of 100 bytes came, and then the end"),
        (huge, "sends 1.02e.03 GiB: expected up to 977 KiB; raise the limits, as in --limits"),
        (endless, ": expected up to 977 KiB"),
        (slow, "it takes longer than 0.5 s"),
        (silent, "it takes longer than 0.5 s"),
        (elsewhere, "it leads to http://127.0.0.1:9/other, and only https is followed"),
        (local_file, "it leads to file:///etc/passwd, and only https is followed|not allowed"),
    ],
)
def test_a_bad_server_ends_in_one_line_and_leaves_nothing(
    answer: Answer, part: str, serve: Callable[[Answer], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "LARGEST", 1_000_000)
    if answer in (slow, silent):
        monkeypatch.setattr(fetch, "TOTAL", 0.5)
    began = time.monotonic()
    with pytest.raises(MissingError, match=part) as caught:
        download(serve(answer), tmp_path / "here")
    assert time.monotonic() - began < 2.5 or answer not in (slow, silent)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["http://example.org/x", "file:///etc/passwd", "ftp://example.org/x", "x"])
def test_only_https_is_fetched_from(url: str, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no address of https"):
        download(url, tmp_path / "here")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["fit", "pendulum", "--starts", "100000000"], "--starts: expected a whole number from 1 to 10000 "),
        (
            ["fit", "pendulum", "--starts", "3", "--workers", "100000"],
            "--workers: expected a whole number from 1 to 256 ",
        ),
        (["fit", "pendulum", "--ensemble", "100000000"], "--seeds: expected a whole number from 1 to 1000 "),
        (["fit", "pendulum", "--optimizer", "adam", "--epochs", "99999999999"], "from 1 to 10000000 "),
        (["fit", "pendulum", "--seed", "-1"], "--seed: expected a whole number from 0 to 4294967295"),
        (["fit", "pendulum", "--seed", "99999999999999999999999"], "from 0 to 4294967295 "),
        (["fit", "pendulum", "--points", "1000000000000"], "a whole number from 2 to 1000000 (more with --limits)"),
        (["simulate", "threebody", "--points", "9" * 400], "a whole number from 8 to 1000000"),
        (["fit", "images-toy", "--model", "node18", "--set", "size=100000"], "a whole number from 8 to 1024"),
        (["fit", "threebody", "--model", "lstm", "--hidden", "100000000"], "a whole number from 1 to 16384"),
    ],
)
def test_absurd_numbers_are_refused_at_once(arguments: list[str], part: str, capsys: Captured) -> None:
    began = time.process_time()
    assert main(arguments) == 2
    assert part in capsys.readouterr().err
    assert time.process_time() - began < 10


def test_limits_are_raised_by_one_option(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"from 1 to 10000 \(more with --limits\), got 20000"):
        FitOptions(starts=20_000)
    monkeypatch.setenv("PHYSID_LIMITS", "2")
    assert FitOptions(starts=20_000).starts == 20_000
