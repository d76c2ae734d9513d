"""Gradient methods and commands of installed packages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from packages import ROOT, install, project
from packages import site as site

from physid import solve
from physid.cli.app import main
from physid.errors import InputError
from physid.ode import GRADIENTS

Captured = pytest.CaptureFixture[str]


def test_a_gradient_of_a_package_differentiates_by_its_name(site: Path, capsys: Captured) -> None:
    source = (ROOT / "docs" / "examples" / "gradient.py").read_text().split("\nrate = ")[0] + "\nX = Differences()\n"
    points = {"differences": "differ:X", "another": "differ:Differences", "aca": "differ:X"}
    install(site, "differ", source, project("differ", "physid.gradients", **points))
    rate = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
    y0 = torch.ones(2, dtype=torch.float64)
    found = solve(lambda t, y: -rate * y, y0, [0.0, 1.0], gradient="differences", engine="eager", rtol=1e-8)
    found.y[-1].sum().backward()
    assert rate.grad is not None
    assert rate.grad.tolist() == pytest.approx((-torch.exp(-rate)).tolist(), rel=1e-6)
    with pytest.raises(
        InputError, match=r"is the class Differences: expected a physid\.ode\.gradients\.protocol\.Gradient"
    ):
        GRADIENTS.lookup("another")
    assert main(["list", "gradients"]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"^differences .* differ 0\.1$", out, re.M)
    assert "gradient method 'aca' of the installed package differ 0.1 (differ:X) is not taken" in err


def test_a_command_of_a_package_runs_and_is_listed(site: Path, capsys: Captured) -> None:
    source = (
        "import click\n@click.command()\n@click.argument('text')\ndef echo(text):\n    'Print TEXT.'\n    print(text)\n"
    )
    install(site, "talk", source, project("talk", "physid.commands", echo="talk:echo", fit="talk:echo"))
    assert main(["echo", "hello"]) == 0
    assert capsys.readouterr().out == "hello\n"
    assert main(["ecko", "hello"]) == 2
    assert "unknown command 'ecko'. Did you mean 'echo'?" in capsys.readouterr().err
    assert main(["list", "commands"]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"^echo +Print TEXT\. +talk 0\.1$", out, re.M)
    assert "command 'fit' of the installed package talk 0.1 (talk:echo) is not taken: command 'fit' is of physid" in err
