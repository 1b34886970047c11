"""What a policy's neurons and gates do at work, over the first decisions of an episode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from snn_dt.evaluation.environments import make_environment
from snn_dt.evaluation.policy import Policy
from snn_dt.models.layers import TimedLIF
from snn_dt.models.routing import DendriticRouting
from snn_dt.models.stream_block import TokenLIF
from snn_dt.snn import LIF, RateLIF

Hook = Callable[[Any, Any, Any], None]


def record_raster(
    policy: Policy, target_return: float, *, decisions: int = 20, seed: int = 10_000, env_id: str | None = None
) -> dict[str, NDArray[np.bool_]]:
    """Return each layer's spikes at the token that is read out.

    Returns:
        Layer name to `[decisions * T, neurons]` bool (T is 1 for a streaming model); empty for a model without spikes.
    """
    trains: dict[str, list[NDArray[np.bool_]]] = {}

    def recorder(name: str) -> Hook:
        def record(layer: RateLIF | TimedLIF | TokenLIF, inputs: Any, output: Any) -> None:
            if isinstance(layer, TokenLIF):  # its time is the trajectory: one step a decision
                trains.setdefault(name, []).append(output[0][-1, :1].cpu().numpy().astype(bool))
                return
            current = inputs[0][..., 0, -1, :]  # the last token, [D] or [T, D]
            current = current if layer.norm is None else layer.norm(current)
            spikes, _ = LIF.forward(layer, current.expand(layer.sim_steps, current.shape[-1]))
            trains.setdefault(name, []).append(spikes.cpu().numpy().astype(bool))

        return record

    layers = {name: m for name, m in policy.model.named_modules() if isinstance(m, RateLIF | TimedLIF | TokenLIF)}
    _decide(policy, target_return, {m: recorder(name) for name, m in layers.items()}, decisions, seed, env_id)
    return {name: np.concatenate(parts) for name, parts in trains.items()}


def record_gates(
    policy: Policy, target_return: float, *, decisions: int = 200, seed: int = 10_000, env_id: str | None = None
) -> dict[str, NDArray[np.float64]]:
    """Return each router's gates `alpha_h` at the token that is read out.

    Returns:
        Name of the router to `[decisions, H]`, means over simulation time; empty for a model without routing.
    """
    gates: dict[str, list[NDArray[np.float64]]] = {}

    def recorder(name: str) -> Hook:
        def record(gate: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            alpha = output[..., 0, -1, :]  # the last token, [H] or [T, H]
            gates.setdefault(name, []).append(alpha.reshape(-1, alpha.shape[-1]).mean(0).double().cpu().numpy())

        return record

    routers = {name: m for name, m in policy.model.named_modules() if isinstance(m, DendriticRouting)}
    _decide(policy, target_return, {m.gate: recorder(name) for name, m in routers.items()}, decisions, seed, env_id)
    return {name: np.stack(parts) for name, parts in gates.items()}


def _decide(
    policy: Policy, target_return: float, hooks: Mapping[nn.Module, Hook], decisions: int, seed: int, env_id: str | None
) -> None:
    """Make the first decisions of an episode with hooks on modules; none without hooks."""
    if not hooks:
        return
    env = make_environment(policy, env_id, quiet=True)
    handles = [module.register_forward_hook(hook) for module, hook in hooks.items()]
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
