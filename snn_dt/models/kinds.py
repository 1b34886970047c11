"""Register the model kinds of this package with their defaults, fixed options and builders; see `registry.Kind`.

A new kind needs one call of `register_kind`, here or in a user's module.
"""

from __future__ import annotations

from typing import Any

from snn_dt.models.blocks import dense_block, dsformer_block, snn_dt_block
from snn_dt.models.stream import StreamTransformer
from snn_dt.registry import register_kind

SNN_DT: dict[str, Any] = {
    "tokens": "interleaved",
    "return_code": "linear",
    "coding": "rate",
    "positions": "learned",
    # With little leak, and a reset that keeps the excess over the threshold, the number of spikes encodes the current
    # in steps of 1/T. With tau_mem 2 and a hard reset spikes say little more than whether it exceeds the threshold.
    "tau_mem": 20.0,
    "v_threshold": 1.0,
    "reset": "soft",
    "detach_reset": False,
    "surrogate": "fast_sigmoid",
    # Shallower than the seed's k = 10: a lower loss on Pendulum (results/notes.md) and Hopper (results/slopes).
    "surrogate_slope": 3.0,
}
DENSE = SNN_DT | {"tau_mem": 2.0, "reset": "hard"}  # without neurons: the values that its runs have always recorded
DSFORMER: dict[str, Any] = {
    "tokens": "merged",
    "return_code": "linear",
    "coding": "spikes",
    "positions": "none",
    "tau_mem": 4 / 3,  # u_(t+1) = u_t / 4 + x_(t+1)
    "v_threshold": 0.5,
    "reset": "hard",
    "detach_reset": True,
    "surrogate": "rectangular",
    "surrogate_slope": 2.0,  # 1 for |u - 0.5| < 0.5
}
STREAM = SNN_DT | {
    "tokens": "merged",
    "return_code": "quantiles",
    "coding": "spikes",
    "positions": "none",
    # A membrane keeps a quarter from step to step; the attention remembers what lies further back. With a longer
    # memory a neuron under a constant current fires rarely, and actions jitter (results/stream).
    "tau_mem": 1.3,
    "reset": "hard",
}
NO_OPTIONS = {"attention": "softmax", "routing": False}
FIXED_STREAM = NO_OPTIONS | {
    "coding": "spikes",
    "tokens": "merged",
    "positions": "none",
    "phase_input": "current",
    "head": "linear",
}

register_kind("dense", DENSE, block=dense_block, fixed=NO_OPTIONS | {"phase_input": "current", "head": "linear"})
register_kind("snn_dt", SNN_DT, block=snn_dt_block)
register_kind("snn_dt_stream", STREAM, StreamTransformer, fixed=FIXED_STREAM)
for kind in ("dsformer_tssa", "dsformer_pssa"):
    register_kind(kind, DSFORMER, block=dsformer_block, fixed=NO_OPTIONS | {"coding": "spikes"})
