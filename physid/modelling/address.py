"""Addresses `FILE.py:NAME`: models and experiments in a user's file, without registration."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import opcode
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

import physid.door as door
from physid.data.experiment import Experiment
from physid.errors import InputError, ModelError, unknown_name
from physid.modelling.model import Model

PREFIX = "physid_user_"  # of the names of modules made of a user's files
ENDINGS = (SystemExit, KeyboardInterrupt, GeneratorExit)  # what ends a program, and is no Exception
RAISE = opcode.opmap["RAISE_VARARGS"]  # the statement `raise`; no signal is heard between its start and its end

# What torch says of common slips in a model -> what to write in its place.
SLIPS = {
    "Boolean value of Tensor": "States come many at once: write torch.where, or physid.modelling.smooth, not if.",
    "can be converted to Python scalars": "States come many at once: write torch's functions in place of math's.",
    "converted to a Tensor with 1 element": "States come many at once: write torch's functions in place of math's.",
    "Can't call numpy()": "Write torch's functions in place of NumPy's, so that a gradient comes through.",
    "Cannot access data pointer": "Write torch's functions in place of NumPy's, so that a gradient comes through.",
}


class _Read(SourceFileLoader):
    """Runs the source that was read, and hashed, and neither reads nor writes what is compiled beside the file."""

    def __init__(self, name: str, path: str, source: bytes) -> None:
        super().__init__(name, path)
        self.source = source

    def get_code(self, fullname: str) -> CodeType:
        """The compiled source."""
        return compile(self.source, self.path, "exec", dont_inherit=True)


def is_file_name(text: str) -> bool:
    """Whether `text` names something in a Python file (`FILE.py` or `FILE.py:NAME`) rather than in the catalogue."""
    return text.endswith(".py") or ".py:" in text


def split_file_name(text: str) -> tuple[Path, str]:
    """The file and the name of `FILE.py:NAME`; the name is empty when only the file is given."""
    file, found, name = text.rpartition(".py:")
    return (Path(file + ".py"), name) if found else (Path(text), "")


def load_model_file(path: str | Path, name: str, source: bytes | None = None) -> type[Model]:
    """The Model subclass `name` defined in the Python file `path`; `source` is its content, where it was read before.

    Errors: InputError when the file is missing or does not import, or has no such class, or the name is no Model.
    """
    module = import_file(Path(path), source)
    models = {key: value for key, value in vars(module).items() if _is_own_model(value, module)}
    found = _member(module, Path(path), name, "model", models)
    if not (isinstance(found, type) and issubclass(found, Model)):
        raise InputError(f"{path}:{name} is {_kind(found)}, not a subclass of physid.Model. Derive it from one.")
    return found


def load_experiment_file(path: str | Path, name: str, **options: Any) -> Experiment:
    """The Experiment `name` of the Python file `path`: an instance, or a function that returns one, given `options`.

    Errors: InputError as for `load_model_file`, and when the function refuses the options or returns something else.
    """
    module = import_file(Path(path))
    own = {key: value for key, value in vars(module).items() if _is_own_experiment(value, module)}
    found = _member(module, Path(path), name, "experiment", own)
    if callable(found) and not isinstance(found, type):
        try:
            inspect.signature(found).bind(**options)
        except TypeError as error:
            raise InputError(f"{path}:{name} cannot be called with the options given: {error}.") from error
        with contained():
            found = found(**options)
    elif options:
        raise InputError(f"{path}:{name} is not a function, so it takes no options; it was given {', '.join(options)}.")
    if not isinstance(found, Experiment):
        raise InputError(f"{path}:{name} gives {_kind(found)}, not a physid.Experiment. Return one.")
    return found


def import_file(path: Path, source: bytes | None = None) -> ModuleType:
    """The module made by running the Python file `path` once; a second call returns the same module.

    `source` is the content of the file, where it was read, and compared with a hash, before.
    """
    if not path.is_file():
        raise InputError(f"the file {path} does not exist. Give the path of a Python file, as in drag.py:DragGravity.")
    path = path.resolve()
    source = door.read(path, door.SOURCE) if source is None else source
    digest = hashlib.sha256(str(path).encode() + source).hexdigest()[:12]
    name = f"{PREFIX}{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    if path.suffix != ".py":
        raise InputError(f"{path.name} is not a Python file: its name must end in .py.")
    loader = _Read(name, str(path), source)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]  # with a loader there is a spec
    sys.modules[name] = module  # before running it, as pickling and dataclasses look it up there
    try:
        loader.exec_module(module)
    except ModelError:  # which says where it is
        del sys.modules[name]
        raise
    except (Exception, *ENDINGS) as error:
        del sys.modules[name]
        if isinstance(error, KeyboardInterrupt) and not _raised(error):
            raise
        raise InputError(_why_not_imported(path, error)) from error
    except BaseException:
        del sys.modules[name]
        raise
    return module


def blame(error: BaseException) -> str | None:
    """One sentence on an `error` that a line of a user's file or model raised, with that line; None where none did.

    Ctrl-C is no model's: a KeyboardInterrupt counts only where a statement of the model raises it.
    """
    frames = list(traceback.walk_tb(error.__traceback__))
    names = [str(frame.f_globals.get("__name__")) for frame, _ in frames]
    ends = isinstance(error, ENDINGS)
    own = [i for i, (frame, _) in enumerate(frames) if names[i].startswith(PREFIX) or (ends and _in_model(frame))]
    if not own or any(name.split(".")[0] == "physid" for name in names[own[-1] + 1 :]):
        return None
    if isinstance(error, KeyboardInterrupt) and not (own[-1] == len(frames) - 1 and _raised(error)):
        return None
    frame, line = frames[own[-1]]
    where = f"{Path(frame.f_code.co_filename).name}, line {line}, in {frame.f_code.co_name}"
    return f"{where}: {_said(error)}"


@contextmanager
def contained() -> Iterator[None]:
    """In here a model that ends the program, by SystemExit, KeyboardInterrupt or GeneratorExit, is a ModelError."""
    try:
        yield
    except (*ENDINGS, BrokenPipeError) as error:  # as which other tools would end
        said = blame(error)
        if said is None:
            raise
        raise ModelError(said) from error


def _in_model(frame: FrameType) -> bool:
    """Whether a frame is that of a method of a user's model."""
    code = frame.f_code
    first = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
    return isinstance(first, Model) and str(frame.f_globals.get("__name__")).split(".")[0] not in ("physid", "torch")


