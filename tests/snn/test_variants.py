"""The neuron's options: hand traces, closed-form Jacobians, the published backward recurrences, finite differences."""

import itertools
import math

import pytest
import torch

from snn_dt.snn import LIF, LIFParameters, LIFState, RateLIF, smooth_spike, variants
from snn_dt.snn.surrogate import fast_sigmoid

ORDERS = ["charge_fire_reset", "delayed"]
RESETS = ["hard", "soft", "none"]
DETACH = [False, True]
ADAPTATIONS = {
    "none": {},
    "threshold": {"threshold_adaptation": 0.4},
    "current": {"current_adaptation": 0.3, "voltage_adaptation": 0.1},
    "both": {"threshold_adaptation": 0.4, "current_adaptation": 0.3, "voltage_adaptation": -0.1},
}
ODD = {"tau_mem": 4.0, "dt": 0.5, "c_m": 1.5, "v_rest": -0.25, "v_threshold": 0.75, "tau_adaptation": 5.0}
OPTIONS = list(itertools.product(ORDERS, RESETS, DETACH, ADAPTATIONS))


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def parameters(order, reset, detach, adaptation, **other):
    return LIFParameters(reset_order=order, reset=reset, detach_reset=detach, **ODD, **ADAPTATIONS[adaptation], **other)


# leak 1/2, gain 1, V_rest 0, V_th 1; rho 1/2. Worked by hand for I = 1.25, 0.5, 1.5, 0.
TRACES = {
    # h = 1.25 | .5 | 1.75 | 0 ; the spike of step 1 resets V in step 1
    ("charge_fire_reset", "hard", 0.0): ([1, 0, 1, 0], [0.0, 0.5, 0.0, 0.0]),
    # V = 1.25 | c = 1.125, reset of step 1's spike: 0, its input lost | 1.5 | 0
    ("delayed", "hard", 0.0): ([1, 0, 1, 0], [1.25, 0.0, 1.5, 0.0]),
    # V = 1.25 | 1.125 - 1 = .125 | 1.5625 | .78125 - 1
    ("delayed", "soft", 0.0): ([1, 0, 1, 0], [1.25, 0.125, 1.5625, -0.21875]),
    # b = 0, 1, 1/2, 1/4 against V_th + b: h = 1.25 >= 1 | .5 | 1.75 >= 1.5 | 0
    ("charge_fire_reset", "hard", 1.0): ([1, 0, 1, 0], [0.0, 0.5, 0.0, 0.0]),
    # beta = 2: h = 1.75 < 2 in step 3
    ("charge_fire_reset", "hard", 2.0): ([1, 0, 0, 0], [0.0, 0.5, 1.75, 0.875]),
}


@pytest.mark.parametrize(("order", "reset", "beta"), TRACES)
def test_spikes_and_membrane_follow_the_trace_worked_by_hand(order, reset, beta):
    neuron = LIF(2.0, reset=reset, reset_order=order, threshold_adaptation=beta, tau_adaptation=2.0)
    state, trace = None, []
    for current in (1.25, 0.5, 1.5, 0.0):
        s, state = neuron(torch.tensor([[current]]), state)
        trace.append((s.item(), state.v_mem.item()))
    assert trace == list(zip(*TRACES[order, reset, beta], strict=True))


def test_current_adaptation_is_subtracted_from_the_next_input_and_decays():
    neuron, state, trace = LIF(2.0, current_adaptation=0.5, tau_adaptation=2.0), None, []
    for current in (1.0, 0.5, 0.25):
        s, state = neuron(torch.tensor([[current]]), state)
        trace.append((s.item(), state.v_mem.item(), state.adaptation.item()))
    assert trace == [(1, 0.0, 0.5), (0, 0.0, 0.25), (0, 0.0, 0.125)]


@pytest.mark.parametrize(("order", "reset", "detach", "adaptation"), OPTIONS)
def test_carried_state_and_rate_agree_with_one_long_run(order, reset, detach, adaptation):
    neuron = LIF(reset=reset, detach_reset=detach, reset_order=order, **ODD, **ADAPTATIONS[adaptation])
    current = 2 * randn(20, 4, 5)
    whole, end = neuron(current)
    first, middle = neuron(current[:7])
    second, last = neuron(current[7:], middle)
    assert torch.equal(whole, torch.cat([first, second]))
    if not neuron.constants.plain:
        assert all(torch.equal(a, b) for a, b in zip(end, last, strict=True))
    assert 0 < whole.mean() < 1
    mean = neuron(current[0].expand(6, 4, 5))[0].mean(0)
    torch.testing.assert_close(neuron.rate(current[0], 6), mean, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("reset", "detach"), list(itertools.product(RESETS, DETACH)))
