"""Decision SpikeFormer's own settings: its neuron, as published."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from snn_dt.snn import LIF
from tests.conftest import DISCRETE, TINY, make_model


@pytest.mark.parametrize("kind", ["dsformer_tssa", "dsformer_pssa"])
def test_every_neuron_is_the_published_one(kind):
    """u' = u (1 - s) / 4 + x, s = [u >= 1/2]; backwards ds/du = [|u - 1/2| < 1/2], and nothing through the reset."""
    neurons = [m for m in make_model(dataclasses.replace(TINY, kind=kind), DISCRETE).modules() if isinstance(m, LIF)]
    assert len(neurons) >= 2 * 7, "in, q, k, v, out and two of the MLP in each of two blocks"
    x = torch.linspace(-0.613, 1.427, 51, dtype=torch.float64).repeat(4, 1) * torch.tensor(
        [[1.0], [0.7], [-0.2], [0.4]]
    )
    for neuron in neurons:
        current = x.clone().requires_grad_()
        spikes, _ = neuron.double().integrate(current)
        u, s = torch.zeros(51, dtype=torch.float64), torch.zeros(51, dtype=torch.float64)
        before, expected, potentials = current, [], []
        for t in range(4):
            u = u * (1 - s.detach()) / 4 + before[t]
            s = (u >= 0.5).double()
            expected.append(s)
            potentials.append(u)
        assert torch.equal(spikes, torch.stack(expected))
        [gradient] = torch.autograd.grad(spikes[3].sum(), current)
        inside = ((torch.stack(potentials)[3] - 0.5).abs() < 0.5).double()
        assert torch.equal(gradient[3], inside)
        carried = inside * (1 - spikes.detach()[2]) / 4
        torch.testing.assert_close(gradient[2], carried, rtol=0, atol=1e-12)
