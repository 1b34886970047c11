"""A policy is `reset`, `act`, `observe`: what the model sees, and what the environment gets."""

from __future__ import annotations

import inspect
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch

from snn_dt.checkpoint import from_pretrained, save_checkpoint
from snn_dt.errors import CheckpointError, EnvironmentMismatchError
from tests.conftest import VARIANTS
from tests.policies import BOX, Scripted, make_policy, shape_of
from tests.tolerance import assert_mostly_equal

ASYMMETRIC = gym.spaces.Box(np.float32([[-2, 0], [-1, -1]]), np.float32([[2, 1], [3, 0]]))


def constant(*values, **options) -> Scripted:
    """A model that always answers the same."""
    return Scripted(lambda rtg, *_: torch.tensor([values]).float().expand(len(rtg), -1), **options)


def test_the_model_sees_normalised_states_scaled_returns_and_its_own_actions_of_the_steps_so_far():
    model = Scripted(lambda rtg, states, *_: torch.eye(2)[(states[:, -1, 0] > 0).long()])
    policy = make_policy(model=model, mean=1.0, std=2.0, rtg_scale=10.0)
    policy.reset(target_return=50.0)
    observations = np.array([[3, 1], [-1, 5], [5, 1], [1, 1], [9, 1], [-3, 1]], np.float32)
    expected_actions = [1, 0, 1, 0, 1, 0]
    for observation, action in zip(observations, expected_actions, strict=True):
        assert policy.act(observation) == action
        policy.observe(2.0)
    rtg, states, actions, timesteps, mask = model.windows[-1]
    assert rtg[0, :, 0].tolist() == pytest.approx([4.6, 4.4, 4.2, 4.0])
    assert torch.equal(states[0], torch.tensor((observations[2:] - 1) / 2))
    assert actions.tolist() == [[1, 0, 1, 0]]  # the last is the one being chosen, not known yet
    assert timesteps.tolist() == [[2, 3, 4, 5]]
    assert mask.all()
    assert [len(window[4][0]) for window in model.windows] == [1, 2, 3, 4, 4, 4]


def test_the_return_to_go_goes_down_by_each_reward_and_stays_when_rewards_are_delayed():
    for delayed, expected in ((False, [5.0, 4.5, 5.5, 5.5]), (True, [5.0] * 4)):
        policy = make_policy(model=constant(1, 0), rtg_scale=1.0, delayed=delayed)
        policy.reset(5.0)
        for reward in (0.5, -1.0, 0.0, 9.0):
            policy.act(np.zeros(2))
            policy.observe(reward)
        assert policy.model.windows[-1][0][0, :, 0].tolist() == expected


def test_a_long_episode_of_small_rewards_ends_at_the_return_that_is_left():
    policy = make_policy(model=constant(1, 0), rtg_scale=1.0)
    policy.reset(1000.0)
    for _ in range(3000):
        policy.observe(0.1)
    policy.act(np.zeros(2))
    assert float(policy.model.windows[-1][0]) == pytest.approx(700.0, abs=1e-4)


def test_without_a_target_the_default_is_asked_for():
    policy = make_policy(model=constant(1, 0), rtg_scale=1.0, target_return=7.5)
    policy.reset()
    policy.act(np.zeros(2))
    assert float(policy.model.windows[-1][0]) == 7.5


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("actions", [gym.spaces.Discrete(3), ASYMMETRIC], ids=["discrete", "continuous"])
def test_episodes_side_by_side_are_what_they_are_alone(variant, actions):
    policy = make_policy(action_space=actions, kind=variant)
    rng = np.random.default_rng(0)
    observations, rewards = rng.normal(size=(12, 3, 2)).astype(np.float32), rng.normal(size=(12, 3))
    targets = [5.0, -3.0, 80.0]
    policy.reset(targets, batch_size=3)
    together = []
    for observation, reward in zip(observations, rewards, strict=True):
        together.append(policy.act(observation))
        policy.observe(reward)
    alone = np.zeros_like(together)
    for i in range(3):
        policy.reset(targets[i])
        for step in range(12):
            alone[step, i] = policy.act(observations[step, i])
            policy.observe(rewards[step, i])
    assert_mostly_equal(alone, together)


def test_a_new_episode_knows_nothing_of_the_one_before():
    policy = make_policy(action_space=ASYMMETRIC)
    observations = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)

    def episode():
        policy.reset(3.0)
        return np.stack([policy.act(observation) for observation in observations])

    first = episode()
    for observation in observations[::-1]:
        policy.act(observation)
        policy.observe(1.0)
    np.testing.assert_array_equal(episode(), first)


