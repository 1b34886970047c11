"""Run a policy and its C side by side, with the spikes of every layer."""

from __future__ import annotations

import ctypes
import dataclasses
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from snn_dt.export.c_policy import write_c
from snn_dt.export.compiled_policy import CompiledPolicy, c_compiler, compile_c
from snn_dt.models.goals import goal_norms
from snn_dt.models.positions import note_longest_episode
from snn_dt.snn.neuron_layers import SpikingLayer, TokenLIF
from tests.conftest import make_model
from tests.policies import make_policy, shape_of

SEEN = gym.spaces.Box(-10, 10, (4,), np.float32)
BOX = gym.spaces.Box(-1, 1, (3,), np.float32)
needs_compiler = pytest.mark.skipif(c_compiler() is None, reason="needs a C compiler: apt install gcc")
TIE = 1e-4
"""Distance from the threshold, in volts, below which rounding decides whether a neuron fires."""
TRACE = """
#include <stdint.h>
static uint16_t traced[1 << 20];
uint16_t *trace = traced;
uint32_t trace_length;
void record(const uint16_t *fired, int count);
void record(const uint16_t *fired, int count) {
    traced[trace_length++] = (uint16_t)count;
    for (int i = 0; i < count; ++i) traced[trace_length++] = fired[i];
}
#define ON_SPIKES(fired, count) record(fired, count)
#include "policy.c"
"""


def goal_policy(kind: str):
    """A policy with random weights, goals in three bins and a scale of 100."""
    config, task = shape_of(SEEN, BOX, kind)
    span = {} if kind == "snn_dt_stream" else {"attention_span": 4, "context_length": 8}
    config, task = dataclasses.replace(config, goal="bins", **span), dataclasses.replace(task, goal_edges=(0.2, 0.5))
    model, generator = make_model(config, task, 3), torch.Generator().manual_seed(0)
    note_longest_episode(model, 30)
    with torch.no_grad():
        for norm in goal_norms(model):
            norm.gain.normal_(generator=generator)
            norm.shift.normal_(generator=generator)
    return make_policy(SEEN, BOX, model=model, rtg_scale=100.0, bin_returns=(15.0, 23.0, 100.0))


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
    """Hooks on the layers of neurons of a model: layer and current of each call in order."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.calls: list[tuple[SpikingLayer, tuple]] = []
        for module in model.modules():
            if isinstance(module, SpikingLayer):
                module.register_forward_hook(lambda layer, inputs, output: self.calls.append((layer, inputs)))

    @torch.inference_mode()
    def take(self) -> list[tuple[SpikingLayer, torch.Tensor, torch.Tensor]]:
        """Return layer, current `[D]` and membrane before, in the order of the C, of the calls since the last one."""
        calls, self.calls = self.calls, []
        found = []
        for layer, (x, *state) in calls:
            current = x if layer.norm is None else layer.norm(x)
            found.append((layer, current.flatten(0, 1), state[1][0] if state else torch.zeros(x.shape[-1])))
        if isinstance(calls[0][0], TokenLIF):
            return [(layer, current[0], v) for layer, current, v in found]
        # 7 layers a block: in, query, key, value, out, mlp, hidden. The C goes token by token, and in a block through
        # in, key, value, query, out, mlp and hidden.
        blocks = [found[i : i + 7] for i in range(0, len(found), 7)]
        tokens = len(blocks[0][0][1])
        return [
            (layer, current[i - tokens], v)
            for i in range(tokens)
            for block in blocks
            for layer, current, v in (block[k] for k in (0, 2, 3, 1, 4, 5, 6))
            if i - tokens >= -len(current)
        ]


@torch.inference_mode()
def fires(layer: SpikingLayer, current: torch.Tensor, v: torch.Tensor) -> tuple[list[int], torch.Tensor]:
    """Return the neurons that fire, once per spike, and the distance of each membrane to the threshold, the least."""
    threshold = float(layer.neuron.v_threshold)
    counts, least = torch.zeros(len(current), dtype=torch.int64), torch.full((len(current),), 1e9)
    for _ in range(layer.sim_steps):
        h = (1 - layer.neuron.leak) * v + current
        least = torch.minimum(least, (h - threshold).abs())
        counts += h >= threshold
        v = torch.where(
            h >= threshold, {"hard": 0 * h, "soft": h - threshold, "none": h}[layer.neuron.constants.reset], h
        )
    return torch.arange(len(current)).repeat_interleave(counts).tolist(), least


def is_tie(ours: list[list[int]], calls: list[tuple[SpikingLayer, torch.Tensor, torch.Tensor]]) -> bool:
    """Compare the spikes of a decision. False: all are equal. True: the first that differ are at the threshold.

    Spikes that differ elsewhere fail the test.
    """
    assert len(ours) == len(calls)
    for i, (fired, call) in enumerate(zip(ours, calls, strict=True)):
        theirs, distance = fires(*call)
        if fired != theirs:
            differ = list({j for j in {*fired, *theirs} if fired.count(j) != theirs.count(j)})
            assert distance[differ].max() < TIE, f"call {i}: {differ} are {distance[differ]} V from the threshold"
            return True
    return False


def run_together(policy, compiled: CompiledPolicy, observations, spiking: bool = True) -> tuple[float, int]:
    """Act on observations with both and return the largest difference of actions and the number of ties.

    A tie begins a new episode, since from there on the two states differ.
    """
    recorder = Recorder(policy.model)
    worst, ties = 0.0, 0
    policy.reset()
    compiled.reset()
    for observation in observations:
        ours, theirs = policy.act(observation), compiled.act(observation)
        tie = False
        if spiking:
            spikes, calls = spikes_of_c(compiled), recorder.take()
            assert compiled.spikes == sum(map(len, spikes))
            if policy.context.age == 1 and len(spikes) < len(calls):  # the action before the first step does not exist
                calls = calls[len(calls) - len(spikes) :]
            tie = is_tie(spikes, calls)
        if tie:
            ties += 1
            policy.reset()
            compiled.reset()
            continue
        worst = max(worst, float(np.abs(np.asarray(ours) - np.asarray(theirs)).max()))
        policy.observe(0.1)
        compiled.observe(0.1)
    return worst, ties
