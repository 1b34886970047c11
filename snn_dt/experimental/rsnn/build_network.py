"""Construction of a network from its configuration with the published time constants."""

from __future__ import annotations

import math
from typing import Any

from snn_dt.experimental.rsnn.config import NetworkConfig
from snn_dt.experimental.rsnn.recurrent import RecurrentLIF
from snn_dt.experimental.rsnn.spiking_network import LeakyReadout, Readout, RecurrentSNN, SpikingReadout


def build_network(config: NetworkConfig, inputs: int, outputs: int) -> RecurrentSNN:
    """Build the network with weights from torch's global generator.

    A neuron with `tau` decays by the factor `1 - 1/tau` per step, a `tau` of the configuration by `e^(-1/tau)`.
    """
    c, lif = config, _lif_constants(config)
    beta = c.threshold_adaptation
    if beta is None:
        # 1.7 (1 - rho) / (1 - alpha); both expm1 are negative
        beta = 1.7 * math.expm1(-1 / c.tau_adaptation) / math.expm1(-1 / c.tau_mem)
    neurons = RecurrentLIF(
        c.neurons,
        c.adaptive,
        c.refractory,
        c.dampening / c.v_threshold,  # our surrogate peaks at 1, the published one at gamma / V_th
        threshold_adaptation=beta if c.adaptive else 0.0,
        tau_adaptation=_euler(c.tau_adaptation),
        **lif,
    )
    feedback: dict[str, Any] = {"feedback": c.feedback, "feedback_scale": c.feedback_scale}
    readout: Readout
    if c.readout == "leaky":
        readout = LeakyReadout(c.neurons, outputs, c.tau_out, gain=1.0 if c.out_gain == "unit" else None, **feedback)
    else:
        readout = SpikingReadout(c.neurons, outputs, {**lif, "dampening": c.dampening / c.v_threshold}, **feedback)
    return RecurrentSNN(inputs, neurons, readout, c.recurrent)


def _lif_constants(c: NetworkConfig) -> dict[str, Any]:
    return {
        "tau_mem": _euler(c.tau_mem),
        "c_m": -math.expm1(-1 / c.tau_mem) if c.gain == "leak" else 1.0,  # gain = dt C_m: 1 - alpha, or 1
        "v_threshold": c.v_threshold,
        "reset": c.reset,
        "reset_order": "delayed",
        "detach_reset": True,
        "surrogate": "triangle",
        "surrogate_slope": 1 / c.v_threshold,  # triangle of half-width V_th
    }


def _euler(tau: float) -> float:
    """Return tau' with `1 - 1/tau' = e^(-1/tau)`."""
    return -1 / math.expm1(-1 / tau)
