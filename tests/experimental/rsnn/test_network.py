"""The published constants in the terms of our neurons: the recursion of Bellec et al. 2020, step by step."""

from __future__ import annotations

import math

import pytest
import torch

from snn_dt.experimental.rsnn.build_network import build_network
from snn_dt.experimental.rsnn.config import NetworkConfig

ALIF = NetworkConfig(neurons=6, adaptive=3, refractory=0, tau_mem=20, tau_out=20, v_threshold=0.6, gain="unit")


@pytest.mark.parametrize("config", [NetworkConfig(neurons=6), ALIF], ids=["pattern", "evidence"])
def test_a_network_follows_the_published_recursion(config):
    torch.manual_seed(0)
    network = build_network(config, 5, 2).double()
    x = (torch.rand(80, 2, 5, generator=torch.Generator().manual_seed(0)) < 0.4).double()
    with torch.no_grad():
        y, spikes = network(x)
    alpha, rho, kappa = (math.exp(-1 / t) for t in (config.tau_mem, config.tau_adaptation, config.tau_out))
    gain = 1 - alpha if config.gain == "leak" else 1.0
    beta = torch.where(torch.arange(6) < 3, 0.0, 1.7 * (1 - rho) / (1 - alpha)).double() * bool(config.adaptive)
    w_in, w_rec, w_out = network.input(), network.recurrent(), network.readout.synapses()
    v = a = z = torch.zeros(2, 6).double()
    out = torch.zeros(2, 2).double()
    for t in range(80):
        v = alpha * v + gain * (z @ w_rec.t() + x[t] @ w_in.t()) - config.v_threshold * z
        a = rho * a + z
        z = (v >= config.v_threshold + beta * a).double()
        out = kappa * out + z @ w_out.t()
        assert torch.equal(z, spikes[t])
        torch.testing.assert_close(out, y[t], rtol=0, atol=1e-12)
    assert 0.02 < spikes.mean() < 0.6


def test_the_surrogate_is_the_published_one():
    neurons = build_network(ALIF, 5, 2).neurons
    u = torch.tensor([0.0, 0.3, -0.3, 0.7])
    torch.testing.assert_close(neurons.psi(u), 0.3 / 0.6 * torch.tensor([1.0, 0.5, 0.5, 0.0]))
