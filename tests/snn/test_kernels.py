"""Fused kernels against the reference: equal spikes, equal gradients, for every option and every kind of input."""

import itertools

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from snn_dt.models.phase_positions import PhaseGate
from snn_dt.snn import LIF, SURROGATES, LIFParameters, RateLIF, TimedLIF, lif_rate, lif_scan
from snn_dt.snn.backends import backend_for, cpp
from snn_dt.snn.norm_rate import norm_rate
from snn_dt.snn.parameters import RESETS

needs_compiler = pytest.mark.skipif(cpp.load() is None, reason="no C++ compiler")
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
ODD = {"tau_mem": 3.0, "dt": 0.5, "c_m": 1.7, "v_rest": -0.3, "v_threshold": 0.8}
DETACH = [False, True]


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def scan(backend, p, current, v0, weight, weight_v):
    current = current.detach().requires_grad_()
    v0 = v0 if v0 is None else v0.detach().requires_grad_()
    spikes, v_mem = lif_scan(current, v0, p, backend)
    ((spikes * weight).sum() + (v_mem * weight_v).sum()).backward()
    return spikes, v_mem, current.grad, None if v0 is None else v0.grad


def rate(backend, p, current, sim_steps, weight):
    current = current.detach().requires_grad_()
    y = lif_rate(current, sim_steps, p, backend)
    (y * weight).sum().backward()
    return y, current.grad


def assert_equal_runs(found, expected, forward, tolerance):
    for a, b in zip(found[:forward], expected[:forward], strict=True):
        assert torch.equal(a, b)
    for a, b in zip(found[forward:], expected[forward:], strict=True):
        scale = max(1.0, b.abs().max().item()) if b is not None and b.numel() else 1.0
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance * scale)


@needs_compiler
@pytest.mark.parametrize("steps", [1, 4, 10, 25, 257])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("reset", "detach", "surrogate"), list(itertools.product(RESETS, DETACH, SURROGATES)))
def test_the_cpp_scan_equals_the_reference(reset, detach, surrogate, dtype, steps):
    p = LIFParameters(reset=reset, detach_reset=detach, surrogate=surrogate, surrogate_slope=5.0, **ODD)
    shape = (3, 7, 11)
    current, weight = 1.5 * randn(steps, *shape, dtype=dtype), randn(steps, *shape, seed=1, dtype=dtype)
    v0, weight_v = randn(*shape, seed=2, dtype=dtype) / 2, randn(*shape, seed=3, dtype=dtype)
    found, expected = (scan(backend, p, current, v0, weight, weight_v) for backend in ("cpp", "reference"))
    assert 0.01 < found[0].mean() < 0.99
    assert_equal_runs(found, expected, 2, TOLERANCE[dtype])


@needs_compiler
@pytest.mark.parametrize("steps", [1, 4, 10, 25, 257])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("reset", "detach", "surrogate"), list(itertools.product(RESETS, DETACH, SURROGATES)))
def test_the_cpp_rate_equals_the_reference(reset, detach, surrogate, dtype, steps):
    p = LIFParameters(reset=reset, detach_reset=detach, surrogate=surrogate, surrogate_slope=5.0, **ODD)
    current, weight = 1.5 * randn(3, 7, 13, dtype=dtype), randn(3, 7, 13, seed=1, dtype=dtype)
    found, expected = (rate(backend, p, current, steps, weight) for backend in ("cpp", "reference"))
    assert 0.01 < found[0].mean() < 0.99
    # a sum of T terms: in float32 the reference itself is 3e-6 off its own float64 result at T = 257
    assert_equal_runs(found, expected, 1, TOLERANCE[dtype] * max(1, steps / 25))


