"""Settings of a fit in a YAML file: every option of a fit has a key, and what is written here is what was meant.

Precedence: what is typed or passed, then the file, then the default. An unknown key is an error with the nearest name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import physid.door as door
from physid.errors import InputError, unknown_name

LARGEST = 1_000_000  # bytes of a settings file
PARTS = 100_000  # values of a settings file, aliases written out
LENGTH = 20_000  # characters of one value
DEEPEST = 100  # brackets within each other
MOST = 10**300  # numbers beyond it have no square


@dataclass(frozen=True)
class Key:
    """One setting: the kinds of value that it takes, in words and as a test, and what it means."""

    what: str
    fits: Callable[[Any], bool]
    help: str


def _number(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MOST)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**64


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _values(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) and _numeric(one) for key, one in value.items())


def _numeric(value: Any) -> bool:
    return value is None or _number(value) or (isinstance(value, list) and all(_numeric(one) for one in value))


def _expressions(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for pair in value.items() for one in pair)


KEYS: Mapping[str, Key] = {
    "data": Key("a file or a list of files", lambda v: _text(v) or _texts(v), "files of measurements"),
    "model": Key("a name", _text, "a model of the catalogue, or FILE.py:CLASS"),
    "initial": Key("free, known or x=0,v=1", _text, "whether the initial state is fitted too"),
    "optimizer": Key("a name", _text, "lm, adam or lbfgs"),
    "strategy": Key("a name", _text, "auto, full, segments, grow, match, stages or rates"),
    "protocol": Key("a name", _text, "default, paper-text or paper-code"),
    "gradient": Key("a name", _text, "aca, naive, adjoint or forward"),
    "epochs": Key("a whole number", _whole, "epochs of adam, iterations of lbfgs"),
    "lr": Key("a number", _number, "learning rate of adam, at its beginning"),
    "seed": Key("a whole number", _whole, "seed of noise and random starts"),
    "time_limit": Key("a number", _number, "seconds after which the fit stops"),
    "noise_model": Key("a name", _text, "equal, normal, lognormal, student or student:NU"),
    "loss": Key("a name", _text, "linear, soft_l1, huber, cauchy or arctan"),
    "loss_scale": Key("a number", _number, "the error at which the loss begins to bend"),
    "starts": Key("a whole number", _whole, "how many starts are tried"),
    "ensemble": Key("a whole number", _whole, "how many seeds a model with weights is fitted from"),
    "workers": Key("a whole number", _whole, "processes that share the starts"),
    "holdout": Key("a part, after:TIME or a name", lambda v: _number(v) or _text(v), "what is kept for the test"),
    "fix": Key("a mapping from unknowns to values", _values, "unknowns held, at a value or where they are"),
    "free": Key("a list of unknowns", _texts, "unknowns identified although the model fixes or ties them"),
    "tie": Key("a mapping from unknowns to expressions", _expressions, "unknowns computed from the others"),
    "solver": Key("a name", _text, "solver of the differential equation"),
    "rtol": Key("a number", _number, "relative tolerance of a step"),
    "atol": Key("a number", _number, "absolute tolerance of a step"),
    "max_steps": Key("a whole number", _whole, "most steps of a solve"),
    "probes": Key("a whole number", _whole, "tangents held to the tolerances beside the state; 0 for none"),
}


def _shallow(text: str) -> Any:
    """A loader of plain YAML that refuses brackets within more than DEEPEST others, over which its scanner is slow."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
        def fetch_flow_collection_start(self, kind: Any) -> None:
            if self.flow_level >= DEEPEST:
                raise yaml.scanner.ScannerError(None, None, f"more than {DEEPEST} brackets open", self.get_mark())
            super().fetch_flow_collection_start(kind)

    return Loader(text)


def load(path: str | Path) -> dict[str, Any]:
    """The settings of the YAML file `path`, checked.

    Errors: InputError for a file that is missing, no YAML, or not a mapping, for unknown keys and for values of another
    kind, each with the key and what is allowed.
    """
    import yaml

    path = Path(path)
    try:
        loader = _shallow(door.read(path, LARGEST, "That is no file of settings. ").decode("utf-8"))
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
        raise InputError(f"{path} holds a {type(found).__name__}: lines as in 'starts: 10' are allowed.")
    return {str(key): _checked(path, str(key), value) for key, value in found.items() if value is not None}


def _count(path: Path, node: Any, known: dict[int, int]) -> int:
    """The values under a node of YAML, aliases written out; InputError for too many, or one inside of itself."""
    if isinstance(node.value, str):
        if len(node.value) > LENGTH:
            raise InputError(
                f"{path}: a value of {len(node.value)} characters: up to {LENGTH} are allowed. Shorten it."
            )
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
    if not KEYS[key].fits(value):
        hint = ""
        if isinstance(value, str) and KEYS[key].fits(0.5):
            try:
                return float(value)  # 1e-9 is text for YAML 1.1, which wants 1.0e-9
            except ValueError:
                hint = " Write numbers without quotes."
        raise InputError(f"{path}: {key} is {_told(value)}, but {KEYS[key].what} is allowed.{hint}")
    return value


def _told(value: Any) -> str:
    """A value as a message shows it, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        return "an enormous number"
    return text if len(text) <= 80 else text[:77] + "..."


def dump(settings: Mapping[str, Any]) -> str:
    """Those of the settings that have a key and a value, as a YAML file that `load` reads back."""
    import yaml

    kept = {key: settings[key] for key in KEYS if settings.get(key) not in (None, {}, [], ())}
    return str(yaml.safe_dump(kept, sort_keys=False))


def template() -> str:
    """A settings file with every key as a comment that says what it means."""
    width = max(map(len, KEYS))
    return "".join(f"# {name + ':':{width + 1}} {key.help} ({key.what})\n" for name, key in KEYS.items())
