"""Starts of Python that need not import: one process imports what a command needs and forks for every start.

A run of the tests has one, whatever the number of its workers: the first that needs it starts it (`shared`).

A start of `physid` spends two seconds of processor time on imports. `serve` is a process that has them behind it; the
programs `physid` and `python` that `programs` writes hand it their arguments, folder, environment and open files over a
socket, pass signals on, and end as the forked process ends. It needs fork and descriptors over sockets: Linux alone;
elsewhere `programs` writes programs that start Python itself.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
POSSIBLE = sys.platform == "linux"
STARTED: list[subprocess.Popen[bytes]] = []  # kept, or Python complains of what it still runs

# what most commands import; fork copies it at no cost
MODULES = (
    *(
        "torch",
        "torch._dynamo",
        "pandas",
        "scipy.stats",
        "scipy.io",
        "scipy.optimize",
        "matplotlib.figure",
        "matplotlib.backends.backend_agg",
    ),
    *("pyvista", "pint", "yaml", "physid", "physid.cli.fit", "physid.cli.report", "physid.cli.forecast"),
    *(
        "physid.ode.native.compiler.build",
        "physid.cli.view",
        "physid.cli.compare",
        "physid.cli.check",
        "physid.cli.profile",
        "physid.cli.data",
    ),
)

CLIENT = """
import array, json, os, signal, socket, sys
there = []
for number in range(3):
    try:
        os.fstat(number)
        there.append(number)
    except OSError:
        pass
line = socket.socket(socket.AF_UNIX)
line.connect({address!r})
start = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ), there]).encode()
line.sendmsg([len(start).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", there))])
line.sendall(start)
other = int.from_bytes(line.recv(4), "big")
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: os.kill(other, number))
code = int.from_bytes(line.recv(4), "big", signed=True)
if code < 0:
    if -code != signal.SIGKILL:
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


def shared(folder: Path, watched: int) -> Path:
    """The socket of the process that forks for all who share that folder; it ends after the process `watched`."""
    told = folder / "warm"
    with open(folder / "warm.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not told.exists():
            address = Path(tempfile.mkdtemp(), "s")  # the path of a socket is short
            _start(address, watched, folder / "simulated")
            told.write_text(str(address))
    return Path(told.read_text())


def unmeasured(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process whose lines coverage.py does not count.

    It takes a lock while it notes a new file; a signal whose handler raises there leaves the lock taken, and the
    process waits for ever. What a forked copy has counted is lost anyway, as it ends without Python's own ending.
    """
    return {name: value for name, value in environment.items() if not name.startswith("COVERAGE_PROCESS_")}


def _start(address: Path, watched: int, results: Path) -> None:
    """Start the process that forks, and wait until it listens."""
    environment = {**unmeasured(os.environ), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    command = [sys.executable, __file__, str(address), str(watched), str(results)]
    with open(address.with_suffix(".log"), "wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    STARTED.append(process)
    until = time.monotonic() + 120
    while not address.exists():
        if process.poll() is not None or time.monotonic() > until:
            said = address.with_suffix(".log").read_text()
            raise RuntimeError(f"the process that forks starts of Python has not come up: {said}")
        time.sleep(0.02)


def serve(address: Path, watched: int, results: Path) -> None:
    """Fork for every start that is asked for, until the process `watched` has ended; `results` of simulations."""
    import simulated

    for module in MODULES:
        importlib.import_module(module)
    simulated.remember(results)
    sys.modules["physid.ode.native.compiler.build"].CORES = 1  # type: ignore[attr-defined]
    door = socket.socket(socket.AF_UNIX)
    unready = address.with_suffix(".new")
    door.bind(str(unready))
    door.listen(64)
    door.settimeout(1.0)
    unready.rename(address)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who look after a start
    while True:
        try:
            line, _ = door.accept()
        except TimeoutError:
            if not _lives(watched):
                break
            continue
        if os.fork() == 0:
            door.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            line.setblocking(True)
            _look_after(line)
        line.close()
    shutil.rmtree(address.parent)


def _lives(number: int) -> bool:
    """Whether there is a process of that number."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


def _look_after(line: socket.socket) -> None:
    """Run one start in a process of its own and tell the client how it ended."""
    head, descriptors, _, _ = socket.recv_fds(line, 4, 3)
    wanted, text = int.from_bytes(head, "big"), b""
    while len(text) < wanted:
        text += line.recv(wanted - len(text))
    child = os.fork()
    if child == 0:
        line.close()
        *how, there = json.loads(text)
        for mine, theirs in zip(there, descriptors, strict=True):
            os.dup2(theirs, mine)
            os.close(theirs)
        for mine, name in enumerate(("stdin", "stdout", "stderr")):
            if mine not in there:
                os.close(mine)
                setattr(sys, name, None)
        _exit(*how)
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
        arguments = arguments[arguments[:1] == ["-I"] :]  # alone: the program says where its modules are
        while arguments[:1] == ["-W"]:
            warnings.simplefilter(arguments[1])  # type: ignore[arg-type]
            arguments = arguments[2:]
        if arguments[:1] == ["-c"]:
            sys.path[0], sys.argv = folder, ["-c", *arguments[2:]]
            exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
        elif arguments[:1] == ["-m"]:
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
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
