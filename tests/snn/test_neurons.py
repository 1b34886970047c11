"""The LIF neuron: a hand trace, the tie rule, explicit state, gradients against finite differences."""

import copy
import pickle

import pytest
import torch

from snn_dt.snn import LIF, SURROGATES, LIFParameters, RateLIF, smooth_spike
from snn_dt.snn.reference import rate_reference, scan_reference

ODD = {"tau_mem": 4.0, "dt": 0.5, "c_m": 2.0, "v_rest": -0.25, "v_threshold": 0.75}  # leak 1/8, gain 1: exact in binary
RESETS = ["hard", "soft", "none"]


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# h = V + (-0.25 - V) / 8 + I, worked by hand from V = -0.25 for I = .75, .375, 1, .5: spikes, membranes after reset.
# h of the first two steps: .5, .78125; of the third: .75 (hard: a tie), .77734375 (soft), 1.65234375 (none).
TRACES = {
    "hard": ([0, 1, 1, 0], [0.5, -0.25, -0.25, 0.25]),
    "soft": ([0, 1, 1, 0], [0.5, -0.21875, -0.22265625, 0.27392578125]),
    "none": ([0, 1, 1, 1], [0.5, 0.78125, 1.65234375, 1.91455078125]),
}


@pytest.mark.parametrize("reset", RESETS)
def test_spikes_and_membrane_follow_the_trace_worked_by_hand(reset):
    neuron, state, trace = LIF(reset=reset, **ODD), None, []
    for current in (0.75, 0.375, 1.0, 0.5):
        s, state = neuron(torch.tensor([[current]]), state)
        trace.append((s.item(), state.v_mem.item()))
    assert trace == list(zip(*TRACES[reset], strict=True))


def test_a_membrane_exactly_at_threshold_fires():
    spikes, state = LIF(tau_mem=2.0)(torch.tensor([[0.5], [0.75]]))  # h = 0.5, then 0.25 + 0.75 = 1
    assert spikes.flatten().tolist() == [0, 1]
    assert state.v_mem.item() == 0


def test_no_current_leaves_a_neuron_at_rest_exactly():
    spikes, state = LIF(tau_mem=3.0, v_rest=-0.1, v_threshold=0.3)(torch.zeros(50, 3))
    assert not spikes.any()
    assert torch.equal(state.v_mem, torch.full((3,), -0.1))


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("split", [1, 7, 19])
def test_two_calls_with_carried_state_equal_one_bit_for_bit(reset, split):
    neuron, current = LIF(reset=reset, **ODD), 2 * randn(20, 4, 5, dtype=torch.float32)
    whole, end = neuron(current)
    first, middle = neuron(current[:split])
    second, last = neuron(current[split:], middle)
    assert torch.equal(whole, torch.cat([first, second]))
    assert torch.equal(end.v_mem, last.v_mem)
    assert whole.any()


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("detach", [False, True])
def test_rate_is_the_mean_spike_of_a_repeated_current_and_so_is_its_gradient(reset, detach):
    neuron = LIF(reset=reset, detach_reset=detach, **ODD)
    current = randn(6, 5).requires_grad_()
    rate, mean = neuron.rate(current, 7), neuron(current.expand(7, 6, 5))[0].mean(0)
    torch.testing.assert_close(rate, mean, rtol=0, atol=1e-15)
    weight = randn(6, 5, seed=1)
    grads = [torch.autograd.grad(y, current, weight)[0] for y in (rate, mean)]
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-14)
    assert torch.equal(rate, RateLIF(7, reset=reset, detach_reset=detach, **ODD)(current))
    assert 0 < rate.mean() < 1


