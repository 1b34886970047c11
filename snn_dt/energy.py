"""What one decision costs: operations of the whole network, counted on the forwards that a rollout really makes.

A decision is one action of one environment, recomputed from its context window; pads cost nothing. Counted are

- `macs`: multiply-accumulates on analogue values: embedding, head, dense layers, norms, softmax, position code;
- `acs`: accumulates: one per spike and output of a spike-driven layer, attention products with spike counts included,
  and the additions of positions and residual branches;
- `neuron_updates`: one per neuron and simulation step (a leak is a multiply-accumulate, and is priced as one);
- `spikes`: of all LIF neurons and position generators.

A linear layer's bias is the initial value of its accumulator and costs nothing. Memory traffic is not in the energy.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from snn_dt.models.blocks import Block
from snn_dt.models.embedding import TokenEmbedding
from snn_dt.models.layers import ActionHead, SpikeLinear, TimedLIF
from snn_dt.models.mixing import SoftmaxAttention, SpikeAttention
from snn_dt.models.positions import PhasePositions, SinusoidalPositions
from snn_dt.models.tokens import Tokens
from snn_dt.snn import RateLIF

# Multiply-accumulates of exp, tanh, sin or cos: range reduction and a cubic polynomial.
TRANSCENDENTAL_MACS = 4.0
# Of LayerNorm, per element: variance, scaling, affine; and its accumulates: mean, centring.
NORM_MACS, NORM_ACS = 3.0, 2.0


@dataclass(frozen=True)
class EnergyTable:
    """Picojoules per operation; the default is 32-bit floating point in 45 nm (Horowitz, ISSCC 2014)."""

    mac_pj: float = 4.6
    ac_pj: float = 0.9
    source: str = "45 nm, 32-bit float, Horowitz 2014"

    def energy_pj(self, count: Count) -> float:
        """Price a count."""
        return self.mac_pj * (count.macs + count.neuron_updates) + self.ac_pj * count.acs


@dataclass(frozen=True)
class Count:
    """Operations and spikes."""

    macs: float = 0.0
    acs: float = 0.0
    neuron_updates: float = 0.0
    spikes: float = 0.0

    def __add__(self, other: Count) -> Count:
        return Count(
            self.macs + other.macs,
            self.acs + other.acs,
            self.neuron_updates + other.neuron_updates,
            self.spikes + other.spikes,
        )

    def __truediv__(self, n: float) -> Count:
        return Count(self.macs / n, self.acs / n, self.neuron_updates / n, self.spikes / n)


class DecisionMeter:
    """Counts the decisions of a model while the context is open: call `count(mask)` after each forward.

    ```
    with DecisionMeter(model) as meter:
        model(..., mask, last_only=True)
        meter.count(mask)               # mask [B, K]: B decisions
    meter.summary()
    ```

    Attributes:
        by_module: totals per module name.
        decisions: number of them.
        seconds: time spent counting.
    """

    def __init__(self, model: nn.Module, table: EnergyTable | None = None) -> None:
        self.model, self.table = model, table or EnergyTable()
        self.by_module: dict[str, Count] = defaultdict(Count)
        self.decisions = 0
        self.seconds = 0.0
        self._calls: list[tuple[str, nn.Module, tuple[Any, ...], Tensor]] = []
        self._handles: list[Any] = []

    def __enter__(self) -> DecisionMeter:
        self._handles.append(self.model.register_forward_pre_hook(lambda *_: self._calls.clear()))
        within = {m.norm for m in self.model.modules() if isinstance(m, RateLIF | TimedLIF)}
        for name, module in self.model.named_modules():
            if isinstance(module, _COUNTED) and module not in within:
                self._handles.append(module.register_forward_hook(self._recorder(name)))
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        while self._handles:
            self._handles.pop().remove()
        self._calls.clear()

    def _recorder(self, name: str) -> Any:
        return lambda module, inputs, output: self._calls.append((name, module, inputs, output))

    @torch.no_grad()
    def count(self, attention_mask: Tensor) -> None:
        """Add the model's last forward, made with `attention_mask [B, K]` and `last_only=True`."""
        begin = time.perf_counter()
        tokens = self.model.token_mask(attention_mask)
        # A module works on the steps, on all tokens or on the last token only; its length says on which.
        real = {1: attention_mask[:, -1:], attention_mask.shape[1]: attention_mask, tokens.shape[1]: tokens}
        for name, module, inputs, output in self._calls:
            self.by_module[name] += _cost(module, inputs, output, real)
        self.decisions += len(attention_mask)
        self.seconds += time.perf_counter() - begin

    def total(self) -> Count:
        """Return the mean count of one decision, whole network."""
        return sum(self.by_module.values(), Count()) / max(self.decisions, 1)

    def firing_rates(self) -> dict[str, float]:
        """Return spikes per neuron and simulation step, of each spiking layer."""
        return {n: c.spikes / c.neuron_updates for n, c in self.by_module.items() if c.neuron_updates}

    def summary(self) -> dict[str, Any]:
        """Return the counts of one decision under the names that `snn-dt evaluate --json` writes."""
        total = self.total()
        lif = [c for c in self.by_module.values() if c.neuron_updates]
        updates = sum(c.neuron_updates for c in lif)
        return {
            "spikes_per_decision": total.spikes,
            "firing_rate": sum(c.spikes for c in lif) / updates if updates else 0.0,
            "firing_rates": self.firing_rates(),
            "macs_per_decision": total.macs,
            "acs_per_decision": total.acs,
            "neuron_updates_per_decision": total.neuron_updates,
            "energy_pj_per_decision": self.table.energy_pj(total),
        }


