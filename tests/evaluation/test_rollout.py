"""Exactly the episodes asked for are run, each to its end, and nothing else counts."""

from __future__ import annotations

import json
import math

import gymnasium as gym
import numpy as np
import pytest
import torch

import snn_dt.data.registration
import snn_dt.evaluation.environments as environments
from snn_dt.errors import EnvironmentMismatchError
from snn_dt.evaluation.episodes import success
from snn_dt.evaluation.policy import Policy
from snn_dt.evaluation.rollout import evaluate, run_episodes
from tests.conftest import CountdownEnv
from tests.policies import BOX, TWO, Scripted, countdown_policy, make_policy
from tests.tolerance import assert_mostly_equal


class Diary(CountdownEnv):
    """A countdown that writes down the seeds of its resets and how far each episode came."""

    entries: list[dict] = []  # noqa: RUF012  one diary for all copies

    def reset(self, *, seed=None, options=None):
        self.entry = {"seed": seed, "steps": 0, "over": False}
        self.entries.append(self.entry)
        return super().reset(seed=seed, options=options)

    def step(self, action):
        assert not self.entry["over"], "stepped after its end"
        result = super().step(action)
        self.entry["steps"], self.entry["over"] = self.steps, result[2]
        return result


@pytest.fixture
def diary(monkeypatch):
    monkeypatch.setattr(Diary, "entries", [])
    gym.register("Diary-v0", entry_point=Diary, max_episode_steps=100)
    yield Diary.entries
    gym.registry.pop("Diary-v0")


def one_more_than_asked(rtg, states, actions, timesteps, mask):
    """Act 1 until the episode has paid what was asked for, 0 from then on."""
    go_on = rtg[:, -1, 0] > 0.05
    return torch.stack([~go_on, go_on], dim=1).float()


def scripted_policy(answer=one_more_than_asked, **options) -> Policy:
    return countdown_policy(model=Scripted(answer, **options), rtg_scale=10.0)


@pytest.mark.parametrize("num_envs", [1, 3, 7, 32])
def test_exactly_the_requested_episodes_are_run_each_once_from_its_seed_to_its_end(diary, num_envs):
    policy = scripted_policy()
    (row,) = evaluate(policy, [2.0], episodes=7, seed=40, num_envs=num_envs, env_id="Diary-v0")
    assert sorted(entry["seed"] for entry in diary) == list(range(40, 47))
    assert all(entry["over"] and entry["steps"] == 3 + entry["seed"] % 5 for entry in diary)
    assert row["episodes"] == len(row["returns"]) == 7
    assert row["seed"] == 40


def test_returns_and_lengths_of_a_policy_that_computes_the_same_do_not_depend_on_the_number_of_environments():
    """Comparisons and whole numbers: nothing that rounding could change."""

    def every_other_step_of_odd_kinds(rtg, states, actions, timesteps, mask):
        one = (states[:, -1].sum(-1) + timesteps[:, -1]) % 3 < 2
        return torch.stack([~one, one], dim=1).float()

    policy = scripted_policy(every_other_step_of_odd_kinds)
    rows = [evaluate(policy, [4.0], episodes=20, seed=3, num_envs=n)[0] for n in (1, 3, 32)]
    assert len(set(rows[0]["returns"])) > 1, "a policy that always does the same shows nothing"
    for name in ("returns", "return_mean", "return_std", "return_interval", "episode_length_mean"):
        assert rows[0][name] == rows[1][name] == rows[2][name], name


