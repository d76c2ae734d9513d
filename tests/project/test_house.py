"""The house itself: packages and links, who imports whom, what is loaded when, what is explained."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from rooms import DOOR, FILE_HOMONYMS
from rooms import ROOMS as FLOORS
from trees import ROOMS, ROOT, package, sources, tree_of

import physid
from physid.cli.app import COMMANDS

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# What a room, and physid itself, must never import.
FORBIDDEN = {
    "physid": ("physid.models", "physid.datasets", "physid.cli"),
    "models": ("physid.datasets", "physid.cli", "physid.reproduce"),
    "datasets": ("physid.models", "physid.cli", "physid.reproduce"),
    "cli": (),
}

# Module of physid -> its place, by its line in tests/rooms.py.
PLACE = {
    "physid" if name == "physid" else f"physid.{name}": place
    for place, layer in enumerate(layer for room in FLOORS.values() for layer in room)
    for name in layer.split()
}

# Module of physid -> its room.
ROOM = {
    "physid" if name == "physid" else f"physid.{name}": room
    for room, layers in FLOORS.items()
    for layer in layers
    for name in layer.split()
}

# The one package inside physid that stands above the rooms: it brings models and data sets together.
ABOVE, ITS_ROOMS = "physid.reproduce", ("physid.models", "physid.datasets")


def module_name(path: Path, root: Path) -> str:
    """The import name of the file `path` of the tree at `root`."""
    parts = path.relative_to(root).with_suffix("").parts
    parts = parts if parts[0] == "physid" else ("physid", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imported(path: Path) -> list[tuple[str, int]]:
    """Every module of physid that a file of this tree imports, wherever in the file, with the line."""
    return list(imports(tree_of(path), path))


def imports(tree: ast.Module, path: Path) -> Iterator[tuple[str, int]]:
    """Every module of physid that the source of `path` imports, wherever in it, with the line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names if within(alias.name, "physid"))
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{path}:{node.lineno}: a relative import; name the module in full")
        elif isinstance(node, ast.ImportFrom) and within(node.module or "", "physid"):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                file = ROOT / name.replace(".", "/")
                yield (name if file.is_dir() or file.with_suffix(".py").is_file() else node.module or ""), node.lineno


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def rank(module: str) -> int:
    """The place of `module` in tests/rooms.py."""
    if module not in PLACE:
        raise AssertionError(f"{module} has no place in tests/rooms.py: give it one")
    return PLACE[module]


def wrong(path: Path, text: str = "") -> Iterator[tuple[str, str, int]]:
    """Importer, imported and line of every import against the direction of knowledge in a file, `text` at its end."""
    importer = module_name(path, ROOT)
    folder = path.relative_to(ROOT).parts[0]
    targets = list(imports(ast.parse(path.read_text() + text), path)) if text else imported(path)
    for target, line in targets:
        if target == "physid":  # for its version; the package itself imports nothing
            continue
        if within(importer, ABOVE) and any(within(target, room) for room in ITS_ROOMS):
            continue
        banned = any(within(target, one) for one in FORBIDDEN["cli" if importer == DOOR else folder])
        inside = folder == "physid" and importer not in ("physid", DOOR)
        if banned or (inside and rank(target) >= rank(importer)):
            yield importer, target, line


def violations(path: Path, text: str = "") -> list[str]:
    """Every wrong import of a file, with `text` at its end, as words."""
    return [f"{a} (line {line}) imports {b}" for a, b, line in wrong(path, text)]


def run(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=300
    )


def test_package_list_is_the_tree() -> None:
    folders = {path.parent for path in package()}
    assert {module_name(folder / "__init__.py", ROOT) for folder in folders} == set(
        PROJECT["tool"]["setuptools"]["packages"]
    )
    assert all((folder / "__init__.py").is_file() for folder in folders)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_are_linked_and_mapped(room: str) -> None:
    link = ROOT / "physid" / room
    assert link.is_symlink()
    assert os.readlink(link) == f"../{room}"
    assert PROJECT["tool"]["setuptools"]["package-dir"][f"physid.{room}"] == room


