"""Record the firing rates of the spiking layers of a model.

Shapes: B batch, L tokens, D width, T simulation steps. A recorded rate is [B, L, D] (or [B, ..., L, D]).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from snn_dt.snn.backends import wide
from snn_dt.snn.neuron_layers import SpikingLayer, spiking_modules
from snn_dt.snn.record import record

Mask = Tensor | dict[int, Tensor] | None
DEAD, SATURATED = 1e-3, 0.8


def layer_flag(firing_rate: float) -> str:
    """Flag layers that carry little information: `dead` below a rate of 1e-3 and `saturated` above 0.8."""
    return "dead" if firing_rate < DEAD else "saturated" if firing_rate > SATURATED else ""


class Probe:
    """Record the firing rate of every spiking layer of `model` while the context is open.

    ```
    with Probe(model) as probe:
        model(...)
    probe.firing_rates()        # {"blocks.0.mlp.lif": 0.12, ...}
    ```

    A layer that runs several times in a forward is recorded as `name` and then `name#2`, `name#3` etc.
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
        """Rates of the last forward by layer. They are not detached, so a loss can use them."""
        return {name: rate for name, rate, _ in self._firing()}

    @property
    def sim_steps(self) -> dict[str, int]:
        """Number of simulation steps that each rate is averaged over."""
        return {name: steps for name, _, steps in self._firing()}

    def _firing(self) -> Iterator[tuple[str, Tensor, int]]:
        runs: Counter[str] = Counter()
        for name, module, _, output in self._record.calls:
            runs[name] += 1
            # A neuron module outside a `SpikingLayer` returns spikes [T, ...] and its state.
            rate, steps = module.firing(output) if isinstance(module, SpikingLayer) else spikes_of(output)
            yield (f"{name}#{runs[name]}" if runs[name] > 1 else name), rate, steps

    def firing_rates(self, mask: Mask = None) -> dict[str, float]:
        """Return the mean firing rate of each layer in spikes per neuron per simulation step.

        `mask` [B, L] selects the tokens that count. A dictionary {L: mask} gives one mask per number of tokens. A layer
        whose L has no mask counts all its tokens.
        """
        return {name: float(total / max(count, 1)) for name, total, count in self._totals(mask)}

    def spike_counts(self, mask: Mask = None) -> dict[str, int]:
        """Return the number of spikes of each layer in the last forward over the tokens selected by `mask`."""
        steps = self.sim_steps
        return {name: round(float(total) * steps[name]) for name, total, _ in self._totals(mask)}

    @torch.no_grad()
    def _totals(self, mask: Mask) -> Iterator[tuple[str, Tensor, int]]:
        masks = mask if isinstance(mask, dict) else {} if mask is None else {mask.shape[1]: mask}
        for name, rate, _ in self._firing():
            # A rate of 1 or 2 dimensions has no batch and token axes that a mask could select.
            valid = masks.get(rate.shape[-2]) if rate.dim() >= 3 else None
            if valid is None:
                yield name, rate.sum(dtype=wide(rate.device)), rate.numel()
            else:
                between = [1] * (rate.dim() - 3)
                valid = valid.reshape(valid.shape[0], *between, valid.shape[1], 1).expand_as(rate)  # [B, ..., L, D]
                yield name, rate[valid].sum(dtype=wide(rate.device)), int(valid.sum())


def spikes_of(output: tuple[Tensor, Any]) -> tuple[Tensor, int]:
    """Return the mean over steps of the spikes [T, ...] in a neuron's output (spikes and state). Also return T."""
    return output[0].mean(0), len(output[0])
