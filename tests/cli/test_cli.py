"""The command line as a whole: how commands are found, and how errors and interruptions end."""

from __future__ import annotations

import errno
import gc
import os
import re
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from unittest import mock

import click
import pytest

from physid import door, errors
from physid.cli import app
from physid.cli.app import COMMANDS, FORMER, GROUPS, main
from physid.cli.console import Console, plain_table
from physid.cli.files import check_file, run_folder
from physid.formats import plain, text_of
from physid.store import write

Captured = pytest.CaptureFixture[str]


ROOT = Path(__file__).parents[2]


def planted(action: object) -> mock._patch[object]:
    """The command `doctor` replaced by one that runs `action`."""

    def get(group: object, ctx: click.Context, name: str) -> click.Command:
        return click.Command(name, callback=action)  # type: ignore[arg-type]

    return mock.patch.object(app.LazyGroup, "get_command", get)


def one_error_line(captured: Captured) -> str:
    """The only line of stderr, with nothing on stdout."""
    out, err = captured.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return str(line)


def test_commands_stand_in_groups_and_leave_room(capsys: Captured) -> None:
    assert len(COMMANDS) <= 22
    assert len(set(COMMANDS)) == len(COMMANDS)
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    places = [text.index(f"\n{title}:\n") for title in GROUPS]
    assert places == sorted(places)
    for group in GROUPS.values():
        for name, words in group.items():
            assert f"  {name.ljust(max(map(len, group)))}  {words}\n" in text  # one line each
    assert not any(name in text for name in FORMER)


@pytest.mark.parametrize("name", list(FORMER))
def test_former_commands_are_known_and_told(name: str, capsys: Captured) -> None:
    assert main([name, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == f"physid: note: `physid {name}` is now `physid {FORMER[name]}`.\n"
    assert "Compare the run directories RUN" in out


def test_help_names_every_command_and_exit_code(capsys: Captured) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)
    assert all(f" {code}" in text for code in (0, 1, 2, 3, 4, 5, 6, 124, 130, 143))
    assert main([]) == 0
    assert capsys.readouterr().out == text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_examples(command: str, capsys: Captured) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"physid {command}" in text.split("Examples:")[1]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["fti"], "Did you mean 'fit'?"),
        (["zzz"], "unknown command 'zzz'. Allowed: list, "),
        (["--vresion"], "Did you mean '--version'?"),
        (["doctor", "--jsn"], "Did you mean '--json'?"),
        (["doctor", "more"], "unexpected extra argument"),
        (["fit"], "nothing to fit was given"),
        (["fit", "threebody", "--rtol", "small"], "--rtol: expected a number from 0 up, got 'small'"),
        (["list", "solver"], "'solver' is not one of"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments: list[str], part: str, capsys: Captured) -> None:
    assert main(arguments) == 2
    line = one_error_line(capsys)
    assert line.startswith("physid: error: ")
    assert part in line


@pytest.mark.parametrize(
    "error",
    [
        errors.InputError,
        errors.NotConverged,
        errors.Diverged,
        errors.MissingError,
        errors.CheckFailed,
        errors.TimeLimit,
    ],
)
def test_our_errors_are_one_line_and_their_exit_code(error: type[errors.PhysidError], capsys: Captured) -> None:
    with planted(mock.Mock(side_effect=error("found this\nallowed that."))):
        assert main(["doctor"]) == error.exit_code
    assert one_error_line(capsys) == "physid: error: found this allowed that."


def test_an_operating_system_error_names_its_path(capsys: Captured) -> None:
    with planted(lambda: Path("/proc/version/x").write_text("")):
        assert main(["doctor"]) == 2
    assert "/proc/version/x: Not a directory." in one_error_line(capsys)


def test_a_defect_says_so_and_keeps_its_traceback(capsys: Captured) -> None:
    with planted(lambda: 1 / 0):
        assert main(["doctor"]) == 1
    line = one_error_line(capsys)
    assert "ZeroDivisionError: division by zero. This is a defect of physid" in line
    file = Path(line.split("traceback is in ")[1].split(",")[0])
    assert "1 / 0" in file.read_text()
    file.unlink()


@pytest.mark.parametrize("arguments", [["--debug", "doctor"], ["doctor", "--debug"]])
def test_debug_shows_the_traceback(arguments: list[str], capsys: Captured) -> None:
    with planted(lambda: 1 / 0):
        assert main(arguments) == 1
    assert "Traceback" in capsys.readouterr().err


