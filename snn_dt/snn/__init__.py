"""Spiking neurons: surrogate derivatives, neurons, spiking layers, kernels and a probe of firing rates."""

from snn_dt.snn.backends import backend_for
from snn_dt.snn.goal_norm import GoalNorm
from snn_dt.snn.neuron_layers import RateLIF, SpikingLayer, TimedLIF, TokenLIF
from snn_dt.snn.neurons import LIF, Neuron, build_neuron
from snn_dt.snn.parameters import LIFParameters, LIFState
from snn_dt.snn.probe import Probe
from snn_dt.snn.record import record
from snn_dt.snn.scan import lif_rate, lif_scan
from snn_dt.snn.surrogate import SURROGATES, Surrogate, get_surrogate, smooth_spike, spike

__all__ = [
    "LIF",
    "SURROGATES",
    "GoalNorm",
    "LIFParameters",
    "LIFState",
    "Neuron",
    "Probe",
    "RateLIF",
    "SpikingLayer",
    "Surrogate",
    "TimedLIF",
    "TokenLIF",
    "backend_for",
    "build_neuron",
    "get_surrogate",
    "lif_rate",
    "lif_scan",
    "record",
    "smooth_spike",
    "spike",
]
