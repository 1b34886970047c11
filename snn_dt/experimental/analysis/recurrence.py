r"""Comparison of e-prop's and BPTT's gradients of recurrent weights by the strength g of the recurrence.

The network has n neurons with recurrent weights of standard deviation g / sqrt(n). Its input is T steps of Poisson
spikes from 20 inputs. A leaky read-out has 3 outputs. The loss is the squared error to random walks. All is computed in
float64. The columns are cosines between two gradients of the recurrent weights:

| column | e-prop traces | compared with |
|---|---|---|
| `exact` | Jacobian of the neuron with its reset | BPTT through the reset |
| `plain` | without the reset (Bellec et al. 2020) | BPTT through the reset |
| `detached` | without the reset | BPTT without the reset, as in their code |
| `random` | as `exact`, errors through random feedback weights | BPTT through the reset |

With g = 0 no spike acts on another neuron. Then `exact` and `detached` are 1 up to rounding.
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
    """Return a row per kind of neuron and gain: means of cosines and firing rate over `draws` networks."""
    rows = []
    for name, adaptation in (("LIF", {}), ("ALIF", ALIF)):
        for gain in gains:
            found = [draw_cosines(adaptation, gain, seed + i) for i in range(draws)]
            means = {key: sum(each[key] for each in found) / draws for key in found[0]}
            rows.append({"neuron": name, "gain": gain, "draws": draws, **means})
    return rows


def draw_cosines(adaptation: dict[str, Any], gain: float, seed: int) -> dict[str, float]:
    """Return the cosines and `firing_rate` of one network; `adaptation` are constants in addition to `LIF`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # weights, inputs and targets of this draw
        neurons = RecurrentLIF(NEURONS, NEURONS if adaptation else 0, dampening=0.3, **LIF, **adaptation)
        network = RecurrentSNN(INPUTS, neurons, LeakyReadout(NEURONS, OUTPUTS, 10.0, feedback="random")).double()
        x = (torch.rand(STEPS, 1, INPUTS) < 0.15).double()
        target = torch.randn(STEPS, 1, OUTPUTS).double().cumsum(0) / STEPS**0.5  # a random walk
    assert network.recurrent is not None
    with torch.no_grad():
        network.recurrent.weight.mul_(gain)  # drawn with deviation 1 / sqrt(n)
        rate = network(x)[1].mean()
    # the same weights with other feedback or another reset in the gradient
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
    return torch.autograd.grad(0.5 * (y - target).square().sum(), weight)[0].flatten()  # [n, n] -> [n * n]
