"""Spiking neurons in plain torch: surrogates, leaky integrate-and-fire, ways through time, a probe of firing rates."""

from snn_dt.snn.backends import backend_for
from snn_dt.snn.neurons import LIF, LIFParameters, LIFState, RateLIF
from snn_dt.snn.probe import Probe
from snn_dt.snn.scan import lif_rate, lif_scan
from snn_dt.snn.surrogate import SURROGATES, Surrogate, get_surrogate, smooth_spike, spike

__all__ = [
    "LIF",
    "SURROGATES",
    "LIFParameters",
    "LIFState",
    "Probe",
    "RateLIF",
    "Surrogate",
    "backend_for",
    "get_surrogate",
    "lif_rate",
    "lif_scan",
    "smooth_spike",
    "spike",
]
