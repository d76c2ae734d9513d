"""Packages laid down as an installer does: a module, and a `*.dist-info` with METADATA and entry_points.txt."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from physid.catalog import entry_points

ROOT = Path(__file__).parents[1]


def block(name: str) -> str:
    """The text of a file in the README."""
    (found,) = re.findall(rf"^```\w+ file={re.escape(name)}\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    return str(found)


def install(folder: Path, module: str, source: str, project: Mapping[str, Any]) -> None:
    """Lay a package down as an installer does."""
    about, points = project["project"], project["project"]["entry-points"]
    info = folder / f"{about['name']}-{about['version']}.dist-info"
    info.mkdir(parents=True)
    (folder / f"{module}.py").write_text(source)
    head = f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n"
    (info / "METADATA").write_text(head)
    lines = [f"[{group}]\n" + "".join(f"{a} = {b}\n" for a, b in names.items()) for group, names in points.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))


def project(name: str, group: str, **points: str) -> dict[str, Any]:
    """What the pyproject.toml of a small package says."""
    return {"project": {"name": name, "version": "0.1", "entry-points": {group: points}}}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packages on sys.path; what is installed there is gone after the test."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    entry_points.cache_clear()
    yield folder
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]
    entry_points.cache_clear()
