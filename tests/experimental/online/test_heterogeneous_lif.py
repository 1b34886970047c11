"""The fast scan of neurons with constants of their own is the general neuron, to the last spike and gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from snn_dt.experimental.online.heterogeneous_lif import HeterogeneousLIF
from snn_dt.snn import LIF, cpp
from snn_dt.snn.parameters import LIFState


@contextmanager
def with_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pair() -> tuple[HeterogeneousLIF, LIF]:
    own = HeterogeneousLIF(7, 5.0, torch.Generator().manual_seed(1)).double()
    general = LIF(
        reset="soft", reset_order="delayed", detach_reset=True, surrogate_slope=5.0,
        learnable=("tau_mem", "v_threshold"), neurons=7,
    ).double()  # fmt: skip
    general.load_state_dict(own.state_dict())
    return own, general


def test_spikes_states_and_gradients_are_those_of_the_general_neuron():
    current = torch.randn(30, 4, 7, dtype=torch.float64)
    weights = torch.randn(30, 4, 7, dtype=torch.float64)
    found = []
    for neuron in pair():
        x = current.clone().requires_grad_()
        spikes, state = neuron(x)
        (spikes * weights).sum().backward()
        found.append((spikes.detach(), state.v_mem.detach(), x.grad, neuron.raw_leak.grad, neuron.raw_threshold.grad))
    assert 0.1 < found[0][0].mean() < 0.9
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_cpp_kernel_spikes_as_plain_torch_does_and_has_its_gradients(monkeypatch, dtype, threads):
    if cpp.load() is None:
        pytest.skip("no C++ compiler")
    own = HeterogeneousLIF(33, 5.0, torch.Generator().manual_seed(1)).to(dtype)
    g = torch.Generator().manual_seed(2)
    current, weights = (torch.randn(40, 30, 33, dtype=dtype, generator=g) for _ in range(2))
    before = LIFState(torch.randn(30, 33, dtype=dtype, generator=g))
    found, called = [], []
    monkeypatch.setattr(cpp, "own_backward", lambda *a, f=cpp.own_backward: called.append(1) or f(*a))
    with with_threads(threads):
        for kernel in ("cpp", "reference"):
            monkeypatch.setenv("SNN_DT_KERNEL", kernel)
            own.zero_grad()
            x = current.clone().requires_grad_()
            spikes, state = own(x, before)
            (spikes * weights).sum().backward()
            found.append((spikes.detach(), state.v_mem, x.grad, own.raw_leak.grad, own.raw_threshold.grad))
    assert called == [1]
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    tolerance = 1e-4 if dtype == torch.float32 else 1e-12
    for ours, theirs in zip(found[0][2:], found[1][2:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_a_current_that_does_not_lie_in_one_piece_is_integrated_all_the_same():
    own, _ = pair()
    current = torch.randn(7, 5, 20, dtype=torch.float64)
    assert torch.equal(own(current.permute(2, 1, 0))[0], own(current.permute(2, 1, 0).contiguous())[0])


def test_a_train_cut_in_two_is_the_whole_train():
    own, _ = pair()
    current = torch.randn(20, 3, 7, dtype=torch.float64)
    whole, _ = own(current)
    first, state = own(current[:8])
    second, _ = own(current[8:], state)
    assert torch.equal(whole, torch.cat([first, second]))


def test_a_trace_by_hand():
    own = HeterogeneousLIF(1, 10.0).double()
    with torch.no_grad():
        own.raw_leak.fill_(0.0)  # beta = 1/2
        own.raw_threshold.copy_(torch.ones(1).expm1().log())  # theta = 1
    spikes, state = own(torch.tensor([0.8, 0.8, 0.0, 0.9])[:, None, None].double())
    # V: 0.8; 0.4 + 0.8 = 1.2, a spike; 0.6 - 1 = -0.4; -0.2 + 0.9 = 0.7
    assert spikes.flatten().tolist() == [0, 1, 0, 0]
    torch.testing.assert_close(state.v_mem.item(), 0.7, rtol=1e-6, atol=1e-6)
