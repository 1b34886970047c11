"""The linear layer that adds only what fired, against torch's."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from snn_dt.snn import cpp
from snn_dt.snn.spike_linear import MAX_DENSITY, MIN_ROWS, spike_linear

pytestmark = pytest.mark.skipif(cpp.load() is None, reason="no C++ compiler")


def rates(rows: int, inputs: int, density: float, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    fired = torch.rand(rows, inputs, generator=g) < density
    return fired * torch.randint(1, 5, (rows, inputs), generator=g) / 4


def parameters(inputs: int, outputs: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.randn(outputs, inputs, generator=g), torch.randn(outputs, generator=g)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("inputs", "outputs"), [(128, 64), (130, 70), (5, 3), (300, 129)])
@pytest.mark.parametrize("density", [0.0, 0.05, 0.3])
def test_result_and_gradients_equal_the_dense_layers_in_double_precision(inputs, outputs, density, threads):
    torch.set_num_threads(threads)
    x, (weight, bias) = rates(MIN_ROWS + 77, inputs, density), parameters(inputs, outputs)
    g = torch.randn(len(x), outputs, generator=torch.Generator().manual_seed(2))

    def run(function, dtype):
        given = [a.to(dtype).requires_grad_() for a in (x, weight, bias)]
        y = function(*given)
        return y, *torch.autograd.grad(y, given, g.to(dtype))

    for found, expected in zip(run(spike_linear, torch.float32), run(F.linear, torch.float64), strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=2e-4 if found is not None else 0)


def test_spikes_of_every_simulation_step_are_rows_of_their_own():
    s, (weight, bias) = rates(4 * MIN_ROWS, 128, 0.1).view(4, MIN_ROWS // 64, 64, 128), parameters(128, 64)
    torch.testing.assert_close(spike_linear(s, weight, bias), F.linear(s, weight, bias), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("rows", "density"), [(MIN_ROWS - 1, 0.1), (MIN_ROWS, MAX_DENSITY + 0.1)])
def test_few_rows_and_rows_full_of_spikes_take_torchs_own_product(rows, density):
    x, (weight, bias) = rates(rows, 128, density), parameters(128, 64)
    assert torch.equal(spike_linear(x, weight.requires_grad_(), bias), F.linear(x, weight, bias))
    assert spike_linear(x, weight, bias).grad_fn.name() == F.linear(x, weight, bias).grad_fn.name()


def test_without_a_compiler_the_layer_is_torchs(monkeypatch):
    monkeypatch.setenv("SNN_DT_KERNEL", "reference")
    x, (weight, bias) = rates(MIN_ROWS, 128, 0.1), parameters(128, 64)
    assert torch.equal(spike_linear(x, weight, bias), F.linear(x, weight, bias))