def test_every_file_has_one_place() -> None:
    listed = [name for layers in FLOORS.values() for layer in layers for name in layer.split()]
    assert sorted(listed) == sorted(set(listed))
    assert {*PLACE, DOOR} == {module_name(path, ROOT) for path in sources(ROOT / "physid")}


def test_a_class_name_is_used_once() -> None:
    found: dict[str, list[str]] = {}
    for path in package():
        for node in tree_of(path).body:
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(module_name(path, ROOT))
    assert {name for name, homes in found.items() if len(homes) > 1} == set(), found


def test_a_file_name_is_used_once_in_its_room() -> None:
    found: dict[tuple[str, str], list[str]] = {}
    for path in (path for path in package() if path.stem != "__init__"):
        room = ROOM.get(module_name(path, ROOT), path.parent.name)
        found.setdefault((room, path.name), []).append(path.relative_to(ROOT).as_posix())
    assert {names[0]: names[1:] for names in map(sorted, found.values()) if len(names) > 1} == FILE_HOMONYMS


def test_imports_follow_the_direction_of_knowledge() -> None:
    assert [one for path in package() for one in violations(path)] == []


PLANTED = [
    ("physid/modelling/model.py", "from physid.models import build"),
    ("physid/modelling/model.py", "from physid import models"),
    ("physid/modelling/unknown.py", "import physid.inference"),
    ("physid/ode/eager/march.py", "from physid.ode.gradients import aca as gradients"),
    ("physid/ode/eager/march.py", "from physid.ode.gradients.aca import ACA"),
    ("physid/ode/solve.py", "from physid.modelling.model import Model"),
    ("models/classics.py", "def late() -> None:\n    from physid.datasets import load"),
    ("datasets/classics.py", "import physid.models.gravity"),
    ("datasets/classics.py", "import physid.cli"),
    ("physid/reproduce/run.py", "import physid.cli"),
    ("physid/viewer/calls.py", "from physid.reproduce import exhibit"),
    ("physid/store.py", "from physid.data import experiment"),
    ("physid/data/experiment.py", "from physid.modelling.model import Model"),
    ("physid/data/inputs.py", "from physid.data.series import Series"),  # beside it
    ("physid/modelling/smooth.py", "import physid.reading"),
    ("physid/reading/read.py", "from physid.inference.noise import NoiseModel"),
    ("physid/inference/noise.py", "from physid.inference.problem import Problem"),
    ("physid/inference/search/optimality.py", "from physid.inference import result"),
    ("physid/inference/uncertainty/scores.py", "from physid.inference.search import multistart"),
    ("physid/training/learner.py", "def late() -> None:\n    from physid.runs import trainings"),
    ("physid/predict/draws.py", "from physid.report import Report"),
    ("physid/report/tables.py", "from physid.runs.fits import save"),
    ("physid/runs/writer.py", "from physid.plots import png"),
    ("physid/check.py", "from physid.plots import png"),
    ("physid/plots/look.py", "import physid.viewer"),
    ("physid/viewer/tracks.py", "from physid.api import train"),
    ("physid/inference/result.py", "def late() -> None:\n    from physid.api.fit import Fit"),
    ("physid/inference/identify.py", "from physid.runs.recorder import RunRecorder"),
    ("physid/api/fit.py", "from physid.reproduce import exhibit"),
    ("physid/ode/native/compiler/ir.py", "from physid.ode.native.kernel import Kernel"),
    ("physid/ode/eager/march.py", "from physid.ode.native.engine import Native"),
    ("physid/ode/methods/tableau.py", "from physid.ode.control import PID"),
    ("models/classics.py", "import physid.reproduce"),
]


@pytest.mark.parametrize(("file", "line"), PLANTED)
def test_a_planted_violation_is_found(file: str, line: str) -> None:
    (found,) = violations(ROOT / file, f"\n{line}\n")
    assert module_name(ROOT / file, ROOT) in found


def test_every_room_has_a_planted_violation() -> None:
    planted = {module_name(ROOT / file, ROOT) for file, _ in PLANTED}
    assert {ROOM[name] for name in planted if name in ROOM} == {*FLOORS} - {"physid"}
    assert {name.split(".")[1] for name in planted if name not in ROOM} == {*ROOMS} - {"cli"}  # which may import all


