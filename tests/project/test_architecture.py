"""The examples of the extension points in docs/examples: each short, and run."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rooms import ROOMS

from physid.api.export import EXPORTERS
from physid.catalog import Registry
from physid.cli.app import group
from physid.data.catalogue import CATALOG
from physid.inference.noise import NOISE
from physid.machine import compiler_command
from physid.ode import GRADIENTS, METHODS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))
MOST = 30  # lines of an example
REGISTRIES: list[Registry[Any]] = [CATALOG, EXPORTERS, GRADIENTS, METHODS, NOISE]
COMPILED = {"gradient", "solver"}  # those that show the compiled engine


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """What an example registers in this process is gone after it."""
    before = [set(registry) for registry in REGISTRIES]
    yield
    group.commands.clear()
    for registry, names in zip(REGISTRIES, before, strict=True):
        for name in set(registry) - names:
            del registry[name]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_runs(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if example.stem in COMPILED and compiler_command() is None:
        pytest.skip("no C compiler")
    lines = example.read_text().splitlines()
    assert len(lines) <= MOST
    assert lines[0].startswith('"""')
    runpy.run_path(str(example), run_name="__main__")
    said = capsys.readouterr().out
    assert said.strip()
    if example.stem in COMPILED:
        assert "native" in said
        assert "False" not in said


def test_the_page_shows_every_example_and_names_files_that_are_there() -> None:
    shown = dict(re.findall(r"```python file=(\S+)\n(.*?)```", PAGE, re.DOTALL))
    assert shown == {f"examples/{path.name}": path.read_text() for path in EXAMPLES}
    named = set(re.findall(r"`((?:physid|cli|tests|docs)/[\w/.]*)`", PAGE))
    assert len(named) > 30
    assert not [path for path in named if not (ROOT / path).exists()]


def test_the_page_lists_the_rooms_in_their_order() -> None:
    rows = [line for line in PAGE.splitlines() if re.match(r"\| \d+ \|", line)]
    shown = [name for row in rows for name in re.findall(r"`(\w+)/`", row.split("|")[2])]
    assert shown == [room for room in ROOMS if room not in ("base", "checks", "physid")]
