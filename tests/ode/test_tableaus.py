"""The methods as data: what their numbers must satisfy, by rooted trees and by the errors that are seen."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from functools import cache
from itertools import combinations_with_replacement, pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import DOP853, RK23, RK45, OdeSolver
from scipy.special import ellipj

from physid.errors import InputError
from physid.ode.methods.catalogue import ALIASES, METHODS, Tableau, lookup

Array = NDArray[np.float64]
Tree = tuple["Tree", ...]
Field = Callable[[float, Array], Array]

EVERY = pytest.mark.parametrize("tableau", METHODS.values(), ids=METHODS)
ADAPTIVE = pytest.mark.parametrize("tableau", [m for m in METHODS.values() if m.adaptive], ids=lambda m: m.name)
ROUNDING = 3e-13


# --- rooted trees (Butcher, 1963): order p means b . weight(tree) = 1 / density(tree) for all trees of size <= p


def size(tree: Tree) -> int:
    return 1 + sum(map(size, tree))


def density(tree: Tree) -> int:
    return size(tree) * math.prod(map(density, tree))


@cache
def trees(order: int) -> tuple[Tree, ...]:
    """All rooted trees with `order` nodes, as the sorted tuple of their branches."""

    def branches(nodes: int, largest: int) -> list[Tree]:
        if nodes == 0:
            return [()]
        found = []
        for part in range(min(nodes, largest), 0, -1):
            for count in range(1, nodes // part + 1):
                for chosen in combinations_with_replacement(trees(part), count):
                    found += [(*chosen, *rest) for rest in branches(nodes - part * count, part - 1)]
        return found

    return tuple(branches(order - 1, order - 1))


def all_trees(order: int) -> list[Tree]:
    return [tree for nodes in range(1, order + 1) for tree in trees(nodes)]


def matrix(tableau: Tableau) -> Array:
    """The whole coefficient matrix, the stages of the dense output included."""
    rows = (*tableau.a, *tableau.extra_a)
    return np.array([[*row, *[0.0] * (len(rows) - len(row))] for row in rows])


def weight(tree: Tree, a: Array) -> Array:
    """The elementary weight of the tree, per stage."""
    result = np.ones(len(a))
    for branch in tree:
        result = result * (a @ weight(branch, a))
    return result


def defect(weights: tuple[float, ...], order: int, a: Array) -> float:
    """The largest violation among the conditions of exactly this order."""
    b = np.array(weights)
    return max(abs(float(b @ weight(tree, a)[: len(b)]) - 1 / density(tree)) for tree in trees(order))


def dense_defect(tableau: Tableau, order: int) -> float:
    """The largest violation, among the trees of this order, of sum_i b_i(theta) w_i = theta^order / density."""
    a, dense = matrix(tableau), np.array(tableau.dense)
    worst = 0.0
    for tree in trees(order):
        have = weight(tree, a) @ dense
        want = np.zeros(max(len(have), order))
        want[order - 1] = 1 / density(tree)
        worst = max(worst, float(np.abs(np.pad(have, (0, len(want) - len(have))) - want).max()))
    return worst


def test_the_trees_are_all_there() -> None:
    assert [len(trees(order)) for order in range(1, 9)] == [1, 1, 2, 4, 9, 20, 48, 115]
    assert len(set(all_trees(8))) == 200


@EVERY
def test_stage_times_are_the_row_sums(tableau: Tableau) -> None:
    assert np.allclose(matrix(tableau).sum(1), (*tableau.c, *tableau.extra_c), rtol=0, atol=ROUNDING)


@EVERY
def test_order_conditions_hold_up_to_the_claimed_order_and_no_further(tableau: Tableau) -> None:
    a = matrix(tableau)
    for order in range(1, tableau.order + 1):
        assert defect(tableau.b, order, a) < ROUNDING, f"order {order}"
    assert defect(tableau.b, tableau.order + 1, a) > 1e-8


@ADAPTIVE
def test_embedded_error_is_of_its_order(tableau: Tableau) -> None:
    assert tableau.error is not None
    assert tableau.error_order is not None
    a = matrix(tableau)
    assert abs(sum(tableau.error)) < 1e-14
    claims = [(tableau.error, tableau.error_order)]
    if tableau.error3 is not None:
        claims = [(tableau.error, 5), (tableau.error3, 3)]
    for error, claim in claims:
        embedded = tuple(b - e for b, e in zip(tableau.b, error, strict=True))
        assert max(defect(embedded, order, a) for order in range(1, claim + 1)) < ROUNDING
        assert defect(embedded, claim + 1, a) > 1e-6


@EVERY
def test_dense_output_is_of_its_order_for_every_theta(tableau: Tableau) -> None:
    for order in range(1, tableau.dense_order + 1):
        assert dense_defect(tableau, order) < 1e-11, f"order {order}"
    assert dense_defect(tableau, tableau.dense_order + 1) > 1e-6


@EVERY
def test_dense_output_starts_and_ends_with_the_step(tableau: Tableau) -> None:
    dense = np.array(tableau.dense)
    ends = np.array([*tableau.b, *[0.0] * len(tableau.extra_c)])
    assert np.allclose(dense.sum(1), ends, rtol=0, atol=1e-13)
    slope = dense[:, 0]
    assert slope[0] == 1
    assert not slope[1:].any()


@pytest.mark.parametrize("tableau", [m for m in METHODS.values() if m.fsal], ids=lambda m: m.name)
def test_every_b_i_of_theta_has_the_claimed_slope_at_the_end(tableau: Tableau) -> None:
    """A first-same-as-last method's dense output joins the next step's with one slope."""
    dense = np.array(tableau.dense)
    slope = dense @ np.arange(1, dense.shape[1] + 1)
    assert np.allclose(slope, np.eye(len(dense))[tableau.stages - 1], rtol=0, atol=1e-11)


def test_first_same_as_last_follows_from_the_numbers() -> None:
    assert {name for name, tableau in METHODS.items() if tableau.fsal} == {"bosh3", "dopri5", "tsit5", "dopri8"}
    moved = dataclasses.replace(METHODS["dopri5"], b=(0.1, *METHODS["dopri5"].b[1:]))
    assert not moved.fsal


# --- what is seen: a stepper of its own, on an equation whose solution is known


def clock(t: float) -> float:
    return t + t * t / 4


def field(t: float, y: Array) -> Array:
    """Euler's equations of a rigid body under a moving clock: nonlinear, non-autonomous, solved by sn, cn, dn."""
    return (1 + t / 2) * np.array([y[1] * y[2], -y[0] * y[2], -0.51 * y[0] * y[1]])


