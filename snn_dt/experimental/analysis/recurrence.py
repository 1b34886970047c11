r"""How far e-prop's gradient of recurrent weights is from BPTT's, over the strength g of the recurrence.

n neurons, recurrent weights of deviation g / sqrt(n), T steps of Poisson spikes from 20 inputs, a leaky read-out to 3
outputs, squared error to random walks; everything in float64. Compared are, by the cosine of the gradients of the
recurrent weights,

- `exact`: traces from the neuron's own Jacobian, reset and all (`snn_dt.learning.eprop`), to BPTT through the reset;
- `plain`: traces that leave the reset out, as Bellec et al. 2020 write them, to the same BPTT;
- `detached`: the same traces to a BPTT that leaves the reset out too, as their code does;
- `random`: as `exact`, errors coming back through random weights.

With g = 0 no spike acts on another neuron and `exact` and `detached` are 1 to rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from snn_dt.experimental.rsnn.recurrent import RecurrentLIF
from snn_dt.experimental.rsnn.spiking_network import LeakyReadout, RecurrentSNN

GAINS = (0.0, 0.25, 0.5, 1.0, 2.0)
COLUMNS = ("exact", "plain", "detached", "random")
NEURONS, STEPS, INPUTS, OUTPUTS = 30, 100, 20, 3
LIF: dict[str, Any] = {
    "tau_mem": 10.0,
    "v_threshold": 1.0,
    "reset": "soft",
    "reset_order": "delayed",
    "surrogate": "triangle",
    "surrogate_slope": 1.0,
}
ALIF: dict[str, Any] = {"threshold_adaptation": 0.3, "tau_adaptation": 50.0}


def recurrence_rows(draws: int = 20, seed: int = 0, gains: Sequence[float] = GAINS) -> list[dict[str, Any]]:
    """Return a row per kind of neuron and gain: means of the cosines over `draws` networks, and their firing rate."""
    rows = []
    for name, own in (("LIF", {}), ("ALIF", ALIF)):
        for gain in gains:
            found = [draw_cosines(own, gain, seed + i) for i in range(draws)]
            means = {key: sum(each[key] for each in found) / draws for key in found[0]}
            rows.append({"neuron": name, "gain": gain, "draws": draws, **means})
    return rows


def draw_cosines(own: dict[str, Any], gain: float, seed: int) -> dict[str, float]:
    """Return the cosines of one network, with `firing_rate`; `own` are constants beside `LIF`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        neurons = RecurrentLIF(NEURONS, NEURONS if own else 0, dampening=0.3, **LIF, **own)
        network = RecurrentSNN(INPUTS, neurons, LeakyReadout(NEURONS, OUTPUTS, 10.0, feedback="random")).double()
        x = (torch.rand(STEPS, 1, INPUTS) < 0.15).double()
        target = torch.randn(STEPS, 1, OUTPUTS).double().cumsum(0) / STEPS**0.5
    with torch.no_grad():
        network.recurrent.weight.mul_(gain)
        rate = network(x)[1].mean()
    symmetric = copy.deepcopy(network)
    symmetric.readout.fixed_feedback = None
    detached = copy.deepcopy(symmetric)
    detached.neurons.constants = replace(detached.neurons.constants, detach_reset=True)
    bptt = _gradient(symmetric, x, target, local=False)
    pairs = {
        "exact": (bptt, _gradient(symmetric, x, target, local=True)),
        "plain": (bptt, _gradient(detached, x, target, local=True)),
        "detached": (_gradient(detached, x, target, local=False), _gradient(detached, x, target, local=True)),
        "random": (bptt, _gradient(network, x, target, local=True)),
    }
    return {name: float(cosine_similarity(a, b, 0)) for name, (a, b) in pairs.items()} | {"firing_rate": float(rate)}


def _gradient(network: RecurrentSNN, x: Tensor, target: Tensor, local: bool) -> Tensor:
    assert network.recurrent is not None
    y, _ = network(x, local)
    weight = network.recurrent.weight
    return torch.autograd.grad(0.5 * (y - target).square().sum(), weight)[0].flatten()
