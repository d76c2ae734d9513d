"""Words of physid: what messages name can be imported, and files begin with the noun of what they hold."""

from __future__ import annotations

import ast
import pkgutil
import re

from trees import ROOT, nodes_of, package, tree_of

# Idioms that a reader of the field has to puzzle out.
IDIOMS = (
    r"(?:is|are) allowed(?=[.;,])",
    "how (?:it|they) (?:was|were|is|are) had",
    "under the eyes of",
    "has gone on",
    "(?:is|was|be) gone on with",
    "(?:is|are) said of",
    "to be said of",
    "went by",
    "(?:is|are|was) told",
    "(?:to|can|cannot) be had",
    "nobody says",
    "do(?:es)? not tell",
    "comes? out anywhere",
)


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


QUESTIONS = {"How", "What", "Where", "Which", "Who", "Whoever"}
LATER = ("physid/ode/native/",)  # whose functions are not yet held to it


def test_the_first_words_of_a_file_name_its_thing() -> None:
    """A module's docstring begins with the noun that the file holds, not with a question or a direction."""
    questions = {*QUESTIONS, "At", "From", "In", "Many", "One", "Several", "That", "Whether"}
    for path in package():
        words = (ast.get_docstring(tree_of(path)) or "").split()
        assert words, path
        assert words[0] not in questions, f"{path.relative_to(ROOT)} begins with: {' '.join(words[:6])}"


def test_the_first_word_of_a_docstring_is_no_question() -> None:
    """The docstring of a class or a function begins with a noun or a verb, "Whether" where the answer is yes or no."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {doc.splitlines()[0]}"
        for path in package()
        if not str(path.relative_to(ROOT)).startswith(LATER)
        for node in nodes_of(path)
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and (doc := ast.get_docstring(node))
        if doc.split()[0] in QUESTIONS
    ]
    assert not found, "\n".join(found)


def test_idioms_do_not_come_back() -> None:
    """Docstrings, help and messages use the field's words, active verbs, and "expected X, got Y"."""
    pattern = re.compile(rf"\b(?:{'|'.join(IDIOMS)})\b")
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno} {match[0]}"
        for path in package()
        for node in nodes_of(path)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and (match := pattern.search(node.value))
        if not str(path.relative_to(ROOT)).startswith(LATER)
    ]
    assert not found, "\n".join(found)