def solution(t: float) -> Array:
    return np.array(ellipj(clock(t), 0.51)[:3])


def stages(tableau: Tableau, f: Field, t: float, y: Array, h: float) -> Array:
    k: list[Array] = []
    for c, row in zip((*tableau.c, *tableau.extra_c), (*tableau.a, *tableau.extra_a), strict=True):
        k.append(f(t + c * h, y + h * sum((a * slope for a, slope in zip(row, k, strict=True)), np.zeros_like(y))))
    return np.array(k)


def march(tableau: Tableau, steps: int, end: float = 2.0) -> Array:
    y, h = solution(0.0), end / steps
    for i in range(steps):
        y = y + h * np.array(tableau.b) @ stages(tableau, field, i * h, y, h)[: tableau.stages]
    return y


def slopes(errors: list[float]) -> list[float]:
    return [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]


def inside(tableau: Tableau, t: float, y: Array, h: float, theta: Array, f: Field = field) -> Array:
    """States at t + theta h by the dense output."""
    powers = theta[:, None] ** np.arange(1, len(tableau.dense[0]) + 1)
    states: Array = y + h * powers @ np.array(tableau.dense).T @ stages(tableau, f, t, y, h)
    return states


@EVERY
def test_observed_order(tableau: Tableau) -> None:
    coarse = {1: 128, 2: 64, 3: 32, 4: 32, 5: 16}.get(tableau.order, 8)
    errors = [float(np.abs(march(tableau, n) - solution(2.0)).max()) for n in (coarse, 2 * coarse, 4 * coarse)]
    assert errors[-1] < 1e-2
    assert max(slopes(errors)) > tableau.order - 0.35, errors


