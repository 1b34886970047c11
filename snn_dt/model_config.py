"""The `model` section of a configuration: its fields, and the checks that a type cannot express."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from snn_dt.registry import ATTENTIONS, ENCODERS, KINDS, LOSSES, NEURONS, POSITIONS
from snn_dt.renamed import takes_old_names

Check = tuple[str, bool, str, object]

MAX_COUNT = 2**16  # of layers, heads, steps, ...: larger numbers are mistakes that end when the memory runs out
MAX_BINS = 256
MAX_THREADS = 1024  # libgomp ends the process when it gets tens of thousands


@takes_old_names
@dataclass(frozen=True)
class ModelConfig:
    """The sequence model. A field that is null takes the recommended value of its kind (`snn_dt.models.kinds`)."""

    kind: str = "snn_dt"
    """`dense`: the Decision Transformer; `snn_dt`: its spiking counterpart; `snn_dt_stream`: one step of every neuron
    per token, state instead of a window; `dsformer_tssa`, `dsformer_pssa`: Decision SpikeFormer, whose tokens mix
    globally (`tssa`) or over a few neighbours (`pssa`). Or a registered kind, see docs/extending.md."""
    d_model: int = 64
    """Width D of a token."""
    n_layers: int = 2
    """Number of transformer blocks."""
    n_heads: int = 2
    """Attention heads; must divide d_model."""
    context_length: int = 20
    """K, environment steps that the policy attends to; for snn_dt_stream, whose state reaches back further, and with an
    attention_span the steps of a training window."""
    attention_span: int | None = None
    """S, environment steps that a token attends to, itself included. Null: the whole window. With a span a decision
    computes its new tokens only, against kept keys and values, and context_length, the steps of a training window, must
    be at least 2 S. snn_dt_stream has none."""
    mlp_ratio: int = 4
    """Width of the MLP's hidden layer, in multiples of d_model."""
    dropout: float = 0.0
    """Dropout probability on residual branches and attention weights. It costs a quarter of a CPU training step."""
    return_conditioned: bool = True
    """False replaces every return-to-go by one constant: behaviour cloning."""
    condition: Literal["return", "goal", "both"] = "return"
    """What the policy is asked for: a return; the desired goal of observations that hold one, which the environment
    sets; or both, the sum of their embeddings. See docs/data.md."""
    goal: Literal["none", "bins"] = "none"
    """Conditioning on the return of the whole episode beside the return-to-go: `none`, or `bins`, quantiles over the
    steps of the data, each with a gain and a shift of every block's input. A decision costs no more. See
    docs/targets.md."""
    goal_bins: int = 10
    """Most bins (`goal: bins`); equal returns share one."""
    return_code: Literal["linear", "quantiles", "code"] | None = None
    """Code of the return-to-go in its token: `linear`, the number itself; `quantiles`, units at the quantiles of the
    data. `code` of 0.3.0 now means quantiles. Null: linear; quantiles for snn_dt_stream, which has no linear one."""
    tokens: Literal["interleaved", "merged"] | None = None
    """Tokens per step: three (return-to-go, state, action), or one made of `R_t`, `s_t` and `a_(t-1)`. Null:
    interleaved; merged for dsformer and for snn_dt_stream, which has no other."""
    coding: Literal["rate", "spikes"] | None = None
    """Output of a layer of neurons: its mean spike rate, so that the next linear layer runs once, or its spikes of each
    step. Null: rate; spikes for dsformer and snn_dt_stream, which have no other."""
    encoder: str = "nature"
    """Encoder of image observations: `nature` (Mnih et al. 2015), `impala-small` (Espeholt et al. 2018, without
    recurrence), `spiking` (two layers of neurons between convolutions), or a registered one. Images of fewer than 36
    rows or columns get small convolutions, as in MinAtar. See docs/pixels.md."""
    neuron: str = "lif"
    """Neuron of the spiking layers: `lif`, leaky integrate-and-fire; `plif`, the same with one learned time constant
    per layer, which starts at tau_mem and runs without kernels. Or a registered one, see docs/extending.md."""
    attention: str = "softmax"
    """Attention over spike counts (snn_dt): `softmax`; `linear`, without softmax and its multiplications. Or a
    registered one, see docs/extending.md. The other kinds have one attention each, and only `softmax` here."""
    attention_window: int = 8
    """Number of tokens that a token attends to, itself included (dsformer_pssa)."""
    norm_transition: float = 0.1
    """Share of the updates over which layer norm turns into batch norm (dsformer), 0.1 as published. 0: batch norm from
    the first update. Above 1: a number of training forwards, as in configs of 0.1.0."""
    routing: bool = False
    """Sum the heads, each times a learned gate per token (snn_dt)."""
    positions: str | None = None
    """Position code of the timestep: `phase` (phase-shifted spikes), `sinusoidal`, `learned` (a table), `none`. Null:
    learned; none for dsformer and for snn_dt_stream, which has no other. Or a registered one, see docs/extending.md."""
    phase_input: Literal["current", "gate"] = "current"
    """Use of phase-shifted spikes: a learned projection added to the token, or, as published, a gate on the spikes of
    queries, keys and values."""
    phase_generators: int = 8
    """Spike generators per head (`positions: phase`). g per head distinguish at most 2^(g * n_heads) timesteps."""
    head: Literal["linear", "rate"] = "linear"
    """Read-out of a prediction: a linear layer, or the firing rates of a population of neurons for each action or
    action dimension (spiking kinds with a window)."""
    head_neurons: int = 8
    """Neurons of a population (`head: rate`)."""
    head_temperature: float = 0.1
    """Divisor that turns the mean rate of a discrete action, in [0, 1], into a logit."""
    loss: str = "action"
    """Loss of a prediction: `action`, cross-entropy of discrete actions and squared error of continuous ones;
    `likelihood`, for continuous actions a Gaussian with a learned deviation of 0.03 half-ranges at least, so that
    actions that cannot be predicted do not take the gradient from those that can. Or a registered one, see
    docs/extending.md. It is part of the checkpoint, so that fine-tuning and analysis use it."""
    sim_steps: int = 4
    """T, simulation steps of a neuron per token; snn_dt_stream always takes one."""
    tau_mem: float | None = None
    """Membrane time constant, in simulation steps. Null: 20; 1.3 for snn_dt_stream; 4/3, a decay of 1/4 per step, for
    dsformer."""
    v_threshold: float | None = None
    """Firing threshold; the membrane rests at 0. Null: 1; 0.5 for dsformer."""
    reset: Literal["hard", "soft", "none"] | None = None
    """Effect of a spike on the membrane: back to rest, down by the threshold, or none. Null: soft; hard for
    snn_dt_stream and dsformer."""
    detach_reset: bool | None = None
    """Cut the gradient through the reset. Null: false; true for dsformer."""
    surrogate: Literal["fast_sigmoid", "sigmoid", "triangle", "arctan", "rectangular"] | None = None
    """Derivative of a spike in the backward pass. Null: fast_sigmoid; rectangular for dsformer."""
    surrogate_slope: float | None = None
    """k of the surrogate; it never changes the forward pass. Null: 3; 2 for dsformer."""

    @property
    def reads_return(self) -> bool:
        """Whether predictions depend on the return-to-go."""
        return self.return_conditioned and self.condition != "goal"

    def resolved(self) -> ModelConfig:
        """Return the configuration with every null replaced by the default of the kind.

        Raises:
            ConfigError: no such kind.
        """
        own = KINDS[self.kind].defaults
        return replace(self, **{name: value for name, value in own.items() if getattr(self, name) is None})


