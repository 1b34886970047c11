"""The `model` section of a configuration: its fields, what each kind takes by itself, what it refuses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from snn_dt.renamed import takes_old_names

Check = tuple[str, bool, str, object]

MOST = 2**16  # of anything that a model has several of: more is a slip that ends when memory, or patience, runs out
MOST_THREADS = 1024  # with tens of thousands, libgomp ends the process


@takes_old_names
@dataclass(frozen=True)
class ModelConfig:
    """The sequence model. A field that is null takes what its kind was published with (`KINDS` below)."""

    kind: Literal["dense", "snn_dt", "snn_dt_stream", "dsformer_tssa", "dsformer_pssa"] = "snn_dt"
    """`dense`: the Decision Transformer; `snn_dt`: its spiking counterpart; `snn_dt_stream`: one step of every neuron
    per token, state instead of a window; `dsformer_*`: Decision SpikeFormer, whose tokens mix globally (`tssa`) or over
    a few neighbours (`pssa`)."""
    d_model: int = 64
    """Width D of a token."""
    n_layers: int = 2
    """Number of transformer blocks."""
    n_heads: int = 2
    """Attention heads; must divide d_model."""
    context_length: int = 20
    """K, environment steps the policy looks back on; of snn_dt_stream, which looks back on all, steps of a training
    window."""
    mlp_ratio: int = 4
    """Width of the MLP's hidden layer, in multiples of d_model."""
    dropout: float = 0.0
    """Dropout probability on residual branches and attention weights. It costs a quarter of a CPU training step."""
    return_conditioned: bool = True
    """False puts the same constant in place of every return-to-go: behaviour cloning."""
    tokens: Literal["interleaved", "merged"] | None = None
    """Tokens of a step: return-to-go, state and action one after the other, or one of `R_t`, `s_t`, `a_(t-1)`. Null:
    interleaved; merged for dsformer and snn_dt_stream (nothing else there)."""
    coding: Literal["rate", "spikes"] | None = None
    """What a LIF layer hands on: its mean spike rate, so that a linear runs once, or its spikes step by step. Null:
    rate; dsformer and snn_dt_stream know only spikes."""
    attention: Literal["softmax", "linear"] = "softmax"
    """How spike counts attend (snn_dt): `linear` leaves out the softmax, and all multiplications with it. Without a
    meaning for dsformer and snn_dt_stream, which never have one."""
    attention_window: int = 8
    """Tokens that a token adds up, itself included (dsformer_pssa)."""
    norm_transition: float = 0.1
    """Share of the updates over which layer norm turns into batch norm (dsformer), 0.1 as published; 0 is batch norm
    from the first one on. Above 1, as configurations of 0.1.0 have it, a number of training forwards."""
    routing: bool = False
    """Sum the heads through learned gates, one per token and head (snn_dt)."""
    positions: Literal["phase", "sinusoidal", "learned", "none"] | None = None
    """How a token knows its timestep: phase-shifted spikes, a fixed sinusoid, a learned table, or not at all. Null:
    learned; none for dsformer and snn_dt_stream (nothing else there)."""
    phase_input: Literal["current", "gate"] = "current"
    """How phase-shifted spikes enter: through a learned projection into the token, or, as published, as a gate on the
    spikes of queries, keys and values."""
    phase_generators: int = 8
    """Spike generators per head (`positions: phase`); g per head tell at most 2^(g * n_heads) timesteps apart."""
    head: Literal["linear", "rate"] = "linear"
    """How a prediction is read: a linear layer, or the firing rates of a population of neurons for each action or
    action dimension (spiking kinds with a window)."""
    head_neurons: int = 8
    """Neurons of a population (`head: rate`)."""
    head_temperature: float = 0.1
    """Divisor of the mean rate of a discrete action, which makes it a logit: rates span no more than [0, 1]."""
    sim_steps: int = 4
    """T, simulation steps of a LIF neuron per token; one for snn_dt_stream whatever this says."""
    tau_mem: float | None = None
    """Membrane time constant, in simulation steps. Null: 2; 4/3, a decay of 1/4 per step, for dsformer."""
    v_threshold: float | None = None
    """Firing threshold; the membrane rests at 0. Null: 1; 0.5 for dsformer."""
    reset: Literal["hard", "soft", "none"] = "hard"
    """What a spike does to the membrane: back to rest, down by the threshold, or nothing."""
    detach_reset: bool | None = None
    """Cut the gradient through the reset. Null: false; true for dsformer."""
    surrogate: Literal["fast_sigmoid", "sigmoid", "triangle", "arctan", "rectangular"] | None = None
    """Derivative used for a spike in the backward pass. Null: fast_sigmoid; rectangular for dsformer."""
    surrogate_slope: float | None = None
    """k of the surrogate; it never changes the forward pass. Null: 10; 2 for dsformer."""

    def resolved(self) -> ModelConfig:
        """Return the configuration with every null replaced by what the kind takes."""
        own = KINDS[self.kind]
        return replace(self, **{name: value for name, value in own.items() if getattr(self, name) is None})