@pytest.mark.parametrize("kind", ["dense", "snn_dt", "snn_dt_stream"])
def test_returns_of_models_side_by_side_are_those_alone_but_for_rounding(kind):
    policy = countdown_policy(kind=kind)
    rows = [evaluate(policy, [4.0], episodes=20, seed=3, num_envs=n)[0] for n in (1, 3, 32)]
    assert len(set(rows[0]["returns"])) > 1, "a policy that always does the same shows nothing"
    for row in rows[1:]:
        assert_mostly_equal(row["returns"], rows[0]["returns"])
        assert row["episode_length_mean"] == rows[0]["episode_length_mean"]  # which no action changes
        for name in ("spikes_per_decision", "macs_per_decision", "acs_per_decision", "energy_pj_per_decision"):
            assert row[name] == pytest.approx(rows[0][name], rel=1e-2), name


def test_cartpole_episodes_are_the_same_alone_and_side_by_side_where_no_decision_is_close():
    env = gym.make("CartPole-v1")
    policy = make_policy(env.observation_space, env.action_space, env_id="CartPole-v1", seed=1)
    gaps = []
    policy.model.head.register_forward_hook(lambda *call: gaps.append(call[2][:, -1].diff().abs().min().item()))
    rows = [evaluate(policy, [30.0], episodes=9, seed=11, num_envs=n)[0] for n in (1, 4, 9)]
    assert min(gaps) > 1e-5, "a decision that rounding could turn; take another seed"
    assert rows[0]["returns"] == rows[1]["returns"] == rows[2]["returns"]


def test_each_return_is_that_of_its_own_seed():
    (row,) = evaluate(scripted_policy(), [100.0], episodes=12, seed=8, num_envs=5)
    assert row["returns"] == [3.0 + seed % 5 for seed in range(8, 20)]


def test_short_episodes_do_not_crowd_out_long_ones():
    # Of 20 episodes of 3 to 7 steps the first 20 to finish in 4 never-ending environments would be mostly short ones.
    result = run_episodes(policy := scripted_policy(), environment_copies(policy, 4), 1.0, 20, 0)
    assert sorted(result.lengths.tolist()) == sorted(3 + seed % 5 for seed in range(20))
    assert result.meter.decisions == result.lengths.sum()