def _cost(module: nn.Module, inputs: tuple[Any, ...], output: Tensor, real: dict[int, Tensor]) -> Count:
    """Count one call of one module; `real {length: [B, length]}` marks what is no pad."""
    mask = real[output.shape[-2]]
    steps = output.shape[0] if output.dim() == 4 else 1  # of simulation time, that this module works through
    n, width = float(mask.sum()) * steps, output.shape[-1]
    if isinstance(module, RateLIF | TimedLIF):
        own = Count(neuron_updates=n * width * module.sim_steps / steps, spikes=_spikes(output, mask, module.sim_steps))
        return own if module.norm is None else own + _norm_cost(inputs[0], mask)
    if isinstance(module, SpikeLinear):
        return Count(acs=_spikes(inputs[0], mask, module.sim_steps) * width)
    if isinstance(module, SoftmaxAttention):
        return _attention_cost(module, *inputs, mask, real)
    if isinstance(module, PhasePositions):
        generators = module.cycles.numel()
        spikes = float((module.spikes(inputs[0]) * mask[..., None]).sum())
        return Count(macs=n * generators * (1 + TRANSCENDENTAL_MACS), spikes=spikes)
    if isinstance(module, SinusoidalPositions):
        return Count(macs=n * width * (1 + TRANSCENDENTAL_MACS))
    if isinstance(module, ActionHead):
        squash = TRANSCENDENTAL_MACS + 1 if module.bounded else 0
        return Count(macs=n * width * (module.in_features + squash))
    if isinstance(module, nn.Linear):
        return Count(macs=n * module.in_features * width)
    if isinstance(module, nn.LayerNorm):
        return _norm_cost(output, mask)
    if isinstance(module, Block):
        return Count(acs=2 * n * width)  # two residual additions
    return Count(acs=n * width)  # ReLU compares, the embedding adds positions: one addition per element


def _norm_cost(x: Tensor, mask: Tensor) -> Count:
    """Layer norm of `x [(T,) B, L, D]`."""
    n = float(mask.sum()) * x.shape[-1] * (len(x) if x.dim() == 4 else 1)
    return Count(macs=n * NORM_MACS, acs=n * NORM_ACS)


def _spikes(x: Tensor, mask: Tensor, sim_steps: int) -> float:
    """Count the spikes in trains `[T, B, L, D]` or rates `[B, L, D]`, over the tokens that `mask [B, L]` marks."""
    spikes = float((x * mask[..., None]).sum(dtype=torch.float64))
    return spikes if x.dim() == 4 else spikes * sim_steps


def _attention_cost(
    module: SoftmaxAttention, q: Tensor, k: Tensor, v: Tensor, tokens: Tokens, mask: Tensor, real: dict[int, Tensor]
) -> Count:
    """Products, scores and softmax over the pairs (query, key) that are real and allowed."""
    pairs = tokens.asked[:, 0] & mask[..., None] & real[k.shape[-2]][:, None]  # [B, Q, L]
    keys_per_query, queries_per_key = pairs.sum(2), pairs.sum(1)
    n_pairs = float(pairs.sum())
    # Per score and head: exp and division, and the sum below the division.
    softmax = Count(macs=n_pairs * module.n_heads * (TRANSCENDENTAL_MACS + 1), acs=n_pairs * module.n_heads)
    if not isinstance(module, SpikeAttention):
        return softmax + Count(macs=2 * n_pairs * q.shape[-1])
    steps = 1 if q.dim() == 4 else module.sim_steps
    q_spikes = (q.sum(-1, dtype=torch.float64) * keys_per_query).sum()
    v_spikes = (v.sum(-1, dtype=torch.float64) * queries_per_key).sum()
    return softmax + Count(acs=float(q_spikes + v_spikes) * steps)


_COUNTED = (
    RateLIF, TimedLIF, SpikeLinear, SoftmaxAttention, PhasePositions, SinusoidalPositions, nn.Linear, nn.LayerNorm,
    nn.ReLU, Block, TokenEmbedding,
)  # fmt: skip