def test_without_options_the_general_path_is_the_plain_neuron(reset, detach):
    p, current = parameters("charge_fire_reset", reset, detach, "none"), (2 * randn(15, 40)).requires_grad_()
    spikes, state = variants.scan(current, None, p, p.leak, p.v_threshold)
    plain, plain_state = LIF(reset=reset, detach_reset=detach, **{k: ODD[k] for k in list(ODD)[:-1]})(current)
    assert torch.equal(spikes, plain)
    assert torch.equal(state.v_mem, plain_state.v_mem)
    weight = randn(15, 40, seed=1)
    grads = [torch.autograd.grad(y, current, weight)[0] for y in (spikes, plain)]
    torch.testing.assert_close(*grads, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("order", "detach"), list(itertools.product(ORDERS, DETACH)))
@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("v", [-0.4, 0.5, 0.74, 0.76, 1.3])
def test_state_jacobian_has_its_closed_form(order, detach, reset, v):
    p = parameters(order, reset, detach, "none")
    alpha, drop, r = 1 - p.leak, p.v_threshold - p.v_rest, 0.0 if detach else 1.0
    membrane = torch.tensor([v], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, dtype=torch.float64)
    _, state = variants.step(zero + 0.1, LIFState(membrane, zero, zero), p, p.leak, p.v_threshold)
    found = torch.autograd.grad(state.v_mem, membrane)[0].item()
    h = alpha * v + p.leak * p.v_rest + p.gain * 0.1
    u = (h if order == "charge_fire_reset" else v) - p.v_threshold
    s, psi = float(u >= 0), fast_sigmoid(torch.tensor(u, dtype=torch.float64), p.surrogate_slope).item()
    expected = {
        ("charge_fire_reset", "soft"): alpha * (1 - r * drop * psi),
        ("charge_fire_reset", "hard"): alpha * ((1 - s) + r * (p.v_rest - h) * psi),
        ("delayed", "soft"): alpha - r * drop * psi,
        ("delayed", "hard"): alpha * (1 - s) + r * (p.v_rest - h) * psi,
    }[order, reset]
    assert found == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("v", [0.3, 0.9, 1.4])
def test_adaptive_threshold_has_the_two_by_two_jacobian_of_alif(v):
    p = parameters("delayed", "soft", False, "threshold")
    zero = torch.zeros((), dtype=torch.float64)

    def advance(membrane, trace):
        return variants.step(zero + 0.1, LIFState(membrane, trace, zero), p, p.leak, p.v_threshold)[1][:2]

    b, beta, drop = 0.5, p.threshold_adaptation, p.v_threshold - p.v_rest
    found = torch.autograd.functional.jacobian(advance, (zero + v, zero + b))
    psi = fast_sigmoid(zero + v - p.v_threshold - beta * b, p.surrogate_slope).item()
    alpha, rho = 1 - p.leak, 1 - p.dt / p.tau_adaptation
    expected = [[alpha - drop * psi, drop * beta * psi], [psi, rho - beta * psi]]
    torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), torch.tensor(expected, dtype=torch.float64))


def recurrences(p, current, start, grad_spikes, grad_state):
    """Gradients of current, leak, V_th and the first state by the recurrences of delta_v, delta_s, delta_b, delta_w."""
    states, charged, rows = [start], [], list(current)
    for x in rows:
        v, _, w = states[-1]
        charged.append(v + p.leak * (p.v_rest - v) + p.gain * x - w)
        states.append(variants.step(x, states[-1], p, p.leak, p.v_threshold)[1])
    delayed, attach = p.reset_order == "delayed", 0.0 if p.detach_reset else 1.0
    alpha, rho, beta = 1 - p.leak, 1 - p.dt / p.tau_adaptation, p.threshold_adaptation
    soft = float(p.reset == "soft")

    def spike_of(u):
        return (u >= 0).double(), fast_sigmoid(u, p.surrogate_slope)

    dv, db, dw = grad_state
    by_leak = by_threshold = 0.0
    grad_current = []
    if delayed:  # the last spike returned has not been followed by a reset yet
        _, psi = spike_of(states[-1].v_mem - p.v_threshold - beta * states[-1].spike_trace)
        dv, db = dv + psi * grad_spikes[-1], db - beta * psi * grad_spikes[-1]
        by_threshold = by_threshold - (psi * grad_spikes[-1]).sum()
    for t in reversed(range(len(rows))):
        (v, b, _), h = states[t], charged[t]
        s, psi = spike_of((v if delayed else h) - p.v_threshold - beta * b)
        m = 1 - s if p.reset == "hard" else 1.0
        r = attach * {"hard": p.v_rest - h, "soft": -(p.v_threshold - p.v_rest), "none": 0.0}[p.reset]
        if not delayed:
            dv = dv + p.voltage_adaptation * dw
        explicit = (grad_spikes[t - 1] if t else 0.0) if delayed else grad_spikes[t]
        ds = explicit + r * dv + db + p.current_adaptation * dw
        by_threshold = by_threshold - (psi * ds).sum() - soft * (s * dv).sum()
        dh = m * dv if delayed else m * dv + psi * ds
        grad_current.append(p.gain * dh)
        by_leak = by_leak + (dh * (p.v_rest - v)).sum()
        dv = alpha * dh + (psi * ds + p.voltage_adaptation * dw if delayed else 0.0)
        db, dw = rho * db - beta * psi * ds, rho * dw - dh
    return [torch.stack(grad_current[::-1]), by_leak, by_threshold, dv, db, dw]


