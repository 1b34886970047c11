"""The leaky sum by hand, as a matrix, and its gradient."""

import torch

from snn_dt.experimental.leaky_sum import leaky_sum


def test_a_spike_decays_by_hand():
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0], [4.0, 1.0]])
    assert leaky_sum(x, 0.5).tolist() == [[1.0, 0.0], [0.5, 2.0], [0.25, 1.0], [4.125, 1.5]]


def test_it_is_a_lower_triangular_matrix_and_so_is_its_gradient():
    x = torch.randn(7, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    steps = torch.arange(7)
    kernel = 0.8 ** (steps[:, None] - steps).clamp(min=0).double() * (steps[:, None] >= steps)
    torch.testing.assert_close(leaky_sum(x, 0.8), torch.einsum("ts,sbn->tbn", kernel, x), rtol=0, atol=1e-13)
    assert torch.autograd.gradcheck(lambda v: leaky_sum(v, 0.8), x)