_SNN_DT: dict[str, Any] = {
    "tokens": "interleaved",
    "coding": "rate",
    "positions": "learned",
    "tau_mem": 2.0,
    "v_threshold": 1.0,
    "detach_reset": False,
    "surrogate": "fast_sigmoid",
    "surrogate_slope": 10.0,
}
_DSFORMER: dict[str, Any] = {
    "tokens": "merged",
    "coding": "spikes",
    "positions": "none",
    "tau_mem": 4 / 3,  # u_(t+1) = u_t / 4 + x_(t+1)
    "v_threshold": 0.5,
    "detach_reset": True,
    "surrogate": "rectangular",
    "surrogate_slope": 2.0,  # 1 for |u - 0.5| < 0.5
}
_STREAM = _SNN_DT | {"tokens": "merged", "coding": "spikes", "positions": "none"}
KINDS: dict[str, dict[str, Any]] = {
    "dense": _SNN_DT,
    "snn_dt": _SNN_DT,
    "snn_dt_stream": _STREAM,
    "dsformer_tssa": _DSFORMER,
    "dsformer_pssa": _DSFORMER,
}


def thread_check(name: str, threads: int) -> Check:
    """Return the check of a field called `name`, of any section, that holds a number of CPU threads."""
    return name, 0 <= threads <= MOST_THREADS, f"in [0, {MOST_THREADS}]", threads


def model_checks(config: ModelConfig) -> list[Check]:
    """Return what a type cannot say as (field, whether it holds, what is expected, what was found)."""
    m: Any = config.resolved()
    snn_dt, dsformer, stream = m.kind == "snn_dt", m.kind.startswith("dsformer"), m.kind == "snn_dt_stream"
    trains = dsformer or stream
    gates, generators = m.positions == "phase" and m.kind != "dense", m.n_heads * max(m.phase_generators, 1)
    counts = ("n_layers", "context_length", "mlp_ratio", "attention_window", "phase_generators", "sim_steps")
    fits = f"n_heads times it to divide {m.d_model}"
    return [
        *((f"model.{name}", 1 <= getattr(m, name) <= MOST, f"in [1, {MOST}]", getattr(m, name))
          for name in ("d_model", *counts)),
        ("model.n_heads", m.n_heads >= 1 and m.d_model % m.n_heads == 0, f"a divisor of {m.d_model}", m.n_heads),
        ("model.dropout", 0 <= m.dropout < 1, "in [0, 1)", m.dropout),
        ("model.coding", m.coding == "spikes" or not trains, f"spikes for {m.kind}", m.coding),
        ("model.tokens", m.tokens == "merged" or not stream, f"merged for {m.kind}", m.tokens),
        ("model.positions", m.positions == "none" or not stream, f"none for {m.kind}", m.positions),
        ("model.attention", m.attention == "softmax" or snn_dt, f"softmax for {m.kind}", m.attention),
        ("model.norm_transition", 0 <= m.norm_transition <= 1 or m.norm_transition % 1 == 0 < m.norm_transition,
         "a share of the updates, in [0, 1]", m.norm_transition),
        ("model.routing", snn_dt or not m.routing, f"false for {m.kind}", m.routing),
        ("model.phase_input", m.phase_input != "gate" or gates, f"current for {m.kind} {m.positions}", m.phase_input),
        ("model.phase_generators", m.phase_input == "current" or not m.d_model % generators, fits, m.phase_generators),
        ("model.head", m.head == "linear" or snn_dt or dsformer, f"linear for {m.kind}", m.head),
        ("model.head_neurons", 2 <= m.head_neurons <= MOST, f"in [2, {MOST}]", m.head_neurons),
        ("model.head_temperature", m.head_temperature > 0, "above 0", m.head_temperature),
        ("model.tau_mem", m.tau_mem >= 1, "at least 1 simulation step", m.tau_mem),
        ("model.v_threshold", m.v_threshold > 0, "above 0", m.v_threshold),
        ("model.surrogate_slope", m.surrogate_slope > 0, "above 0", m.surrogate_slope),
    ]  # fmt: skip