@pytest.mark.parametrize(("order", "reset", "detach", "adaptation"), OPTIONS)
def test_autograd_follows_the_backward_recurrences(order, reset, detach, adaptation):
    p = parameters(order, reset, detach, adaptation)
    current = randn(12, 30).requires_grad_()
    start = LIFState(*((randn(30, seed=i) / 2).requires_grad_() for i in (1, 2, 3)))
    leak, v_threshold = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (p.leak, p.v_threshold))
    spikes, end = variants.scan(current, start, p, leak, v_threshold)
    grad_spikes, grad_state = randn(12, 30, seed=4), [randn(30, seed=i) for i in (5, 6, 7)]
    inputs = [current, leak, v_threshold, *start]
    found = torch.autograd.grad([spikes, *end], inputs, [grad_spikes, *grad_state])
    with torch.no_grad():
        expected = recurrences(p, current, start, grad_spikes, grad_state)
    assert 0 < spikes.mean() < 1
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("order", "reset", "adaptation"), list(itertools.product(ORDERS, RESETS, ADAPTATIONS)))
def test_gradients_with_the_smooth_spike_pass_finite_differences(order, reset, adaptation):
    p = parameters(order, reset, False, adaptation, surrogate="sigmoid", surrogate_slope=4.0)  # sigmoid: no kink at 0
    inputs = [randn(5, 3), *(randn(3, seed=i) / 2 for i in (1, 2, 3)), *(torch.full((3,), x) for x in (0.2, 0.6))]
    inputs = [x.double().requires_grad_() for x in inputs]

    def run(current, v, b, w, leak, v_threshold):
        spikes, end = variants.scan(current, LIFState(v, b, w), p, leak, v_threshold, smooth_spike)
        return spikes, *end, variants.rate(v, 3, p, leak, v_threshold, smooth_spike)

    assert torch.autograd.gradcheck(run, inputs)


def with_given_resets(current, state, leak, v_threshold, p, resets):
    """The recurrence written out once more, with the spikes that reset the membrane handed in."""
    v, b, w = state
    rho, spikes, fired = 1 - p.dt / p.tau_adaptation, [], []

    def fire(v, b):
        return smooth_spike(v - v_threshold - p.threshold_adaptation * b, p.surrogate_slope, p.surrogate)

    for x, given in zip(current, resets, strict=True):
        h = v + leak * (p.v_rest - v) + p.gain * x - w
        s = fire(h, b) if p.reset_order == "charge_fire_reset" else fire(v, b)
        fired.append(s)
        given = s if given is None else given
        after = {"hard": (1 - given) * h + given * p.v_rest, "soft": h - given * (v_threshold - p.v_rest), "none": h}
        driven = after[p.reset] if p.reset_order == "charge_fire_reset" else v
        v, b = after[p.reset], rho * b + s
        w = rho * w + p.voltage_adaptation * (driven - p.v_rest) + p.current_adaptation * s
        spikes.append(s if p.reset_order == "charge_fire_reset" else fire(v, b))
    return torch.stack([*spikes, v, b, w]), fired


