"""Transformer block `x + attention(x)`, then `x + mlp(x)`. Builders make its dense, SNN-DT and DSFormer forms.

B batch, L tokens, D width, T simulation steps. The time axis of `[(T,) B, L, D]` is optional; see `layers.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from snn_dt.model_config import ModelConfig
from snn_dt.models.attention import DendriticRouting, DenseSelfAttention, SpikingSelfAttention
from snn_dt.models.dsformer_attention import PSSA, TSSA
from snn_dt.models.layers import MaskedSequential, SpikeLinear, TimeMean
from snn_dt.models.norms import DEFAULT_TRANSITION, PTBN, transition_of
from snn_dt.models.tokens import Tokens
from snn_dt.registry import ATTENTIONS, KINDS
from snn_dt.snn import RateLIF, TimedLIF, build_neuron


class Block(nn.Module):
    """Residual block. Each branch contains its input norm."""

    def __init__(self, attention: nn.Module, mlp: nn.Module, dropout: float) -> None:
        super().__init__()
        self.attention, self.mlp = attention, mlp
        self.dropout = nn.Dropout(dropout)
        self.time_mean = TimeMean()

    def forward(self, x: Tensor, tokens: Tokens) -> Tensor:
        """Map `x [(T,) B, L, D]` to the query tokens `[(T,) B, Q, D]`."""
        # Only query tokens have a residual, because the block returns no others: [(T,) B, Q, D].
        y = x[..., tokens.query_slice, :] + self.dropout(self.attention(x, tokens))
        # The MLP of a last block returns a mean over time, and then the residual is averaged too.
        branch = self.dropout(MaskedSequential.call(self.mlp, y, tokens.valid[:, tokens.query_slice]))
        return branch + (self.time_mean(y) if branch.dim() < y.dim() else y)


def build_block(config: ModelConfig, n_tokens: int, last: bool) -> Block:
    """Build a block of `config.kind` for `n_tokens` tokens. The nulls of `config` must be resolved.

    `last` marks the block that predictions are read from.
    """
    block = KINDS[config.kind].block
    assert block is not None, "a kind with a model of its own does not come here"
    built: Block = block(config, n_tokens, last)
    return built


def dense_block(config: ModelConfig, n_tokens: int = 0, last: bool = False) -> Block:
    """Build the pre-norm GPT-2 block of the Decision Transformer with ReLU as in the authors' Gym code."""
    d, hidden = config.d_model, config.mlp_ratio * config.d_model
    mlp = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, hidden), nn.ReLU(), nn.Linear(hidden, d))
    return Block(DenseSelfAttention(d, config.n_heads, config.dropout), mlp, config.dropout)


def snn_dt_block(config: ModelConfig, n_tokens: int = 0, last: bool = False) -> Block:
    """Build the pre-norm SNN-DT block. A layer norm precedes every neuron and every weight matrix reads spikes.

    Without the norms the currents leave the range in which a change of the return-to-go changes a spike.

    With `coding: spikes` predictions are read from the mean over time of the `last` block. `mean(W s_t) = W mean(s_t)`,
    so its last linear layer runs only once on the mean of its input spikes.
    """
    d, hidden, steps, heads = config.d_model, config.mlp_ratio * config.d_model, config.sim_steps, config.n_heads
    neuron = neurons(config)

    def projection() -> MaskedSequential:
        return MaskedSequential(SpikeLinear(d, d, steps), neuron(norm_width=d))

    mlp = MaskedSequential(
        neuron(norm_width=d),
        SpikeLinear(d, hidden, steps),
        neuron(norm_width=hidden),
        TimeMean() if last else nn.Identity(),
        SpikeLinear(hidden, d, steps),
    )
    width = d // heads if config.routing else d  # routing sums the heads
    attention = SpikingSelfAttention(
        neuron(norm_width=d),
        query=projection(),
        key=projection(),
        value=projection(),
        attend=ATTENTIONS[config.attention](config),
        route=DendriticRouting(heads) if config.routing else nn.Identity(),
        lif_out=neuron(norm_width=width),
        out=SpikeLinear(width, d, steps),
    )
    return Block(attention, mlp, config.dropout)


def dsformer_block(config: ModelConfig, n_tokens: int, last: bool = False) -> Block:
    """Build the DSFormer block (arXiv 2504.03800). Neurons read the residual stream without a norm.

    A PTBN follows every linear layer and folds into it for inference. Then only linear layers are between neurons.
    """
    d, hidden, steps = config.d_model, config.mlp_ratio * config.d_model, config.sim_steps
    neuron = neurons(config)
    threshold = config.v_threshold
    assert threshold is not None, "nulls of a config are resolved before anything is built"
    # `set_transition` replaces the default when the length is known.
    transition = transition_of(config.norm_transition, DEFAULT_TRANSITION)

    def linear(d_in: int, d_out: int) -> MaskedSequential:
        return MaskedSequential(SpikeLinear(d_in, d_out, steps), PTBN(d_out, threshold, transition))

    if config.kind == "dsformer_tssa":
        attend: nn.Module = TSSA(config.n_heads, threshold)
    else:
        attend = PSSA(config.n_heads, n_tokens, config.attention_window, relative=config.attention_span is not None)
    attention = SpikingSelfAttention(
        neuron(),
        query=MaskedSequential(*linear(d, d), neuron()),
        key=MaskedSequential(*linear(d, d), neuron()),
        value=MaskedSequential(*linear(d, d), neuron()),
        attend=attend,
        route=nn.Identity(),
        lif_out=neuron(),
        out=linear(d, d),
    )
    mlp = MaskedSequential(neuron(), *linear(d, hidden), neuron(), *linear(hidden, d))
    return Block(attention, mlp, config.dropout)


def neurons(config: ModelConfig) -> Callable[..., RateLIF | TimedLIF]:
    """Return a factory of spiking layers: `(norm_width=None) -> layer`."""
    layer = TimedLIF if config.coding == "spikes" else RateLIF

    def make(norm_width: int | None = None) -> RateLIF | TimedLIF:
        return layer(config.sim_steps, norm_width, build_neuron(config))

    return make