@needs_compiler
@pytest.mark.parametrize("neurons", [1, 63, 4099, 20_001])
@pytest.mark.parametrize("steps", [3, 1000])
def test_blocks_cover_every_neuron_once_whatever_the_threads(neurons, steps):
    if neurons * steps > 5_000_000:
        steps //= 4
    p, current = LIFParameters(**ODD), 1.5 * randn(steps, neurons)
    weight, weight_v, threads = randn(steps, neurons, seed=1), randn(neurons, seed=2), torch.get_num_threads()
    expected = scan("reference", p, current, None, weight, weight_v)
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            assert_equal_runs(scan("cpp", p, current, None, weight, weight_v), expected, 2, 1e-6)
    finally:
        torch.set_num_threads(threads)


@needs_compiler
def test_the_gradient_of_the_state_alone_and_of_the_spikes_alone_reach_the_current():
    p = LIFParameters(**ODD)
    for pick in (0, 1):
        grads = []
        for backend in ("cpp", "reference"):
            current, v0 = randn(6, 50).requires_grad_(), randn(50, seed=1).requires_grad_()
            lif_scan(current, v0, p, backend)[pick].sum().backward()
            grads.append((current.grad, v0.grad))
        for a, b in zip(*grads, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@needs_compiler
def test_strides_do_not_matter():
    p, x = LIFParameters(**ODD), 1.5 * randn(12, 9, 8)
    for view in (x.transpose(0, 2), x[::2, :, 1::3], x[:1].expand(5, 9, 8), x.flip(0)):
        weight, weight_v = randn(*view.shape, seed=1).mT.contiguous().mT, randn(*view.shape[1:], seed=2)
        found, expected = (
            scan(b, p, view, weight_v.mT.contiguous().mT, weight, weight_v) for b in ("cpp", "reference")
        )
        assert_equal_runs(found, expected, 2, 1e-6)
        found, expected = (rate(b, p, view, 4, weight) for b in ("cpp", "reference"))
        assert_equal_runs(found, expected, 1, 1e-6)


@pytest.mark.parametrize("backend", ["reference", pytest.param("cpp", marks=needs_compiler)])
def test_empty_inputs_give_empty_outputs_and_no_time_keeps_the_state(backend):
    p, v0 = LIFParameters(), randn(3).requires_grad_()
    spikes, v_mem = lif_scan(torch.empty(0, 3), v0, p, backend)
    assert spikes.shape == (0, 3)
    assert torch.equal(v_mem, v0)
    v_mem.sum().backward()
    assert v0.grad.tolist() == [1, 1, 1]
    current = torch.empty(4, 0, 3, requires_grad=True)
    spikes, v_mem = lif_scan(current, None, p, backend)
    assert (spikes.shape, v_mem.shape) == ((4, 0, 3), (0, 3))
    (spikes.sum() + lif_rate(current, 2, p, backend).sum()).backward()
    assert current.grad.shape == current.shape


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single_and_cast_back(dtype):
    neuron, current = LIF(**ODD), (2 * randn(9, 40)).to(dtype).requires_grad_()
    spikes, state = neuron(current)
    expected, expected_state = neuron(current.float())
    assert spikes.dtype == dtype
    assert torch.equal(spikes.float(), expected)
    assert torch.equal(state.v_mem, expected_state.v_mem)
    r = neuron.rate(current, 4)
    assert r.dtype == dtype
    assert torch.equal(r.float(), neuron.rate(current.float(), 4))
    (spikes.sum() + r.sum()).backward()
    assert current.grad.dtype == dtype
    assert current.grad.abs().sum() > 0


def test_autocast_trains_through_a_spiking_layer():
    linear, neuron = torch.nn.Linear(8, 16), LIF()
    with torch.autocast("cpu", torch.bfloat16):
        rate = neuron.rate(linear(3 * randn(5, 8)), 4)
    rate.float().sum().backward()
    assert rate.dtype == torch.bfloat16
    assert linear.weight.grad.abs().sum() > 0


@needs_compiler
def test_without_gradients_nothing_is_saved_and_the_result_is_the_same():
    p, current = LIFParameters(), randn(5, 30).requires_grad_()
    with torch.no_grad():
        spikes, v_mem = lif_scan(current, None, p, "cpp")
        r = lif_rate(current, 4, p, "cpp")
    assert spikes.grad_fn is v_mem.grad_fn is r.grad_fn is None
    assert torch.equal(spikes, lif_scan(current, None, p, "cpp")[0])
    assert torch.equal(r, lif_rate(current, 4, p, "cpp"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: lif_scan(torch.ones(3, 2), torch.ones(3), LIFParameters()),
            r"v0: expected the shape \[2\].*found \[3\]",
        ),
        (lambda: lif_scan(torch.ones(3, 2, dtype=torch.int64), None, LIFParameters()), "expected floats.*torch.int64"),
        (lambda: lif_scan(torch.tensor(1.0), None, LIFParameters()), r"\[T, ...\]; found torch.float32 \[\]"),
        (lambda: lif_rate(torch.ones(2), 0, LIFParameters()), "sim_steps >= 1; found torch.float32 and 0"),
        (lambda: lif_rate(torch.ones(2), 1, LIFParameters(), "cuda"), "expected one of auto, reference, cpp, triton"),
    ],
)
def test_inputs_that_cannot_be_used_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_environment_chooses_the_backend_when_the_call_does_not(monkeypatch):
    monkeypatch.setenv("SNN_DT_KERNEL", "reference")
    assert backend_for("cpu") == "reference"
    monkeypatch.setenv("SNN_DT_KERNEL", "fast")
    with pytest.raises(ValueError, match="found 'fast'"):
        backend_for("cpu")
    assert backend_for("cpu", "reference") == "reference"


