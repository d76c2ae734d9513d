"""The examples of the extension points in docs/examples: each short, and run."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

from physid.inference.noise import NOISE

EXAMPLES = sorted((Path(__file__).parent.parent / "docs" / "examples").glob("*.py"))
MOST = 30  # lines of an example


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """What an example registers in this process is gone after it."""
    before = set(NOISE)
    yield
    for name in set(NOISE) - before:
        del NOISE[name]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_runs(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = example.read_text().splitlines()
    assert len(lines) <= MOST
    assert lines[0].startswith('"""')
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out.strip()
