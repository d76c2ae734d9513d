"""Parts of installed packages: the README's package is found, listed, fitted and solved with, and each failure is told.

A package is installed here as pip would: a module, and a `*.dist-info` with METADATA and entry_points.txt, on sys.path.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packages import ROOT, block, install, project
from packages import site as site

from physid import fit, load, odeint, solve
from physid.api.export import EXPORTERS
from physid.api.fit import Fit
from physid.catalog import Registry, entry_points, one_of
from physid.cli.app import installed, main
from physid.data.catalogue import CATALOG
from physid.errors import InputError
from physid.inference import OPTIMIZERS
from physid.inference.noise import NOISE
from physid.modelling.catalogue import MODELS
from physid.ode import GRADIENTS, METHODS, Tableau
from physid.training.networks import NETWORKS

Captured = pytest.CaptureFixture[str]
GROUPS = (
    *("physid.models", "physid.datasets", "physid.solvers", "physid.networks", "physid.collections"),
    *("physid.gradients", "physid.noise", "physid.optimizers", "physid.exporters", "physid.commands"),
)


@pytest.fixture
def springs(site: Path) -> Path:
    """The package of the README, installed."""
    install(site, "springs", block("springs.py"), tomllib.loads(block("pyproject.toml")))
    return site


def listed(capsys: Captured) -> dict[str, Any]:
    assert main(["list", "--json"]) == 0
    event = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert isinstance(event, dict)
    return event


def test_the_snippet_names_groups_that_are_there_and_parts_that_are_there(springs: Path) -> None:
    named = tomllib.loads(block("pyproject.toml"))["project"]["entry-points"]
    assert set(named) <= set(GROUPS) == {registry.group for registry in registries()}
    for registry in registries():
        for name in named.get(registry.group, {}):
            assert registry.owner(name) == "springs 1.2"
            registry.lookup(name)


def registries() -> list[Registry[Any]]:
    from physid.training.networks import COLLECTIONS

    return [MODELS, CATALOG, METHODS, GRADIENTS, NETWORKS, COLLECTIONS, NOISE, OPTIMIZERS, EXPORTERS, installed()]


def test_names_are_known_before_anything_is_imported(springs: Path) -> None:
    assert "ralston" in METHODS
    assert "spring" in MODELS
    assert list(CATALOG)[-1] == "spring"
    assert "springs" not in sys.modules
    with pytest.raises(InputError, match=r"unknown solver 'ralstom'\. Did you mean 'ralston'"):
        METHODS.lookup("ralstom")
    assert "springs" not in sys.modules
    assert one_of(METHODS)("ralston") == "ralston"


def test_parts_of_a_package_are_listed_with_it(springs: Path, capsys: Captured) -> None:
    done = listed(capsys)
    spring = {"summary": "A spring that comes to rest.", "knowledge": ["full"], "options": ["points"]}
    assert done["experiments"][-1] == {"name": "spring", **spring, "package": "springs 1.2"}
    assert done["models"][-1]["unknowns"] == ["stiffness", "friction"]
    assert done["solvers"][-1]["package"] == "springs 1.2"
    assert "faults" not in done
    assert "package" not in done["models"][0]
    assert main(["list", "solvers"]) == 0
    assert re.search(r"^ralston .* springs 1\.2$", capsys.readouterr().out, re.M)


def test_a_solver_of_a_package_has_the_order_that_it_says(springs: Path) -> None:
    tableau: Tableau = METHODS.lookup("ralston")
    b, c = np.array(tableau.b), np.array(tableau.c)
    assert (b.sum(), b @ c) == (1.0, 0.5)
    assert np.allclose(np.array(tableau.dense).sum(1), b)


@pytest.mark.parametrize("engine", ["eager", "native"])
def test_a_solver_of_a_package_solves_by_its_name(springs: Path, engine: str) -> None:
    y0, t = torch.ones(1, dtype=torch.float64), torch.linspace(0, 2, 5, dtype=torch.float64)
    found = solve(lambda t, y: -0.5 * y, y0, t, solver="Ralston", rtol=1e-6, atol=1e-9, engine=engine)
    assert float((torch.as_tensor(found.y)[:, 0] - torch.exp(-0.5 * t)).abs().max()) < 1e-5
    states = torch.as_tensor(odeint(lambda t, y: -0.5 * y, y0, t, rtol=1e-6, atol=1e-9, method="ralston"))
    assert float((states[:, 0] - torch.exp(-0.5 * t)).abs().max()) < 1e-5


def test_a_data_set_of_a_package_is_fitted_by_its_name(springs: Path, tmp_path: Path, capsys: Captured) -> None:
    run = tmp_path / "run"
    assert main(["fit", "spring", "--set", "points=20", "--out", str(run), "--json"]) == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [one["value"] for one in done["unknowns"].values()] == pytest.approx([4.01, 0.2], rel=1e-6)
    settings = json.loads((run / "settings.json").read_text())["settings"]
    assert (settings["model"], settings["model_package"], settings["model_file"]) == ("spring", "springs 1.2", None)
    again = Fit.load(run)  # without trust: the model is installed
    assert type(again.model) is MODELS["spring"]


def test_a_run_whose_package_is_gone_says_which(springs: Path, tmp_path: Path) -> None:
    fit(MODELS["spring"](), load("spring", points=20), out=tmp_path / "run")
    for path in springs.glob("*.dist-info/*"):
        path.unlink()
    entry_points.cache_clear()
    with pytest.raises(InputError, match=r"is of the package springs 1\.2, which does not offer it here\. Install it"):
        Fit.load(tmp_path / "run")


def test_a_model_a_solver_and_noise_of_a_package_fit_a_file(springs: Path, tmp_path: Path, capsys: Captured) -> None:
    t = np.linspace(0, 6, 25)
    x = np.exp(-0.1 * t) * np.cos(2 * t)
    v = np.exp(-0.1 * t) * (-0.1 * np.cos(2 * t) - 2 * np.sin(2 * t))
    rows = "\n".join(f"{a:.9g},{b:.9g},{c:.9g}" for a, b, c in zip(t, x, v, strict=True))
    (tmp_path / "mine.csv").write_text(f"t,x,v\n{rows}\n")
    how = ["--solver", "ralston", "--rtol", "1e-5", "--initial", "x=1,v=-0.1", "--noise-model", "hyperbolic"]
    assert main(["fit", "--data", str(tmp_path / "mine.csv"), "--model", "spring", *how, "--json"]) == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [one["value"] for one in done["unknowns"].values()] == pytest.approx([4.01, 0.2], rel=1e-2)


def test_a_format_of_a_package_is_written(springs: Path, tmp_path: Path, capsys: Captured) -> None:
    found = fit(MODELS["spring"](), load("spring", points=20), out=tmp_path / "run")
    assert main(["list", "exporters"]) == 0
    assert re.search(r"^markdown .* springs 1\.2$", capsys.readouterr().out, re.M)
    out = tmp_path / "unknowns.md"
    assert main(["export", str(tmp_path / "run"), "--to", "markdown", "--out", str(out)]) == 0
    one = found.estimates[0]
    assert f"| stiffness | {one.value:.6g} | {one.stderr:.2g} | 1/s^2 |" in out.read_text()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("1 / 0", "failed: ZeroDivisionError: division by zero. Mend or uninstall that package."),
        ("'text'", "gave str: expected bytes. Mend or uninstall that package."),
    ],
)
def test_a_format_of_a_package_that_fails_leaves_nothing(
    springs: Path, tmp_path: Path, capsys: Captured, body: str, told: str
) -> None:
    source = f"from physid.api.export import Exporter\nX = Exporter('odd', '.odd', 'Odd.', lambda run: {body})"
    install(springs, "odd", source, project("odd", "physid.exporters", odd="odd:X"))
    out = tmp_path / "x.odd"
    assert main(["export", str(tmp_path), "--to", "odd", "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"physid: error: format 'odd' of the installed package odd 0.1 {told}"
    assert not out.exists()


@pytest.mark.parametrize(
    ("source", "point", "told"),
    [
        (
            "import nothing_of_the_kind",
            "broken:X",
            "cannot be imported: ModuleNotFoundError: No module named 'nothing_",
        ),
        ("X = (", "broken:X", "cannot be imported: SyntaxError: "),
        ("raise SystemExit(3)", "broken:X", "cannot be imported: SystemExit: 3. Mend or uninstall"),
        ("", "broken:X", "cannot be imported: AttributeError: "),
        ("X = 3", "broken:X", "is a int: expected a subclass of physid.modelling.model.Model. Correct it there."),
        ("class X: pass", "broken:X", "is the class X: expected a subclass of physid.modelling.model.Model."),
        ("X = 1", "no such form", "cannot be imported: "),
    ],
)
def test_a_broken_part_is_one_line_and_hurts_nothing_else(
    springs: Path, capsys: Captured, source: str, point: str, told: str
) -> None:
    install(springs, "broken", source, project("broken", "physid.models", odd=point))
    done = listed(capsys)
    (fault,) = done["faults"]
    assert fault.startswith(f"model 'odd' of the installed package broken 0.1 ({point}) ")
    assert told in fault
    assert [row["name"] for row in done["models"]][-1] == "spring"
    assert main(["fit", "spring", "--model", "odd", "--dry-run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"physid: error: {fault}"
    assert main(["list", "models"]) == 0
    assert f"warning: {fault}" in capsys.readouterr().err


def test_a_part_of_another_name_or_kind_is_refused(springs: Path) -> None:
    points = {"other": "springs:RALSTON", "spring": "springs:SPRING"}
    install(springs, "more", "", project("more", "physid.solvers", **points))
    with pytest.raises(
        InputError, match="is a Tableau called 'ralston': expected the name of its entry point, 'other'"
    ):
        METHODS.lookup("other")
    with pytest.raises(
        InputError, match=r"is a DataSet called 'spring': expected a physid\.ode\.methods\.tableau\.Tableau"
    ):
        METHODS.lookup("spring")
    assert [name for name, _ in METHODS.each()][-1] == "ralston"


@pytest.mark.parametrize("name", ["dopri5", "rk45", "RK45"])
def test_a_name_of_physid_cannot_be_taken(springs: Path, name: str) -> None:
    install(springs, "taker", "", project("taker", "physid.solvers", **{name: "springs:RALSTON"}))
    own = METHODS.lookup(name)
    assert own.name == "dopri5"
    (fault,) = METHODS.faults()
    said = (
        f"solver '{name}' of the installed package taker 0.1 (springs:RALSTON) is not taken: solver 'dopri5' is of phys"
    )
    assert fault.startswith(said)
    assert list(METHODS).count("dopri5") == 1


def test_a_name_of_two_packages_is_refused_with_both(springs: Path) -> None:
    install(springs, "twin", "", project("twin", "physid.models", spring="springs:Spring"))
    with pytest.raises(InputError, match=r"model 'spring' is offered by .*springs 1\.2 \(springs:Spring\)") as caught:
        MODELS.lookup("spring")
    assert "twin 0.1 (springs:Spring)" in str(caught.value)
    assert len(MODELS.faults()) == 1
    assert "spring" not in dict(MODELS.each())


@pytest.mark.parametrize(
    ("group", "name", "said"),
    [
        ("physid.models", "lstm", "network 'lstm' is of physid"),
        ("physid.datasets", "cifar10", "collection 'cifar10' is of physid"),
        ("physid.networks", "pendulum", "model 'pendulum' is of physid"),
        ("physid.networks", "spring", "by springs 1.2 (springs:Spring)"),
    ],
)
def test_a_name_is_not_taken_beside_either(springs: Path, group: str, name: str, said: str) -> None:
    install(springs, "taker", "", project("taker", group, **{name: "springs:Spring"}))
    (fault,) = next(registry for registry in registries() if registry.group == group).faults()
    assert said in fault
    assert "taker 0.1 (springs:Spring)" in fault


def test_what_a_package_prints_does_not_mix_with_results(springs: Path, capsys: Captured) -> None:
    source = "print('hello')\nfrom springs import Spring as X"
    install(springs, "loud", source, project("loud", "physid.models", loud="loud:X"))
    assert main(["list", "models", "--json"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert "hello" in err


def test_a_data_set_that_gives_no_experiment_is_told(springs: Path) -> None:
    source = "from physid.data.catalogue import DataSet\nX = DataSet('nil', '', {}, lambda: 3)"
    install(springs, "nil", source, project("nil", "physid.datasets", nil="nil:X"))
    with pytest.raises(InputError, match=r"data set nil gave int: expected a physid\.Experiment"):
        load("nil")


def test_unreadable_metadata_of_others_is_left_out(springs: Path) -> None:
    (springs / "bad-1.dist-info").mkdir()
    (springs / "bad-1.dist-info" / "entry_points.txt").write_bytes(b"[physid.models]\nx = \xff\xfe\n")
    (springs / "bad-1.dist-info" / "METADATA").write_bytes(b"Name: bad\nVersion: 1\n")
    assert "spring" in MODELS
    assert "x" not in MODELS


def test_help_and_names_of_physid_read_no_metadata(springs: Path) -> None:
    asked = "import sys\nfrom physid.cli import main\nmain(['--help'])\nmain(['fit', '--help'])\n"
    asked += "print('physid.catalog' in sys.modules, 'springs' in sys.modules)\n"
    done = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True, timeout=120, cwd=ROOT
    )
    assert done.stdout.splitlines()[-1] == "False False", done.stderr
    entry_points.cache_clear()
    solve(lambda t, y: -y, torch.ones(1), torch.tensor([0.0, 1.0]), solver="dopri5", engine="eager")
    assert entry_points.cache_info().misses == 0


def test_a_registry_is_a_mapping_of_names() -> None:
    found: Registry[int] = Registry("number", {"one": 1}, aliases={"uno": "one"})
    found["two"] = 2
    assert (list(found), len(found), found["uno"], found.get("three")) == (["one", "two"], 2, 1, None)
    assert (found.name_of(2), found.owner("uno"), found.faults()) == ("two", "physid", [])
    with pytest.raises(InputError, match=r"unknown number 'twoo'\. Did you mean 'two'\? Allowed: one, two, uno\."):
        found.lookup("twoo")
    with pytest.raises(KeyError):
        found["three"]