def test_a_restarted_row_is_a_new_episode_and_leaves_the_others_alone():
    policy = make_policy(action_space=ASYMMETRIC)
    observations = np.random.default_rng(0).normal(size=(10, 2, 2)).astype(np.float32)
    policy.reset(3.0, batch_size=2)
    together = []
    for step, observation in enumerate(observations):
        if step == 4:
            policy.restart(np.array([1]), 8.0)
        together.append(policy.act(observation))
        policy.observe(np.array([0.5, 0.25]))
    for row, begin, target, reward in ((0, 0, 3.0, 0.5), (1, 4, 8.0, 0.25)):
        policy.reset(target)
        for step in range(begin, 10):  # the model is dense: no spike that rounding could flip
            np.testing.assert_allclose(policy.act(observations[step, row]), together[step][row], rtol=1e-4, atol=1e-5)
            policy.observe(reward)


def test_acting_before_reset_says_so():
    with pytest.raises(RuntimeError, match=r"expected policy\.reset"):
        make_policy().act(np.zeros(2))
    with pytest.raises(RuntimeError, match=r"expected policy\.reset"):
        make_policy().observe(1.0)


@pytest.mark.parametrize(
    ("observation", "expected"),
    [
        (np.zeros(3), r"size 2, as in toy/random-v0, found an array of shape \(1, 3\)"),
        (0.0, "size 2"),
        (np.array([0, np.nan]), "finite observations"),
        (np.array([np.inf, 0]), "finite observations"),
        (np.array([1e300, 0]), "finite observations"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_an_observation_that_cannot_be_used_is_refused_and_leaves_the_episode_as_it_was(observation, expected):
    policy = make_policy(model=constant(1, 0))
    policy.reset(1.0)
    with pytest.raises(EnvironmentMismatchError, match=expected):
        policy.act(observation)
    policy.act(np.zeros(2))
    assert policy.model.windows[-1][4].tolist() == [[True]]


def test_a_batch_of_another_size_is_refused():
    policy = make_policy()
    policy.reset(1.0, batch_size=3)
    with pytest.raises(EnvironmentMismatchError, match=r"expected 3 observation\(s\) of size 2.*\(2, 2\)"):
        policy.act(np.zeros((2, 2)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_target_or_a_reward_that_is_not_finite_is_refused(value):
    policy = make_policy()
    with pytest.raises(ValueError, match="finite target_return"):
        policy.reset(value)
    policy.reset(1.0)
    with pytest.raises(EnvironmentMismatchError, match="finite rewards"):
        policy.observe(value)


def test_a_discrete_action_is_in_the_numbers_of_its_space():
    space = gym.spaces.Discrete(3, start=-7)
    policy = make_policy(action_space=space, model=constant(0, 0, 1, action_dim=3))
    policy.reset(1.0)
    action = policy.act(np.zeros(2))
    assert action == -5
    assert isinstance(action, int)
    assert action in space
    policy.act(np.zeros(2))
    assert policy.model.windows[-1][2].tolist() == [[2, 0]]  # the model counts from 0
    policy.reset(1.0, batch_size=2)
    assert policy.act(np.zeros((2, 2))).tolist() == [-5, -5]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_continuous_action_is_clipped_to_its_space_and_has_its_shape_and_type(dtype):
    space = gym.spaces.Box(ASYMMETRIC.low.astype(dtype), ASYMMETRIC.high.astype(dtype), dtype=dtype)
    options = {"action_dim": 4, "discrete": False}
    policy = make_policy(action_space=space, model=constant(-9, 0.5, 9, 9, **options))
    policy.reset(1.0)
    action = policy.act(np.zeros(2))
    assert action.tolist() == [[-2.0, 0.5], [3.0, 0.0]]
    assert action.dtype == dtype
    assert action in space
    policy.act(np.zeros(2))
    assert policy.model.windows[-1][2][0, 0].tolist() == [-2.0, 0.5, 3.0, 0.0]  # what was done, not what was wished
    policy.reset(1.0, batch_size=3)
    assert policy.act(np.zeros((3, 2))).shape == (3, 2, 2)


def test_an_unbounded_action_is_not_clipped():
    space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    policy = make_policy(action_space=space, model=constant(-99, 1e6, discrete=False))
    policy.reset(1.0)
    assert policy.act(np.zeros(2)).tolist() == [-99.0, 1e6]


def test_nested_observations_are_flattened_in_the_order_of_their_space():
    box = gym.spaces.Box
    nested = gym.spaces.Dict(
        {"b": box(-9, 9, (2, 2)), "a": gym.spaces.Tuple((box(-9, 9, (1,)), box(-9, 9, (1,), np.float64)))}
    )
    policy = make_policy(nested, model=constant(1, 0, state_dim=6))
    policy.reset(1.0)
    observation = {"b": np.float32([[1, 2], [3, 4]]), "a": (np.float32([5]), np.float64([6]))}
    policy.act(observation)
    order = [value for key in nested.spaces for value in ({"b": [1, 2, 3, 4], "a": [5, 6]}[key])]
    assert policy.model.windows[-1][1][0, 0].tolist() == order
    assert policy.flatten(observation).tolist() == gym.spaces.flatten(nested, observation).tolist()


def test_every_model_has_the_documented_signature_and_attributes():
    for kind in ("dense", "snn_dt"):
        model = make_policy(kind=kind).model
        assert isinstance(model, torch.nn.Module)
        assert list(inspect.signature(model.forward).parameters)[:5] == [
            *("rtg", "states", "actions", "timesteps", "attention_mask")
        ]
        assert (model.state_dim, model.action_dim, model.discrete, model.context_length) == (2, 2, True, 6)
        mask = torch.ones(1, 6, dtype=torch.bool)
        actions, timesteps = torch.zeros(1, 6, dtype=torch.int64), torch.arange(6)[None]
        y = model(torch.zeros(1, 6, 1), torch.zeros(1, 6, 2), actions, timesteps, mask)
        assert y.shape == (1, 6, 2)


def test_acting_keeps_no_graph_and_switches_dropout_off():
    policy = make_policy(action_space=ASYMMETRIC)
    policy.model.dropout.p = 0.9
    policy.model.train()
    actions = []
    for _ in range(2):
        policy.reset(1.0)
        actions.append(policy.act(np.ones(2)))
    np.testing.assert_array_equal(*actions)
    assert not policy.context.states.requires_grad


NO_ENVIRONMENTS = """
import sys
import gymnasium
def refuse(*_, **__):
    raise AssertionError("an environment was made")
gymnasium.make = gymnasium.make_vec = refuse
import numpy as np, snn_dt
policy = snn_dt.from_pretrained(sys.argv[1])
policy.reset(target_return=5.0)
print(policy.act(np.zeros(2)))
policy.observe(1.0)
print(policy.act(np.zeros(2)))
loaded = set(sys.modules)
assert not {"h5py", "mujoco", "wandb", "matplotlib", "snn_dt.data.minari_episodes"} & loaded, loaded
"""


def test_a_checkpoint_acts_in_a_process_without_environments_or_datasets(tmp_path):
    spaces = (BOX, gym.spaces.Discrete(2))
    policy = make_policy(*spaces, env_id="Missing-v0")
    save_checkpoint(tmp_path / "last", policy, *shape_of(*spaces, "dense"), {})
    command = [sys.executable, "-c", NO_ENVIRONMENTS, str(tmp_path / "last")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    policy.reset(5.0)
    expected = [policy.act(np.zeros(2))]
    policy.observe(1.0)
    expected.append(policy.act(np.zeros(2)))
    assert result.stdout.split() == [str(action) for action in expected]


def test_its_repr_names_what_it_was_trained_for():
    policy = make_policy(kind="snn_dt_stream")
    text = repr(policy)
    spec = policy.spec
    for part in ("snn_dt_stream", spec.dataset_id, repr(spec.env_id), f"target_return={spec.target_return:g}", "'cpu'"):
        assert part in text, text
    assert "Scripted" in repr(make_policy(model=Scripted(lambda *_: None)))


@pytest.mark.parametrize("variant", ["dense", "snn_dt-phase-routing", "snn_dt_stream", "dsformer_pssa"])
def test_a_saved_policy_is_loaded_with_the_same_decisions_and_replaces_an_older_one(variant, tmp_path):
    policy = make_policy(kind=variant)
    policy.provenance = {"dataset": "here"}
    folder = tmp_path / "policy"
    for _ in range(2):
        assert policy.save_pretrained(str(folder)) == folder
    loaded = from_pretrained(folder)
    assert loaded.spec == policy.spec
    assert loaded.provenance == policy.provenance
    observations = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
    actions = []
    for each in (policy, loaded):
        each.reset(4.0)
        actions.append([])
        for observation in observations:
            actions[-1].append(each.act(observation))
            each.observe(0.5)
    np.testing.assert_array_equal(*actions)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="expected to write a checkpoint to"):
        make_policy().save_pretrained(tmp_path / "file" / "policy")
