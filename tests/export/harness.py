"""Run a policy and its C side by side, with the spikes of every layer."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest
import torch

from snn_dt.evaluation.environments import make_environment
from snn_dt.export.c_policy import write_c
from snn_dt.export.compiled_policy import CompiledPolicy, c_compiler, compile_c
from snn_dt.snn.neuron_layers import RateLIF, SpikingLayer, TokenLIF

needs_compiler = pytest.mark.skipif(c_compiler() is None, reason="needs a C compiler: apt install gcc")
TIE = 1e-4
"""Distance from the threshold, in volts, below which rounding decides whether a neuron fires."""
TRACE = """
#include <stdint.h>
static uint16_t traced[1 << 20];
uint16_t *trace = traced;
uint32_t trace_length;
static void record(const uint16_t *fired, int count) {
    traced[trace_length++] = (uint16_t)count;
    for (int i = 0; i < count; ++i) traced[trace_length++] = fired[i];
}
#define ON_SPIKES(fired, count) record(fired, count)
#include "policy.c"
"""


def build(policy, folder: Path, weights: str = "float32", name: str = "policy") -> CompiledPolicy:
    """Export and compile a policy so that it records its spikes."""
    write_c(policy, folder, weights, name)
    (folder / "trace.c").write_text(TRACE.replace("policy.c", f"{name}.c"))
    return CompiledPolicy(compile_c(folder / "trace.c", folder / f"{name}.so"))


def spikes_of_c(compiled: CompiledPolicy) -> list[list[int]]:
    """Return the neurons that fired in the last decision, layer by layer in the order of the computation."""
    length = ctypes.c_uint32.in_dll(compiled._library, "trace_length")
    words = ctypes.POINTER(ctypes.c_uint16).in_dll(compiled._library, "trace")[: length.value]
    length.value = 0
    layers = []
    while words:
        count = words.pop(0)
        layers.append(words[:count])
        del words[:count]
    return layers


class Recorder:
    """Hooks on the layers of neurons of a model: the membrane before the reset of each, in the order of the calls."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.layers: list[tuple[torch.Tensor, float]] = []
        for module in model.modules():
            if isinstance(module, TokenLIF):
                module.register_forward_hook(self._token)
            elif isinstance(module, RateLIF):
                module.register_forward_hook(self._rate)

    def _token(self, module: SpikingLayer, inputs, output) -> None:
        current, valid, v = inputs
        current = current if module.norm is None else module.norm(current)
        charge = (1 - module.neuron.leak) * v + current * valid
        self.layers.append((charge.flatten(), float(module.neuron.v_threshold)))

    def _rate(self, module: SpikingLayer, inputs, output) -> None:
        current = inputs[0] if module.norm is None else module.norm(inputs[0])
        self.layers.append((current, float(module.neuron.v_threshold)))

    def take(self) -> list[tuple[torch.Tensor, float]]:
        """Return the layers since the last call."""
        layers, self.layers = self.layers, []
        return layers


def is_tie(ours: list[list[int]], theirs: list[tuple[torch.Tensor, float]]) -> bool:
    """Compare the spikes of a decision. False: all are equal. True: the first that differ are at the threshold.

    Spikes that differ elsewhere fail the test.
    """
    assert len(ours) == len(theirs)
    for i, (fired, (charge, threshold)) in enumerate(zip(ours, theirs, strict=True)):
        differ = set(fired) ^ set((charge >= threshold).nonzero().flatten().tolist())
        if differ:
            distance = (charge[list(differ)] - threshold).abs().max()
            assert distance < TIE, f"layer {i}: neurons {differ} are {distance:.2g} V from the threshold"
            return True
    return False


def run_together(policy, compiled: CompiledPolicy, steps: int, compare) -> tuple[float, int]:
    """Act in the policy's environment with both and return the largest difference of actions and the number of ties.

    After a tie both begin a new episode, since from there on their membranes differ.
    """
    env, recorder = make_environment(policy), Recorder(policy.model)
    worst, ties, over = 0.0, 0, True
    for i in range(steps):
        if over:
            observation, _ = env.reset(seed=i)
            policy.reset()
            compiled.reset()
        ours, theirs = policy.act(observation), compiled.act(observation)
        spikes, layers = spikes_of_c(compiled), recorder.take()
        assert compiled.spikes == sum(map(len, spikes))
        tie = compare(spikes, layers)
        ties += tie
        if not tie:
            worst = max(worst, float(np.abs(np.asarray(ours) - np.asarray(theirs)).max()))
        observation, reward, terminated, truncated, _ = env.step(ours)
        policy.observe(reward)
        compiled.observe(float(reward))
        over = terminated or truncated or tie
    env.close()
    return worst, ties
