"""Firing rates of the spiking layers of a model.

Shapes: B batch, L tokens, D width, T simulation steps. A recorded rate is [B, L, D] (or [B, ..., L, D]).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from snn_dt.snn.neuron_layers import SpikingLayer, spiking_modules
from snn_dt.snn.record import record

Mask = Tensor | dict[int, Tensor] | None
DEAD, SATURATED = 1e-3, 0.8


def layer_flag(firing_rate: float) -> str:
    """Return `dead` for a rate below 1e-3, `saturated` above 0.8: such a layer carries little information."""
    return "dead" if firing_rate < DEAD else "saturated" if firing_rate > SATURATED else ""


class Probe:
    """Record the firing rate of every layer of neurons of `model` while the context is open.

    ```
    with Probe(model) as probe:
        model(...)
    probe.firing_rates()        # {"blocks.0.mlp.lif": 0.12, ...}
    ```

    A layer that runs more than once in a forward is recorded as `name`, `name#2`, ...
    """

    def __init__(self, model: nn.Module) -> None:
        self._record = record(model, spiking_modules(model))

    def __enter__(self) -> Probe:
        self._record.__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._record.__exit__(kind, error, trace)

    @property
    def rates(self) -> dict[str, Tensor]:
        """The rates of the last forward by layer, not detached, so that a loss may use them."""
        return {name: rate for name, rate, _ in self._firing()}

    @property
    def sim_steps(self) -> dict[str, int]:
        """Over how many simulation steps each of the rates is a mean."""
        return {name: steps for name, _, steps in self._firing()}

    def _firing(self) -> Iterator[tuple[str, Tensor, int]]:
        runs: Counter[str] = Counter()
        for name, module, _, output in self._record.calls:
            runs[name] += 1
            # neurons without a layer return their spikes [T, ...] and a state
            rate, steps = module.firing(output) if isinstance(module, SpikingLayer) else spikes_of(output)
            yield (f"{name}#{runs[name]}" if runs[name] > 1 else name), rate, steps

    def firing_rates(self, mask: Mask = None) -> dict[str, float]:
        """Return spikes per neuron per simulation step of each layer, the mean over the tokens that `mask` marks True.

        `mask` [B, L], or {L: mask}, one for each L that occurs; a layer whose L has no mask counts all its tokens.
        """
        return {name: float(total / max(count, 1)) for name, total, count in self._totals(mask)}

    def spike_counts(self, mask: Mask = None) -> dict[str, int]:
        """Return the number of spikes of each layer in the last forward, over the tokens that `mask` marks True."""
        steps = self.sim_steps
        return {name: round(float(total) * steps[name]) for name, total, _ in self._totals(mask)}

    @torch.no_grad()
    def _totals(self, mask: Mask) -> Iterator[tuple[str, Tensor, int]]:
        masks = mask if isinstance(mask, dict) else {} if mask is None else {mask.shape[1]: mask}
        for name, rate, _ in self._firing():
            valid = masks.get(rate.shape[-2]) if rate.dim() >= 3 else None
            if valid is None:
                yield name, rate.sum(dtype=torch.float64), rate.numel()
            else:
                between = [1] * (rate.dim() - 3)
                valid = valid.reshape(valid.shape[0], *between, valid.shape[1], 1).expand_as(rate)  # [B, ..., L, D]
                yield name, rate[valid].sum(dtype=torch.float64), int(valid.sum())


def spikes_of(output: tuple[Tensor, Any]) -> tuple[Tensor, int]:
    """Return the mean over the steps of the spikes [T, ...] that neurons return with their state, and T."""
    return output[0].mean(0), len(output[0])