def test_debug_by_the_environment(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHYSID_DEBUG", "1")
    assert main(["fti"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interruptions_end_with_their_exit_code(number: signal.Signals, code: int, capsys: Captured) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with planted(lambda: os.kill(os.getpid(), number)):
        assert main(["doctor"]) == code
    assert capsys.readouterr().err.strip() == "physid: interrupted."
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("place", ["a destructor", "a weak reference", "the collector"])
def test_a_signal_where_python_ignores_errors_is_heard_later(
    place: str, number: signal.Signals, code: int, capsys: Captured
) -> None:
    class Owner:
        pass

    class Dying:
        def __del__(self) -> None:
            os.kill(os.getpid(), number)

    def collected(*_: object) -> None:
        gc.callbacks.remove(collected)
        os.kill(os.getpid(), number)

    def command() -> int:
        if place == "a destructor":
            Dying()
        elif place == "a weak reference":
            watched = Owner()
            reference = weakref.ref(watched, lambda _: os.kill(os.getpid(), number))
            del watched
            assert reference() is None
        else:
            gc.callbacks.append(collected)
            gc.collect()
        end = time.monotonic() + 20
        while time.monotonic() < end:
            pass
        return 0

    with planted(command):
        assert main(["doctor"]) == code
    assert capsys.readouterr().err.strip() == "physid: interrupted."


def test_a_command_that_handles_the_interruption_keeps_its_exit_code() -> None:
    def handled() -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            return 130  # as a fit that saved its run
        return 0

    with planted(handled):
        assert main(["doctor"]) == 143


def test_json_says_only_what_json_can(capsys: Captured) -> None:
    import numpy as np
    import torch

    Console(json=True).event(
        "done", a=float("nan"), b=np.array([1.0, np.inf]), c=torch.tensor(2), d=Path("x"), e={1: None}
    )
    assert capsys.readouterr().out == (
        '{"event": "done", "a": null, "b": [1.0, null], "c": 2, "d": "x", "e": {"1": null}}\n'
    )
    assert plain({"flag": True, "pair": (1, 2.5)}) == {"flag": True, "pair": [1, 2.5]}


def test_with_json_nothing_else_is_printed(capsys: Captured) -> None:
    console = Console(json=True)
    console.say("a")
    console.note("b")
    console.table("t", ["x"], [[1]])
    with console.progress("fit") as progress:
        progress({"iteration": 1})
    assert capsys.readouterr().out == '{"event": "progress", "iteration": 1}\n'


def test_tables_are_plain_where_there_is_no_terminal(capsys: Captured) -> None:
    Console().table("title", ["name", "value"], [["a", 1.23456789], ["long", None]])
    assert capsys.readouterr().out == "title\nname  value\na     1.23457\nlong\n"
    assert plain_table("", ["x"], []) == "x"
    assert [text_of(value) for value in (True, [1, 2.0], None)] == ["yes", "1, 2", ""]


def test_tables_are_drawn_on_a_terminal(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    Console().table("title", ["name"], [["[bold]"]])
    out = capsys.readouterr().out
    assert "┏" in out
    assert "[bold]" in out  # a cell is text, not markup


def test_output_is_checked_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    (tmp_path / "empty").mkdir()
    assert run_folder(tmp_path / "empty", "x") == tmp_path / "empty"
    assert run_folder(tmp_path / "a" / "b", "x") == tmp_path / "a" / "b"
    assert re.fullmatch(r"runs/swing-\d{8}-\d{6}", str(run_folder(None, "data/swing.py:load")))
    for path, part in [("full", "not empty"), ("file.txt", "is a file"), ("file.txt/x", "is not a folder")]:
        with pytest.raises(errors.InputError, match=part):
            run_folder(tmp_path / path, "x")
    check_file(tmp_path / "x.CSV", (".csv",))
    check_file(None, (".csv",))
    for path, part in [("x.txt", "does not end in .csv or .npz"), ("d.csv", "is a folder")]:
        (tmp_path / "d.csv").mkdir(exist_ok=True)
        with pytest.raises(errors.InputError, match=part):
            check_file(tmp_path / path, (".csv", ".npz"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_an_unwritable_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(errors.InputError, match="cannot be written"):
        run_folder(tmp_path / "run", "x")


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "table.csv"
    write(target, b"old")

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("physid.store.os.fsync", fail)
    with pytest.raises(errors.InputError, match=r"table\.csv cannot be written: No space left on device"):
        write(target, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
    assert target.read_bytes() == b"old"


# --- endings


def ended(python: str, line: str) -> tuple[int, str]:
    """The exit code of a line of bash, `P` standing for physid, and what it says on stderr."""
    text = line.replace("P ", f"{python} -m physid ")
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", text],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return done.returncode, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_full_disk_on_stdout_is_one_line(python: str) -> None:
    code, err = ended(python, "P list > /dev/full")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "standard output cannot be written: No space left on device" in err


def test_a_closed_stdout_is_one_line(python: str) -> None:
    code, err = ended(sys.executable, "P --help >&-")  # Python itself, which starts otherwise without
    assert (code, len(err.splitlines())) == (2, 1)
    assert "standard output cannot be written: closed" in err
    assert ended(python, "P list 2>&- | cat >&2")[0] == 0


def test_a_broken_pipe_ends_as_in_any_tool(python: str) -> None:
    assert ended(python, "P list | true") == (141, "")


def test_limits_may_stand_anywhere(capsys: Captured) -> None:
    seen: list[float] = []
    with planted(lambda: seen.append(door.factor())):
        for arguments in (["--limits", "3", "doctor"], ["doctor", "--limits=4"]):
            assert main(arguments) == 0
    assert seen == [3.0, 4.0]
    assert door.factor() == 1.0
    for arguments, part in (
        (["doctor", "--limits"], "requires an argument"),
        (["--limits=x", "list"], "positive number"),
    ):
        assert main(arguments) == 2
        assert part in one_error_line(capsys)


def test_memory_that_runs_out_is_one_line(capsys: Captured) -> None:
    for error in (MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: ...")):
        with planted(mock.Mock(side_effect=error)):
            assert main(["doctor"]) == 5
        assert "memory" in one_error_line(capsys)


def test_an_operating_system_error_without_a_path_is_one_line(capsys: Captured) -> None:
    with planted(mock.Mock(side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))):
        assert main(["doctor"]) == 5
    assert one_error_line(capsys) == "physid: error: No space left on device. Make room, and try again."
