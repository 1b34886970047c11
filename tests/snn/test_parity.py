"""The same neuron in snnTorch 1.0.0, SpikingJelly 2.0.0 and Norse 1.1.0, by exact mappings of their constants.

None of them is a dependency: each test runs where its library is installed and is skipped elsewhere. They integrate
u = V - V_rest or scale the input by other constants; the maps are in the code. Spikes are identical, membranes equal
to 1e-12 and gradients to 1e-7.
"""

import pytest
import torch

from snn_dt.snn import LIF

# V_th - V_rest is exact in single precision, in which snnTorch subtracts it
P = {"tau_mem": 3.0, "dt": 0.5, "c_m": 1.7, "v_rest": -0.25, "v_threshold": 0.875}
LEAK, GAIN, HEIGHT = P["dt"] / P["tau_mem"], P["dt"] * P["c_m"], P["v_threshold"] - P["v_rest"]
WEIGHT = torch.randn(25, 4000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def current():
    x = torch.randn(25, 4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (0.8 * x).requires_grad_()


def ours(**options):
    x = current()
    spikes, state = LIF(**P, **options)(x)
    (spikes * WEIGHT).sum().backward()
    assert 0.01 < spikes.mean() < 0.9
    return spikes, state.v_mem, x.grad


def assert_same(found, expected):
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1], rtol=0, atol=1e-12)
    assert_same_gradient(found, expected)


def assert_same_gradient(found, expected):
    # snnTorch's spikes, and so part of its gradients, are in single precision whatever the input
    torch.testing.assert_close(found[2], expected[2], rtol=0, atol=1e-7 * expected[2].abs().max().item())


class FastSigmoid(torch.autograd.Function):
    """Ours for libraries that take any callable, k = 10."""

    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u >= 0).to(u)

    @staticmethod
    def backward(ctx, grad):
        return grad / (1 + 10 * ctx.saved_tensors[0].abs()) ** 2


def snntorch(mechanism, delay):
    library = pytest.importorskip("snntorch")
    surrogate = library.surrogate.fast_sigmoid(slope=10)
    # as tensors: it would keep floats in single precision
    beta, threshold = (torch.tensor(constant, dtype=torch.float64) for constant in (1 - LEAK, HEIGHT))
    neuron = library.Leaky(
        beta, threshold=threshold, reset_mechanism=mechanism, spike_grad=surrogate, reset_delay=delay
    )
    x, u, spikes = current(), torch.zeros(4000, dtype=torch.float64), []
    for step in x.unbind(0):
        s, u = neuron(GAIN * step, u)
        spikes.append(s)
    spikes = torch.stack(spikes)
    (spikes * WEIGHT).sum().backward()
    return spikes, u + P["v_rest"], x.grad


def test_snntorch_with_immediate_hard_reset_is_ours():
    assert_same(snntorch("zero", delay=False), ours(reset="hard"))


def test_snntorch_with_its_default_hard_reset_fires_as_ours_and_has_its_reset_detached():
    found, expected = snntorch("zero", delay=True), ours(reset="hard", detach_reset=True)
    assert torch.equal(found[0], expected[0])  # its membrane is the one before the reset
    assert_same_gradient(found, expected)


def test_snntorch_with_its_default_soft_reset_is_our_delayed_order_detached():
    assert_same(snntorch("subtract", delay=True), ours(reset="soft", reset_order="delayed", detach_reset=True))


def test_snntorch_without_reset_is_ours():
    assert_same(snntorch("none", delay=True), ours(reset="none"))


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_spikingjelly_is_ours(reset, detach):
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import neuron

    soft = reset == "soft"  # it then leaks to 0 and subtracts the threshold
    layer = neuron.LIFNode(
        tau=1 / LEAK,
        decay_input=False,
        v_threshold=HEIGHT if soft else P["v_threshold"],
        v_reset=None if soft else P["v_rest"],
        surrogate_function=FastSigmoid.apply,
        detach_reset=detach,
        step_mode="m",
    )
    if not soft:
        layer.v = torch.full((4000,), P["v_rest"], dtype=torch.float64)
    x = current()
    spikes = layer(GAIN * x)
    (spikes * WEIGHT).sum().backward()
    found = spikes, layer.v + (P["v_rest"] if soft else 0.0), x.grad
    assert_same(found, ours(reset=reset, detach_reset=detach))


def test_norse_is_ours():
    pytest.importorskip("norse")
    from norse.torch.functional.lif_box import LIFBoxFeedForwardState, LIFBoxParameters, lif_box_feed_forward_step

    constants = {
        "tau_mem_inv": 1 / P["tau_mem"],
        "v_leak": P["v_rest"],
        "v_th": P["v_threshold"],
        "v_reset": P["v_rest"],
        "alpha": 1.0,
    }
    p = LIFBoxParameters(method="super", **{k: torch.tensor(v, dtype=torch.float64) for k, v in constants.items()})
    x, spikes = current(), []
    state = LIFBoxFeedForwardState(v=torch.full((4000,), P["v_rest"], dtype=torch.float64))
    for step in x.unbind(0):
        s, state = lif_box_feed_forward_step(P["tau_mem"] * P["c_m"] * step, state, p, dt=P["dt"])
        spikes.append(s)
    spikes = torch.stack(spikes)
    (spikes * WEIGHT).sum().backward()
    # 1.1.0 ignores alpha in its backward pass: k is 1
    assert_same((spikes, state.v, x.grad), ours(reset="hard", surrogate_slope=1.0))
