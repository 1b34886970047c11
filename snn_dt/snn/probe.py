"""Firing rates of a model's spiking layers, read from outside through forward hooks.

Shapes: B batch, L tokens, D width, T simulation steps. A recorded rate is [B, L, D] (or [B, ..., L, D]).
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from snn_dt.snn.neurons import LIF, RateLIF

Mask = Tensor | dict[int, Tensor] | None
DEAD, SATURATED = 1e-3, 0.8


def layer_flag(firing_rate: float) -> str:
    """Return `dead` for a layer's rate below 1e-3, `saturated` above 0.8: it tells the next layer next to nothing."""
    return "dead" if firing_rate < DEAD else "saturated" if firing_rate > SATURATED else ""


class Probe:
    """Record the firing rate of every `LIF` and `RateLIF` of `model` while the context is open.

    ```
    with Probe(model) as probe:
        model(...)
    probe.firing_rates()        # {"blocks.0.mlp.lif": 0.12, ...}
    ```

    `rates` maps layer names to the rates of the model's last forward, not detached, so that a loss may use them;
    `sim_steps` maps them to T. A layer that runs more than once in a forward is recorded as `name`, `name#2`, ...
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.rates: dict[str, Tensor] = {}
        self.sim_steps: dict[str, int] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> Probe:
        self._handles.append(self.model.register_forward_pre_hook(self._clear))
        for name, layer in self.model.named_modules():
            if isinstance(layer, LIF):
                self._handles.append(layer.register_forward_hook(self._recorder(name)))
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        while self._handles:
            self._handles.pop().remove()

    def _clear(self, model: nn.Module, inputs: Any) -> None:
        self.rates.clear()
        self.sim_steps.clear()

    def _recorder(self, name: str) -> Any:
        def record(layer: LIF, inputs: Any, output: Any) -> None:
            calls = sum(key.partition("#")[0] == name for key in self.rates)
            key = f"{name}#{calls + 1}" if calls else name
            if isinstance(layer, RateLIF):
                self.rates[key], self.sim_steps[key] = output, layer.sim_steps
            else:
                spikes = output if torch.is_tensor(output) else output[0]
                self.rates[key], self.sim_steps[key] = spikes.mean(0), spikes.shape[0]

        return record

    def firing_rates(self, mask: Mask = None) -> dict[str, float]:
        """Return spikes per neuron per simulation step of each layer, the mean over the tokens that `mask` marks True.

        `mask` [B, L], or {L: mask}, one for each L that occurs; a layer whose L has no mask counts all its tokens.
        """
        return {name: float(total / max(count, 1)) for name, total, count in self._totals(mask)}

    def spike_counts(self, mask: Mask = None) -> dict[str, int]:
        """Return the number of spikes of each layer in the last forward, over the tokens that `mask` marks True."""
        return {name: round(float(total) * self.sim_steps[name]) for name, total, _ in self._totals(mask)}

    @torch.no_grad()
    def _totals(self, mask: Mask) -> Iterator[tuple[str, Tensor, int]]:
        masks = mask if isinstance(mask, dict) else {} if mask is None else {mask.shape[1]: mask}
        for name, rate in self.rates.items():
            real = masks.get(rate.shape[-2]) if rate.dim() >= 3 else None
            if real is None:
                yield name, rate.sum(dtype=torch.float64), rate.numel()
            else:
                real = real.reshape(real.shape[0], *[1] * (rate.dim() - 3), real.shape[1], 1).expand_as(
                    rate
                )  # [B, .., L, 1]
                yield name, rate[real].sum(dtype=torch.float64), int(real.sum())
