"""What the figures of the paper show, against formulas, SciPy and direct counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from physid.ode import Integrator
from physid.reproduce import Work, convolution, cost, counting, toy, vanderpol

WORK = Work(Path("unused"))


def test_fig6_discrete_map_and_errors() -> None:
    found = toy.compute(WORK, k=-1.0, horizons=[2.0, 10.0], tolerance=1e-5)
    assert found["exact"] == pytest.approx([2 * np.exp(-4.0), 2 * np.exp(-20.0)])
    assert max(found["discrete"]) < 1e-12
    assert found["error"]["adjoint"][1] > 10 * found["error"]["aca"][1]
    z0 = torch.ones(1, dtype=torch.float64, requires_grad=True)
    integrator = Integrator("dopri5", 1e-5, 1e-5, control="paper", gradient="adjoint", engine="eager")
    state = integrator.solve(lambda t, z: -z, z0, [0.0, 10.0]).y
    (slope,) = torch.autograd.grad(torch.as_tensor(state)[-1].square().sum(), z0)
    assert found["error"]["adjoint"][1] == pytest.approx(abs(float(slope) - 2 * np.exp(-20.0)), rel=1e-9)
    growth = toy.compute(WORK, k=1.0, horizons=[5.0], tolerance=1e-5)
    assert toy.spread(growth) < 1.5
    table = toy.table({"growth": growth, "decay": found})
    assert [row[:2] for row in table.rows] == [[1.0, 5.0], [-1.0, 2.0], [-1.0, 10.0]]
    assert table.rows[2][5] == found["error"]["adjoint"][1] / found["exact"][1]


def test_fig4_against_scipy() -> None:
    found = vanderpol.compute(WORK, horizon=5.0, rtol=1e-3, atol=1e-6, points=51)

    def field(t: float, y: np.ndarray) -> list[float]:
        return [y[1], (0.15 - y[0] ** 2) * y[1] - y[0]]

    truth = solve_ivp(field, (0, 5), [2, 0], t_eval=found["t"], rtol=1e-11, atol=1e-12).y.T
    assert np.abs(np.array(found["forward"]) - truth).max() < 0.02
    assert found["forward_error"] == pytest.approx(np.linalg.norm(found["forward"][-1] - truth[-1]), rel=1e-4)
    assert found["mismatch"] == pytest.approx(np.linalg.norm(np.array(found["reverse"][0]) - [2, 0]))
    assert found["mismatch"] > 1 > 1e-6 > found["tight_mismatch"]
    assert found["reverse"][-1] == found["forward"][-1]


def test_fig5_against_the_matrix_exponential() -> None:
    side, horizon = 6, 1.0
    found = convolution.compute(WORK, seed=0, horizon=horizon, rtol=1e-3, atol=1e-6, side=side)
    image = convolution.picture(side)
    assert found["image"] == image.tolist()
    assert found["mismatch"] == pytest.approx(
        np.linalg.norm(np.array(found["back"]) - image) / np.linalg.norm(image), rel=1e-9
    )
    assert 1e-5 < found["mismatch"] < 0.1
    assert found["tight_mismatch"] < 1e-9
    assert 1e-6 < found["forward_error"] < 1e-2
    full = convolution.picture()
    assert full.shape == (64, 64)
    assert (full.min() >= 0, full.max() <= 1, full.std() > 0.1) == (True, True, True)


def test_table1_counts() -> None:
    """With one layer everything can be counted by hand: dopri5, first same as last."""
    found = {method: counting.count(method, 1, 1.0, 1.0, 1e-5, 96) for method in cost.METHODS}
    steps, attempts = found["naive"]["steps"], found["naive"]["attempts"]
    assert (found["aca"]["steps"], found["adjoint"]["steps"]) == (steps, steps)
    first = 6 * attempts + 2  # the stages of the attempts, the first slope, and the guess of the first step
    assert found["aca"]["cost"] - first == pytest.approx(2 * (6 * steps + 1), abs=2)
    assert found["naive"]["cost"] == pytest.approx(2 * first, abs=3)
    assert found["naive"]["depth"] == pytest.approx(6 * attempts + 1, abs=1)
    assert found["aca"]["depth"] == pytest.approx(6 * steps + 1, abs=1)
    assert found["naive"]["memory"] > found["aca"]["memory"] > 8 * 96 * steps
    double = counting.count("naive", 2, 1.0, 1.0, 1e-5, 96)
    assert double["depth"] / double["attempts"] == pytest.approx(2 * found["naive"]["depth"] / attempts, rel=0.05)


def test_depth_of_a_graph_is_its_longest_path() -> None:
    x = torch.ones(3, requires_grad=True)
    y = torch.tanh(torch.tanh(x)) + torch.tanh(x * 2)
    assert counting.depth(torch.tanh(y).sum().grad_fn) == 3
    assert counting.depth((x * 2).sum().grad_fn) == 0


def test_held_bytes_are_those_of_the_saved_storages() -> None:
    module = torch.nn.Linear(4, 4, bias=False, dtype=torch.float64)
    held = counting.HeldTensors(module)
    x = torch.ones(10, 4, dtype=torch.float64)
    with torch.autograd.graph.saved_tensors_hooks(held.pack, held.unpack):
        y = torch.tanh(module(x))  # saves x and its own result
        assert held.now == 2 * 10 * 4 * 8
        y.square().sum().backward()
    assert held.most == 2 * 10 * 4 * 8


def test_table1_fit_gives_back_the_constants() -> None:
    counts = [
        {"layers": n, "steps": s, "attempts": s + 2, "reverse_steps": s, "reverse_attempts": s, "memory": 3 * n + 7 * s}
        for n in (1, 2, 4)
        for s in (5, 9)
    ]
    results = {str(i): {"aca": one} for i, one in enumerate(counts)}
    constants, measured, predicted = cost.fitted(results, "memory", "aca")
    assert constants == pytest.approx([3.0, 7.0])
    assert predicted == pytest.approx(measured)
