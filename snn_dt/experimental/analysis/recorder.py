"""What every neuron of a model did in a forward pass, and how the loss depends on its membrane at every step.

Shapes: T steps of the neuron's own time; `...` any, N neurons on the last axis.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from snn_dt.snn import LIF, LIFState, variants
from snn_dt.snn.layers import spiking_modules


@dataclass
class Trace:
    """One run of a layer of neurons: `currents[t]` [..., N] takes `states[t]` to `states[t + 1]`."""

    neuron: LIF
    currents: list[Tensor] = field(default_factory=list)
    states: list[LIFState] = field(default_factory=list)
    spikes: list[Tensor] = field(default_factory=list)

    def state_gradients(self) -> list[Tensor]:
        """Return dL/dV after each step, once the loss has been sent back."""
        grads = [state.v_mem.grad for state in self.states[1:]]
        return [torch.zeros_like(s.v_mem) if g is None else g for s, g in zip(self.states[1:], grads, strict=True)]


@contextmanager
def recording(model: nn.Module) -> Iterator[dict[str, Trace]]:
    """Record every run of every layer of neurons while the context is open, by the layer's name.

    A second run of a layer is recorded as `name#2`. The neurons run step by step in plain torch; what they return is
    the same. A model that is one layer of neurons is recorded as `neurons`.
    """
    traces: dict[str, Trace] = {}
    found = {name: getattr(m, "neuron", m) for name, m in spiking_modules(model).items()}
    layers = {name or "neurons": neuron for name, neuron in found.items() if isinstance(neuron, LIF)}
    fused = {name: layer._fused for name, layer in layers.items()}
    for name, layer in layers.items():
        _watch(layer, name, traces)
    try:
        yield traces
    finally:
        for name, layer in layers.items():
            layer._fused = fused[name]
            del layer.integrate, layer.rate


def _watch(layer: LIF, name: str, traces: dict[str, Trace]) -> None:
    """Put recording methods in the place of the layer's own."""

    def run(currents: list[Tensor], state: LIFState) -> Trace:
        trace, runs = Trace(layer, states=[state]), sum(key.partition("#")[0] == name for key in traces)
        traces[f"{name}#{runs + 1}" if runs else name] = trace
        for current in currents:
            s, state = variants.step(current, state, layer.constants, layer.leak, layer.v_threshold)
            if state.v_mem.requires_grad:
                state.v_mem.retain_grad()
            trace.currents.append(current.detach())
            trace.states.append(state)
            trace.spikes.append(s)
        return trace

    def integrate(current: Tensor, state: LIFState | None = None) -> tuple[Tensor, LIFState]:
        start = variants.begin(current.new_empty(current.shape[1:]), state, layer.constants)
        trace = run(list(current.unbind(0)), start)
        return torch.stack(trace.spikes), trace.states[-1]

    def rate(current: Tensor, sim_steps: int) -> Tensor:
        trace = run([current] * sim_steps, variants.rest(current, layer.constants))
        return torch.stack(trace.spikes).mean(0)

    layer._fused = False  # a norm in front of the neurons is then computed by itself
    layer.integrate, layer.rate = integrate, rate  # type: ignore[method-assign]