def test_help_loads_nothing_heavy() -> None:
    heavy = "torch", "numpy", "pandas", "scipy", "pyvista", "matplotlib"
    wanted = [["--help"], *([command, "--help"] for command in COMMANDS)]
    shown = f"print('loaded', arguments, [m for m in {heavy!r} if m in sys.modules])"
    done = run("-c", f"import sys, physid.cli\nfor arguments in {wanted!r}: physid.cli.main(arguments); {shown}")
    said = [line for line in done.stdout.splitlines() if line.startswith("loaded ")]
    assert said == [f"loaded {arguments} []" for arguments in wanted], done.stdout + done.stderr


def test_import_of_physid_loads_no_other_package() -> None:
    done = run(
        "-c", "import sys, physid; dir(physid); print([m for m in ('torch', 'numpy', 'click') if m in sys.modules])"
    )
    assert done.stdout == "[]\n", done.stderr


def test_every_public_name_is_there_and_explained() -> None:
    for name in set(physid.__all__) - {"__version__"}:
        value = getattr(physid, name)
        assert name in dir(physid)
        assert inspect.getdoc(value), f"physid.{name} has no docstring"
    with pytest.raises(AttributeError, match="no attribute 'sovle'"):
        physid.sovle  # noqa: B018


def test_every_module_and_public_class_or_function_is_explained() -> None:
    for path in package():
        tree = tree_of(path)
        assert ast.get_docstring(tree), f"{path.relative_to(ROOT)} has no docstring"
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path.relative_to(ROOT)}: {node.name} has no docstring"


def test_files_stay_small() -> None:
    folders = "physid", *ROOMS, "tests", "benchmarks", "attacks"
    lengths = {path: len(path.read_text().splitlines()) for folder in folders for path in sources(ROOT / folder)}
    assert {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > 350} == {}


def test_tests_stand_in_the_room_of_what_they_test() -> None:
    """In a folder of a room's name, or in `project` for what concerns all; helpers beside the folders."""
    folders = {*FLOORS, *ROOMS, "project"} - {"physid"}
    places = [path.relative_to(ROOT / "tests") for path in sorted((ROOT / "tests").rglob("test_*.py"))]
    assert {str(place) for place in places if len(place.parts) != 2 or place.parts[0] not in folders} == set()
    names = [place.name for place in places]
    assert sorted(set(names)) == sorted(names)  # pytest imports each by its name alone


def test_version_from_a_bare_checkout() -> None:
    done = run("-m", "physid", "--version")
    assert (done.returncode, done.stdout) == (0, f"physid {physid.__version__}\n")


def test_changelog_names_the_version() -> None:
    assert f"## [{physid.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_constraints_pin_every_dependency_within_its_bounds() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pins = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    extras = PROJECT["project"]["optional-dependencies"].values()
    for text in [*PROJECT["project"]["dependencies"], *(line for extra in extras for line in extra)]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[requirement.name]), text
    assert re.fullmatch(r"\d+\.\d+\.\d+", pins["torch"])  # a local version would not be found on another machine


@pytest.mark.slow
def test_the_wheel_works_from_an_empty_folder(tmp_path: Path) -> None:
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    built = run("-m", "pip", "wheel", "--no-deps", "-w", str(tmp_path), str(ROOT))
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    installed = run("-m", "pip", "install", "--no-deps", "--target", str(site), str(wheel), cwd=empty)
    assert installed.returncode == 0, installed.stderr
    where = run("-c", "import physid; print(physid.__file__)", cwd=empty, PYTHONPATH=str(site))
    assert where.stdout.strip() == str(site / "physid" / "__init__.py")
    assert (site / "physid" / "py.typed").is_file()
    for arguments in (["--version"], ["list"], ["fit", "exponential", "--json"]):
        done = run("-m", "physid", *arguments, cwd=empty, PYTHONPATH=str(site))
        assert done.returncode == 0, done.stderr
    assert run("-m", "physid", "--version", cwd=empty, PYTHONPATH=str(site)).stdout == f"physid {physid.__version__}\n"
