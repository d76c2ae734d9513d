"""Files come in through one door and go out through one store: no other module opens any, but for a few."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOORS = ("physid/door.py", "physid/store.py")
NAMES = {"open"}  # functions
PATHS = {"read_text", "read_bytes", "write_text", "write_bytes"}  # methods of a path
LIBRARY = {"os.open", "io.open", "np.load", "np.fromfile", "np.loadtxt", "np.genfromtxt", "pd.read_csv", "torch.load"}
LIBRARY |= {"np.save", "np.savez", "torch.save", "tarfile.open", "zipfile.ZipFile", "tempfile.mkstemp"}
# file -> what it uses, and why
EXCEPTIONS = {
    "physid/ode/native/compiler/build.py": {"open": "/proc/cpuinfo", "write_text": "in a new folder of mode 0700"},
    "physid/ode/native/compiler/library.py": {"read_bytes": "sources of the package"},
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


def opens(source: str) -> set[str]:
    """What in a source opens a file by its path."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if (isinstance(node.func, ast.Name) and name in NAMES) or name in LIBRARY or name == "Image.open":
            found.add(name)
        elif isinstance(node.func, ast.Attribute) and node.func.attr in PATHS:
            found.add(node.func.attr)
    return found


def test_no_module_opens_files_by_itself() -> None:
    found = {}
    for room in ("physid", "models", "datasets", "cli"):
        for path in sorted((ROOT / room).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if name.split("/")[1] not in ("models", "datasets", "cli") and name not in DOORS:
                found[name] = opens(path.read_text())
    assert {name: uses for name, uses in found.items() if uses} == {
        name: set(uses) for name, uses in EXCEPTIONS.items()
    }


@pytest.mark.parametrize(
    "line", ["open(p)", "p.read_text()", "np.load(p)", "os.open(p, 0)", "(a / b).write_bytes(c)", "torch.load(p)"]
)
def test_the_scan_sees_it(line: str) -> None:
    assert opens(f"def f():\n    return {line}\n")