def thread_check(name: str, threads: int) -> Check:
    """Return the check of a field called `name`, of any section, that holds a number of CPU threads."""
    return name, 0 <= threads <= MAX_THREADS, f"in [0, {MAX_THREADS}]", threads


def model_checks(config: ModelConfig) -> list[Check]:
    """Return what a type cannot say as (field, whether it holds, what is expected, what was found).

    Raises:
        ConfigError: a name that no table holds.
    """
    m: Any = config.resolved()
    for table, name in (
        (NEURONS, m.neuron),
        (ATTENTIONS, m.attention),
        (POSITIONS, m.positions),
        (LOSSES, m.loss),
        (ENCODERS, m.encoder),
    ):
        table[name]
    fixed, generators = KINDS[m.kind].fixed, m.n_heads * max(m.phase_generators, 1)
    gates, span = m.positions == "phase", m.attention_span
    counts = ("n_layers", "context_length", "mlp_ratio", "attention_window", "phase_generators", "sim_steps")
    fits = f"n_heads times it to divide {m.d_model}"
    return [
        *((f"model.{name}", 1 <= getattr(m, name) <= MAX_COUNT, f"in [1, {MAX_COUNT}]", getattr(m, name))
          for name in ("d_model", *counts)),
        ("model.n_heads", m.n_heads >= 1 and m.d_model % m.n_heads == 0, f"a divisor of {m.d_model}", m.n_heads),
        ("model.attention_span", span is None or 1 <= span <= MAX_COUNT, f"null or in [1, {MAX_COUNT}]", span),
        ("model.attention_span", span is None or KINDS[m.kind].build is None, f"null for {m.kind}", span),
        ("model.context_length", span is None or m.context_length >= 2 * span,
         f"at least 2 attention_span = {2 * (span or 0)}", m.context_length),
        ("model.dropout", 0 <= m.dropout < 1, "in [0, 1)", m.dropout),
        *((f"model.{name}", getattr(m, name) == value, f"{_word(value)} for {m.kind}", getattr(m, name))
          for name, value in fixed.items()),
        ("model.norm_transition", 0 <= m.norm_transition <= 1 or m.norm_transition % 1 == 0 < m.norm_transition,
         "a share of the updates, in [0, 1]", m.norm_transition),
        ("model.condition", m.return_conditioned or m.condition != "both", "goal without return conditioning",
         m.condition),
        ("model.goal_bins", 2 <= m.goal_bins <= MAX_BINS, f"in [2, {MAX_BINS}]", m.goal_bins),
        ("model.return_code", m.kind != "snn_dt_stream" or m.return_code != "linear", f"quantiles for {m.kind}",
         m.return_code),
        ("model.phase_input", m.phase_input != "gate" or gates, f"current for {m.kind} {m.positions}", m.phase_input),
        ("model.phase_generators", m.phase_input == "current" or not m.d_model % generators, fits, m.phase_generators),
        ("model.head_neurons", 2 <= m.head_neurons <= MAX_COUNT, f"in [2, {MAX_COUNT}]", m.head_neurons),
        ("model.head_temperature", m.head_temperature > 0, "above 0", m.head_temperature),
        ("model.tau_mem", m.tau_mem >= 1, "at least 1 simulation step", m.tau_mem),
        ("model.v_threshold", m.v_threshold > 0, "above 0", m.v_threshold),
        ("model.surrogate_slope", m.surrogate_slope > 0, "above 0", m.surrogate_slope),
    ]  # fmt: skip


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
