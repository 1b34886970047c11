"""The block of a streaming model: each token advances every neuron by one step, from a state to the next one.

T tokens, B batch, D width, M width of the hidden layer of the MLP. Time comes first, `[T, B, D]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from snn_dt.model_config import ModelConfig
from snn_dt.models.decay import DecayAttention
from snn_dt.models.interface import State
from snn_dt.models.layers import SpikeLinear
from snn_dt.snn import LIF
from snn_dt.snn.parameters import LIFState


class TokenLIF(LIF):
    """`LIF` whose step is a token: `forward(current [T, B, D], valid, v_mem) -> spikes [T, B, D], v_mem [B, D]`.

    With `norm_width` D the current is first layer-normalised. The current of a pad is 0, which keeps a neuron at rest.
    """

    def __init__(self, norm_width: int | None = None, **lif: Any) -> None:
        super().__init__(**lif)
        self.norm = None if norm_width is None else nn.LayerNorm(norm_width)

    def forward(self, current: Tensor, valid: Tensor, v_mem: Tensor | None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Advance over `current`; `valid [T, B, 1]` is False on pads, `v_mem` None is rest."""
        if self.norm is not None:
            current = self.norm(current)
        spikes, state = super().forward(current * valid, None if v_mem is None else LIFState(v_mem))
        return spikes, state.v_mem


class StreamBlock(nn.Module):
    """`x + W_o LIF(attend(LIF(W LIF(x))))`, then `x + W_2 LIF(W_1 LIF(x))`; the input of each weight matrix is spikes.

    Attributes:
        state: shape of a row of each carried tensor, by name: six of membranes and the sum of attention.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d, hidden, head = config.d_model, config.mlp_ratio * config.d_model, config.d_model // config.n_heads
        self.state = {
            **{"v_in": (d,), "v_qkv": (3 * d,), "sum": (config.n_heads, head, head)},
            **{"v_out": (d,), "v_mlp": (d,), "v_hidden": (hidden,)},
        }
        neuron: dict[str, Any] = {
            "tau_mem": config.tau_mem,
            "v_threshold": config.v_threshold,
            "reset": config.reset,
            "detach_reset": config.detach_reset,
            "surrogate": config.surrogate,
            "surrogate_slope": config.surrogate_slope,
        }
        self.lif_in = TokenLIF(d, **neuron)
        self.qkv = SpikeLinear(d, 3 * d, sim_steps=1)
        self.lif_qkv = TokenLIF(**neuron)
        self.attend = DecayAttention(config.n_heads)
        self.lif_out = TokenLIF(d, **neuron)
        self.out = SpikeLinear(d, d, sim_steps=1)
        self.lif_mlp = TokenLIF(d, **neuron)
        self.mlp_in = SpikeLinear(d, hidden, sim_steps=1)
        self.lif_hidden = TokenLIF(**neuron)
        self.mlp_out = SpikeLinear(hidden, d, sim_steps=1)
        self.dropout = nn.Dropout(config.dropout)
        # No norm follows these two, so their currents start at about the threshold.
        for linear in (self.qkv, self.mlp_in):
            nn.init.normal_(linear.weight, std=2 * d**-0.5)

    def forward(self, x: Tensor, valid: Tensor, old: Mapping[str, Tensor | None]) -> tuple[Tensor, State]:
        """Map `x [T, B, D]` from the state `old`, None is rest, to the next; `valid [T, B, 1]` is False on pads."""
        new: State = {}
        s, new["v_in"] = self.lif_in(x, valid, old["v_in"])
        s, new["v_qkv"] = self.lif_qkv(self.qkv(s), valid, old["v_qkv"])
        y, new["sum"] = self.attend(*s.chunk(3, dim=-1), old["sum"])  # q, k, v [T, B, D] each
        s, new["v_out"] = self.lif_out(y, valid, old["v_out"])
        x = x + self.dropout(self.out(s))
        s, new["v_mlp"] = self.lif_mlp(x, valid, old["v_mlp"])
        s, new["v_hidden"] = self.lif_hidden(self.mlp_in(s), valid, old["v_hidden"])
        return x + self.dropout(self.mlp_out(s)), new
