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
    "tau_mem": 2.0,
    "v_threshold": 1.0,
    "detach_reset": False,
    "surrogate": "fast_sigmoid",
    "surrogate_slope": 10.0,
}
DSFORMER: dict[str, Any] = {
    "tokens": "merged",
    "return_code": "linear",
    "coding": "spikes",
    "positions": "none",
    "tau_mem": 4 / 3,  # u_(t+1) = u_t / 4 + x_(t+1)
    "v_threshold": 0.5,
    "detach_reset": True,
    "surrogate": "rectangular",
    "surrogate_slope": 2.0,  # 1 for |u - 0.5| < 0.5
}
STREAM = SNN_DT | {"tokens": "merged", "return_code": "quantiles", "coding": "spikes", "positions": "none"}
NO_OPTIONS = {"attention": "softmax", "routing": False}
FIXED_STREAM = NO_OPTIONS | {
    "coding": "spikes",
    "tokens": "merged",
    "positions": "none",
    "phase_input": "current",
    "head": "linear",
}

register_kind("dense", SNN_DT, block=dense_block, fixed=NO_OPTIONS | {"phase_input": "current", "head": "linear"})
register_kind("snn_dt", SNN_DT, block=snn_dt_block)
register_kind("snn_dt_stream", STREAM, StreamTransformer, fixed=FIXED_STREAM)
for kind in ("dsformer_tssa", "dsformer_pssa"):
    register_kind(kind, DSFORMER, block=dsformer_block, fixed=NO_OPTIONS | {"coding": "spikes"})
