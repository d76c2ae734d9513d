"""Settings of a fit in a YAML file: every option of a fit has a key, and what is written here is what was meant.

Precedence: what is typed or passed, then the file, then the default. An unknown key is an error with the nearest name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import physid.door as door
from physid.errors import InputError, unknown_name
from physid.inference.fit_options import TYPED, FitOption, default_of, default_words, flags_of, key_of, read
from physid.option_readers import Values, text

LARGEST = 1_000_000  # bytes of a settings file
PARTS = 100_000  # values of a settings file, aliases written out
LENGTH = 20_000  # characters of one value
DEEPEST = 100  # brackets within each other


def _files(value: Any) -> list[str]:
    files = [value] if isinstance(value, str) else value
    if not isinstance(files, list) or not all(isinstance(one, str) for one in files):
        raise TypeError
    return files


FILES = Values(_files, lambda: "a file or a list of files", lambda: {"type": ["string", "array"]})
# What a fit is of, beside its options.
SUBJECT: Mapping[str, FitOption] = {
    "data": FitOption("files of measurements", FILES, "FILE"),
    "model": FitOption("a model of the catalogue, or FILE.py:CLASS", text("a name"), "NAME"),
    "initial": FitOption("free, known or x=0,v=1: whether the initial state is fitted", text("a text"), "VALUE"),
}
KEYS: Mapping[str, FitOption] = {**SUBJECT, **TYPED}
# a further spelling of a key -> the key
ALIASES = {key_of(flag): name for name in TYPED for flag in flags_of(name) if key_of(flag) != name}


@cache
def _plain_yaml() -> tuple[Any, Any]:
    """A loader and a dumper of plain YAML, whose numbers are those of YAML 1.2, section 10.3.2: 1e-3, and no 12:20.

    The loader refuses brackets within more than DEEPEST others, over which its scanner is slow.
    """
    import yaml

    whole, real = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
    forms = {
        first: [one for one in known if one[0] not in (whole, real)]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for first in "+-.0123456789":
        forms[first] = [
            *forms.get(first, ()),
            (whole, re.compile(r"[-+]?\d+$|0o[0-7]+$|0x[\da-fA-F]+$", re.ASCII)),
            (
                real,
                re.compile(
                    r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$", re.ASCII
                ),
            ),
        ]

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
        yaml_implicit_resolvers = forms

        def fetch_flow_collection_start(self, kind: Any) -> None:
            if self.flow_level >= DEEPEST:
                raise yaml.scanner.ScannerError(None, None, f"more than {DEEPEST} brackets open", self.get_mark())
            super().fetch_flow_collection_start(kind)

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]  # yaml has no types
        yaml_implicit_resolvers = forms

    Loader.add_constructor(whole, lambda _, node: int(node.value, {"0o": 8, "0x": 16}.get(node.value[:2], 10)))
    return Loader, Dumper


def load(path: str | Path) -> dict[str, Any]:
    """The settings of the YAML file `path`, checked.

    Errors: InputError for a file that is missing, no YAML, or not a mapping, for unknown keys and for values of another
    kind, each with the key and what is expected.
    """
    import yaml

    path = Path(path)
    try:
        loader = _plain_yaml()[0](door.read(path, LARGEST, "That is no file of settings. ").decode("utf-8"))
        root = loader.get_single_node()
        if root is not None:
            _count(path, root, {})
        found = None if root is None else loader.construct_document(root)
    except InputError:
        raise
    except UnicodeDecodeError:
        raise InputError(f"{path} is not text in UTF-8: save it so.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}: {getattr(error, 'problem', '')}" if mark else ""
        raise InputError(
            f"{path} is no YAML:{where or ' it cannot be read'}. Write lines as in 'starts: 10'."
        ) from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise InputError(f"{path} holds a {type(found).__name__}: expected lines as in 'starts: 10'.")
    given: dict[str, Any] = {}
    for word, value in found.items():
        key = ALIASES.get(str(word), str(word))
        if key in given:
            raise InputError(f"{path}: {key} is given twice, as {word}, too. Give it once.")
        if value is not None:
            given[key] = _checked(path, key, value)
    return given


def _count(path: Path, node: Any, known: dict[int, int]) -> int:
    """The values under a node of YAML, aliases written out; InputError for too many, or one inside of itself."""
    if isinstance(node.value, str):
        if len(node.value) > LENGTH:
            raise InputError(f"{path}: a value of {len(node.value)} characters: expected up to {LENGTH}. Shorten it.")
        return 1
    if id(node) not in known:
        known[id(node)] = PARTS + 1  # until it is counted: an alias to it from inside has no end
        parts = [one for part in node.value for one in (part if isinstance(part, tuple) else (part,))]
        known[id(node)] = 1 + sum(_count(path, one, known) for one in parts)
    if known[id(node)] > PARTS:
        line = node.start_mark.line + 1
        raise InputError(
            f"{path}, line {line}: more than {PARTS} values with its aliases written out. Write the values themselves."
        )
    return known[id(node)]


def _checked(path: Path, key: str, value: Any) -> Any:
    if key not in KEYS:
        raise unknown_name(f"setting in {path}", key[:80], KEYS)
    return read(key, value, f"{path}: {key}", KEYS[key])


def dump(settings: Mapping[str, Any]) -> str:
    """Those of the settings that have a key and are not as by default, as a YAML file that `load` reads back."""
    import yaml

    kept = {key: settings[key] for key in KEYS if settings.get(key) not in (None, {}, [], ())}
    kept = {key: value for key, value in kept.items() if key in SUBJECT or value != default_of(key)}
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in kept.items()}
    return str(yaml.dump(plain, Dumper=_plain_yaml()[1], sort_keys=False)) if plain else ""


def template() -> str:
    """A settings file with every key as a comment that says what it means."""
    width = max(map(len, KEYS))
    return "".join(
        f"# {name + ':':{width + 1}} {one.help}{default_words(name) if name in TYPED else ''}\n"
        for name, one in KEYS.items()
    )


def schema() -> dict[str, Any]:
    """The JSON Schema of a settings file, by which editors complete and check it."""
    known: dict[str, Any] = {}
    for name, one in KEYS.items():
        known[name] = {**one.read.schema(), "description": one.help + (default_words(name) if name in TYPED else "")}
    known |= {name: {**known[key], "deprecated": True} for name, key in ALIASES.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of physid fit",
        "type": "object",
        "additionalProperties": False,
        "properties": known,
    }
