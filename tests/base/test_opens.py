"""Files come in through one door and go out through one store: no other module opens any, but for a few."""

from __future__ import annotations

import ast
from collections.abc import Iterable

import pytest
from trees import ROOT, nodes_of, package

DOORS = ("physid/door.py", "physid/store.py")
NAMES = {"open"}  # functions
PATHS = {"read_text", "read_bytes", "write_text", "write_bytes"}  # methods of a path
LIBRARY = {"os.open", "io.open", "np.load", "np.fromfile", "np.loadtxt", "np.genfromtxt", "pd.read_csv", "torch.load"}
LIBRARY |= {"np.save", "np.savez", "torch.save", "tarfile.open", "zipfile.ZipFile", "tempfile.mkstemp"}
# file -> what it uses, and why
EXCEPTIONS = {
    "physid/ode/native/compiler/build.py": {"open": "/proc/cpuinfo", "write_text": "in a new folder of mode 0700"},
    "physid/ode/native/compiler/background.py": {"write_text": "in a new folder of mode 0700"},
    "physid/ode/native/compiler/library.py": {
        "read_bytes": "sources of the package",
        "read_text": "sources of the package",
    },
    "physid/ode/native/structures.py": {"read_text": "sources of the package"},
    "physid/viewer/webpage.py": {"read_text": "files of the package"},
    "physid/machine.py": {"read_text": "/proc"},
    "physid/viewer/movie.py": {"tempfile.mkstemp": "mode 0600, then moved in place"},
    "physid/viewer/figures.py": {"Image.open": "bytes in memory"},
    "physid/reading/binary.py": {"zipfile.ZipFile": "bytes in memory"},
    "physid/formats.py": {"np.load": "bytes in memory", "np.savez": "bytes in memory"},
    "datasets/hopper.py": {"np.load": "bytes from the door", "torch.load": "bytes from the door", "np.save": "store"},
    "datasets/tanks.py": {"np.genfromtxt": "a record that was compared with its sha256"},
    "datasets/cifar.py": {
        "tarfile.open": "an archive that was compared with its sha256",
        "write_bytes": "in a new folder of mode 0700",
    },
    "cli/streams.py": {"os.open": "/dev/null"},
    "cli/doctor.py": {"write_text": "in a new folder of mode 0700"},
}


def called(function: ast.expr) -> str:
    """The name by which a function or a function of a module is called, as in np.load; none for anything else."""
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        return f"{function.value.id}.{function.attr}"
    return function.id if isinstance(function, ast.Name) else ""


def opens(nodes: Iterable[ast.AST]) -> set[str]:
    """What in a source opens a file by its path."""
    found = set()
    for node in nodes:
        if not isinstance(node, ast.Call):
            continue
        name = called(node.func)
        if name in NAMES or name in LIBRARY or name == "Image.open":
            found.add(name)
        elif isinstance(node.func, ast.Attribute) and node.func.attr in PATHS:
            found.add(node.func.attr)
    return found


def test_no_module_opens_files_by_itself() -> None:
    found = {path.relative_to(ROOT).as_posix(): opens(nodes_of(path)) for path in package()}
    assert {name: uses for name, uses in found.items() if uses and name not in DOORS} == {
        name: set(uses) for name, uses in EXCEPTIONS.items()
    }


@pytest.mark.parametrize(
    "line", ["open(p)", "p.read_text()", "np.load(p)", "os.open(p, 0)", "(a / b).write_bytes(c)", "torch.load(p)"]
)
def test_the_scan_sees_it(line: str) -> None:
    assert opens(ast.walk(ast.parse(f"def f():\n    return {line}\n")))
