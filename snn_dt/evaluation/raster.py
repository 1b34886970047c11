"""Record spikes and gates of a policy over the first decisions of an episode.

T simulation steps, D neurons of a layer, H heads.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from snn_dt.evaluation.environments import make_environment
from snn_dt.evaluation.policy import Policy
from snn_dt.models.attention import DendriticRouting
from snn_dt.snn.neuron_layers import SpikingLayer
from snn_dt.snn.record import Recorded, record


def record_raster(
    policy: Policy, target_return: float, *, decisions: int = 20, seed: int = 10_000, env_id: str | None = None
) -> dict[str, NDArray[np.bool_]]:
    """Return the spikes of each layer at the token of the prediction.

    Returns:
        Arrays `[decisions * T, D]` bool by layer; T is 1 for a streaming model. Empty for a model without spikes.
    """

    def train(call: Recorded) -> Tensor:
        assert isinstance(call.module, SpikingLayer)
        return call.module.train_of_last_token(call.inputs, call.output)

    layers: dict[str, nn.Module] = {name: m for name, m in policy.model.named_modules() if isinstance(m, SpikingLayer)}
    trains = _decide(policy, target_return, layers, train, decisions, seed, env_id)
    # Trains [T, D] of each decision -> [decisions * T, D].
    return {name: np.concatenate([part.numpy().astype(bool) for part in parts]) for name, parts in trains.items()}


def record_gates(
    policy: Policy, target_return: float, *, decisions: int = 200, seed: int = 10_000, env_id: str | None = None
) -> dict[str, NDArray[np.float64]]:
    """Return the gates `alpha_h` of each router at the token of the prediction.

    Returns:
        Arrays `[decisions, H]` by router, means over simulation time. Empty for a model without routing.
    """

    def mean_gates(call: Recorded) -> Tensor:
        alpha: Tensor = call.output[..., 0, -1, :]  # the last token, [H] or [T, H]
        return alpha.reshape(-1, alpha.shape[-1]).mean(0).double()  # [H]

    modules = policy.model.named_modules()
    gates: dict[str, nn.Module] = {name: m.gate for name, m in modules if isinstance(m, DendriticRouting)}
    found = _decide(policy, target_return, gates, mean_gates, decisions, seed, env_id)
    # Gates [H] of each decision -> [decisions, H].
    return {name: np.stack([part.numpy() for part in parts]) for name, parts in found.items()}


def _decide(
    policy: Policy,
    target_return: float,
    modules: dict[str, nn.Module],
    read: Callable[[Recorded], Tensor],
    decisions: int,
    seed: int,
    env_id: str | None,
) -> dict[str, list[Tensor]]:
    """Make the first decisions of an episode and return the result of `read` for each call of the modules."""
    found: dict[str, list[Tensor]] = {}
    if not modules:
        return found
    env = make_environment(policy, env_id, quiet=True)
    try:
        observation, _ = env.reset(seed=seed)
        policy.reset(target_return)
        with record(policy.model, modules) as recording:
            for _ in range(decisions):
                observation, reward, terminated, truncated, _ = env.step(policy.act(observation))
                with torch.inference_mode():
                    for call in recording.calls:
                        # To the CPU at once, so records do not fill the memory of the device.
                        found.setdefault(call.name, []).append(read(call).cpu())
                policy.observe(reward)
                if terminated or truncated:
                    break
    finally:
        env.close()
    return found
