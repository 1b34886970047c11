"""The Triton kernels against the reference: on a GPU where there is one, else interpreted on the CPU."""

import itertools
import os
from importlib.metadata import version
from importlib.util import find_spec

import pytest
import torch

if find_spec("triton") is None:
    pytest.skip("the package triton is not installed", allow_module_level=True)
if not torch.cuda.is_available():
    if version("triton").startswith("3.5."):  # that of torch 2.9
        pytest.skip("Triton 3.5 does not interpret a function called by a kernel", allow_module_level=True)
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are first imported

from snn_dt.snn import SURROGATES, LIFParameters, lif_rate, lif_scan
from snn_dt.snn.backends import backend_for
from snn_dt.snn.norm_rate import norm_rate
from snn_dt.snn.parameters import RESETS

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
ODD = {"tau_mem": 3.0, "dt": 0.5, "c_m": 1.7, "v_rest": -0.3, "v_threshold": 0.8, "surrogate_slope": 5.0}
OPTIONS = list(itertools.product(RESETS, [False, True], SURROGATES))


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).to(DEVICE)


def assert_close(found, expected, tolerance):
    scale = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("steps", [1, 4, 25])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("reset", "detach", "surrogate"), OPTIONS)
def test_scan_and_rate_equal_the_reference(reset, detach, surrogate, dtype, steps):
    p, results = LIFParameters(reset=reset, detach_reset=detach, surrogate=surrogate, **ODD), []
    for backend, device in (("triton", DEVICE), ("reference", "cpu")):
        current = (1.5 * randn(steps, 7, 39, dtype=dtype)).to(device).requires_grad_()  # 273 neurons: blocks and a bit
        v0 = (randn(7, 39, seed=1, dtype=dtype) / 2).to(device).requires_grad_()
        constant = (1.5 * randn(7, 39, seed=2, dtype=dtype)).to(device).requires_grad_()
        spikes, v_mem = lif_scan(current, v0, p, backend)
        rate = lif_rate(constant, steps, p, backend)
        loss = (spikes * randn(*spikes.shape, seed=3, dtype=dtype).to(device)).sum() + (v_mem * v0.detach()).sum()
        (loss + (rate * v0.detach()).sum()).backward()
        results.append([x.cpu() for x in (spikes, v_mem, rate, current.grad, v0.grad, constant.grad)])
    for found, expected in list(zip(*results, strict=True))[:3]:
        assert torch.equal(found, expected)
    for found, expected in list(zip(*results, strict=True))[3:]:
        assert_close(found, expected, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", [(5, 128), (2, 3, 64), (7, 13), (3, 520)], ids=str)
@pytest.mark.parametrize(("reset", "surrogate"), list(itertools.product(RESETS, SURROGATES)))
def test_the_norm_and_the_rate_in_one_kernel_equal_one_after_the_other(reset, surrogate, shape, dtype):
    p = LIFParameters(reset=reset, surrogate=surrogate, **ODD)
    norm = torch.nn.LayerNorm(shape[-1]).to(DEVICE, dtype)
    with torch.no_grad():
        norm.weight.copy_(1 + randn(shape[-1], seed=5, dtype=dtype) / 2)
        norm.bias.copy_(0.5 + randn(shape[-1], seed=6, dtype=dtype))
    x, results = 3 * randn(*shape, dtype=dtype) + 1, []
    for backend in ("triton", "reference"):
        leaf = x.clone().requires_grad_()
        rate = norm_rate(leaf, norm, 4, p, backend)
        (rate * randn(*shape, seed=1, dtype=dtype)).sum().backward()
        assert torch.equal(norm_rate(x, norm, 4, p, backend).detach(), rate.detach())
        results.append((rate.detach(), leaf.grad, norm.weight.grad.clone(), norm.bias.grad.clone()))
        norm.zero_grad()
    assert 0 < results[1][0].mean() < 1
    for found, expected in zip(*results, strict=True):
        assert_close(found, expected, 20 * TOLERANCE[dtype])


@pytest.mark.parametrize("steps", [3, 40])
def test_few_and_many_neurons_and_long_scans(steps):
    p = LIFParameters(**ODD)
    for neurons in (1, 33, 70_001 if DEVICE == "cuda" else 1_000):
        current, grad = 1.5 * randn(steps, neurons), randn(steps, neurons, seed=1)
        results = []
        for backend, device in (("triton", DEVICE), ("reference", "cpu")):
            leaf = current.to(device).requires_grad_()
            spikes, v_mem = lif_scan(leaf, None, p, backend)
            (by_leaf,) = torch.autograd.grad(spikes, leaf, grad.to(device))
            results.append((spikes.cpu(), v_mem.cpu(), by_leaf.cpu()))
        (spikes, v_mem, found), (expected_spikes, expected_v, expected) = results
        assert torch.equal(spikes, expected_spikes)
        assert torch.equal(v_mem, expected_v)
        assert_close(found, expected, 1e-6)


def test_rest_no_gradient_and_empty_inputs():
    p, current = LIFParameters(**ODD), 1.5 * randn(5, 300)
    for found, expected in zip(
        lif_scan(current, None, p, "triton"), lif_scan(current, None, p, "reference"), strict=True
    ):
        assert torch.equal(found, expected)
    assert torch.equal(lif_rate(current, 7, p, "triton").cpu(), lif_rate(current.cpu(), 7, p, "reference"))
    assert lif_scan(current[:, :0], None, p, "triton")[0].shape == (5, 0)
    x = current.clone().requires_grad_()
    lif_scan(x, None, p, "triton")[1].sum().backward()
    y = current.clone().requires_grad_()
    lif_scan(y, None, p, "reference")[1].sum().backward()
    assert_close(x.grad, y.grad, 1e-6)


@pytest.mark.skipif(DEVICE == "cpu", reason="no GPU")
def test_auto_takes_triton_on_a_gpu():
    assert backend_for("cuda") == "triton"