@needs_compiler
@pytest.mark.parametrize("reset", RESETS)
def test_a_compiled_module_gives_the_eager_results(reset):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.neuron = torch.nn.Linear(6, 6), LIF(reset=reset, **ODD)

        def forward(self, x):
            spikes, state = self.neuron(self.linear(x))
            spikes, state = self.neuron(self.linear(x + spikes), state)
            return spikes.mean(0) + self.neuron.rate(state.v_mem, 5) + state.v_mem

    torch.manual_seed(0)
    model, x = Model(), 3 * randn(4, 10, 6)
    compiled, results = torch.compile(model, backend="aot_eager", fullgraph=True), []
    for run in (model, compiled):
        model.zero_grad()
        y = run(x)
        y.square().sum().backward()
        results.append((y, model.linear.weight.grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RateLIF(4, norm_width=8),
        lambda: TimedLIF(4),
        lambda: RateLIF(4, learnable=["tau_mem"], threshold_adaptation=0.2),
        lambda: PhaseGate(4, 50, 8),
    ],
    ids=["rate", "spikes", "options", "phase"],
)
def test_a_slope_that_changes_reaches_a_compiled_module_without_compiling_it_again(make):
    torch._dynamo.reset()
    torch.manual_seed(0)
    layer, counter = make(), CompileCounter()
    compiled = torch.compile(layer, backend=counter)
    x = torch.arange(12).view(2, 6) if isinstance(layer, PhaseGate) else randn(2, 3, 8).requires_grad_()
    leaf = layer.phase if isinstance(layer, PhaseGate) else x
    for slope in (3.0, 5.0, 40.0):
        layer.surrogate_slope = slope
        grads = []
        for run in (compiled, layer):
            y = run(x)
            grads.append(torch.autograd.grad(y, leaf, randn(*y.shape, seed=1))[0])
        torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-6)
        assert counter.frame_count == 1
    assert not torch.allclose(grads[0], torch.zeros(()))


@torch.no_grad()
def no_rounding_decides(norm, x, p):
    """Whether no rate changes with the rounding errors of the norm, whose sums two kernels take in another order."""
    current = norm(x)
    error = 32 * torch.finfo(x.dtype).eps * current.abs().max()
    low, rate, high = (lif_rate(current + change, 4, p, "reference") for change in (-error, 0, error))
    return torch.equal(low, rate) and torch.equal(rate, high)


