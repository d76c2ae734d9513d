"""Files of others: read once through one door, with limits; written whole, and never through a link."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from physid import door, read, store
from physid.cli.app import main
from physid.errors import InputError
from physid.store import LOCK, claim

ROOT = Path(__file__).parents[2]


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    path, content = tmp_path / "x.csv", b"t,x\n" + b"".join(b"%d,%d\n" % (i, i * i) for i in range(20_000))
    os.mkfifo(path)

    def write() -> None:
        with path.open("wb") as file:
            for start in range(0, len(content), 50_000):
                file.write(content[start : start + 50_000])
                file.flush()
                time.sleep(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    (found,) = read(path)
    writer.join()
    assert len(found.train) == 20_000


def test_a_substituted_process_is_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`physid data <(zcat x.csv.gz)`: a pipe without a suffix, known by its first bytes; so is an NPZ."""
    import gzip

    import numpy as np

    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(b"t [s],x\n0,1\n1,2\n2,4\n"))
    np.savez(tmp_path / "x.npz", t=np.arange(3.0), x=np.arange(3.0))
    for command in ("zcat", "x.csv.gz"), ("cat", "x.npz"):
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert main(["data", f"/dev/fd/{process.stdout.fileno()}", "--json"]) == 0
        assert '"message": "3 rows, 1 experiment"' in capsys.readouterr().out


def test_limits_are_named_and_raised_by_one_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(bytes(3000))
    with pytest.raises(InputError, match=r"holds 2.93 KiB: expected up to 1.95 KiB. Raise the limits, as in --limits"):
        door.read(path, 2000)
    monkeypatch.setenv("PHYSID_LIMITS", "1.5")
    assert len(door.read(path, 2000)) == 3000
    for wrong in ("much", "0", "-1", "inf", "nan"):
        monkeypatch.setenv("PHYSID_LIMITS", wrong)
        with pytest.raises(InputError, match="a positive number is expected"):
            door.read(path, 2000)


def test_a_pipe_that_never_ends_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "QUIET", 0.5)
    monkeypatch.setattr(door, "TOTAL", 0.1)
    out, into = os.pipe()
    done = threading.Event()

    def drip() -> None:
        while not done.wait(0.01):
            os.write(into, b"x")

    writer = threading.Thread(target=drip)
    writer.start()
    with pytest.raises(InputError, match=r"it goes on after 0\.1 s"):
        door.contents(out, Path("drip"))
    done.set()
    writer.join()
    monkeypatch.setattr(door, "TOTAL", 60.0)
    os.write(into, bytes(3000))
    with pytest.raises(InputError, match=r"holds more than 1\.95 KiB"):
        door.contents(out, Path("drip"), 2000)
    os.close(into)
    os.close(out)


def link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def listen(path: Path) -> None:
    """A socket's file, by a short name: its length is limited."""
    with socket.socket(socket.AF_UNIX) as made:
        here = os.getcwd()
        os.chdir(path.parent)
        made.bind(path.name)
        os.chdir(here)


MAKERS: dict[str, Callable[[Path], object]] = {"link": link, "pipe": os.mkfifo, "folder": Path.mkdir, "socket": listen}


@pytest.mark.parametrize("kind", MAKERS)
def test_inside_a_folder_there_are_plain_files_only(kind: str, tmp_path: Path) -> None:
    MAKERS[kind](tmp_path / "a")
    for act in (
        lambda: door.inside(tmp_path, "a"),
        lambda: door.there(tmp_path, "a"),
        lambda: store.lock(tmp_path, "a"),
    ):
        with pytest.raises(InputError, match=rf"{tmp_path}/a is a {kind}: inside a run or a cache"):
            act()
    if kind != "folder":
        with pytest.raises(InputError, match=f"is a {kind}"):
            door.check_plain(tmp_path)
    if kind != "link":
        with pytest.raises(OSError, match=f"a {kind} stands there"):
            store.put(tmp_path / "a", b"new")


def test_names_do_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "run").mkdir()
    for names in (("../secret",), ("..", "secret"), (str(tmp_path / "secret"),), ("",)):
        with pytest.raises(InputError, match="leads out of its folder"):
            door.inside(tmp_path / "run", *names)
    (tmp_path / "way").symlink_to("run")
    (tmp_path / "run" / "cells").symlink_to("..")
    (tmp_path / "run" / "a").write_text("y")
    assert door.inside(tmp_path / "way", "a") == b"y"  # the folder itself may be a link
    with pytest.raises(InputError, match=r"cells is a link"):
        door.inside(tmp_path / "way", "cells", "secret")


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    """Neither through the file's own name, nor through any name beside it that could be foreseen."""
    target = tmp_path / "target"
    target.write_text("dear")
    run = tmp_path / "run"
    run.mkdir()
    for name in ("report.txt", ".report.txt.new", "lock"):
        (run / name).symlink_to(target)
    store.put(run / "report.txt", b"new")
    assert (run / "report.txt").read_text() == "new"
    assert not (run / "report.txt").is_symlink()
    with pytest.raises(InputError, match="is a link"):
        claim(run)
    (run / ".report.txt.new").unlink()
    with pytest.raises(InputError, match=f"{LOCK} is a link"):
        claim(run)
    assert target.read_text() == "dear"


def test_the_names_beside_are_new_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, real = [], os.open

    def watch(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_CREAT:
            assert flags & os.O_EXCL
            assert flags & os.O_NOFOLLOW
            made.append(path)
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", watch)
    for _ in range(3):
        store.put(tmp_path / "a", b"x")
    assert len(set(made)) == 3


def test_what_killed_processes_leave_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = tmp_path / f".a.json.{'0' * 16}.new"
    mine = tmp_path / ".a.json.new"
    left.touch()
    mine.touch()
    store.clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [mine.name]
    gone = tmp_path / f".run.{'0' * 16}.making"
    gone.mkdir()
    (tmp_path / ".run.backup").mkdir()
    with store.scratch(tmp_path, ".run"):
        assert gone.exists()  # it is new: its process may be about to lock it
    monkeypatch.setattr(store, "GRACE", -1.0)
    with store.scratch(tmp_path, ".run") as one:
        assert not gone.exists()
        with store.scratch(tmp_path, ".run") as other:
            assert one.exists()  # it is in use
        assert not other.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [mine.name, ".run.backup"]


def test_a_folder_that_cannot_be_held_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **keywords: object) -> int:
        raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        with pytest.raises(OSError, match="Too many open files"), store.scratch(tmp_path, ".stem"):
            pass
    assert list(tmp_path.iterdir()) == []
