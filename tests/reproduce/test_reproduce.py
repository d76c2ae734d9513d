"""Exhibits of the paper: the contract of every one, and the folder that keeps what is finished."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from physid.cli.app import main
from physid.errors import Diverged, InputError
from physid.ode.hearing import TimeUp
from physid.reproduce import EXHIBITS, Cell, Exhibit, Results, Table, Work, exhibit, reproduce

Captured = pytest.CaptureFixture[str]


def square(work: Work, x: int) -> dict[str, Any]:
    """A cell that counts in its folder how often it is computed."""
    work.folder.mkdir(exist_ok=True)
    with (work.folder / "computed").open("a") as file:
        file.write(".")
    return {"square": x * x, "third": x / 3}


def rows_of(results: Results) -> Table:
    return Table(["cell", "square", "third"], [[k, r.get("square"), r.get("third")] for k, r in results.items()], ["n"])


def plain(compute: Callable[..., Mapping[str, Any]] = square, numbers: tuple[int, ...] = (1, 2, 3)) -> Exhibit:
    def cells(quick: bool) -> list[Cell]:
        return [Cell(f"x{x}", compute, {"x": x}) for x in numbers[: 2 if quick else None]]

    return Exhibit("plain", "Squares", "Numbers are squared.", "all but two.", cells, rows_of, paper={"x1": 1})


@pytest.mark.parametrize("name", EXHIBITS)
@pytest.mark.parametrize("quick", [True, False])
def test_an_exhibit_says_what_it_is_and_stands_a_part_of_its_cells(name: str, quick: bool) -> None:
    found = exhibit(name)
    cells = found.cells(quick)
    assert found.name == name
    assert found.title
    assert found.setting.endswith(".")
    assert found.left_out.endswith(".")
    assert found.paper
    assert len({cell.key for cell in cells}) == len(cells) > 0
    assert [cell.settings for cell in cells] == json.loads(json.dumps([dict(cell.settings) for cell in cells]))
    assert len(found.table({}).columns) > 1
    found.figure({})


def test_quick_is_a_part_of_the_whole() -> None:
    for name in EXHIBITS:
        assert len(exhibit(name).cells(True)) <= len(exhibit(name).cells(False))


def test_files_hold_the_table_the_paper_and_the_cells(tmp_path: Path) -> None:
    done = reproduce(plain(), tmp_path / "out")
    assert (done.status, done.exit_code, done.missing) == ("complete", 0, [])
    assert [path.name for path in done.files] == ["plain.csv", "plain.md", "plain.json"]
    with done.files[0].open() as file:
        assert list(csv.reader(file))[3] == ["x3", "9", "1.0"]
    data = json.loads(done.files[2].read_text())
    assert data["cells"]["x2"]["result"] == {"square": 4, "third": 2 / 3}
    assert data["cells"]["x2"]["settings"] == {"x": 2}
    assert (data["paper"], data["quick"], data["missing"]) == ({"x1": 1}, False, [])
    assert data["machine"]["torch"]
    page = done.files[1].read_text()
    assert "| x2 | 4 | 0.667 |" in page
    assert "Quick" not in page


def test_an_interrupted_run_goes_on_to_the_same_files(tmp_path: Path) -> None:
    def stops(work: Work, x: int) -> dict[str, Any]:
        if x == 2:
            raise KeyboardInterrupt
        return square(work, x)

    whole = reproduce(plain(), tmp_path / "whole")
    cut = reproduce(plain(stops), tmp_path / "cut")
    assert (cut.status, cut.exit_code, cut.missing) == ("interrupted", 130, ["x2", "x3"])
    assert "**Not finished:** 2 of 3: x2, x3." in (tmp_path / "cut" / "plain.md").read_text()
    again = reproduce(plain(), tmp_path / "cut")
    assert again.status == "complete"
    assert again.table == whole.table
    assert (tmp_path / "cut" / "work" / "x1" / "computed").read_text() == "."
    names = "plain.csv", "plain.json"
    assert (tmp_path / "cut" / names[0]).read_bytes() == (tmp_path / "whole" / names[0]).read_bytes()


def test_what_a_cell_may_end_with(tmp_path: Path) -> None:
    def failing(error: BaseException) -> Callable[..., dict[str, Any]]:
        def compute(work: Work, x: int) -> dict[str, Any]:
            raise error

        return compute

    found = reproduce(plain(failing(Diverged("it blew up."))), tmp_path / "a")
    assert json.loads((tmp_path / "a" / "plain.json").read_text())["cells"]["x1"]["result"] == {
        "diverged": "it blew up."
    }
    assert found.status == "complete"
    with pytest.raises(InputError, match="no data"):
        reproduce(plain(failing(InputError("no data"))), tmp_path / "b")
    assert reproduce(plain(), tmp_path / "b").status == "complete"  # the folder can be used after it
    late = reproduce(plain(failing(TimeUp())), tmp_path / "c")
    assert (late.status, late.exit_code) == ("time limit", 124)


def test_a_time_limit_ends_before_the_next_cell(tmp_path: Path) -> None:
    def left(work: Work, x: int) -> dict[str, Any]:
        assert work.left is not None
        object.__setattr__(work, "deadline", 0.0)
        return {"gone": work.left}

    found = reproduce(plain(left), tmp_path / "a", time_limit=100.0)
    assert (found.status, found.missing) == ("time limit", ["x1", "x2", "x3"])


def test_only_some_cells(tmp_path: Path) -> None:
    found = reproduce(plain(), tmp_path / "a", only="x[13]")
    assert (found.status, found.exit_code, found.missing) == ("partial", 0, ["x2"])
    with pytest.raises(InputError, match="no cell of plain is called y"):
        reproduce(plain(), tmp_path / "a", only="y*")


def test_folders_of_something_else_are_refused(tmp_path: Path) -> None:
    reproduce(plain(), tmp_path / "a", quick=True)
    with pytest.raises(InputError, match="begun with quick true and not false"):
        reproduce(plain(), tmp_path / "a")
    other = Exhibit(**{**plain().__dict__, "name": "other"})
    with pytest.raises(InputError, match='begun with exhibit "plain" and not "other"'):
        reproduce(other, tmp_path / "a", quick=True)

    def moved(quick: bool) -> list[Cell]:
        return [Cell("x1", square, {"x": 5})]

    with pytest.raises(InputError, match="computed with other settings"):
        reproduce(Exhibit(**{**plain().__dict__, "cells": moved}), tmp_path / "a", quick=True)
    cell = tmp_path / "a" / "cells" / "x1.json"
    good = json.loads(cell.read_bytes())
    others = [{**good, "seconds": "x"}, {**good, "seconds": float("nan")}, {**good, "result": [1]}, [good]]
    others += [{name: good[name] for name in good if name != "seconds"}]
    for text in ("{", *map(json.dumps, others)):
        cell.write_text(text)
        with pytest.raises(InputError, match="damaged"):
            reproduce(plain(), tmp_path / "a", quick=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "letter.txt").touch()
    with pytest.raises(InputError, match="holds no exhibit"):
        reproduce(plain(), tmp_path / "b")
    with pytest.raises(InputError, match="is a file"):
        reproduce(plain(), tmp_path / "b" / "letter.txt")


def test_a_folder_serves_one_process_at_a_time(tmp_path: Path) -> None:
    def inner(work: Work, x: int) -> dict[str, Any]:
        with pytest.raises(InputError, match="another process"):
            reproduce(plain(), work.folder.parents[1])
        return square(work, x)

    assert reproduce(plain(inner), tmp_path / "a").status == "complete"


def test_tables_refuse_ragged_rows_and_keys_are_names() -> None:
    with pytest.raises(ValueError, match="3 cells under 2"):
        Table(["a", "b"], [[1, 2, 3]])
    with pytest.raises(ValueError, match="no plain name"):
        Cell("../x", square)
    assert Table(["a|b"], [["c|d"], [None], [True], [0.12345]]).markdown().splitlines()[2:] == [
        r"| c\|d |",
        "| - |",
        "| yes |",
        "| 0.123 |",
    ]


def test_the_command_lists_refuses_and_goes_on(tmp_path: Path, capsys: Captured) -> None:
    assert main(["reproduce", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in EXHIBITS)
    assert main(["reproduce", "fig66"]) == 2
    assert "Did you mean 'fig6'?" in capsys.readouterr().err
    assert main(["reproduce"]) == 2
    capsys.readouterr()
    out = tmp_path / "fig4"
    for _ in range(2):
        assert main(["reproduce", "fig4", "--quick", "--out", str(out), "--json"]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert (lines[-1]["event"], lines[-1]["status"], lines[-1]["missing"]) == ("done", "complete", [])
    assert [line["event"] for line in lines] == ["done"]  # nothing was left to compute
    assert (out / "fig4.png").read_bytes().startswith(b"\x89PNG")
    assert main(["report", str(out)]) == 0
    assert lines[-1]["columns"][0] in capsys.readouterr().out
    cell = next((out / "cells").iterdir())
    cell.unlink()
    assert main(["report", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["missing"] == [cell.stem]
    assert main(["resume", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["rows"] == lines[-1]["rows"]
    assert main(["export", str(out), "--to", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["exhibit"] == "fig4"
    for command in (
        ["verify", str(out)],
        ["forecast", str(out)],
        ["report", str(out), "--tex", str(tmp_path / "x.tex")],
    ):
        assert main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "is an exhibit of the paper, but a fit" in line
    assert main(["reproduce", "fig9", "--quick", "--out", str(out)]) == 2
    assert 'begun with exhibit "fig4"' in capsys.readouterr().err


@pytest.mark.parametrize("exhibit", [["fig4"], {"fig4": 1}, 3, None])
def test_a_request_of_another_kind_is_damage(exhibit: object, tmp_path: Path, capsys: Captured) -> None:
    about = {"kind": "reproduction", "exhibit": exhibit, "quick": True, "format": 1}
    (tmp_path / "request.json").write_text(json.dumps(about))
    for command in (["report"], ["resume"], ["export", "--to", "json"]):
        assert main([*command, str(tmp_path)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "request.json is damaged" in line


def test_results_of_another_kind_are_damage_and_only_where_they_were_read(tmp_path: Path) -> None:
    def table(results: Results) -> Table:
        return Table(["cell", "half"], [[key, found["square"] / 2] for key, found in results.items()])

    squares = Exhibit(**{**plain().__dict__, "table": table})
    reproduce(squares, tmp_path / "a", only="x1")
    cell = tmp_path / "a" / "cells" / "x1.json"
    cell.write_text(cell.read_text().replace('"square": 1', '"square": "one"'))
    with pytest.raises(InputError, match=r"cells is damaged: TypeError"):
        reproduce(squares, tmp_path / "a")
    with pytest.raises(TypeError, match="unsupported operand"):
        reproduce(Exhibit(**{**squares.__dict__, "cells": lambda quick: [Cell("x1", text_of_it)]}), tmp_path / "b")


def text_of_it(work: Work) -> dict[str, Any]:
    return {"square": "one"}
