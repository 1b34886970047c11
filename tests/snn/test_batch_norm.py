"""Batch norm with weighted rows: torch's own where the weights are equal, the same from the kernels as from torch."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from snn_dt.snn import backend_for
from snn_dt.snn.batch_norm import batch_norm

BACKENDS = ["reference", pytest.param("cpp", marks=pytest.mark.skipif(backend_for() != "cpp", reason="no compiler"))]


def run(backend, x, weights, scale, bias, grad):
    leaves = [t.clone().requires_grad_() for t in (x, scale, bias)]
    y, mean, var = batch_norm(leaves[0], weights, *leaves[1:], 1e-5, backend)
    return [y, mean, var, *torch.autograd.grad(y, leaves, grad)]


def inputs(rows: int, width: int, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    x, scale, bias, grad = (
        torch.randn(shape, generator=g, dtype=dtype) for shape in ((rows, width), width, width, (rows, width))
    )
    weights = torch.rand(rows, generator=g, dtype=dtype) * (torch.arange(rows) % 5 > 0)
    return 2 + 3 * x, weights / weights.sum(), scale, bias, grad


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_of_weight_zero_are_normalised_but_not_counted(backend):
    x, _, scale, bias, grad = inputs(40, 7)
    counted = torch.arange(40) % 5 > 0
    weights = counted.double() / counted.sum()
    grad = grad * counted[:, None]
    y, mean, _, grad_x, by_scale, by_bias = run(backend, x, weights, scale, bias, grad)
    leaves = [t.clone().requires_grad_() for t in (x[counted], scale, bias)]
    expected = F.batch_norm(leaves[0], None, None, *leaves[1:], training=True)
    found = [y[counted], grad_x[counted], by_scale, by_bias]
    for a, b in zip(found, [expected, *torch.autograd.grad(expected, leaves, grad[counted])], strict=True):
        torch.testing.assert_close(a, b)
    assert grad_x[~counted].abs().max() == 0
    torch.testing.assert_close(mean, x[counted].mean(0))


@pytest.mark.skipif(backend_for() != "cpp", reason="no C++ compiler")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
# Four rows at least: a single row that counts has no variance, and its gradient is rounding alone.
@pytest.mark.parametrize(("rows", "width"), [(4, 1), (63, 5), (64, 16), (1000, 33), (700, 128)])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_kernels_equal_torch_whatever_the_size_and_the_threads(dtype, rows, width, threads):
    arguments = inputs(rows + 1, width, dtype)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = run("cpp", *arguments)
    finally:
        torch.set_num_threads(before)
    for a, b in zip(found, run("reference", *arguments), strict=True):
        tolerance = (1e-4, 1e-4) if dtype == torch.float32 else (1e-10, 1e-10)
        torch.testing.assert_close(a, b, rtol=tolerance[0], atol=tolerance[1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_pass_finite_differences(backend):
    x, weights, scale, bias, _ = inputs(9, 3)
    leaves = [t.requires_grad_() for t in (x, scale, bias)]
    assert torch.autograd.gradcheck(lambda x, s, b: batch_norm(x, weights, s, b, 1e-5, backend)[0], leaves)
