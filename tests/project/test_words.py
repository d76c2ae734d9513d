"""Words of physid: what messages name can be imported, and files begin with the noun of what they hold."""

from __future__ import annotations

import ast
import pkgutil
import re

from trees import ROOT, nodes_of, package, tree_of


def test_what_words_of_physid_name_is_there() -> None:
    """Messages and docstrings name modules, classes and functions of physid that can be imported under that name."""
    words = [node for path in package() for node in nodes_of(path) if isinstance(node, ast.keyword)]
    groups = {node.value.value for node in words if node.arg == "group" and isinstance(node.value, ast.Constant)}
    assert len(groups) > 8
    missing = []
    for path in package():
        for node in nodes_of(path):
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            for name in set(re.findall(r"(?<![\w/.-])physid(?:\.[A-Za-z_]\w*)+", text)) - groups:
                try:
                    pkgutil.resolve_name(name)
                except (AttributeError, ImportError):
                    missing.append(f"{path.relative_to(ROOT)}: {name}")
    assert not missing


def test_the_first_words_of_a_file_name_its_thing() -> None:
    """A module's docstring begins with the noun that the file holds, not with a question or a direction."""
    questions = {
        "At",
        "From",
        "How",
        "In",
        "Many",
        "One",
        "Several",
        "That",
        "What",
        "Where",
        "Whether",
        "Which",
        "Who",
    }
    for path in package():
        words = (ast.get_docstring(tree_of(path)) or "").split()
        assert words, path
        assert words[0] not in questions, f"{path.relative_to(ROOT)} begins with: {' '.join(words[:6])}"
