"""The cache of compiled code: the user's alone, checked before it is loaded, and no reason to fail."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from physid import machine
from physid.errors import InputError
from physid.machine import cache_folder, compiler_command, distrust, private, wished_folder
from physid.ode.caching import Cache
from physid.ode.native.compiler import build
from physid.ode.native.compiler.disk_cache import Cabinet
from physid.ode.native.compiler.trace import Unsupported

OTHER = 12345  # another user
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
pytestmark = pytest.mark.optimised  # the cache as the product fills it
compiled = pytest.mark.skipif(compiler_command() is None, reason="no C compiler")


linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are listed by Linux")


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache and a temporary folder of this test's; nothing that was loaded or hung before counts."""
    monkeypatch.setenv("PHYSID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir(mode=0o777)
    (tmp_path / "tmp").chmod(0o1777)
    monkeypatch.setattr(build, "LOADED", Cache(8))
    monkeypatch.setattr(build, "HANGS", [])
    build.version.cache_clear()
    machine._of_this_process.cache_clear()
    yield tmp_path
    build.version.cache_clear()


TEXT = "int answer(void) { return NUMBER; }\n"


def last() -> ctypes.CDLL:
    """The library that was loaded last, which counts as not loaded any more."""
    found = build.LOADED.values()[-1]
    build.LOADED.clear()
    return found


def answer(number: int) -> ctypes.CDLL:
    """A library whose `answer()` is that number."""
    return build.load(build.Target(f"answer {number}", lambda: TEXT.replace("NUMBER", str(number)), ("-O0",)))[0]


def reason(number: int = 1) -> str:
    with pytest.raises(Unsupported) as caught:
        answer(number)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- where it is


def test_the_cache_is_the_users_alone(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == own / "cache"
    assert (own / "cache").stat().st_mode & 0o777 == 0o700
    (own / "cache").chmod(0o755)
    assert cache_folder() == own / "cache"
    assert (own / "cache").stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("PHYSID_CACHE", "cache")
    with pytest.raises(InputError, match="an absolute path is expected"):
        cache_folder()
    monkeypatch.delenv("PHYSID_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", str(own / "home"))
    assert wished_folder().is_absolute()
    assert wished_folder().is_relative_to(own / "home")


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_a_folder_that_others_can_write_has_a_stand_in(mode: int, own: Path) -> None:
    (own / "cache").mkdir()
    os.chown(own / "cache", -1, 54321) if os.geteuid() == 0 else None
    (own / "cache").chmod(mode)
    if not distrust(own / "cache"):
        pytest.skip("the group is this user's own")
    folder, why = private(own / "cache")
    assert folder == own / "tmp" / f"physid-{os.geteuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert "can write into" in why
    assert list((own / "cache").iterdir()) == []


def test_a_folder_on_the_way_down_counts(own: Path) -> None:
    (own / "open" / "cache").mkdir(parents=True)
    (own / "open").chmod(0o777)
    assert distrust(own / "open" / "cache") == f"everyone can write into {own / 'open'}"
    (own / "way").symlink_to(own / "open")
    assert "everyone can write" in distrust(own / "way" / "cache")
    (own / "open").chmod(0o1777)  # as /tmp is
    assert distrust(own / "open" / "cache") == ""


@root
def test_a_folder_of_someone_else_has_a_stand_in(own: Path) -> None:
    (own / "cache").mkdir()
    os.chown(own / "cache", OTHER, -1)
    assert private(own / "cache")[1] == f"{own / 'cache'} belongs to the user {OTHER}"
    stand_in = own / "tmp" / f"physid-{os.geteuid()}"
    os.chown(stand_in, OTHER, -1)  # and someone was there first
    folder, _ = private(own / "cache")
    assert folder.parent == own / "tmp"
    assert folder.name.startswith("physid-cache-")
    machine._remove(folder, os.getpid())
    assert not folder.exists()


# --- what is loaded


@compiled
def test_two_kernels_in_turn(own: Path) -> None:
    """Each answers as itself, again and again, when both are open and when the files are new in the process."""
    first, second = answer(1), answer(2)
    for _ in range(3):
        assert (first.answer(), second.answer()) == (1, 2)
        build.LOADED.clear()
        first, second = answer(1), answer(2)
    names = sorted(path.name for path in (own / "cache" / "native").iterdir())
    assert [Path(name).suffix for name in names].count(".so") == 2
    assert len(names) == 4  # and their sums: nothing half made is left


@compiled
def test_a_library_is_not_written_again(own: Path) -> None:
    answer(1)
    before = {path.name: path.stat().st_ino for path in (own / "cache" / "native").glob("*.so")}
    next((own / "cache" / "native").glob("*.sum")).unlink()
    build.LOADED.clear()
    assert answer(1).answer() == 1
    assert {path.name: path.stat().st_ino for path in (own / "cache" / "native").glob("*.so")} == before


@compiled
def test_damage_is_made_anew_and_what_others_could_write_is_refused(own: Path) -> None:
    answer(1)
    (library,) = (own / "cache" / "native").glob("*.so")
    good = library.read_bytes()
    build.LOADED.clear()
    library.unlink()  # this process has loaded it, and runs its last lines when it ends
    library.write_bytes(good[:1000])
    cabinet = Cabinet(library.parent)
    (sums,) = library.parent.glob("*.sum")
    assert cabinet.find(sums.stem) is None
    cabinet.keep(sums.stem, good)
    assert cabinet.find(sums.stem) == library
    library.chmod(0o666)
    assert "could have been written by others" in reason()
    library.chmod(0o644)
    if os.geteuid() == 0:
        os.chown(library, OTHER, -1)
        assert "could have been written by others" in reason()
        os.chown(library, 0, -1)
    library.rename(own / "elsewhere.so")
    library.symlink_to(own / "elsewhere.so")
    assert f"{library} is a link" in reason()
    library.unlink()
    library.mkdir()
    assert f"{library} is a folder" in reason()
    library.rmdir()
    os.mkfifo(library)
    assert f"{library} is a pipe" in reason()


@compiled
def test_a_planted_library_is_not_loaded(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a cache that others may write, a library with a fitting sum is passed by; where it is named, it counts."""
    answer(1)
    native = own / "cache" / "native"
    (sums,) = native.glob("*.sum")
    library = last()._name
    planted = answer(2)._name
    shared = own / "shared" / "native"
    shutil.copytree(native, shared)
    (shared / sums.name).write_text(Path(planted).stem)
    build.LOADED.clear()
    for folder in (shared, shared.parent):
        folder.chmod(0o777)
    monkeypatch.setenv("PHYSID_CACHE", str(shared.parent))
    assert answer(1).answer() == 1
    assert last()._name != library  # made anew, in the stand-in
    monkeypatch.setenv("PHYSID_CACHE", str(own / "fresh"))
    monkeypatch.setenv(machine.SHARED, str(shared))
    assert answer(1).answer() == 2  # who names a folder trusts it
    assert last()._name.startswith(str(own / "fresh"))
    monkeypatch.setenv(machine.SHARED, "shared")
    assert "an absolute path of a folder is expected" in reason(5)


@compiled
def test_a_shared_cache_is_filled(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own / "shared").mkdir()
    monkeypatch.setenv(machine.SHARED, str(own / "shared"))
    answer(1)
    assert len(list((own / "shared").glob("*.so"))) == 1
    build.LOADED.clear()
    monkeypatch.setenv("PHYSID_CACHE", str(own / "fresh"))
    monkeypatch.setattr(build, "_run", lambda *arguments: pytest.fail("it was there"))
    assert answer(1).answer() == 1


# --- what can go wrong


@compiled
@pytest.mark.parametrize("call", ["mkdir", "fsync", "replace"])
def test_no_space_means_eager(call: str, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(1)

    def full(*arguments: object, **keywords: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        assert "cannot be kept (No space left on device)" in reason(2)
    assert answer(2).answer() == 2
    assert not [path for path in (own / "cache" / "native").iterdir() if path.name.startswith(".")]


def script(folder: Path, text: str) -> str:
    path = folder / "cc"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_compilers_that_do_not_work(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", script(own, "exit 0"))
    assert reason() == f"the C compiler {own}/cc ends well and makes no library"
    monkeypatch.setenv("CC", script(own, 'test "$1" = --version || { echo "error: no"; exit 1; } >&2'))
    assert reason() == "the C compiler failed: error: no"
    monkeypatch.setenv("CC", script(own, 'test "$1" = --version || exit 3'))
    assert reason() == "the C compiler failed: it ends with 3 and says nothing"
    monkeypatch.setenv("CC", "gcc 'O2")
    assert "cannot be split into words" in reason()


def alive(group: int) -> list[str]:
    """The processes of a group that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, itself = path.read_text().rpartition(")")[2].split()[:3]
            found += [path.parent.name] if int(itself) == group and state != "Z" else []
    return found


@linux
def test_a_compiler_that_hangs_is_left_with_all_that_it_started(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "SECONDS", 0.3)
    monkeypatch.setenv("CC", script(own, f'test "$1" = --version && exit; echo $$ > {own}/pid; sleep 300 & sleep 300'))
    began = time.monotonic()
    assert "took more than 0 s" in reason()
    process = int((own / "pid").read_text())
    assert time.monotonic() - began < 20
    assert alive(process) == []
    reason(2)
    assert "twice" in reason(3)
    assert not [path for path in (own / "cache" / "native").iterdir() if path.name.startswith(".")]


@compiled
def test_a_compiler_with_options(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = compiler_command()
    assert command is not None
    through = f"import os, sys; os.execv({command[0]!r}, [{command[0]!r}, *sys.argv[1:]])"
    (own / "driver.py").write_text(through)
    monkeypatch.setenv("CC", f"{sys.executable} '{own}/driver.py' -O1 -DEXTRA='a b'")
    assert compiler_command() == [sys.executable, f"{own}/driver.py", "-O1", "-DEXTRA=a b"]
    assert answer(1).answer() == 1
