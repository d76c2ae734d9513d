"""What a model says while it is fitted: warnings once by file and line, prints beside the results, ends of workers."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import warnings
from pathlib import Path

import pytest

from physid.cli import main
from physid.cli.warned import warned
from physid.errors import ModelError
from physid.inference.search.worker_calls import Afar, tell
from physid.modelling.address import import_file

LOUD = """
import os, sys, warnings
from physid import Model, Unknown, positive

class M(Model):
    state_names = ("x",)
    k = Unknown(1.0, positive)
    calls = 0

    def field(self, t, y):
        M.calls += 1
        warnings.warn(f"call {M.calls}")
        print("field", M.calls)
        return -self.k * y

def ends(kind):
    print("in the worker")
    warnings.warn("here")
    warnings.warn("here again", DeprecationWarning)
    if kind is not None:
        raise kind
    return 3

class Far(Model):
    state_names = ("x",)
    k = Unknown(1.0, positive)

    def field(self, t, y):
        if os.getpid() != int(os.environ["HOME_PROCESS"]):
            raise SystemExit
        return -self.k * y
"""
HOME = "import sys; from physid.cli.app import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def loud(tmp_path: Path) -> Path:
    path = tmp_path / "loud.py"
    path.write_text(LOUD)
    (tmp_path / "a.csv").write_text("t,x\n" + "".join(f"{t / 4},{2.718281828 ** (-t / 4)}\n" for t in range(9)))
    return path


def test_a_model_s_warnings_are_told_once_and_its_prints_do_not_mix_with_results(loud: Path, python: str) -> None:
    words = ["fit", "--data", "a.csv", "--model", "loud.py:M", "--engine", "eager", "--json", "--out", "run"]
    command = [python, "-W", "default", "-c", HOME, *words]
    done = subprocess.run(command, cwd=loud.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {json.loads(line)["event"] for line in done.stdout.splitlines()} <= {"progress", "done"}
    assert done.stderr.count("warning") == 1, done.stderr
    assert "physid: warning: loud.py, line 12: UserWarning: call 1\n" in done.stderr
    assert "field 3\n" in done.stderr


@pytest.mark.parametrize("kind", ["SystemExit(3)", "KeyboardInterrupt", "GeneratorExit", "ValueError('no')", "OSError"])
def test_what_a_model_raises_in_another_process_is_the_models(kind: str, loud: Path) -> None:
    ends = import_file(loud).ends
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        with pytest.raises(ModelError, match=r"loud.py, line 21, in ends: " + kind[:7]):
            Afar(ends, home="another")(eval(kind))


def test_what_a_model_says_in_another_process_is_told_here(loud: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ends = import_file(loud).ends
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        found, said = Afar(ends, home="another")(None)
        assert (found, [one[2:] for one in said]) == (3, [(str(loud), 18), (str(loud), 19)])
        assert capsys.readouterr() == ("", "in the worker\n")
        with warned():
            tell(said)
            tell(said)
    assert capsys.readouterr().err.splitlines() == [
        "physid: warning: loud.py, line 18: UserWarning: here",
        "physid: warning: loud.py, line 19: DeprecationWarning: here again",
    ]
    with pytest.warns(UserWarning, match="other"), warned():
        warnings.warn_explicit("other", UserWarning, "elsewhere.py", 1)
    with contextlib.redirect_stdout(io.StringIO()) as printed, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert Afar(ends)(None) == (3, [])
    assert printed.getvalue() == "in the worker\n"


@pytest.mark.slow
def test_an_end_in_a_worker_alone_is_the_models(
    loud: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME_PROCESS", str(os.getpid()))
    words = ["fit", "--data", str(tmp_path / "a.csv"), "--model", f"{loud}:Far", "--engine", "eager", "--quiet"]
    assert main([*words, "--starts", "3", "--workers", "2", "--out", str(tmp_path / "run")]) == 2
    assert "loud.py, line 30, in field: SystemExit. A model must not end the program" in capfd.readouterr().err
