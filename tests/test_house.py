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

import physid
from physid.cli.app import COMMANDS

ROOT = Path(__file__).parent.parent
ROOMS = ("models", "datasets", "cli")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# What a room, and physid itself, must never import.
FORBIDDEN = {
    "physid": ("physid.models", "physid.datasets", "physid.cli"),
    "models": ("physid.datasets", "physid.cli", "physid.reproduce"),
    "datasets": ("physid.models", "physid.cli", "physid.reproduce"),
    "cli": (),
}

# The named exceptions: (importing module, imported package).
EXCEPTIONS = {
    ("physid.__main__", "physid.cli"),  # it only starts the command line
    ("physid", "physid.datasets"),  # physid.load, resolved at its first use
    ("physid.unknown", "physid.spec"),  # the type of an annotation
    ("physid.fitting.result", "physid.report"),  # fit.report() and fit.forecast() are thin methods
    ("physid.fitting.result", "physid.forecast"),
    ("physid.fitting.result", "physid.viewer"),  # and so are fit.view() and forecast.view()
    ("physid.forecast", "physid.viewer"),
    ("physid.fitting.runs", "physid.models"),  # a run names a model of the catalogue
    ("physid.fitting.restore", "physid.models"),
    ("physid.training.runs", "physid.models"),  # and a training a network and a collection
    ("physid.training.runs", "physid.datasets"),
}

# Inside physid: a module may import what stands before it, or beside it in the same group.
ORDER: list[tuple[str, ...]] = [
    ("physid.errors",),
    ("physid.door",),
    ("physid.store",),
    ("physid.machine", "physid.ode.hearing"),
    ("physid.smooth", "physid.ode.tolerances"),
    ("physid.ode.tableau", "physid.ode.dop853", "physid.ode.binomial", "physid.ode.jumps"),
    ("physid.ode.tableaus", "physid.ode.recorder"),
    ("physid.ode.transforms",),
    ("physid.ode.control", "physid.ode.field", "physid.ode.solution", "physid.ode.probes"),
    ("physid.ode.stages", "physid.ode.products", "physid.ode.reads"),
    ("physid.ode.plan",),
    ("physid.ode.problem",),
    ("physid.ode.start", "physid.ode.outputs", "physid.ode.tape", "physid.ode.failure", "physid.ode.directions"),
    ("physid.ode.outcome", "physid.ode.tangents", "physid.ode.precision"),
    ("physid.ode.march",),
    ("physid.ode.conclude", "physid.ode.replay", "physid.ode.linearise", "physid.ode.wide", "physid.ode.pullback"),
    ("physid.ode.transition", "physid.ode.aware"),
    ("physid.ode.tier",),
    ("physid.ode.native",),
    ("physid.ode.augmented",),
    ("physid.ode.gradients", "physid.ode.flow", "physid.ode.adjoint"),
    ("physid.ode.engines",),
    ("physid.ode.methods",),
    ("physid.ode",),
    ("physid.prior",),
    ("physid.declared",),
    ("physid.expression", "physid.unknown", "physid.inputs", "physid.experiment", "physid.series"),
    ("physid.seriesforecast",),
    ("physid.modules",),
    ("physid.spec",),
    ("physid.modelfile",),
    ("physid.answers",),
    ("physid.catalog",),
    ("physid.fitting",),
    ("physid.training",),
    ("physid.latex", "physid.tables"),
    ("physid.report", "physid.forecast", "physid.freerun", "physid.comparison"),
    ("physid.discovery", "physid.promotion"),
    ("physid.reading", "physid.classifying"),
    ("physid.check",),
    ("physid.plots",),
    ("physid.viewer",),
    ("physid.reproduce",),
    ("physid",),
]

# The one package inside physid that stands above the rooms: it brings models and data sets together.
ABOVE, ITS_ROOMS = "physid.reproduce", ("physid.models", "physid.datasets")


def sources(folder: Path) -> Iterator[Path]:
    """The Python files under `folder`, not through the links and not in caches."""
    for path in sorted(folder.rglob("*.py")):
        inside = path.relative_to(folder).parts
        if "__pycache__" not in inside and not (folder.name == "physid" and inside[0] in ROOMS):
            yield path


def module_name(path: Path, root: Path) -> str:
    """The import name of the file `path` of the tree at `root`."""
    parts = path.relative_to(root).with_suffix("").parts
    parts = parts if parts[0] == "physid" else ("physid", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a file, which several tests walk."""
    return ast.parse(path.read_text())


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
    """The place of `module` in ORDER, by its longest matching entry."""
    matches = [(len(entry), i) for i, group in enumerate(ORDER) for entry in group if within(module, entry)]
    length, place = max(matches)
    if length == len("physid") and module not in ("physid", "physid.__main__"):
        raise AssertionError(f"{module} has no place in ORDER of tests/test_house.py: give it one")
    return place


def violations(planted: Path | None = None, text: str = "") -> list[str]:
    """Every import in this tree, with `text` at the end of the file `planted`, against the direction of knowledge."""
    found = []
    for folder in ("physid", *ROOMS):
        for path in sources(ROOT / folder):
            importer = module_name(path, ROOT)
            targets = imported(path)
            if path == planted:
                targets = list(imports(ast.parse(path.read_text() + text), path))
            for target, line in targets:
                if target == "physid":  # for its version; the package itself imports nothing
                    continue
                if any(importer == allowed[0] and within(target, allowed[1]) for allowed in EXCEPTIONS):
                    continue
                if within(importer, ABOVE) and any(within(target, room) for room in ITS_ROOMS):
                    continue
                banned = any(within(target, package) for package in FORBIDDEN[folder])
                inside = folder == "physid" and importer != "physid"
                if banned or (inside and rank(target) > rank(importer)):
                    found.append(f"{importer} (line {line}) imports {target}")
    return found


def run(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=300
    )


def test_package_list_is_the_tree() -> None:
    folders = {path.parent for folder in ("physid", *ROOMS) for path in sources(ROOT / folder)}
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


def test_imports_follow_the_direction_of_knowledge() -> None:
    assert violations() == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("physid/spec.py", "from physid.models import build"),
        ("physid/spec.py", "from physid import models"),
        ("physid/unknown.py", "import physid.fitting"),
        ("physid/ode/march.py", "from physid.ode import gradients"),
        ("physid/ode/march.py", "from physid.ode.gradients import ACA"),
        ("physid/ode/solve.py", "from physid.spec import Model"),
        ("models/classics.py", "def late() -> None:\n    from physid.datasets import load"),
        ("datasets/classics.py", "import physid.models.gravity"),
        ("datasets/classics.py", "import physid.cli"),
        ("physid/reproduce/run.py", "import physid.cli"),
        ("physid/viewer/calls.py", "from physid.reproduce import exhibit"),
        ("models/classics.py", "import physid.reproduce"),
    ],
)
def test_a_planted_violation_is_found(file: str, line: str) -> None:
    (found,) = violations(ROOT / file, f"\n{line}\n")
    assert module_name(ROOT / file, ROOT) in found


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
    for folder in ("physid", *ROOMS):
        for path in sources(ROOT / folder):
            tree = tree_of(path)
            assert ast.get_docstring(tree), f"{path.relative_to(ROOT)} has no docstring"
            for node in tree.body:
                if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                    assert ast.get_docstring(node), f"{path.relative_to(ROOT)}: {node.name} has no docstring"


def test_files_stay_small() -> None:
    folders = "physid", *ROOMS, "tests", "benchmarks", "attacks"
    lengths = {path: len(path.read_text().splitlines()) for folder in folders for path in sources(ROOT / folder)}
    assert {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > 350} == {}


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
