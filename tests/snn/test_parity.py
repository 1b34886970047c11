"""The same neuron in snnTorch 1.0.0, SpikingJelly 2.0.0 and Norse 1.1.0, by exact mappings of their constants.

They come with `pip install -c constraints.txt -e ".[peers]"`; where one is missing its tests are skipped. They
integrate u = V - V_rest or scale the input by other constants: the maps are in the code and in docs/neurons.md. Spikes
are identical, membranes equal to 1e-12 and gradients to 1e-7.
"""

import pytest
import torch

from snn_dt.snn import LIF

# V_th - V_rest is exact in single precision, in which snnTorch subtracts it
P = {"tau_mem": 3.0, "dt": 0.5, "c_m": 1.7, "v_rest": -0.25, "v_threshold": 0.875}
LEAK, GAIN, HEIGHT = P["dt"] / P["tau_mem"], P["dt"] * P["c_m"], P["v_threshold"] - P["v_rest"]
WEIGHT = torch.randn(25, 4000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def current(scale=0.8):
    x = torch.randn(25, 4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (scale * x).requires_grad_()


def ours(scale=0.8, **options):
    x = current(scale)
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


def snntorch(mechanism, delay, scale=0.8):
    library = pytest.importorskip("snntorch")
    surrogate = library.surrogate.fast_sigmoid(slope=10)
    # as tensors: it would keep floats in single precision
    beta, threshold = (torch.tensor(constant, dtype=torch.float64) for constant in (1 - LEAK, HEIGHT))
    neuron = library.Leaky(
        beta, threshold=threshold, reset_mechanism=mechanism, spike_grad=surrogate, reset_delay=delay
    )
    x, u, spikes = current(scale), torch.zeros(4000, dtype=torch.float64), []
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
    with torch.no_grad():  # its membrane is the one before the reset
        state, last = LIF(**P)(current()[:-1])[1], current()[-1]
        h = state.v_mem + LEAK * (P["v_rest"] - state.v_mem) + GAIN * last
    assert_same((found[0], found[1], found[2]), (expected[0], h, expected[2]))


def test_snntorch_with_immediate_soft_reset_is_ours_while_no_residual_passes_the_threshold():
    assert_same(snntorch("subtract", False, scale=0.4), ours(scale=0.4, reset="soft"))
    large = snntorch("subtract", False), ours(reset="soft")  # there it subtracts the threshold twice
    assert (large[0][0] != large[1][0]).any()


def test_snntorch_with_its_default_soft_reset_is_our_delayed_order_detached():
    assert_same(snntorch("subtract", delay=True), ours(reset="soft", reset_order="delayed", detach_reset=True))


def test_snntorch_without_reset_is_ours():
    assert_same(snntorch("none", delay=True), ours(reset="none"))


def test_snntorch_learns_what_our_learned_constants_learn():
    library = pytest.importorskip("snntorch")
    ours = LIF(
        2.0, reset="soft", reset_order="delayed", detach_reset=True, learnable=("tau_mem", "v_threshold"), neurons=4000
    ).double()
    torch.nn.init.uniform_(ours.raw_leak, -1, 1, generator=torch.Generator().manual_seed(2))
    torch.nn.init.uniform_(ours.raw_threshold, 0, 1, generator=torch.Generator().manual_seed(3))
    beta, threshold = (1 - ours.leak).detach(), ours.v_threshold.detach()
    surrogate = library.surrogate.fast_sigmoid(slope=10)
    theirs = library.Leaky(beta, learn_beta=True, threshold=threshold, learn_threshold=True, spike_grad=surrogate)
    x, u, spikes = current(), torch.zeros(4000, dtype=torch.float64), []
    for step in x.unbind(0):
        s, u = theirs(step, u)
        spikes.append(s)
    (torch.stack(spikes) * WEIGHT).sum().backward()
    expected = ours(x)[0]
    (expected * WEIGHT).sum().backward()
    assert torch.equal(torch.stack(spikes), expected)
    by_leak = -theirs.beta.grad * beta * (1 - beta)  # leak = 1 - beta, a sigmoid
    by_threshold = theirs.threshold.grad * -torch.expm1(-threshold)  # a softplus
    for found, known in ((ours.raw_leak.grad, by_leak), (ours.raw_threshold.grad, by_threshold)):
        torch.testing.assert_close(found, known, rtol=0, atol=1e-7 * known.abs().max().item())


@pytest.mark.parametrize("decay_input", [False, True])
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_spikingjelly_is_ours(reset, detach, decay_input):
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import neuron

    soft = reset == "soft"  # it then leaks to 0 and subtracts the threshold
    layer = neuron.LIFNode(
        tau=1 / LEAK,
        decay_input=decay_input,
        v_threshold=HEIGHT if soft else P["v_threshold"],
        v_reset=None if soft else P["v_rest"],
        surrogate_function=FastSigmoid.apply,
        detach_reset=detach,
        step_mode="m",
    )
    if not soft:
        layer.v = torch.full((4000,), P["v_rest"], dtype=torch.float64)
    x = current()
    spikes = layer((P["tau_mem"] * P["c_m"] if decay_input else GAIN) * x)
    (spikes * WEIGHT).sum().backward()
    found = spikes, layer.v + (P["v_rest"] if soft else 0.0), x.grad
    assert_same(found, ours(reset=reset, detach_reset=detach))


def test_spikingjelly_learns_the_time_constant_that_ours_learns():
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import neuron

    constants = {"surrogate_function": FastSigmoid.apply, "v_reset": None, "decay_input": False, "step_mode": "m"}
    theirs, x = neuron.ParametricLIFNode(init_tau=3.0, **constants).double(), current()
    ours = LIF(3.0, reset="soft", learnable=["tau_mem"]).double()
    torch.nn.init.constant_(ours.raw_leak, theirs.w.item())  # both a sigmoid of it
    found, expected = theirs(x), ours(x)[0]
    for spikes in (found, expected):
        (spikes * WEIGHT).sum().backward()
    assert torch.equal(found, expected)
    torch.testing.assert_close(theirs.w.grad, ours.raw_leak.grad[0], rtol=1e-7, atol=0)


def norse(step, state, p, x):
    """Spikes and last state of a step function of Norse under the currents `x` [T, N]."""
    spikes = []
    for now in x.unbind(0):
        s, state = step(P["tau_mem"] * P["c_m"] * now, state, p, dt=P["dt"])
        spikes.append(s)
    return torch.stack(spikes), state


def constants(**others):
    values = {"tau_mem_inv": 1 / P["tau_mem"], "v_leak": P["v_rest"], "v_reset": P["v_rest"], "alpha": 1.0} | others
    return {"method": "super", **{k: torch.tensor(v, dtype=torch.float64) for k, v in values.items()}}


REST = torch.full((4000,), P["v_rest"], dtype=torch.float64)


@pytest.mark.parametrize("module", ["lif_box", "lif"])
def test_norse_is_ours(module):
    pytest.importorskip("norse")
    from norse.torch.functional import lif, lif_box

    x, one_step = current(), {"tau_syn_inv": 1 / P["dt"]}  # its synaptic current dies after one step
    if module == "lif_box":
        p = lif_box.LIFBoxParameters(**constants(v_th=P["v_threshold"]))
        spikes, state = norse(lif_box.lif_box_feed_forward_step, lif_box.LIFBoxFeedForwardState(v=REST), p, x)
    else:
        p = lif.LIFParameters(**constants(v_th=P["v_threshold"], **one_step))
        start = lif.LIFFeedForwardState(v=REST, i=torch.zeros_like(REST))
        spikes, state = norse(lif.lif_feed_forward_step, start, p, x)
    (spikes * WEIGHT).sum().backward()
    # 1.1.0 ignores alpha in its backward pass: k is 1
    assert_same((spikes, state.v, x.grad), ours(reset="hard", surrogate_slope=1.0))


def test_norse_with_an_adaptive_threshold_is_ours():
    pytest.importorskip("norse")
    from norse.torch.functional import lsnn

    # its input acts one step late, and its threshold decays before it is compared: a jump of rho beta in our terms
    rho, beta, tau = 1 - P["dt"] / 5.0, 0.3, 5.0
    x, others = current(), {"tau_syn_inv": 1 / P["dt"], "tau_adapt_inv": 1 / tau, "beta": beta}
    p = lsnn.LSNNParameters(**constants(v_th=P["v_threshold"], **others))
    first = P["tau_mem"] * P["c_m"] * x[0]
    start = lsnn.LSNNFeedForwardState(v=REST, i=first, b=torch.full_like(REST, P["v_threshold"]))
    late = torch.cat([x[1:], torch.zeros_like(x[:1])])
    spikes, state = norse(lsnn.lsnn_feed_forward_step, start, p, late)
    (spikes * WEIGHT).sum().backward()
    alif = {"threshold_adaptation": rho * beta, "tau_adaptation": tau}
    expected = ours(reset="hard", surrogate_slope=1.0, **alif)
    assert_same((spikes, state.v, x.grad), expected)
    trace = LIF(**P, **alif)(current())[1].spike_trace
    torch.testing.assert_close(P["v_threshold"] + beta * trace, state.b, rtol=0, atol=1e-12)