@pytest.mark.parametrize("reset", RESETS)
def test_slope_changes_the_gradient_and_not_one_bit_of_the_forward_pass(reset):
    neuron, results = LIF(reset=reset), []
    for slope in (10.0, 2.0):
        neuron.surrogate_slope = slope
        current = randn(12, 30, dtype=torch.float32).requires_grad_()
        spikes, state = neuron(current)
        rate = neuron.rate(current[0], 9)
        (spikes.sum() + rate.sum()).backward()
        results.append((spikes, state.v_mem, rate, current.grad))
    shallow, steep = results
    assert all(torch.equal(a, b) for a, b in zip(shallow[:3], steep[:3], strict=True))
    assert not torch.allclose(shallow[3], steep[3])


def smooth_inputs(p):
    """Currents and a first membrane none of whose h lies within 1e-3 of a kink of psi: u = 0 and, for some, +-1/k."""
    for seed in range(100):
        current, v0 = randn(6, 4, seed=seed), randn(4, seed=seed + 1000) / 2
        v, near = v0, False
        for x in current:
            h = v + p.leak * (p.v_rest - v) + p.gain * x
            u = (h - p.v_threshold).abs()
            near |= bool((torch.minimum(u, (u - 1 / p.surrogate_slope).abs()) < 1e-3).any())
            v = scan_reference(x[None], v, p, smooth_spike)[1]
        if not near:
            return current.requires_grad_(), v0.requires_grad_()
    raise AssertionError("no inputs away from the threshold")


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("reset", RESETS)
def test_gradients_with_the_smooth_spike_pass_finite_differences(reset, surrogate):
    p = LIFParameters(reset=reset, surrogate=surrogate, surrogate_slope=4.0, **ODD)
    current, v0 = smooth_inputs(p)
    assert torch.autograd.gradcheck(lambda x, v: scan_reference(x, v, p, smooth_spike), (current, v0))
    assert torch.autograd.gradcheck(lambda x: rate_reference(x, 3, p, smooth_spike), (v0,))


@pytest.mark.parametrize(("reset", "through_reset"), [("hard", 0.0), ("soft", 0.875)])
def test_detached_reset_leaves_only_the_leak_in_the_gradient_through_time(reset, through_reset):
    neuron = LIF(reset=reset, detach_reset=True, **ODD)
    v0 = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    spikes, state = neuron(torch.full((1, 1), 3.0, dtype=torch.float64), type(neuron(torch.zeros(1, 1))[1])(v0))
    assert spikes.item() == 1
    assert torch.autograd.grad(state.v_mem, v0)[0].item() == through_reset


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"tau_mem": 0.0}, "tau_mem: expected a positive number; found 0.0"),
        ({"tau_mem": float("nan")}, "tau_mem"),
        ({"dt": -1.0}, "dt: expected a positive number"),
        ({"tau_mem": 1.0, "dt": 2.0}, "expected at most tau_mem = 1.0"),
        ({"c_m": 0.0}, "c_m"),
        ({"v_threshold": 0.0}, "above v_rest = 0.0"),
        ({"reset": "zero"}, "expected one of hard, soft, none; found 'zero'"),
        ({"surrogate": "fast_sigmoidd"}, "did you mean 'fast_sigmoid'"),
        ({"surrogate_slope": 0.0}, "surrogate_slope"),
    ],
)
def test_a_bad_constant_is_refused_with_what_was_expected_and_found(bad, message):
    with pytest.raises(ValueError, match=message):
        LIF(**bad)


def test_a_bad_slope_or_number_of_steps_is_refused():
    neuron = LIF()
    with pytest.raises(ValueError, match="surrogate_slope: expected a positive number"):
        neuron.surrogate_slope = -1.0
    with pytest.raises(ValueError, match="sim_steps: expected at least 1; found 0"):
        RateLIF(0)


def test_copies_and_pickles_compute_the_same():
    neuron = RateLIF(5, reset="soft", tau_mem=3.0)
    neuron.surrogate_slope = 7.0
    current = randn(8, 3)
    for twin in (copy.deepcopy(neuron), pickle.loads(pickle.dumps(neuron))):
        assert twin.constants == neuron.constants
        assert torch.equal(twin(current), neuron(current))