def spoken_at(frame: FrameType | None) -> tuple[str, int] | None:
    """File and line of the user's file or model that runs at `frame`; None where physid itself does, or others.

    It is the nearest of theirs, unless a line of physid is nearer.
    """
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if name.startswith(PREFIX):
            return frame.f_code.co_filename, frame.f_lineno
        if name.split(".")[0] == "physid":
            return None
        frame = frame.f_back
    return None


def is_own_file(path: str) -> bool:
    """Whether a model or an experiment was read from this file."""
    return any(
        name.startswith(PREFIX) and getattr(module, "__file__", None) == path
        for name, module in tuple(sys.modules.items())
    )


def _raised(error: BaseException) -> bool:
    """Whether the last frame of an error's traceback raised it by a statement, and is none of physid."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or str(trace.tb_frame.f_globals.get("__name__")).split(".")[0] == "physid":
        return False
    return trace.tb_frame.f_code.co_code[trace.tb_lasti] == RAISE


def _said(error: BaseException) -> str:
    """The kind of an error, what it says, and what to do."""
    advice = next((advice for slip, advice in SLIPS.items() if slip in str(error)), "Correct that line.")
    if isinstance(error, ENDINGS):
        advice = "A model must not end the program: raise a ValueError there, or return."
    what = str(error).rstrip(".")
    return f"{type(error).__name__}{': ' if what else ''}{what}. {advice}"


def _why_not_imported(path: Path, error: BaseException) -> str:
    """One sentence on why running `path` raised `error`, with the line of the file where it happened."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path.name} does not import: line {error.lineno}: {error.msg}. Correct that line."
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    where = f"line {lines[-1]}: " if lines else ""
    return f"{path.name} does not import: {where}{_said(error)}"


def _member(module: ModuleType, path: Path, name: str, kind: str, own: dict[str, Any]) -> Any:
    """The attribute `name` of `module`; without a name, the only one of its `own`."""
    if name and hasattr(module, name):
        return getattr(module, name)
    if name and own:
        raise unknown_name(f"{kind} of {path.name}", name, own)
    if len(own) == 1:
        return next(iter(own.values()))
    if own:
        raise InputError(f"{path.name} defines {', '.join(sorted(own))}: say which, as in {path.name}:{min(own)}.")
    raise InputError(f"{path.name} defines no {kind}{f' {name}' if name else ''}. Define one there.")


def _is_own_model(value: Any, module: ModuleType) -> bool:
    return isinstance(value, type) and issubclass(value, Model) and value.__module__ == module.__name__


def _is_own_experiment(value: Any, module: ModuleType) -> bool:
    function = callable(value) and not isinstance(value, type) and getattr(value, "__module__", "") == module.__name__
    returns = getattr(value, "__annotations__", {}).get("return") if function else None
    return isinstance(value, Experiment) or returns in (Experiment, "Experiment", "physid.Experiment")


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"something of type {type(value).__name__}"