@needs_compiler
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", [(5, 128), (2, 3, 64), (7, 13), (33, 300), (40, 3)], ids=str)
@pytest.mark.parametrize(("reset", "surrogate"), list(itertools.product(RESETS, SURROGATES)))
def test_the_fused_norm_and_rate_equal_one_after_the_other(reset, surrogate, shape, dtype):
    p = LIFParameters(reset=reset, surrogate=surrogate, surrogate_slope=5.0, **ODD)
    norm = torch.nn.LayerNorm(shape[-1]).to(dtype)
    with torch.no_grad():
        norm.weight.copy_(1 + randn(shape[-1], seed=5, dtype=dtype) / 2)
        norm.bias.copy_(0.5 + randn(shape[-1], seed=6, dtype=dtype))
    weight = randn(*shape, seed=1, dtype=dtype)
    drawn = (3 * randn(*shape, seed=seed, dtype=dtype) + 1 for seed in range(100, 200))
    x = next(x for x in drawn if no_rounding_decides(norm, x, p))

    def run(backend):
        leaf = x.clone().requires_grad_()
        y = norm_rate(leaf, norm, 4, p, backend)
        (y * weight).sum().backward()
        found = y.detach(), leaf.grad, norm.weight.grad.clone(), norm.bias.grad.clone()
        norm.zero_grad()
        with torch.no_grad():
            assert torch.equal(norm_rate(x, norm, 4, p, backend), found[0])
        return found

    found, expected = run("cpp"), run("reference")
    assert 0 < expected[0].mean() < 1
    assert_equal_runs(found, expected, 1, 20 * TOLERANCE[dtype])


@needs_compiler
@pytest.mark.parametrize("threads", [1, 3])
def test_the_fused_norm_and_rate_do_not_depend_on_threads_and_strides(threads):
    before = torch.get_num_threads()
    p, norm = LIFParameters(), torch.nn.LayerNorm(96).double()
    x = randn(50, 37, 96, dtype=torch.float64).transpose(0, 1)[3:]
    try:
        torch.set_num_threads(threads)
        leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
        y = norm_rate(leaf, norm, 10, p, "cpp")
        y.square().sum().backward()
    finally:
        torch.set_num_threads(before)
    other = x.clone(memory_format=torch.preserve_format).requires_grad_()
    gradient = norm.weight.grad.clone()
    norm.zero_grad()
    y_reference = norm_rate(other, norm, 10, p, "reference")
    y_reference.square().sum().backward()
    assert torch.equal(y, y_reference)
    torch.testing.assert_close(leaf.grad, other.grad, rtol=0, atol=1e-10)
    torch.testing.assert_close(gradient, norm.weight.grad, rtol=1e-10, atol=1e-8)


def test_a_rate_layer_with_a_norm_is_the_norm_and_the_layer():
    layer, plain = RateLIF(4, norm_width=32), RateLIF(4)
    x = randn(6, 5, 32)
    torch.testing.assert_close(layer(x), plain(layer.norm(x)))
    slow = RateLIF(4, norm_width=32, reset_order="delayed")
    assert torch.equal(slow(x), RateLIF(4, reset_order="delayed")(slow.norm(x)))
    half = layer.to(torch.bfloat16)
    assert half(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("steps", [1, 4, 7, 25])
@pytest.mark.parametrize(
    "constants", [{}, {"tau_mem": 3.7, "v_rest": -0.3, "c_m": 0.6}, {"reset": "soft"}, {"reset": "none"}]
)
def test_rates_without_derivatives_equal_those_with_them_on_both_sides_of_every_step(constants, steps):
    neuron = RateLIF(steps, **constants)
    coarse = torch.linspace(-1.0, 4.0, 4001)
    rate = neuron(coarse)
    low, high = coarse[:-1][rate.diff() != 0], coarse[1:][rate.diff() != 0]
    for _ in range(40):  # to the two neighbouring floats between which the rate changes
        middle = (low + high) / 2
        same = neuron(middle) == neuron(low)
        low, high = torch.where(same, middle, low), torch.where(same, high, middle)
    current = torch.cat([coarse, low, high])
    with torch.no_grad():
        found = neuron(current)
    assert torch.equal(found, neuron(current.requires_grad_()).detach())
    assert len(low) >= 1
