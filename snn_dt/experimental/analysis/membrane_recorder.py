"""Recorder of the currents, states, spikes and dL/dV of every neuron at every step.

Shapes: T simulation steps of the neuron; `...` any leading axes; N neurons on the last axis.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from snn_dt.snn import LIF, LIFState, variants
from snn_dt.snn.neuron_layers import spiking_modules


@dataclass
class Trace:
    """One run of a layer of neurons. The step with `currents[t]` [..., N] leads from `states[t]` to `states[t + 1]`."""

    neuron: LIF
    currents: list[Tensor] = field(default_factory=list)
    states: list[LIFState] = field(default_factory=list)
    spikes: list[Tensor] = field(default_factory=list)

    def state_gradients(self) -> list[Tensor]:
        """Return dL/dV after each step; call it after the backward pass."""
        grads = [state.v_mem.grad for state in self.states[1:]]
        return [torch.zeros_like(s.v_mem) if g is None else g for s, g in zip(self.states[1:], grads, strict=True)]


@contextmanager
def recording(model: nn.Module) -> Iterator[dict[str, Trace]]:
    """Record every run of every layer of neurons inside the context, by the layer's name.

    A second run of a layer is recorded as `name#2`; a model that is one layer of neurons as `neurons`. The neurons run
    step by step in plain torch, with the same results.
    """
    traces: dict[str, Trace] = {}
    found = {name: getattr(m, "neuron", m) for name, m in spiking_modules(model).items()}
    layers = {name or "neurons": neuron for name, neuron in found.items() if isinstance(neuron, LIF)}
    fused = {name: layer._fused for name, layer in layers.items()}
    for name, layer in layers.items():
        _record(layer, name, traces)
    try:
        yield traces
    finally:
        for name, layer in layers.items():
            layer._fused = fused[name]
            del layer.integrate, layer.rate  # the methods of the class are visible again


def _record(layer: LIF, name: str, traces: dict[str, Trace]) -> None:
    """Replace the layer's methods by recording ones."""

    def run(currents: list[Tensor], state: LIFState) -> Trace:
        trace, runs = Trace(layer, states=[state]), sum(key.partition("#")[0] == name for key in traces)
        traces[f"{name}#{runs + 1}" if runs else name] = trace
        for current in currents:
            s, state = variants.step(current, state, layer.constants, layer.leak, layer.v_threshold)
            if state.v_mem.requires_grad:
                state.v_mem.retain_grad()  # keeps dL/dV of a tensor that is no leaf
            trace.currents.append(current.detach())
            trace.states.append(state)
            trace.spikes.append(s)
        return trace

    def integrate(current: Tensor, state: LIFState | None = None) -> tuple[Tensor, LIFState]:
        # state of rest where none is given
        start = variants.begin(current.new_empty(current.shape[1:]), state, layer.constants)
        trace = run(list(current.unbind(0)), start)
        return torch.stack(trace.spikes), trace.states[-1]  # [T, ..., N]

    def rate(current: Tensor, sim_steps: int) -> Tensor:
        # rate coding: the same current in all steps
        trace = run([current] * sim_steps, variants.rest(current, layer.constants))
        return torch.stack(trace.spikes).mean(0)  # mean over the steps, [..., N]

    layer._fused = False  # otherwise a norm before the neurons is fused with them
    layer.integrate, layer.rate = integrate, rate  # type: ignore[method-assign]  # undone by `recording`
