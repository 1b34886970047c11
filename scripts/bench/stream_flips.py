"""Count the spikes that differ in float32 between the parallel form of a streaming model and its single steps.

    python scripts/bench/stream_flips.py [--checkpoint DIR] [--episodes 32]

Prints one object: of the modules, the share of spikes of all layers over 1,000 steps that differ; of the fused step,
the share of membranes that are off by more than 0.01, which only a spike more or less moves so far; of both, how far
predictions are apart. Without a checkpoint weights are random. Inputs are random walks of unit deviation.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from stream import CHECKPOINT, streaming
from torch import Tensor

from snn_dt import from_pretrained
from snn_dt.evaluation.decide import make_decider
from snn_dt.snn import TokenLIF

STEPS = 1000


def inputs(model: Any, episodes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return returns-to-go, states and actions of random-walk episodes."""
    g = torch.Generator().manual_seed(0)
    states = torch.randn(episodes, STEPS, model.state_dim, generator=g).cumsum(1)
    low, high = model.embedding.code.low, model.embedding.code.high
    rtg = (low + (high - low) * torch.linspace(1, 0, STEPS)).expand(episodes, STEPS).unsqueeze(-1)
    if model.discrete:
        actions = torch.randint(0, model.action_dim, (episodes, STEPS), generator=g)
    else:
        actions = torch.rand(episodes, STEPS, model.action_dim, generator=g) * 2 - 1
    return rtg, states / states.std(1, keepdim=True), actions


def unroll(step: Any, model: Any, batch: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return predictions `[B, K, A]` by single steps, and the membranes of all layers after each step."""
    rtg, states, actions = batch
    state, predictions, membranes = model.rest(len(states)), [], []
    for t in range(STEPS):
        y, state = step(rtg[:, t], states[:, t], state)
        state["action"] = actions[:, t]
        predictions.append(y)
        membranes.append(torch.cat([x.clone() for name, x in state.items() if ".v_" in name], 1))
    return torch.stack(predictions, 1), membranes


@torch.inference_mode()
def flips(model: Any, episodes: int) -> dict[str, Any]:
    """Run the three forms over the same episodes and compare."""
    batch = inputs(model, episodes)
    spikes: dict[str, list[Tensor]] = {}
    handles = [
        module.register_forward_hook(lambda m, i, o, name=name: spikes.setdefault(name, []).append(o[0].bool()))
        for name, module in model.named_modules()
        if isinstance(module, TokenLIF)
    ]
    whole = model(*batch, None, torch.ones(episodes, STEPS, dtype=torch.bool))
    parallel = {name: parts.pop() for name, parts in spikes.items()}
    single, membranes = unroll(model.step, model, batch)
    for handle in handles:
        handle.remove()
    differ = [parallel[name] != torch.cat(parts) for name, parts in spikes.items()]
    found = {
        "neuron_steps": sum(x.numel() for x in differ),
        "modules": {"spikes_that_differ": sum(float(x.sum()) for x in differ), **_apart(whole, single, model)},
    }
    if (decide := make_decider(model)).way == "cpp":
        single, others = unroll(decide, model, batch)
        off = sum(float(((a - b).abs() > 0.01).sum()) for a, b in zip(membranes, others, strict=True))
        found["fused"] = {"membranes_that_differ": off, **_apart(whole, single, model)}
    return found


def _apart(a: Tensor, b: Tensor, model: Any) -> dict[str, float]:
    far = {"predictions_apart_at_most": float((a - b).abs().max()), "on_average": float((a - b).abs().mean())}
    return far | ({"actions_that_differ": float((a.argmax(-1) != b.argmax(-1)).sum())} if model.discrete else {})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="folder of a streaming policy; none takes random weights")
    parser.add_argument("--episodes", type=int, default=32)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dense = CHECKPOINT if arguments.checkpoint is None else arguments.checkpoint
    policy = from_pretrained(dense, "cpu")
    policy = streaming(policy) if arguments.checkpoint is None else policy
    print(json.dumps(flips(policy.model.eval(), arguments.episodes)))
