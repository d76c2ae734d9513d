"""The recurrent baselines: gaps and memories by hand, and that nothing sees the future."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oscillators import batch

from physid.models.recurrent import Decaying, Recurrent, elapsed, last_seen

KINDS = [Recurrent, Decaying]


def test_gaps_and_last_values_by_hand() -> None:
    data = batch(part=0.3)
    gaps, last = elapsed(data.times, data.observed), last_seen(data.values, data.observed)
    for b in range(5):
        for c in range(3):
            for t in range(12):
                seen = [s for s in range(t) if data.observed[b, s, c] > 0]
                since = data.times[seen[-1]] if seen else data.times[0]
                assert float(gaps[b, t, c]) == float(data.times[t] - since)
                assert float(last[b, t, c]) == (float(data.values[b, seen[-1], c]) if seen else 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_come_from_the_past(kind: type[Recurrent]) -> None:
    torch.manual_seed(0)
    model, data = kind(3, hidden=4, width=5).double().eval(), batch(part=0.6)
    with torch.no_grad():
        found = model(data)
        changed = data.values.clone()
        changed[:, 6:] += data.observed[:, 6:] * torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64)
        other = model(data._replace(values=changed))
    assert found.shape == (1, 5, 12, 3)
    if kind is Recurrent:  # the decaying one is told the mean of the whole series, as in its source
        assert torch.equal(found[:, :, :7], other[:, :, :7])
    assert not torch.equal(found[:, :, 7:], other[:, :, 7:])
    assert torch.equal(found[0, :, 0], data.values[:, 0])
    for b, t in zip(*np.nonzero(~(data.observed.sum(-1) > 0)[:, 1:-1].numpy()), strict=True):
        assert torch.equal(found[0, b, t + 2], found[0, b, t + 1])  # nothing was seen: nothing new is said


@pytest.mark.parametrize("kind", KINDS)
def test_losses_fall(kind: type[Recurrent]) -> None:
    torch.manual_seed(0)
    model, data = kind(3, hidden=8, width=16), batch(part=0.8)
    data = type(data)(*(x.float() for x in data))
    optimizer = torch.optim.Adamax(model.parameters(), 0.01)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = model.loss(data)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in model.parameters())


def test_weights_and_batches_may_differ_in_precision() -> None:
    data = batch()
    single = type(data)(*(x.float() for x in data))
    for model in (Recurrent(3, hidden=4, width=5).double(), Decaying(3, hidden=4, width=5)):
        assert bool(torch.isfinite(model.loss(single)))
        assert bool(torch.isfinite(model.loss(data)))


def test_without_decay_what_is_read_is_the_last_value() -> None:
    model, data = Decaying(3, hidden=4, width=5).double(), batch(part=0.3)
    seen = data.observed > 0
    filled = model.filled(data).detach()
    assert torch.equal(filled[seen], data.values[seen])
    assert torch.equal(filled[~seen], last_seen(data.values, data.observed)[~seen])
    with torch.no_grad():
        model.fading[1] = 1e9  # forgets at once: the mean of what was seen
    mean = data.values.sum(1, keepdim=True) / data.observed.sum(1, keepdim=True).clamp(min=1)
    torch.testing.assert_close(model.filled(data).detach()[~seen], mean.expand_as(data.values)[~seen])
