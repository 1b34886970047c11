"""Integer actions are the nearest ones inside the bounds, and the policy remembers what was played."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from snn_dt.data.encoding import to_space
from tests.policies import Scripted, make_policy

INTEGERS = gym.spaces.Box(-3, 10, (2,), np.int64)
STATES = gym.spaces.Box(-1, 1, (2,), np.float32)


@pytest.mark.parametrize(
    ("dtype", "low", "high", "asked", "played"),
    [
        (np.int64, 0, 10, 6.99, 7),
        (np.int64, 0, 10, 6.4, 6),
        (np.int64, -10, 10, -6.99, -7),
        (np.int32, 0, 10, 1e12, 10),
        (np.uint8, 0, 255, -3.0, 0),
        (np.uint8, 0, 255, 254.6, 255),
        (np.int64, -(2**63), 2**63 - 1, 1e30, 2**63 - 1),
        (np.int64, -(2**63), 2**63 - 1, -1e30, -(2**63)),
        (np.int8, -128, 127, np.inf, 127),
    ],
)
def test_a_number_becomes_the_nearest_integer_inside_the_bounds(dtype, low, high, asked, played):
    space = gym.spaces.Box(low, high, (1,), dtype)
    with np.errstate(all="raise"):
        found = to_space(np.array([[asked]], np.float32), space)
    assert found.dtype == dtype
    assert found.tolist() == [[played]]


@pytest.mark.parametrize(("asked", "played"), [(6.99, 7), (-2.51, -3), (50.0, 10), (-50.0, -3)])
def test_a_policy_plays_and_remembers_the_same_integer(asked, played):
    model = Scripted(lambda rtg, *_: torch.full((len(rtg), 2), asked), discrete=False)
    policy = make_policy(STATES, INTEGERS, model=model)
    policy.reset(1.0, batch_size=3)
    for _ in range(2):
        actions = policy.act(np.zeros((3, 2), np.float32))
    assert actions.dtype == np.int64
    assert (actions == played).all()
    assert (model.windows[1][2][:, 0] == played).all(), "the model is told of another action than the one played"


def test_a_half_precision_action_is_remembered_as_it_was_played():
    space = gym.spaces.Box(-1, 1, (2,), np.float16)
    model = Scripted(lambda rtg, *_: torch.full((len(rtg), 2), 0.1), discrete=False)
    policy = make_policy(STATES, space, model=model)
    policy.reset(1.0, batch_size=1)
    for _ in range(2):
        action = policy.act(np.zeros((1, 2), np.float32))
    assert action.dtype == np.float16
    assert model.windows[1][2][0, 0].tolist() == action[0].astype(np.float32).tolist()
