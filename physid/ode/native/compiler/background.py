"""Background compilation: a library made at low priority while solves go on, and dropped with the process."""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress

from physid import door
from physid.ode.native.compiler import build
from physid.ode.native.compiler.build import Compiler, Target, native_folder
from physid.ode.native.compiler.disk_cache import Cabinet
from physid.ode.native.compiler.trace import Unsupported
from physid.store import hold, sweep

PRIORITY = 10


class Background:
    """The library of a target, as it comes to be: from the cache, or by a compiler that nobody waits for.

    Processes that want the same library leave it to the first. Errors: Unsupported from every call when there is none.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.owner = 0
        self._began = 0.0

    def kept(self) -> ctypes.CDLL | None:
        """The library, where this process or the cache has it."""
        with build.told():
            compiler = Compiler.found()
            key = compiler.key(self.target)
            loaded = build.LOADED.get(key)
            path = None if loaded else Cabinet(native_folder()).find(key)
            return build.opened(key, path) if path else loaded

    def look(self) -> ctypes.CDLL | None:
        """The library, if it is there by now; else its compiler runs, in this process or in another one."""
        if self.owner == os.getpid():
            return self._ended()
        found = self.kept()
        if found is None:
            with build.told():
                self._begin()
        return found

    def _begin(self) -> None:
        compiler, folder = Compiler.found(), native_folder()
        stem = f".inline-{compiler.key(self.target)[:16]}"
        self._began = self._began or time.monotonic()
        sweep(folder, stem)
        if any(folder.glob(f"{stem}.*.making")) and time.monotonic() - self._began < build.SECONDS:
            return  # another process is at it
        self._work, self._held = hold(folder, stem)
        self._compiler, self.owner, self._began = compiler, os.getpid(), time.monotonic()
        RUNNING.append(self)
        try:
            unit = self._work / "unit.c"
            unit.write_text(self.target.source())
            command = [*compiler.command, *compiler.flags(self.target), "-shared", "-o", f"{self._work}/unit.so"]
            nothing = subprocess.DEVNULL
            self._process = subprocess.Popen(
                [*command, f"{unit}", "-lm"], stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
            )
        except BaseException:
            self.end()
            raise
        with suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, self._process.pid, PRIORITY)

    def _ended(self) -> ctypes.CDLL | None:
        code = self._process.poll()
        if code is None and time.monotonic() - self._began < build.SECONDS * door.factor():
            return None
        try:
            if code != 0:
                raise Unsupported("the C compiler failed in the background")
            with build.told():
                data = door.inside(self._work, "unit.so")
                key = self._compiler.key(self.target)
                return build.opened(key, Cabinet(native_folder()).keep(key, data))
        finally:
            self.end()

    def end(self) -> None:
        """Stop the compiler, and remove what it has made; nothing in a copy of the process that began."""
        if self.owner != os.getpid():
            return
        self.owner = 0
        RUNNING.remove(self)
        process: subprocess.Popen[bytes] | None = getattr(self, "_process", None)
        if process is not None:
            with suppress(ProcessLookupError):
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(self._work, ignore_errors=True)
        os.close(self._held)


RUNNING: list[Background] = []


@atexit.register
def _end_all() -> None:
    for one in list(RUNNING):
        one.end()
