"""A model file from a formula that was found: the known model, and every term with its coefficient as an unknown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from physid.spec import Model, SecondOrder

if TYPE_CHECKING:
    from physid.discovery import Discovery, Law

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
    """How the file comes by the known model: from a module, or from the file that it stands in."""
    file = getattr(sys.modules.get(model.__module__), "__file__", None)
    if not model.__module__.startswith("physid_user_") or file is None:
        return f"from {model.__module__} import {model.__qualname__}"
    return (
        "from physid.modelfile import load_model_file\n\n"
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
