"""The README does what it says: its files are written, its commands are run, its help texts are those of --help.

A fence's info string says what its block is: `python file=NAME` is a file that later commands use, `python run` a
script, `sh run` commands that must succeed, `sh slow` the same in the slow tests, `sh gpu` commands for a GPU, `text
help=COMMAND` the help of a command, and `sh setup` and `sh setup-tests` the two commands for a fresh machine.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import warm
from variants import some

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, what it is, and its text."""

    language: str
    role: str
    text: str


BLOCKS = [Block(*found) for found in re.findall(r"^```(\w+) ?(.*)\n((?:(?!```).*\n)*)```$", README, re.M)]


def named(prefix: str) -> list[Block]:
    return [block for block in BLOCKS if block.role.startswith(prefix)]


def bash(text: str, folder: Path, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "100", "PYTHONWARNINGS": "error::DeprecationWarning:physid"}
    environment["PATH"] = f"{path}{os.pathsep}{environment['PATH']}" if path else environment["PATH"]
    command = ["bash", "-euo", "pipefail", "-c", text]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1200, check=False
    )


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warmed: Path | None) -> Path:
    """A folder with the README's files, where `physid` and `python` are those of this checkout."""
    for block in named("file="):
        (tmp_path / block.role.removeprefix("file=")).write_text(block.text)
    warm.programs(tmp_path / "bin", warmed)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


QUICKER = {  # what stands in a command -> what a default test has in its place
    r"^physid fit threebody(?!.*--points)": "physid fit threebody --points 60",
    "images=64 --set test_images=32 --epochs 2 --batch 16": "images=16 --set test_images=8 --epochs 1 --batch 8",
    "--epochs 2 --seeds 3": "--epochs 1 --seeds 2",
    "--epochs 3": "--epochs 1",
    "--starts 4": "--starts 2",
}


def check(block: Block, desk: Path, quick: bool = False) -> None:
    """Run the commands of a block, `quick` ones on smaller problems."""
    for command in block.text.replace("\\\n", " ").splitlines():
        for shown, shorter in QUICKER.items() if quick else ():
            command = re.sub(shown, shorter, command)
        if command.strip() and not command.startswith("#"):
            done = bash(command, desk, str(desk / "bin"))
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("quick", some([True, False], True))
@pytest.mark.parametrize("block", named("run"), ids=lambda block: block.text.strip().splitlines()[0][:60])
def test_commands_and_scripts_run(block: Block, quick: bool, desk: Path) -> None:
    if block.language == "python":
        (desk / "script.py").write_text(block.text)
        block = Block("sh", "run", "python -W error script.py")
    check(block, desk, quick)


@pytest.mark.slow
@pytest.mark.parametrize("block", named("slow"), ids=lambda block: block.text.strip().splitlines()[0][:60])
def test_long_commands_run(block: Block, desk: Path) -> None:
    if "hopper" in block.text:
        pytest.importorskip("dm_control", reason="the extra mujoco is not installed")
    check(block, desk)


@pytest.mark.parametrize("block", named("help="), ids=lambda block: block.role)
def test_help_texts_are_those_of_the_program(block: Block, desk: Path) -> None:
    command = block.role.removeprefix("help=").replace("physid", "").strip()
    done = bash(f"physid {command} --help", desk, str(desk / "bin"))
    assert done.stdout == block.text


def test_every_block_has_a_role() -> None:
    assert len(BLOCKS) == README.count("```") / 2
    roles = r"run|slow|gpu|setup|setup-tests|output|help=[\w ]*|file=[\w.]+"
    assert [block for block in BLOCKS if not re.fullmatch(roles, block.role)] == []


def test_the_continuous_check_installs_and_tests_as_the_readme_says() -> None:
    (block,) = named("setup-tests")
    (arguments,) = re.findall(r"pip install (.*?)\[test\]'", block.text)
    checked = (ROOT / ".ci" / "run").read_text()
    assert f"{arguments}[test,dev]'" in checked
    assert '\n"$bin/coverage" run -m pytest "$@"\n' in checked


@pytest.mark.slow
def test_the_setup_command_does_the_main_job_on_a_fresh_checkout(tmp_path: Path) -> None:
    (block,) = [block for block in BLOCKS if block.role == "setup"]
    skip = shutil.ignore_patterns(".git", ".venv", "build", "*.egg-info", "__pycache__", ".*_cache", "runs")
    shutil.copytree(ROOT, tmp_path / "physid", symlinks=True, ignore=skip)
    done = bash(block.text, tmp_path / "physid")
    assert done.returncode == 0, done.stderr
    assert "mass[0]" in done.stdout
