"""Parts of the engine that stand once: its caches, the structures of its C, the private names of torch."""

from __future__ import annotations

import ast
import ctypes
import subprocess
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from trees import ROOT, nodes_of, package

from physid.machine import compiler_command
from physid.ode import clear_caches, solve
from physid.ode.caching import Cache
from physid.ode.native.structures import BASE, FOLDER, Declared

compiled = pytest.mark.skipif(compiler_command() is None, reason="no C compiler")


# --- caches


def test_the_least_recently_used_goes_first() -> None:
    cache: Cache[str, int] = Cache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert (cache.values(), "b" in cache, cache.get("b"), len(cache)) == ([1, 3], False, None, 2)
    assert cache.made("a", lambda: pytest.fail("it was there")) == 1
    assert cache.made("d", lambda: 4) == 4
    assert cache.values() == [1, 4]
    assert (cache.pop("a"), cache.pop("a")) == (1, None)
    cache.clear()
    assert len(cache) == 0


class Ending:
    """A value that uses its cache as it goes."""

    def __init__(self, cache: Cache[int, Any]) -> None:
        self.cache = cache

    def __del__(self) -> None:
        self.cache.get(0)


def test_threads_and_ends_of_values_find_it_whole() -> None:
    cache: Cache[int, Any] = Cache(3)
    faults: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for i in range(3000):
                key = (i * seed) % 7
                cache.put(key, Ending(cache))
                cache.get((key + 1) % 7)
                cache.pop((key + 2) % 7)
                if i % 500 == 0:
                    cache.clear()
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2, 3, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not faults
    assert len(cache) <= 3


@compiled
def test_all_caches_are_cleared_by_one_call_and_filled_again() -> None:
    from physid.ode.native import cache, compile
    from physid.ode.native.compiler import build

    def f(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return -0.25 * y

    y0 = torch.ones(3, dtype=torch.float64)
    first = solve(f, y0, [0.0, 1.0], engine="native").y
    kept = (cache._KNOWN, compile._ENTRIES, build.LOADED)
    assert all(len(one) for one in kept)
    clear_caches()
    assert not any(len(one) for one in kept)
    assert torch.equal(torch.as_tensor(solve(f, y0, [0.0, 1.0], engine="native").y), torch.as_tensor(first))
    assert all(len(one) for one in kept)


# --- the structures of C


@compiled
def test_structures_lie_in_memory_as_the_compiler_has_them(tmp_path: Path) -> None:
    names = ("Method", "Choice", "Tape", "Report", "Ear", "Task")
    claims = []
    for name in names:
        kind = BASE.types[name]
        claims.append(f"sizeof({name}) == {ctypes.sizeof(kind)}")
        for field, *_ in kind._fields_:
            place = getattr(kind, field)
            claims.append(f"offsetof({name}, {field}) == {place.offset} && SIZE({name}, {field}) == {place.size}")
    assert len(claims) > 110
    command, unit = compiler_command(), tmp_path / "sizes.c"
    assert command is not None

    def accepted(claims: list[str]) -> bool:
        unit.write_text(
            "#include <stddef.h>\n#define REAL double\n#define N 3\n#define P 2\n#define WORK 1\n"
            "#define WORK_JVP(m) 1\n#define SIZE(type, field) sizeof(((type *)0)->field)\nvoid field();\n"
            f'#include "{FOLDER / "base.h"}"\n' + "".join(f'_Static_assert({one}, "{one}");\n' for one in claims)
        )
        run = subprocess.run([*command, "-w", "-std=gnu11", "-fsyntax-only", unit], capture_output=True, timeout=60)
        return run.returncode == 0

    assert accepted(claims)
    assert not accepted([*claims, f"sizeof(Task) == {ctypes.sizeof(BASE.types['Task']) + 8}"])


def test_a_declaration_is_read() -> None:
    found = Declared(
        "/* struct in a comment */\n#define MOST 7\nenum { RED, GREEN = 1, BLUE };\n"
        "typedef struct {\n    int32_t a, *b; /* ; */\n    double c[2];\n    int32_t (*call)(int, double *);\n} Pair;\n"
        "typedef struct {\n    Pair pair, *other;\n    const REAL *y;\n} Outer;\n"
        "typedef struct {\n    REAL y;\n} Real;\n"
    )
    assert (found.constants, found.enumerations) == ({"MOST": 7}, [["RED", "GREEN", "BLUE"]])
    pair = found.types["Pair"]
    assert [(name, ctypes.sizeof(kind)) for name, kind in pair._fields_] == [("a", 4), ("b", 8), ("c", 16), ("call", 8)]
    assert [name for name, _ in found.types["Outer"]._fields_] == ["pair", "other", "y"]
    assert dict(found.types["Outer"]._fields_)["pair"] is pair
    assert "Real" not in found.types


# --- the private names of torch

HELD_BY = "physid/ode/torch_internals.py"


def private_names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Names of torch that begin with an underscore, imported or taken as attributes of its modules and classes."""
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            yield from (name for name in names if name.startswith("torch.") and "._" in name)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "torch":
            parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            if any(part.startswith("_") for part in parts):
                yield f"{node.module}.{node.names[0].name}"
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            if node.attr in ("_version", "_cdata"):
                yield node.attr
            text = ast.unparse(node)
            if text.partition(".")[0] in ("torch", "Tensor", "forward_ad"):
                yield text


def test_private_names_of_torch_stand_in_one_file() -> None:
    found = {path.relative_to(ROOT).as_posix(): list(private_names(nodes_of(path))) for path in package()}
    assert found.pop(HELD_BY)
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import torch._dynamo",
        "from torch._decomp import decomposition_table",
        "from torch.overrides import _get_current_function_mode_stack",
        "torch._C._get_tracing_state()",
        "x._version",
        "Tensor._typed_storage",
    ],
)
def test_a_private_name_is_found(line: str) -> None:
    assert list(private_names(ast.walk(ast.parse(line))))
