"""Formula discovery: sparse regression of a learned residual on a library of terms, written as a model file.

Source: Brunton, Proctor and Kutz (2016), sparse regression of dynamics; here terms are dropped one by one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from physid.arrays import Array
from physid.errors import InputError
from physid.inference.result import FitResult
from physid.inference.uncertainty.contributions import along
from physid.modelling.model import Model, SecondOrder

PART = "neural"
WORSE = 1.5  # a term is dropped while what is left over stays below this many times that of the whole library,
SMALL = 0.03  # or below this part of the residual


@dataclass(frozen=True)
class Term:
    """One term of the library: its formula, as it is written in a model, and the name of its coefficient."""

    formula: str
    name: str


@dataclass(frozen=True)
class Law:
    """Formula of one rate: its terms with their coefficients, and the part of the residual left unexplained."""

    of: str
    terms: list[Term]
    coefficients: list[float]
    left: float

    def __str__(self) -> str:
        """The formula."""
        parts = [f"{c:+.4g} {term.formula}" for c, term in zip(self.coefficients, self.terms, strict=True)]
        return f"{self.of} residual = {' '.join(parts).removeprefix('+') or '0'}"


@dataclass(frozen=True)
class Discovery:
    """The laws that a residual follows, and the model to which they belong."""

    model: type[Model]
    laws: list[Law]
    run: str = ""
    library: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """The laws with what they leave over."""
        lines = [f"{law}   ({100 * law.left:.2g} % of it is left over)" for law in self.laws]
        return "\n".join([*lines, f"library: {', '.join(self.library)}"])

    def json(self) -> dict[str, Any]:
        """The same as data."""
        laws = [
            {
                "of": law.of,
                "terms": {term.formula: c for term, c in zip(law.terms, law.coefficients, strict=True)},
                "left": law.left,
                "formula": str(law),
            }
            for law in self.laws
        ]
        return {"model": self.model.__name__, "laws": laws, "library": self.library}

    def source(self, name: str = "Found") -> str:
        """A Python file with the model whose terms are known and whose coefficients are unknowns."""
        return source(self, name)


def discover(fit: FitResult) -> Discovery:
    """The formula of the neural part of a fit along its data.

    For bodies, terms are vectors with one coefficient for all bodies and axes: r, v, these times |r|, |v| and their
    squares, and a constant in every direction. Elsewhere each rate has terms of its own: 1, the states, their products,
    and each state times its absolute value and its square.
    Errors: InputError for a model without a neural part, or one that is zero.
    """
    states = torch.cat(
        [
            along(local, fit.x[columns], fit.integrator)[1]
            for local, columns in zip(fit.vector.vectors, fit.vector.columns, strict=True)
        ]
    )
    model = fit.model
    with torch.no_grad():
        parts = model.parts(torch.zeros((), dtype=states.dtype), states)
    known: Any = getattr(type(model), "known", None)
    if PART not in parts or known is None:
        raise InputError(
            f"{type(model).__name__} has no neural part. Fit a model with a residual, as gravity-residual is, or "
            "derive one: class Mine(Residual, MyModel)."
        )
    residual, states = parts[PART].double().cpu(), states.double().cpu()
    if not bool((residual != 0).any()):
        raise InputError("the neural part is zero: there is nothing to explain. Fit it first.")
    if isinstance(model, SecondOrder):
        terms, table = vector_library(states)
        laws = [law("acceleration", terms, table, residual.select(-3, 1).reshape(-1).numpy())]
    else:
        terms, table = scalar_library(model.state_names, states)
        touched = [i for i in range(residual.shape[-1]) if bool((residual[:, i] != 0).any())]
        laws = [law(model.state_names[i], terms, table, residual[:, i].numpy()) for i in touched]
    return Discovery(known(), laws, library=[term.formula for term in terms])


def law(of: str, terms: Sequence[Term], table: Array, residual: Array) -> Law:
    """The fewest terms of `table` [R, terms] that explain the residual [R] nearly as well as all of them do."""
    size = np.linalg.norm(table, axis=0)
    kept = [i for i in range(len(terms)) if size[i] > 0]
    whole = float(np.linalg.norm(residual))

    def solved(places: list[int]) -> tuple[Array, float]:
        found, *_ = np.linalg.lstsq(table[:, places] / size[places], residual, rcond=None)
        left = np.linalg.norm(table[:, places] / size[places] @ found - residual) / whole
        return found / size[places], float(left)

    allowed = max(WORSE * solved(kept)[1], SMALL)
    while len(kept) > 1:
        trials = [[other for other in kept if other != one] for one in kept]
        left, best = min((solved(trial)[1], trial) for trial in trials)
        if left > allowed:
            break
        kept = best
    coefficients, left = solved(kept)
    return Law(of, [terms[i] for i in kept], coefficients.tolist(), left)


def vector_library(states: Tensor) -> tuple[list[Term], Array]:
    """Terms for accelerations of bodies and their values [T bodies dim, terms] at states [T, 2, bodies, dim]."""
    r, v = states.unbind(-3)
    names = {"r": r, "v": v}
    terms, columns = [], []
    for name, value in names.items():
        length = value.norm(dim=-1, keepdim=True)
        for power, column in ((0, value), (1, length * value), (2, length**2 * value)):
            factor = f"{name}.norm(dim=-1, keepdim=True)" + ("**2" if power == 2 else "")
            terms.append(Term(name if not power else f"{factor} * {name}", f"c_{name}{power or ''}"))
            columns.append(column)
    for axis in range(r.shape[-1]):
        unit = torch.zeros_like(r)
        unit[..., axis] = 1.0
        terms.append(Term(f"torch.eye({r.shape[-1]}).to(r)[{axis}]", f"c_axis{axis}"))
        columns.append(unit)
    return terms, torch.stack([column.reshape(-1) for column in columns], -1).numpy()


def scalar_library(names: Sequence[str], states: Tensor) -> tuple[list[Term], Array]:
    """Terms for rates of named states and their values [T, terms] at states [T, N]."""
    columns: dict[Term, Tensor] = {Term("1.0", "c_0"): torch.ones_like(states[:, 0])}
    values = dict(zip(names, states.unbind(-1), strict=True))
    for name, value in values.items():
        columns[Term(name, f"c_{name}")] = value
    for i, a in enumerate(names):
        for b in names[i:]:
            columns[Term(f"{a} * {b}", f"c_{a}_{b}")] = values[a] * values[b]
        columns[Term(f"{a}.abs() * {a}", f"c_abs_{a}")] = values[a].abs() * values[a]
        columns[Term(f"{a}**3", f"c_{a}3")] = values[a] ** 3
    return list(columns), torch.stack(list(columns.values()), -1).numpy()


HEAD = '''"""{model} with terms that sparse regression found in the residual of a fit; write here what they mean."""

import torch

from physid import Unknown
{base}


class {name}({known}):
    """{model} and {formulas}."""

{unknowns}

'''


def source(found: Discovery, name: str) -> str:
    """The text of the file; its class is `name`, and every coefficient starts where the regression put it."""
    known = found.model.__name__
    formulas = "; ".join(str(law) for law in found.laws)
    head = HEAD.format(
        model=known,
        base=_import(found.model),
        name=name,
        known=known,
        formulas=formulas,
        unknowns="\n".join(f"    {label} = Unknown({value!r})" for _, label, value in coefficients(found)),
    )
    return head + (_acceleration(found) if issubclass(found.model, SecondOrder) else _field(found))


def coefficients(found: Discovery) -> list[tuple[str, str, float]]:
    """Rate, name and value of every coefficient; names carry the rate's where several rates have terms."""
    several = len(found.laws) > 1
    return [
        (law.of, label(law, term.name, several), value)
        for law in found.laws
        for term, value in zip(law.terms, law.coefficients, strict=True)
    ]


