"""Whatever finite current comes, kernels and reference agree: huge, denormal, of either sign, at the threshold."""

import itertools

import pytest
import torch

from snn_dt.snn import LIF, LIFParameters, lif_rate, lif_scan
from snn_dt.snn.backends import cpp
from snn_dt.snn.parameters import RESETS
from snn_dt.snn.reference import MAX_DRIVE

pytestmark = pytest.mark.skipif(cpp.load() is None, reason="no C++ compiler")
MOST = torch.finfo(torch.float32).max
LEAST = 2.0**-149
NEURONS = {
    "default": {},
    "odd": {"tau_mem": 3.0, "dt": 0.5, "c_m": 1.7, "v_rest": -0.3, "v_threshold": 0.8},
    "loud": {"tau_mem": 20.0, "c_m": 40.0},  # the gain alone makes a large current infinite
    "faint": {"tau_mem": 1.0, "c_m": 1e-6},
    "in millivolts": {"tau_mem": 7.0, "v_rest": -65.0, "v_threshold": -50.0},
    "negative": {"tau_mem": 2.0, "v_rest": -3.0, "v_threshold": -1.0},
}


def currents(p: LIFParameters, n: int = 4096) -> torch.Tensor:
    """Finite currents of every size and sign, zeros, and those around what a spike at each step from rest takes."""
    generator = torch.Generator().manual_seed(0)
    anything = torch.randint(-(2**31), 2**31, (n,), generator=generator).to(torch.int32).view(torch.float32)
    anything = anything[anything.isfinite()]
    usual = 2 * torch.randn(n, generator=generator) * (p.v_threshold - p.v_rest) / p.gain
    edges = []
    for steps in range(1, 12):
        height = (p.v_threshold - p.v_rest) / p.gain * p.leak / (1 - (1 - p.leak) ** steps)
        at = torch.tensor(height, dtype=torch.float32)
        edges += [(at.view(torch.int32) + i).view(torch.float32) for i in range(-40, 41)]
    special = torch.tensor([0.0, -0.0, LEAST, -LEAST, MOST, -MOST, MOST / 2, 1e30, -1e30, 1e38, 1e19, -1e19, 1e20])
    found = torch.cat([anything, usual, torch.stack(edges), special])
    assert found.isfinite().all()
    return found


CASES = list(itertools.product(NEURONS, RESETS, [False, True]))


@pytest.mark.parametrize(("name", "reset", "detach"), CASES)
def test_rates_and_their_gradients_agree(name, reset, detach):
    p = LIFParameters(reset=reset, detach_reset=detach, **NEURONS[name])
    x = currents(p)
    for steps in (1, 4, 9, 25):
        found, grads = [], []
        for backend in ("cpp", "reference"):
            y = x.clone().requires_grad_()
            lif_rate(y, steps, p, backend).sum().backward()
            grads.append(y.grad)
            found.append(lif_rate(x, steps, p, backend))
        assert torch.equal(*found)
        assert grads[0].isfinite().all()
        torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-6 * max(1.0, float(grads[1].abs().max())))


@pytest.mark.parametrize("surrogate", ["fast_sigmoid", "sigmoid", "triangle", "arctan", "rectangular"])
@pytest.mark.parametrize(("name", "reset", "detach"), CASES)
def test_spikes_membranes_and_gradients_agree(name, reset, detach, surrogate):
    p = LIFParameters(reset=reset, detach_reset=detach, surrogate=surrogate, **NEURONS[name])
    x = currents(p)
    x = torch.stack([x[torch.randperm(len(x), generator=torch.Generator().manual_seed(i))] for i in range(6)])
    results = []
    for backend in ("cpp", "reference"):
        y = x.clone().requires_grad_()
        spikes, v = lif_scan(y, None, p, backend)
        (spikes.sum() + (v / MAX_DRIVE).sum()).backward()
        results.append((spikes.detach(), v.detach(), y.grad))
    (spikes, v, grad), (expected_spikes, expected_v, expected_grad) = results
    assert torch.equal(spikes, expected_spikes)
    assert torch.equal(v, expected_v)
    assert v.isfinite().all()
    assert grad.isfinite().all()
    # a spike's gradient through the reset is a sum whose parts are as large as the membrane: to its rounding
    torch.testing.assert_close(grad, expected_grad, rtol=1e-4, atol=1e-5 * max(1.0, float(expected_grad.abs().max())))


def test_what_is_held_is_far_above_any_current_that_means_something():
    x = torch.tensor([[3e20, -2.5, 7.0]])
    assert torch.equal(LIF(reset="none")(x)[1].v_mem, x[0])


@pytest.mark.parametrize(
    "options", [{"threshold_adaptation": 0.3}, {"current_adaptation": 0.2}, {"reset_order": "delayed"}]
)
def test_neurons_without_a_kernel_stay_finite_too(options):
    for reset in RESETS:
        neuron = LIF(reset=reset, **options)
        spikes, state = neuron(torch.stack([currents(neuron.constants)] * 5))
        assert spikes.isfinite().all()
        assert state.v_mem.isfinite().all()
