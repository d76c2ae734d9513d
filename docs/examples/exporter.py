"""A format of one's own: the unknowns of a fit as a table in Markdown, written by `physid export RUN --to markdown`."""

import tempfile
from pathlib import Path

from physid import fit, load
from physid.api.export import EXPORTERS, Exporter
from physid.api.opening import OpenRun
from physid.cli import main
from physid.models import build


def markdown(run: OpenRun) -> bytes:
    """A row for every unknown: name, value, standard error, unit."""
    errors = [(one, "" if one.stderr is None else f"{one.stderr:.2g}") for one in run.fit.estimates]
    rows = [f"| {one.name} | {one.value:.6g} | {error} | {one.unit} |" for one, error in errors]
    return "\n".join(["| unknown | value | +- | unit |", "|---|---|---|---|", *rows, ""]).encode()


# An installed package names it in its pyproject.toml instead: [project.entry-points."physid.exporters"].
EXPORTERS["markdown"] = Exporter("markdown", ".md", "The unknowns as a table in Markdown.", markdown)

if __name__ == "__main__":
    data = load("exponential", noise=0.01)
    with tempfile.TemporaryDirectory() as folder:
        fit(build(data), data, out=Path(folder) / "run")
        main(["export", f"{folder}/run", "--to", "markdown"])
