"""Block of the streaming model. Each token advances every neuron by one step.

T tokens, B batch, D width, M width of the hidden layer of the MLP. Time comes first, `[T, B, D]`.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from snn_dt.model_config import ModelConfig
from snn_dt.models.decay import DecayAttention
from snn_dt.models.interface import State
from snn_dt.models.layers import SpikeLinear
from snn_dt.snn import TokenLIF, build_neuron


class StreamBlock(nn.Module):
    """Residual block: `x + W_o LIF(attend(LIF(W LIF(x))))` followed by `x + W_2 LIF(W_1 LIF(x))`.

    The input of each weight matrix is spikes.

    Attributes:
        state: row shape of each carried tensor by name: five membranes and the sum of attention.
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
        # No norm follows these two layers. This scale puts their initial currents near the threshold.
        for linear in (self.qkv, self.mlp_in):
            nn.init.normal_(linear.weight, std=2 * d**-0.5)

    def forward(self, x: Tensor, valid: Tensor, old: Mapping[str, Tensor | None]) -> tuple[Tensor, State]:
        """Map `x [T, B, D]` to the output `[T, B, D]` and the next state.

        `old` is the state before; None in it is rest. `valid [T, B, 1]` is False on pads.
        """
        new: State = {}
        s, new["v_in"] = self.lif_in(x, valid, old["v_in"])
        s, new["v_qkv"] = self.lif_qkv(self.qkv(s), valid, old["v_qkv"])  # [T, B, 3 D]
        y, new["sum"] = self.attend(*s.chunk(3, dim=-1), old["sum"])  # q, k, v [T, B, D] each
        s, new["v_out"] = self.lif_out(y, valid, old["v_out"])
        x = x + self.dropout(self.out(s))
        s, new["v_mlp"] = self.lif_mlp(x, valid, old["v_mlp"])
        s, new["v_hidden"] = self.lif_hidden(self.mlp_in(s), valid, old["v_hidden"])  # [T, B, M]
        return x + self.dropout(self.mlp_out(s)), new