def label(law: Law, name: str, several: bool) -> str:
    """The name of a coefficient."""
    return f"{name}_in_{law.of}" if several else name


def _import(model: type[Model]) -> str:
    """The line that imports the known model: from a module, or from its file."""
    file = getattr(sys.modules.get(model.__module__), "__file__", None)
    if not model.__module__.startswith("physid_user_") or file is None:
        return f"from {model.__module__} import {model.__qualname__}"
    return (
        "from physid.modelling.address import load_model_file\n\n"
        f"{model.__name__} = load_model_file({str(Path(file).resolve())!r}, {model.__qualname__!r})"
    )


def _sum(found: Discovery, law: Law) -> str:
    several = len(found.laws) > 1
    return " + ".join(f"self.{label(law, term.name, several)} * ({term.formula})" for term in law.terms)


def _acceleration(found: Discovery) -> str:
    return (
        "    def acceleration(self, t, r, v):\n"
        f"        return super().acceleration(t, r, v) + {_sum(found, found.laws[0])}\n"
    )


def _field(found: Discovery) -> str:
    names = found.model.state_names
    lines = [
        "    def field(self, t, y):",
        f"        {', '.join(names)}{',' if len(names) == 1 else ''} = y.unbind(-1)",
    ]
    added = {law.of: _sum(found, law) for law in found.laws}
    parts = ", ".join(f"{added[name]} + 0.0 * {name}" if name in added else f"0.0 * {name}" for name in names)
    lines.append(f"        return super().field(t, y) + torch.stack(({parts}{',' if len(names) == 1 else ''}), -1)")
    return "\n".join(lines) + "\n"
