"""Fields of graphs and of coupled masses, compiled: sparse matrices that change, systems that are solved."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from native_tools import refused
from torch import Tensor

from physid.machine import compiler_command
from physid.ode import solve

DOUBLE = torch.float64
pytestmark = pytest.mark.skipif(compiler_command() is None, reason="no C compiler")


def test_a_sparse_matrix_that_changes_is_seen() -> None:
    rates = torch.tensor([[-1.0, 0.5], [0.0, -0.3]], dtype=DOUBLE)
    matrix = rates.to_sparse()
    y0, asked = torch.tensor([1.0, 2.0], dtype=DOUBLE), torch.tensor([0.0, 1.5], dtype=DOUBLE)

    def f(t: Tensor, y: Tensor) -> Tensor:
        return (matrix @ y[:, None])[:, 0]

    for change in (0.0, 0.0, 0.4):
        matrix.values().add_(change)
        expected = torch.linalg.matrix_exp(matrix.to_dense() * 1.5) @ y0
        found: Any = solve(f, y0, asked, rtol=1e-9, atol=1e-11, engine="native")
        torch.testing.assert_close(found.y[-1], expected, rtol=1e-7, atol=1e-8)
    matrix.requires_grad_()
    assert "asks for gradients" in refused(f, y0)


def test_a_mass_matrix_is_solved_with() -> None:
    def f(t: Tensor, y: Tensor) -> Tensor:
        mass = torch.diag(torch.stack([1 - t, 0 * t + 1]))
        found: Tensor = torch.linalg.solve(mass, -y)
        return found

    y0 = torch.tensor([1.0, 1.0], dtype=DOUBLE)
    found: Any = solve(f, y0, [0.0, 0.5, 0.9], rtol=1e-8, atol=1e-10, engine="native")
    torch.testing.assert_close(found.y[:, 0], torch.tensor([1.0, 0.5, 0.1], dtype=DOUBLE), rtol=1e-6, atol=1e-8)


def test_large_systems_are_refused_in_words() -> None:
    mass = torch.eye(9, dtype=DOUBLE) + 0.1
    assert "more than 8 rows" in refused(lambda t, y: torch.linalg.solve(mass, -y), torch.ones(9, dtype=DOUBLE))
