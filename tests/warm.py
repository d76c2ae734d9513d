"""Starts of Python that need not import: one process imports what a command needs and forks for every start.

A start of `physid` spends two seconds of processor time on imports. `serve` is a process that has them behind it; the
programs `physid` and `python` that `programs` writes hand it their arguments, folder, environment and open files over a
socket, pass signals on, and end as the forked process ends. It needs fork and descriptors over sockets: Linux alone;
elsewhere `programs` writes programs that start Python itself.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
POSSIBLE = sys.platform == "linux"

# what most commands import; fork copies it at no cost
MODULES = (
    *("torch", "pandas", "scipy.stats", "scipy.optimize", "matplotlib.figure", "matplotlib.backends.backend_agg"),
    *("pyvista", "pint", "yaml", "physid", "physid.cli.fit", "physid.cli.report", "physid.cli.forecast"),
    *("physid.cli.view", "physid.cli.compare", "physid.cli.check", "physid.cli.profile", "physid.cli.data"),
)

CLIENT = """
import array, json, os, signal, socket, sys
line = socket.socket(socket.AF_UNIX)
line.connect({address!r})
start = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
line.sendmsg([len(start).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
line.sendall(start)
other = int.from_bytes(line.recv(4), "big")
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: os.kill(other, number))
code = int.from_bytes(line.recv(4), "big", signed=True)
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


def programs(folder: Path, address: Path | None) -> None:
    """Write the programs `physid` and `python` of this checkout into a folder; `serve` is up at `address`, if any."""
    folder.mkdir()
    if address is not None:
        (folder / "client.py").write_text(CLIENT.format(address=str(address)))
    for name, arguments in (("physid", "-m physid"), ("python", "")):
        start = arguments if address is None else f'-I -S "{folder / "client.py"}" {arguments}'
        (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {start} "$@"\n')
        (folder / name).chmod(0o755)


def start(address: Path) -> subprocess.Popen[bytes]:
    """The process that forks, listening at a socket of that path."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    process = subprocess.Popen([sys.executable, __file__, str(address)], env=environment, stdin=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not address.exists():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError("the process that forks starts of Python has not come up")
        time.sleep(0.02)
    return process


def serve(address: Path) -> None:
    """Fork for every start that is asked for, for ever."""
    for module in MODULES:
        importlib.import_module(module)
    door = socket.socket(socket.AF_UNIX)
    unready = address.with_suffix(".new")
    door.bind(str(unready))
    door.listen(64)
    unready.rename(address)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who look after a start
    while True:
        line, _ = door.accept()
        if os.fork() == 0:
            door.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _look_after(line)
        line.close()


def _look_after(line: socket.socket) -> None:
    """Run one start in a process of its own and tell the client how it ended."""
    head, descriptors, _, _ = socket.recv_fds(line, 4, 3)
    wanted, text = int.from_bytes(head, "big"), b""
    while len(text) < wanted:
        text += line.recv(wanted - len(text))
    child = os.fork()
    if child == 0:
        line.close()
        for mine, theirs in enumerate(descriptors):
            os.dup2(theirs, mine)
            os.close(theirs)
        _exit(*json.loads(text))
    for theirs in descriptors:
        os.close(theirs)
    line.sendall(child.to_bytes(4, "big"))
    _, status = os.waitpid(child, 0)
    line.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
    os._exit(0)


def _exit(arguments: Sequence[str], folder: str, environment: dict[str, str]) -> None:
    """Be Python as it was called, as far as the README's commands call it, and end."""
    code = 1
    try:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        warnings.filterwarnings("error", category=DeprecationWarning, module="physid")
        arguments = list(arguments)
        if arguments[:2] == ["-W", "error"]:
            warnings.simplefilter("error")
            arguments = arguments[2:]
        if arguments[:1] == ["-m"]:
            sys.path[0], sys.argv = folder, ["physid", *arguments[2:]]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.path[0], sys.argv = str(Path(folder, arguments[0]).parent), arguments
            runpy.run_path(arguments[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
