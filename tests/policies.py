"""Untrained policies, without a dataset."""

from __future__ import annotations

import dataclasses

import gymnasium as gym
import numpy as np
import torch

from snn_dt.config import ModelConfig
from snn_dt.data.encoding import flat_box, is_composite, number_columns, parts
from snn_dt.evaluation.policy import Policy, PolicySpec
from snn_dt.models import TaskShape
from tests.conftest import TINY, VARIANTS, make_model, register_countdown, space_json

BOX = gym.spaces.Box(-10, 10, (2,), np.float32)
TWO = gym.spaces.Discrete(2)


def make_policy(
    observation_space: gym.Space = BOX,
    action_space: gym.Space = TWO,
    *,
    kind: str = "dense",
    seed: int = 0,
    model: torch.nn.Module | None = None,
    mean: float = 0.0,
    std: float = 1.0,
    **spec,
) -> Policy:
    """A policy with random weights (or a given model) for these spaces, scaled by `mean`, `std` and `spec`."""
    config, task = shape_of(observation_space, action_space, kind)
    n = task.state_dim
    facts = {"dataset_id": "toy/random-v0", "rtg_scale": 10.0, "delayed": False, "target_return": 5.0} | spec
    return Policy(
        make_model(config, task, seed) if model is None else model,
        PolicySpec(observation_space=space_json(observation_space), action_space=space_json(action_space), **facts),
        torch.full((n,), mean),
        torch.full((n,), std),
        {"seed": seed},
    )


def shape_of(observation_space: gym.Space, action_space: gym.Space, kind: str) -> tuple[ModelConfig, TaskShape]:
    """The tiny configuration of one of the `VARIANTS`, and the task of such a policy."""
    discrete, composite = isinstance(action_space, gym.spaces.Discrete), is_composite(action_space)
    codes = parts(action_space)
    box = None if discrete or not number_columns(codes).any() else flat_box(action_space)
    return dataclasses.replace(TINY, **VARIANTS[kind]), TaskShape(
        state_dim=gym.spaces.flatdim(observation_space),
        action_dim=int(action_space.n) if discrete else gym.spaces.flatdim(action_space),
        discrete=discrete,
        n_timesteps=50,
        action_low=None if box is None else tuple(box.low.tolist()),
        action_high=None if box is None else tuple(box.high.tolist()),
        action_parts=codes if composite else None,
    )


def countdown_policy(**options) -> Policy:
    """A policy for `CountdownEnv`, where episode `seed` lasts `3 + seed % 5` steps."""
    return make_policy(env_id=register_countdown(), **options)


class Scripted(torch.nn.Module):
    """Stands for a model: `answer(rtg, states, actions, timesteps, mask) -> [B, A]`; keeps the windows it was given."""

    def __init__(self, answer, state_dim=2, action_dim=2, discrete=True, context_length=4) -> None:
        super().__init__()
        self.state_dim, self.action_dim, self.discrete = state_dim, action_dim, discrete
        self.context_length, self.answer = context_length, answer
        self.unused = torch.nn.Parameter(torch.zeros(1))  # tells the policy its device
        self.windows: list[tuple[torch.Tensor, ...]] = []

    def forward(self, rtg, states, actions, timesteps, attention_mask, last_only=False):
        window = (rtg, states, actions, timesteps, attention_mask)
        self.windows.append(tuple(x.clone() for x in window))
        return self.answer(*window)[:, None]

    def token_mask(self, attention_mask):
        return attention_mask