def test_counting_every_third_step_counts_those_and_changes_no_episode_of_a_policy_that_computes_the_same():
    policy = scripted_policy()
    every, third = (run_episodes(policy, environment_copies(policy, 3), 1.0, 3, 0, meter_every=m) for m in (1, 3))
    assert every.returns.tolist() == third.returns.tolist()
    counted = sum(-(-n // 3) for n in third.lengths)  # steps 0, 3, ... of each
    assert third.meter.decisions == counted
    with pytest.raises(ValueError, match="meter_every: expected at least 0"):
        evaluate(policy, [1.0], meter_every=-1)


def environment_copies(policy: Policy, n: int) -> list[gym.Env]:
    return [environments.make_environment(policy) for _ in range(n)]


def test_every_target_is_asked_of_the_same_episodes_and_return_to_go_follows_the_rewards():
    rows = evaluate(scripted_policy(), [0.0, 1.0, 2.0, 50.0], episodes=5, seed=0)
    assert [row["target_return"] for row in rows] == [0.0, 1.0, 2.0, 50.0]
    assert [row["returns"] for row in rows] == [[0.0] * 5, [1.0] * 5, [2.0] * 5, [3.0, 4.0, 5.0, 6.0, 7.0]]


def test_a_row_that_takes_the_next_episode_is_asked_for_the_whole_target_again():
    (row,) = evaluate(scripted_policy(), [2.0], episodes=10, seed=0, num_envs=2)
    assert row["returns"] == [2.0] * 10


def test_the_default_target_is_the_policys_and_a_number_is_a_list_of_one():
    policy = countdown_policy(target_return=1.0)
    for asked in (None, [], ()):
        assert [row["target_return"] for row in evaluate(policy, asked, episodes=1)] == [1.0]
    assert [row["target_return"] for row in evaluate(policy, 3, episodes=1)] == [3.0]
    assert [row["target_return"] for row in evaluate(policy, np.array([3, 4]), episodes=1)] == [3.0, 4.0]


def test_a_row_holds_the_contract_and_is_json():
    reference = {"min": 1.0, "max": 3.0, "source": "here"}
    (row,) = evaluate(countdown_policy(kind="snn_dt", reference=reference), [2.0], episodes=4, seed=9)
    types = {
        **{"env_id": str, "target_return": float, "episodes": int, "returns": list, "return_mean": float, "seed": int},
        **{"return_std": float, "normalized_score": float, "spikes_per_decision": float, "firing_rate": float},
        **{"macs_per_decision": float, "acs_per_decision": float, "energy_pj_per_decision": float},
        **{"energy_vs_same_tokens": float, "energy_vs_dt": float, "by_module": dict, "decisions_per_second": float},
        **{"num_envs": int, "meter_every": int, "threads": int, "kernel": str, "decided_by": str},
    }
    assert {name: type(row[name]) for name in types} == types
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    returns = np.array(row["returns"])
    assert row["return_mean"] == returns.mean()
    assert row["return_std"] == returns.std()
    assert row["normalized_score"] == pytest.approx(100 * (returns.mean() - 1) / 2)
    assert row["score_reference"] == "here"
    low, high = row["return_interval"]
    assert returns.min() <= low <= row["return_mean"] <= high <= returns.max()
    assert 0 < row["firing_rate"] < 1
    assert row["decisions_per_second"] > 0


def test_a_score_belongs_to_the_policys_own_environment_only(diary):
    policy = countdown_policy(reference={"min": 0.0, "max": 1.0, "source": "here"})
    (row,) = evaluate(policy, [2.0], episodes=1, env_id="Diary-v0")
    assert row["env_id"] == "Diary-v0"
    assert row["normalized_score"] is None


def test_an_environment_asked_for_without_its_version_is_named_with_it():
    (row,) = evaluate(countdown_policy(), [2.0], episodes=1, env_id="Countdown")
    assert row["env_id"] == "Countdown-v0"


def test_progress_counts_every_episode_once_and_is_told_of_every_step():
    seen = []
    evaluate(countdown_policy(), [1.0, 2.0], episodes=5, num_envs=2, progress=lambda *now: seen.append(now))
    done = [d for d, _ in seen]
    assert done == sorted(done)
    assert len(set(done)) == len(done)  # it moves at every step
    assert seen[-1] == (10, 10)
    assert len(seen) > 20  # a stop can be noticed inside an episode


def test_environments_are_closed_even_when_an_episode_fails(diary, monkeypatch):
    closed = []
    monkeypatch.setattr(Diary, "close", lambda self: closed.append(1))
    monkeypatch.setattr(Diary, "step", lambda self, action: (np.full(2, np.nan, np.float32), 0.0, False, False, {}))
    with pytest.raises(EnvironmentMismatchError, match="finite observations"):
        evaluate(countdown_policy(), [1.0], episodes=3, env_id="Diary-v0")
    assert len(closed) == 3


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_reward_or_a_target_that_is_not_finite_is_refused(diary, monkeypatch, value):
    with pytest.raises(ValueError, match="finite target_return"):
        evaluate(countdown_policy(), [value], episodes=1)
    monkeypatch.setattr(Diary, "step", lambda self, action: (np.zeros(2, np.float32), value, False, False, {}))
    with pytest.raises(EnvironmentMismatchError, match="finite rewards"):
        evaluate(countdown_policy(), [1.0], episodes=1, env_id="Diary-v0")


def test_no_episodes_and_no_environments_are_refused():
    for options in ({"episodes": 0}, {"num_envs": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            evaluate(countdown_policy(), [1.0], **options)


def test_the_environments_own_options_and_step_limit_are_those_of_the_data(diary):
    spec = {"id": "Diary-v0", "kwargs": {}, "max_episode_steps": 2}
    policy = make_policy(env_id="Diary-v0", env_spec=json.dumps(spec))
    (row,) = evaluate(policy, [1.0], episodes=3)
    assert row["episode_length_mean"] == 2.0
    env = gym.make("Pendulum-v1")
    spec = {"id": "Pendulum-v1", "kwargs": {"g": 3.5}, "max_episode_steps": 200}
    own = make_policy(env.observation_space, env.action_space, env_id="Pendulum-v1", env_spec=json.dumps(spec))
    assert environments.make_environment(own).unwrapped.g == 3.5


def refusal(policy: Policy, env_id: str | None = None) -> str:
    with pytest.raises(EnvironmentMismatchError) as caught:
        evaluate(policy, [1.0], episodes=1, env_id=env_id)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_an_environment_that_does_not_fit_the_policy_is_refused():
    policy = countdown_policy()
    assert "expected observations Box(" in refusal(policy, "CartPole-v1")
    assert "in CartPole-v1; evaluate in Countdown-v0" in refusal(policy, "CartPole-v1")
    other = make_policy(BOX, gym.spaces.Discrete(3), env_id=policy.spec.env_id)
    assert "expected actions Discrete(3)" in refusal(other)
    shifted = make_policy(BOX, gym.spaces.Discrete(2, start=1), env_id=policy.spec.env_id)
    assert "expected actions Discrete(2, start=1)" in refusal(shifted)
    continuous = make_policy(BOX, gym.spaces.Box(-1, 1, (2,)), env_id=policy.spec.env_id)
    assert "expected actions Box(" in refusal(continuous)


@pytest.mark.filterwarnings("error")
def test_an_environment_that_cannot_be_made_says_what_to_do(monkeypatch):
    policy = countdown_policy()
    assert "names none; give one with --env-id" in refusal(make_policy(BOX, TWO))
    assert "check the name" in refusal(policy, "Countdwon-v0")
    assert "check the name" in refusal(policy, "nowhere:Countdown-v0")
    assert "use its version 4 or 5" in refusal(policy, "Hopper-v2")
    monkeypatch.setattr(snn_dt.data.registration, "ensure_registered", lambda name: None)
    assert "pip install 'snn-dt[robotics]'" in refusal(policy, "PointMaze_UMaze-v3")

    def missing(*_, **__):
        raise gym.error.DependencyNotInstalled("MuJoCo is not installed, run `pip install 'gymnasium[mujoco]'`")

    monkeypatch.setattr(gym, "make", missing)
    assert "pip install 'snn-dt[mujoco]'" in refusal(policy, "Hopper-v5")


def test_an_environment_that_fails_in_its_own_way_is_named(monkeypatch):
    monkeypatch.setattr(gym, "make", lambda *_, **__: 1 / 0)
    assert "expected the environment 'Countdown-v0', found: division by zero" in refusal(countdown_policy())


@pytest.mark.parametrize(
    ("infos", "expected"),
    [
        ([{"success": False}, {"success": True}, {}], 1.0),
        ([{}], None),
        # The episodes have 3, 4 and 5 steps.
        ([{"success": True}] * 3 + [{"success": False}] * 9, 1 / 3),
        ([{"success": True}] * 3 + [{}] * 9, None),
    ],
)
def test_the_success_rate_is_the_share_of_episodes_with_a_success_at_some_step(infos, expected, monkeypatch):
    p = countdown_policy()
    shown = iter(range(10_000))
    step = CountdownEnv.step

    def reporting(self, action):
        return *step(self, action)[:4], infos[next(shown) % len(infos)]

    monkeypatch.setattr(CountdownEnv, "step", reporting)
    [row] = evaluate(p, 5.0, episodes=3, num_envs=1)
    assert row["success_rate"] == expected


def test_success_is_read_from_the_names_that_environments_use():
    infos = {"is_success": 1.0}, {"success": np.array([0.0])}, {"success": np.bool_(True)}, {"other": 1}, None
    assert list(map(success, infos)) == [1, 0, 1, -1, -1]