@EVERY
def test_observed_order_of_the_dense_output(tableau: Tableau) -> None:
    theta = np.linspace(0.05, 0.95, 19)
    errors = []
    for h in (0.5, 0.25, 0.125, 0.0625):
        exact = np.array([solution(0.3 + h * part) for part in theta])
        errors.append(float(np.abs(inside(tableau, 0.3, solution(0.3), h, theta) - exact).max()))
    assert max(slopes([error for error in errors if error > 1e-13])) > tableau.dense_order + 1 - 0.35, errors


@ADAPTIVE
def test_observed_error_estimate_goes_as_the_controller_assumes(tableau: Tableau) -> None:
    estimates = []
    for h in (0.25, 0.125, 0.0625):
        k = stages(tableau, field, 0.3, solution(0.3), h)[: tableau.stages]
        e = np.linalg.norm(np.array(tableau.error) @ k)
        if tableau.error3 is not None:
            e = e**2 / np.hypot(e, 0.1 * np.linalg.norm(np.array(tableau.error3) @ k))
        estimates.append(float(h * e))
    assert max(slopes(estimates)) == pytest.approx(1 / tableau.exponent, abs=0.35)


@pytest.mark.parametrize(("name", "peer"), [("bosh3", RK23), ("dopri5", RK45), ("dopri8", DOP853)])
def test_step_and_dense_output_agree_with_scipy(name: str, peer: Callable[..., OdeSolver[np.float64]]) -> None:
    tableau, theta = METHODS[name], np.linspace(0, 1, 11)
    solver = peer(field, 0.0, solution(0.0), 4.0, rtol=1e-6, atol=1e-9)
    for _ in range(5):
        t, y = solver.t, solver.y.copy()
        solver.step()
        dense = solver.dense_output()
        mine = inside(tableau, t, y, solver.t - t, theta)
        assert np.allclose(mine, dense(t + theta * (solver.t - t)).T, rtol=0, atol=1e-13)


# --- the catalogue


@EVERY
def test_an_entry_says_where_it_comes_from_and_stands_under_its_name(tableau: Tableau) -> None:
    assert METHODS[tableau.name] is tableau is lookup(tableau.name)
    assert re.search(r"[A-Z]\w+.*\(1[789]\d\d\)|[A-Z]\w+.*\(20\d\d\)", tableau.source)
    assert tableau.exponent == 1 / (min(tableau.order, tableau.error_order or tableau.order) + 1)
    assert all(0 <= c <= 1 for c in (*tableau.c, *tableau.extra_c)), "f must not be asked beyond the step"
    with pytest.raises(dataclasses.FrozenInstanceError):
        tableau.order = 9  # type: ignore[misc]


def test_aliases_lead_to_methods_and_hide_none() -> None:
    assert {lookup(alias).name for alias in ALIASES} <= set(METHODS)
    assert not set(ALIASES) & set(METHODS)
    assert lookup("rk45") is lookup("RK45") is METHODS["dopri5"]


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown solver 'dopri6'\. Did you mean 'dopri\d'\?"):
        lookup("dopri6")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"c": (0.0,)}, "one for each of the 2 stages"),
        ({"a": ((), ())}, r"a has rows of \[0, 0\] entries"),
        ({"dense": ((1.0,), (0.0, 1.0))}, r"rows of \[1, 2\] entries"),
        ({"dense": ((1.0,),)}, "dense must have 2 rows"),
        ({"error": (0.5, -0.5)}, "error and error_order belong together"),
    ],
)
def test_numbers_that_do_not_fit_together_are_refused(change: dict[str, tuple[float, ...]], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        dataclasses.replace(METHODS["midpoint"], **change)  # type: ignore[arg-type]
