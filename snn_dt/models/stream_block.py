"""The block of a streaming policy: one step of every neuron per token, state in, state out.

T tokens, B batch, D width, M width of the MLP's hidden layer. Time first, `[T, B, D]`: the neuron's time is the
trajectory.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from snn_dt.model_config import ModelConfig
from snn_dt.models.decay import DecayAttention
from snn_dt.models.layers import SpikeLinear
from snn_dt.snn import TokenLIF, build_neuron

State = dict[str, Tensor]


class StreamBlock(nn.Module):
    """`x + W_o LIF(attend(LIF(W LIF(x))))`, then `x + W_2 LIF(W_1 LIF(x))`; every weight matrix is fed by spikes.

    Attributes:
        state: what is carried from token to token, five membranes and the sum of attention: name to shape of a row.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d, hidden, head = config.d_model, config.mlp_ratio * config.d_model, config.d_model // config.n_heads
        self.state = {
            **{"v_in": (d,), "v_qkv": (3 * d,), "sum": (config.n_heads, head, head)},
            **{"v_out": (d,), "v_mlp": (d,), "v_hidden": (hidden,)},
        }
        self.lif_in = TokenLIF(d, build_neuron(config))
        self.qkv = SpikeLinear(d, 3 * d, sim_steps=1)
        self.lif_qkv = TokenLIF(None, build_neuron(config))
        self.attend = DecayAttention(config.n_heads)
        self.lif_out = TokenLIF(d, build_neuron(config))
        self.out = SpikeLinear(d, d, sim_steps=1)
        self.lif_mlp = TokenLIF(d, build_neuron(config))
        self.mlp_in = SpikeLinear(d, hidden, sim_steps=1)
        self.lif_hidden = TokenLIF(None, build_neuron(config))
        self.mlp_out = SpikeLinear(hidden, d, sim_steps=1)
        self.dropout = nn.Dropout(config.dropout)
        for linear in (self.qkv, self.mlp_in):  # no norm behind them: a current of about the threshold
            nn.init.normal_(linear.weight, std=2 * d**-0.5)

    def forward(self, x: Tensor, real: Tensor, old: Mapping[str, Tensor | None]) -> tuple[Tensor, State]:
        """Map `x [T, B, D]`, pads where `real [T, B, 1]` is False, from the state `old` to the next; None is rest."""
        new: State = {}
        s, new["v_in"] = self.lif_in(x, real, old["v_in"])
        s, new["v_qkv"] = self.lif_qkv(self.qkv(s), real, old["v_qkv"])
        y, new["sum"] = self.attend(*s.chunk(3, dim=-1), old["sum"])
        s, new["v_out"] = self.lif_out(y, real, old["v_out"])
        x = x + self.dropout(self.out(s))
        s, new["v_mlp"] = self.lif_mlp(x, real, old["v_mlp"])
        s, new["v_hidden"] = self.lif_hidden(self.mlp_in(s), real, old["v_hidden"])
        return x + self.dropout(self.mlp_out(s)), new
