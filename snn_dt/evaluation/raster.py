"""Spike trains of a policy at work, for a raster."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_dt.evaluation.environments import make_environment
from snn_dt.evaluation.policy import Policy
from snn_dt.models.layers import TimedLIF
from snn_dt.models.stream_block import TokenLIF
from snn_dt.snn import LIF, RateLIF


def record_raster(
    policy: Policy, target_return: float, *, decisions: int = 20, seed: int = 10_000, env_id: str | None = None
) -> dict[str, NDArray[np.bool_]]:
    """Return each layer's spikes at the token that is read out, over the first decisions of an episode.

    Returns:
        Layer name to `[decisions * T, neurons]` bool (T is 1 for a streaming model); empty for a model without spikes.
    """
    env = make_environment(policy, env_id)
    trains: dict[str, list[NDArray[np.bool_]]] = {}

    def recorder(name: str) -> Any:
        def record(layer: RateLIF | TimedLIF | TokenLIF, inputs: Any, output: Any) -> None:
            if isinstance(layer, TokenLIF):  # its time is the trajectory: one step a decision
                trains.setdefault(name, []).append(output[0][-1, :1].cpu().numpy().astype(bool))
                return
            current = inputs[0][..., 0, -1, :]  # the last token, [D] or [T, D]
            current = current if layer.norm is None else layer.norm(current)
            spikes, _ = LIF.forward(layer, current.expand(layer.sim_steps, current.shape[-1]))
            trains.setdefault(name, []).append(spikes.cpu().numpy().astype(bool))

        return record

    layers = [(name, m) for name, m in policy.model.named_modules() if isinstance(m, RateLIF | TimedLIF | TokenLIF)]
    handles = [layer.register_forward_hook(recorder(name)) for name, layer in layers]
    try:
        observation, _ = env.reset(seed=seed)
        policy.reset(target_return)
        for _ in range(decisions):
            observation, reward, terminated, truncated, _ = env.step(policy.act(observation))
            policy.observe(reward)
            if terminated or truncated:
                break
    finally:
        for handle in handles:
            handle.remove()
        env.close()
    return {name: np.concatenate(parts) for name, parts in trains.items()}
