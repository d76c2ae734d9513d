"""Every operation of the native table against torch: values, vector-Jacobian and Jacobian-vector products."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from native_cases import GROUPS, Case
from native_tools import TIME, assert_abreast, assert_agree, kernel_of
from torch import Tensor
from variants import some

from physid.ode.native.compiler import lower, translation_unit
from physid.ode.native.compiler.all_rules import TABLE
from physid.ode.native.compiler.interpret import products
from physid.ode.native.compiler.trace import trace


def inputs() -> Tensor:
    """Four matrices [3, 4] side by side: two of either sign, one in (0.2, 0.9), one in (1.2, 2.5)."""
    torch.manual_seed(3)
    signed, share = torch.randn(24, dtype=torch.float64), torch.rand(24, dtype=torch.float64)
    return torch.cat([signed, 0.2 + 0.7 * share[:12], 1.2 + 1.3 * share[12:]])


def of(case: Case, y: Tensor) -> Tensor:
    """The case at the first 48 numbers of y."""
    a, b, u, v = (part.view(3, 4) for part in y[:48].split(12))
    return case(a, b, u, v)


EVERY = [*range(12)]
THREE = [0, 6, 11]  # of the entries of a case: what is compiled is what they need


@pytest.mark.parametrize(  # sums and products of matrices become the scalar operations of the other groups
    ("group", "entries"),
    some(product(GROUPS, [THREE, EVERY]), ("pointwise", THREE), ("arrange", THREE)),
)
def test_operations_agree_with_torch(group: str, entries: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translation_unit, "SMALL", 10**6)
    monkeypatch.setattr(lower, "LIMIT", 10**4)
    monkeypatch.setattr(translation_unit, "_abreast", lambda program: True)
    cases = GROUPS[group]
    y = inputs()
    size = len(cases) * len(entries)
    y = torch.cat([y, y.new_zeros(size - len(y))])
    t = torch.tensor(0.3, dtype=torch.float64)

    def f(t: Tensor, y: Tensor) -> Tensor:
        return torch.cat([of(case, y).reshape(-1)[entries] for case in cases.values()])

    for name, case in cases.items():
        shape = of(case, y).shape
        assert shape == (3, 4), f"{name} gives {tuple(shape)}"
    kernel = kernel_of(f, t, y, batched=True)
    assert_agree(f, kernel, t, y)
    assert_abreast(kernel, t, y)


@pytest.mark.parametrize("group", GROUPS)
def test_programs_of_operations_agree_with_torch(group: str) -> None:
    """All entries of every case, by what interprets the program that is compiled."""
    w = torch.linspace(0.5, 1.5, 12, dtype=torch.float64)
    for name, case in GROUPS[group].items():
        y = inputs().requires_grad_()
        k = of(case, y).reshape(-1)
        (slopes,) = torch.autograd.grad(k @ w, y)
        graph = trace(lambda t, y, case=case: of(case, y).reshape(-1), TIME, y.detach(), (), TABLE.__contains__)  # type: ignore[misc]
        c = np.array(graph.numbers())
        given = (np.array([float(TIME)]), y.detach().numpy(), np.zeros(0), c, w.numpy())
        told = products(lower.lower(graph), *given, np.float64)
        np.testing.assert_allclose(told.k[0], k.detach().numpy(), rtol=1e-12, atol=1e-13, err_msg=name)
        np.testing.assert_allclose(told.gy[0], slopes.numpy(), rtol=1e-11, atol=1e-12, err_msg=name)


def test_every_entry_of_the_table_is_used_by_a_case() -> None:
    used = set[str]()
    y, t = inputs(), torch.tensor(0.3, dtype=torch.float64)
    for cases in GROUPS.values():
        for case in cases.values():
            graph = trace(lambda t, y, case=case: of(case, y).reshape(-1), t, y, (), TABLE.__contains__)  # type: ignore[misc]
            used.update(step.op for step in graph.steps)
    # other names of rules that are used, as other devices and decompositions spell them
    twins = {name for name, entry in TABLE.items() if any(TABLE[op] is entry for op in used)}
    driven = {"inputs"}  # no operation of torch: what a driven f reads, in tests of its own
    assert set(TABLE) - used - twins - driven == set()


def at_bounds(x: Tensor) -> Tensor:
    """Numbers at bounds that they are equal to."""
    other = x.flip(0)
    found = [x.clamp(min=0.0), x.clamp(max=0.0), x.clamp(0.0, 1.0), x.clamp(-1.0, -0.0), x.clamp(min=other)]
    found += [x.clamp(max=other), x.clamp_min(0.0), F.relu(x), F.relu6(x), F.hardtanh(x, 0.0, 1.0)]
    found += [torch.maximum(x, other), torch.minimum(x, other), torch.fmax(x, other), torch.fmin(x, other)]
    return torch.stack(found)


def test_a_zero_keeps_its_sign_at_a_bound() -> None:
    """As torch has it, where atan2 tells -0 from 0; in the compiled program and in what interprets it."""
    y = torch.zeros(28, dtype=torch.float64)
    y[0] = -0.0  # beside y[1] = 0: torch compares long vectors of zeros another way round than short ones

    def f(t: Tensor, y: Tensor) -> Tensor:
        return torch.atan2(at_bounds(y[:2]).reshape(-1), y - 2.0)

    expected = f(TIME, y)
    assert 0 < int((expected < 0).sum()) < 28
    kernel = kernel_of(f, TIME, y)
    torch.testing.assert_close(kernel.field(TIME, y, *kernel.pack([])), expected, rtol=1e-15, atol=0)
    program = lower.lower(trace(f, TIME, y, (), TABLE.__contains__))
    told = products(program, np.zeros(1), y.numpy(), np.zeros(0), np.zeros(0), np.ones(28), np.float64).k[0]
    torch.testing.assert_close(torch.from_numpy(told), expected, rtol=1e-15, atol=0)


@pytest.mark.parametrize("batch", [1, 16])
def test_time_and_constants_stand_beside_the_state_of_many_samples(batch: int) -> None:
    torch.manual_seed(1)
    weight, other = torch.randn(4, 8, dtype=torch.float64), torch.randn(8, 2, dtype=torch.float64)
    beside = torch.randn(batch, 1, dtype=torch.float64)

    def f(t: Tensor, y: Tensor) -> Tensor:
        rows = torch.cat([y.view(batch, 2), t.expand(batch, 1), beside], -1)
        return (torch.tanh(rows @ weight) @ other).reshape(-1)

    y = torch.randn(2 * batch, dtype=torch.float64)
    assert_agree(f, kernel_of(f, TIME, y), TIME, y)
