"""Three-factor plasticity against a trace worked by hand, forwards and backwards, and its bounds."""

import math

import pytest
import torch

from snn_dt.experimental.local_learning.three_factor import Eligibility, RunningMean, bounded, modulated

# Two inputs, one output, three steps, decay 1/2.
PRE = torch.tensor([[1.0, 2.0], [0.0, 1.0], [4.0, 0.0]], dtype=torch.float64)
POST = torch.tensor([[1.0], [2.0], [0.5]], dtype=torch.float64)
DELTA = torch.tensor([1.0, -1.0, 2.0], dtype=torch.float64)
# E_1 = (1, 2); E_2 = (0.5, 1) + (0, 2) = (0.5, 3); E_3 = (0.25, 1.5) + (2, 0) = (2.25, 1.5)
TRACE = [[1.0, 2.0], [0.5, 3.0], [2.25, 1.5]]
# 1 E_1 - 1 E_2 + 2 E_3 = (1 - 0.5 + 4.5, 2 - 3 + 3)
SUM = [[5.0, 2.0]]


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_trace(pre, post, delta, mask, decay):
    """The sum as the rule says it, one step after the other, one window after the other."""
    total = torch.zeros(post.shape[-1], pre.shape[-1], dtype=torch.float64)
    for b in range(len(pre)):
        e = torch.zeros_like(total)
        for t in range(pre.shape[1]):
            if mask[b, t]:
                e = decay * e + torch.outer(post[b, t], pre[b, t])
                total += delta[b, t] * e
    return total


def test_the_trace_is_the_one_worked_by_hand():
    trace = Eligibility(1, torch.zeros(1, 2, dtype=torch.float64), decay=0.5)
    found = [trace.step(x[None], y[None])[0, 0].tolist() for x, y in zip(PRE, POST, strict=True)]
    assert found == TRACE


def test_the_sum_over_a_window_is_the_one_worked_by_hand():
    mask = torch.ones(1, 3, dtype=torch.bool)
    assert modulated(PRE[None], POST[None], DELTA[None], mask, 0.5).tolist() == SUM


@pytest.mark.parametrize("decay", [0.0, 0.7, 0.99])
def test_the_sum_without_a_trace_in_memory_is_that_of_the_traces(decay):
    pre, post, delta = random(5, 9, 4), random(5, 9, 3, seed=1), random(5, 9, seed=2)
    mask = torch.arange(9) >= 9 - torch.tensor([9, 5, 1, 0, 8])[:, None]
    expected = by_trace(pre, post, delta, mask, decay)
    torch.testing.assert_close(modulated(pre, post, delta, mask, decay), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("what", range(3))
def test_pads_add_nothing_whatever_is_in_them(what):
    values = [random(2, 6, 4), random(2, 6, 3, seed=1), random(2, 6, seed=2)]
    mask = torch.arange(6) >= torch.tensor([0, 3])[:, None]
    before = modulated(*values, mask, 0.9)
    values[what][~mask] = math.nan
    assert torch.equal(modulated(*values, mask, 0.9), before)


def test_rows_that_are_forgotten_begin_at_zero_and_those_that_are_kept_go_on():
    trace = Eligibility(3, torch.zeros(1, 2, dtype=torch.float64), decay=0.5)
    trace.step(random(3, 2), random(3, 1, seed=1))
    before = trace.e
    trace.forget(torch.tensor([1]))
    trace.keep(torch.tensor([2, 1]))
    assert torch.equal(trace.e[0], before[2])
    assert not trace.e[1].any()


def test_what_is_within_the_bound_is_untouched_and_what_is_beyond_keeps_its_direction():
    change = random(3, 4)
    norm = torch.linalg.vector_norm(change)
    assert torch.equal(bounded(change, norm * 1.001), change)
    short = bounded(change, norm / 4)
    torch.testing.assert_close(short, change / 4)
    assert not bounded(torch.zeros(3), torch.tensor(0.0)).any()


def test_the_running_mean_is_plain_at_first_and_exponential_later():
    mean, values = RunningMean(rate=0.25), [3.0, 5.0, 10.0, 2.0, 8.0]
    found = []
    for x in values:
        mean.add(torch.tensor(x))
        found.append(float(mean.mean))
    assert found == pytest.approx([3.0, 4.0, 6.0, 5.0, 5.75])
