"""The meter: operations of the decisions of a model, as sums and as the mean of one decision."""

from __future__ import annotations

import time
import warnings
from collections import defaultdict
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from snn_dt.energy.baselines import (
    cached_count,
    cached_decision_transformer,
    decision_transformer,
    dense_count,
    same_tokens,
)
from snn_dt.energy.costs import Call, Real, declared
from snn_dt.energy.counts import Count, EnergyTable
from snn_dt.energy.memory import VALUE_BYTES, kept_bytes, state_bytes, traffic_bytes
from snn_dt.energy.recorder import Recorder
from snn_dt.models.encoders import kept_dim
from snn_dt.models.interface import decides_from_state, is_streaming
from snn_dt.snn.backends import wide
from snn_dt.snn.probe import layer_flag

Modules = dict[str, dict[str, float]]
KEPT = "kept keys and values"
RATIOS = ("energy_vs_same_tokens", "energy_vs_dt", "energy_vs_cached_dt", "memory_vs_cached_dt", "total_vs_cached_dt")
"""Names of the comparisons with baselines."""


class DecisionMeter:
    """Counts the operations of a model's decisions. The context may be opened again; the counts add up.

    ```
    with DecisionMeter(model) as meter:
        model(..., mask, last_only=True)
        meter.count(mask)               # after each forward; mask [B, K]: B decisions
    meter.summary()
    ```

    Attributes:
        by_module: operations per module, summed over decisions. Parts are `<module>.norm`, `.softmax`, `.residual`.
        state_bytes, traffic_bytes: bytes of each module, summed over decisions.
        parameter_bytes: bytes of the weights of each module.
        uncounted: modules without an energy rule (`costs.py`). A warning names them. This package's models have none.
        decisions: number of decisions.
        seconds: time spent counting.
    """

    def __init__(self, model: nn.Module, table: EnergyTable | None = None) -> None:
        self.model: Any = model  # torch types the attributes of a module as Tensor or Module
        self.table = table or EnergyTable()
        self.by_module: dict[str, Count] = defaultdict(Count)
        self.state_bytes: dict[str, float] = defaultdict(float)
        self.traffic_bytes: dict[str, float] = defaultdict(float)
        self.decisions = 0
        self.seconds = 0.0
        self._steps = self._steps_squared = self._first = self._beyond = 0.0
        self._recorder = Recorder(model)
        if self.uncounted:
            warnings.warn(
                f"expected an energy rule for every module, found none for {', '.join(self.uncounted)}: the counts are "
                "without them; register one with snn_dt.energy.costs",
                stacklevel=2,
            )

    def __enter__(self) -> DecisionMeter:
        self._recorder.__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._recorder.__exit__(kind, error, trace)

    @property
    def parameter_bytes(self) -> dict[str, float]:
        """Bytes of weights per module."""
        return self._recorder.parameter_bytes

    @property
    def uncounted(self) -> list[str]:
        """Names of modules without an energy rule."""
        return self._recorder.unknown

    @torch.no_grad()
    def count(self, attention_mask: Tensor, steps: Tensor | None = None) -> None:
        """Add the last forward of the model, made with `attention_mask [B, K]` and `last_only=True`.

        `steps [B]` is the number of steps of each episode so far, this one included. A model that decides from a state
        needs it, because its forward has one step. The baselines are counted on this many steps, up to the attention
        span or context.
        """
        begin = time.perf_counter()
        tokens_first, span = is_streaming(self.model), getattr(self.model, "attention_span", None)
        if steps is not None and span is not None:
            masks = self.model.decision_masks(steps)
            stored, read = kept_bytes(self.model, steps)
            self.state_bytes[KEPT] += stored
            self.traffic_bytes[KEPT] += read
        else:
            # A module works on the steps, on all tokens or on the last token. The length of its tensors tells which.
            tokens, context = self.model.token_mask(attention_mask), attention_mask.shape[1]
            masks = {1: attention_mask[:, -1:], context: attention_mask, tokens.shape[1]: tokens}
        real = Real(masks)
        for name, module, inputs, output in self._recorder.calls:
            self._add(name, module, Call(inputs, output, real, tokens_first))
        longest = span or self.model.context_length
        if steps is not None and not decides_from_state(self.model):
            longest = min(longest, attention_mask.shape[1])  # a policy may decide on fewer steps than in training
        age = attention_mask.sum(1) if steps is None else steps
        fill = age.clamp(max=longest)
        fill = fill.to(wide(fill.device))
        self._first += float((age == 1).sum())
        # A full window is as good as always one of a longer episode.
        self._beyond += float((age >= longest if steps is None else age > longest).sum())
        self._steps += float(fill.sum())
        self._steps_squared += float(fill.square().sum())
        self.state_bytes["inputs"] += float(attention_mask.sum()) * self._bytes_of_a_step()
        self.decisions += len(attention_mask)
        self.seconds += time.perf_counter() - begin

    def _add(self, name: str, module: nn.Module, call: Call) -> None:
        found = declared(module)
        assert found is not None
        assert found.rule is not None
        cost = found.rule(module, call)
        parts = cost if isinstance(cost, dict) else {"": cost}
        named = {f"{name}.{part}" if part else name: count for part, count in parts.items()}
        for part, count in named.items():
            self.by_module[part] += count
        if named:
            # Weights and state belong to the module as a whole, so its first part carries them.
            first, count = next(iter(named.items()))
            self.state_bytes[first] += state_bytes(module, call, count)
            self.traffic_bytes[first] += traffic_bytes(module, call, count, self.parameter_bytes[name])

    def _bytes_of_a_step(self) -> float:
        model = self.model  # return-to-go, state, action, timestep
        return VALUE_BYTES * (1 + kept_dim(model) + (1 if model.discrete else model.action_dim) + 1)

    def total(self) -> Count:
        """Return the mean count of one decision over the whole network."""
        return sum(self.by_module.values(), Count()) / max(self.decisions, 1)

    def total_with_memory(self) -> Count:
        """Return `total` with the bytes that a decision moves."""
        return self.total() + Count(memory_bytes=sum(self.traffic_bytes.values()) / max(self.decisions, 1))

    def firing_rates(self) -> dict[str, float]:
        """Return the spikes per neuron and simulation step of each spiking layer."""
        return {n: c.spikes / c.neuron_updates for n, c in self.by_module.items() if c.neuron_updates}

    def yardsticks(self) -> dict[str, float | None]:
        """Return the energy relative to the baselines on the same contexts; None for a model without a config.

        Next to the energy of the operations that of the memory traffic, and of both, relative to the baseline that
        keeps keys and values.
        """
        config, task = getattr(self.model, "config", None), getattr(self.model, "task", None)
        if config is None or task is None or not self.decisions:
            return dict.fromkeys(RATIOS)
        # The cost of a window is quadratic in the context, so two moments are enough.
        n = self.decisions
        steps, squared, first, beyond = (x / n for x in (self._steps, self._steps_squared, self._first, self._beyond))
        same, standard = (
            dense_count(twin(config), task, steps, squared) for twin in (same_tokens, decision_transformer)
        )
        cached = cached_count(cached_decision_transformer(config), task, steps, first, beyond)
        own, table = self.total_with_memory(), self.table
        ratios = [table.energy_pj(own) / table.energy_pj(each) for each in (same, standard, cached)]
        memory, total = own.memory_bytes / cached.memory_bytes, table.total_pj(own) / table.total_pj(cached)
        return dict(zip(RATIOS, (*ratios, memory, total), strict=True))

    def modules(self) -> Modules:
        """Return the cost of a decision by module. Modules that cost nothing are left out."""
        n = max(self.decisions, 1)
        rows = {}
        for name in (*self.by_module, "inputs", KEPT):
            count = self.by_module.get(name, Count()) / n
            row = {
                "macs": count.macs,
                "acs": count.acs,
                "neuron_updates": count.neuron_updates,
                "spikes": count.spikes,
                "energy_pj": self.table.energy_pj(count),
                "parameter_bytes": self.parameter_bytes.get(name, 0.0),
                "state_bytes": self.state_bytes.get(name, 0.0) / n,
                "memory_bytes": self.traffic_bytes.get(name, 0.0) / n,
            }
            if any(row.values()):
                rows[name] = row
        return rows

    def summary(self) -> dict[str, Any]:
        """Return the counts of one decision under the names of `snn-dt evaluate --json`."""
        total, n, rates = self.total(), max(self.decisions, 1), self.firing_rates()
        updates = sum(self.by_module[name].neuron_updates for name in rates)
        spikes = sum(self.by_module[name].spikes for name in rates)
        traffic = sum(self.traffic_bytes.values()) / n
        return {
            "spikes_per_decision": total.spikes,
            "firing_rate": spikes / updates if updates else 0.0,
            "firing_rates": rates,
            "layer_flags": {name: layer_flag(rate) for name, rate in rates.items() if layer_flag(rate)},
            "macs_per_decision": total.macs,
            "acs_per_decision": total.acs,
            "neuron_updates_per_decision": total.neuron_updates,
            "energy_pj_per_decision": self.table.energy_pj(total),
            **self.yardsticks(),
            "energy_constants": self.table.source,
            "uncounted": self.uncounted,
            "context_steps": self._steps / n,
            "parameter_bytes": sum(self.parameter_bytes.values()),
            "state_bytes": sum(self.state_bytes.values()) / n,
            "memory_bytes_per_decision": traffic,
            "memory_pj_per_decision": self.table.byte_pj * traffic,
            "total_pj_per_decision": self.table.total_pj(self.total_with_memory()),
            "by_module": self.modules(),
        }


def by_part(modules: Modules) -> Modules:
    """Sum the rows of `by_module` over the parts of a model: `embedding`, `blocks.0.attention`, `blocks.0.mlp`, ..."""
    parts: Modules = {}
    for name, row in modules.items():
        pieces = name.split(".")
        # A block is split into its attention and its MLP; other parts are not split.
        depth = 1 if pieces[0] != "blocks" else 3 if pieces[2] in ("attention", "mlp") else 2
        part = parts.setdefault(".".join(pieces[:depth]), dict.fromkeys(row, 0.0))
        for key, value in row.items():
            part[key] += value
    return parts
