"""Sources of the package, found and parsed once for the tests that look at them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = ("models", "datasets", "cli")  # beside physid at the root, and linked into it


@cache
def sources(folder: Path) -> tuple[Path, ...]:
    """The Python files under `folder`, not through the links and not in caches."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        inside = path.relative_to(folder).parts
        if "__pycache__" not in inside and not (folder.name == "physid" and inside[0] in ROOMS):
            found.append(path)
    return tuple(found)


def package() -> tuple[Path, ...]:
    """The Python files of physid and its rooms."""
    return tuple(path for folder in ("physid", *ROOMS) for path in sources(ROOT / folder))


@cache
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text())


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """Everything in the syntax tree of a file."""
    return tuple(ast.walk(tree_of(path)))