@pytest.mark.parametrize(("order", "reset", "adaptation"), list(itertools.product(ORDERS, RESETS, ADAPTATIONS)))
def test_a_detached_reset_has_the_true_gradient_of_a_run_whose_resets_are_given(order, reset, adaptation):
    p = parameters(order, reset, True, adaptation, surrogate="sigmoid", surrogate_slope=4.0)
    inputs = [randn(5, 3), *(randn(3, seed=i) / 2 for i in (1, 2, 3)), *(torch.full((3,), x) for x in (0.2, 0.6))]
    inputs = [x.double().requires_grad_() for x in inputs]
    x, v, b, w, leak, v_threshold = inputs
    expected, fired = with_given_resets(x, (v, b, w), leak, v_threshold, p, [None] * 5)
    fired = [s.detach() for s in fired]

    def frozen(x, v, b, w, leak, v_threshold):
        return with_given_resets(x, (v, b, w), leak, v_threshold, p, fired)[0]

    assert torch.autograd.gradcheck(frozen, inputs)
    spikes, end = variants.scan(x, LIFState(v, b, w), p, leak, v_threshold, smooth_spike)
    found, weight = torch.cat([spikes, torch.stack(end)]), randn(8, 3, seed=9)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)
    grads = [torch.autograd.grad(y, inputs, weight, allow_unused=True) for y in (found, frozen(*inputs))]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("order", "reset", "detach"), list(itertools.product(ORDERS, RESETS, DETACH)))
def test_learned_constants_have_the_gradient_of_the_constants_through_their_ranges(order, reset, detach):
    neuron = LIF(
        reset=reset, detach_reset=detach, reset_order=order, **ODD, learnable=("tau_mem", "v_threshold"), neurons=6
    ).double()
    p, current, weight = neuron.constants, 2 * randn(8, 4, 6), randn(8, 4, 6, seed=1)
    (neuron(current)[0] * weight).sum().backward()
    leak, v_threshold = (x.detach().requires_grad_() for x in (neuron.leak, neuron.v_threshold))
    (variants.scan(current, None, p, leak, v_threshold)[0] * weight).sum().backward()
    by_leak = leak.grad * leak.detach() * (1 - leak.detach())  # a sigmoid
    by_threshold = v_threshold.grad * -torch.expm1(-(v_threshold.detach() - p.v_rest))  # a softplus
    torch.testing.assert_close(neuron.raw_leak.grad, by_leak, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(neuron.raw_threshold.grad, by_threshold, rtol=1e-12, atol=1e-14)
    assert (neuron.raw_leak.grad.abs() > 0).all()


def test_learned_constants_start_at_the_given_values_and_stay_in_range():
    neuron = LIF(tau_mem=3.0, v_rest=-0.2, v_threshold=0.6, learnable=("tau_mem", "v_threshold"), neurons=4)
    plain = LIF(tau_mem=3.0, v_rest=-0.2, v_threshold=0.6)
    torch.testing.assert_close(neuron.tau_mem, torch.full((4,), 3.0))
    torch.testing.assert_close(neuron.v_threshold, torch.full((4,), 0.6))
    current = 2 * randn(30, 7, 4).float()
    assert (neuron(current)[0] != plain(current)[0]).float().mean() < 0.01
    for raw in (-30.0, 15.0):
        for parameter in neuron.parameters():
            torch.nn.init.constant_(parameter, raw)
        assert (neuron.tau_mem >= 1).all()
        assert (neuron.v_threshold >= -0.2).all()
        assert torch.isfinite(neuron(current)[1].v_mem).all()


def test_learned_constants_learn_those_of_another_layer():
    torch.manual_seed(0)
    teacher = LIF(tau_mem=5.0, v_threshold=0.7)
    student = LIF(tau_mem=2.0, v_threshold=1.0, learnable=("tau_mem", "v_threshold"), surrogate_slope=3.0)
    current = torch.rand(40, 256)
    target = teacher(current)[0].mean(0)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.05)
    losses = []
    for _ in range(60):
        loss = (student(current)[0].mean(0) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_options_keep_the_dtype_and_train_through_a_rate_layer(dtype):
    layer = RateLIF(4, reset_order="delayed", threshold_adaptation=0.2, learnable=["v_threshold"], neurons=6)
    current = (2 * randn(3, 6)).to(dtype).requires_grad_()
    rate = layer(current)
    rate.float().sum().backward()
    assert rate.dtype == current.grad.dtype == dtype
    assert layer.neuron.raw_threshold.grad.shape == (6,)
    assert layer.neuron.raw_threshold.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"reset_order": "first"}, "expected one of charge_fire_reset, delayed; found 'first'"),
        ({"tau_adaptation": 0.5}, "expected at most tau_mem = 2.0 and tau_adaptation = 0.5"),
        ({"threshold_adaptation": math.inf}, "threshold_adaptation: expected a finite number"),
        ({"learnable": ["beta"]}, "learnable: expected some of"),
        ({"learnable": ["tau_mem"], "tau_mem": 1.0}, "with tau_mem > dt"),
    ],
)
def test_a_bad_option_is_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        LIF(**bad)
