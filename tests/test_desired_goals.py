"""Policies that are asked for a desired goal: what they read, how they decide, and a run in a goal environment."""

from __future__ import annotations

import json
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

import snn_dt
from snn_dt.cli.main import main
from snn_dt.config import Config
from snn_dt.data.trajectories import Trajectories
from snn_dt.energy import DecisionMeter
from snn_dt.errors import ConfigError, ExportError
from snn_dt.evaluation.decide import make_decider, pick_way
from snn_dt.evaluation.statistics import wilson_interval
from snn_dt.export.c_policy import _network
from snn_dt.export.graph import Decision
from snn_dt.models.interface import TaskShape, decides_from_state
from snn_dt.task import load_trajectories, make_policy, shape_of
from tests.conftest import ROOT, TINY, VARIANTS, make_batch, make_model, run
from tests.tolerance import assert_mostly_equal

TASK = TaskShape(5, 2, False, 50, (-2.0, -1.0), (2.0, 3.0), rtg_range=(0.0, 1.0), goal_columns=(2, 4))
KINDS = ("dense", "snn_dt", "dense-span", "snn_dt_stream", "dsformer_pssa")
SHARED = ROOT.parent / "shared" / "data" / "minari"


class Reach(gym.Env):
    """A point on a line must come within 0.15 of the desired goal, which the reset draws."""

    observation_space = spaces.Dict(
        {k: spaces.Box(-2, 2, (1,)) for k in ("observation", "achieved_goal", "desired_goal")}
    )
    action_space = spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.goal = self.np_random.uniform(-1, 1, 2)
        return self._observation(), {}

    def step(self, action):
        self.x = np.clip(self.x + 0.1 * float(action[0]), -2, 2)
        reached = bool(abs(self.x - self.goal) < 0.15)
        return self._observation(), float(reached), reached, False, {"success": reached}

    def _observation(self):
        parts = {"observation": self.x, "achieved_goal": self.x, "desired_goal": self.goal}
        return {key: np.array([value], np.float32) for key, value in parts.items()}


@pytest.fixture
def data() -> Trajectories:
    """Walks of `Reach` to the mirror image of the desired goal: only hindsight tells what the actions are for."""
    gym.registry.pop("toy/Reach-v0", None)
    gym.register("toy/Reach-v0", entry_point=lambda **_: Reach(), max_episode_steps=40)
    env, rows = gym.make("toy/Reach-v0"), []
    for seed in range(120):
        (seen, _), over = env.reset(seed=seed), False
        aim = -seen["desired_goal"]
        while not over:
            action = np.clip((aim - seen["observation"]) / 0.1, -1, 1).astype(np.float32)
            after, reward, terminated, truncated, _ = env.step(action)
            over = terminated or truncated or bool(abs(after["observation"] - aim) < 0.02)
            rows.append((seen, action, reward, terminated, over and not terminated))
            seen = after
    observations, actions, *others = zip(*rows, strict=True)
    stacked = {key: np.stack([value[key] for value in observations]) for key in observations[0]}
    columns = [np.array(column) for column in others]
    return Trajectories.from_arrays(
        stacked, np.stack(actions), *columns, env_id="toy/Reach-v0", observation_space=Reach.observation_space,
        action_space=Reach.action_space, dataset_id="toy/reach-v0",
    )  # fmt: skip


def settings(kind: str = "dense", condition: str = "goal", share: float = 0.0, **model) -> Config:
    config = snn_dt.load_config("configs/base.yaml")
    tiny = {"d_model": 32, "n_layers": 1, "n_heads": 2, "context_length": 3}
    return replace(
        config,
        model=replace(config.model, kind=kind, condition=condition, **tiny | model),
        data=replace(config.data, relabel_goals=share),
        train=replace(config.train, steps=150, batch_size=32, stateful=False),
        eval=replace(config.eval, episodes=20, num_envs=20),
        track=replace(config.track, wandb="disabled"),
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("condition", ["goal", "both"])
def test_predictions_read_the_desired_goal_and_with_both_the_return_too(kind, condition):
    model = make_model(replace(TINY, **VARIANTS[kind], condition=condition), TASK)
    batch = make_batch(TASK, lengths=(6, 6, 6))
    y = run(model, batch)
    other = run(model, replace(batch, rtg=1 - batch.rtg))
    assert torch.equal(y, other) == (condition == "goal")
    moved = batch.states.clone()
    moved[:, 3:, 2:4] += 1.0
    y_moved = run(model, replace(batch, states=moved))
    assert torch.equal(y[:, :3], y_moved[:, :3])  # causal
    assert not torch.allclose(y[:, 3:], y_moved[:, 3:])
    # The map of the goal is in use, not only the state token that holds the goal too.
    with torch.no_grad():
        model.embedding.goal.weight.mul_(-2)
    assert not torch.allclose(y, run(model, batch))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("condition", ["goal", "both"])
def test_step_by_step_and_the_fast_way_decide_as_the_window_does(kind, condition):
    model = make_model(replace(TINY, **VARIANTS[kind], condition=condition), TASK)
    batch = make_batch(TASK, lengths=(6,) * 4)
    batch = replace(batch, timesteps=torch.arange(6).repeat(4, 1))
    decide, window, found = make_decider(model), run(model, batch), []
    state = model.rest(4) if decides_from_state(model) else {}
    with torch.inference_mode():
        for t in range(6):
            if state:
                y, state = decide(batch.rtg[:, t], batch.states[:, t], state)
                state["action"] = batch.actions[:, t]
            else:
                y = decide(*(x[:, : t + 1] for x in batch.fields))
            found.append(y)
    if kind == "dsformer_pssa":  # batch norm is the same, neighbours too
        assert pick_way(model) == "modules"
    assert_mostly_equal(torch.stack(found, 1), window.detach(), rtol=1e-3, atol=1e-4)


def test_without_the_weights_of_the_goal_both_is_the_model_of_the_return():
    config = replace(TINY, kind="dense")
    plain, both = (make_model(replace(config, condition=c), TASK) for c in ("return", "both"))
    missing = both.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing == ["embedding.goal.weight", "embedding.goal.bias"]
    torch.nn.init.zeros_(both.embedding.goal.weight)
    torch.nn.init.zeros_(both.embedding.goal.bias)
    batch = make_batch(TASK)
    assert torch.equal(run(plain, batch), run(both, batch))


@pytest.mark.parametrize(("kind", "maps"), [("dense", 1), ("snn_dt_stream", 2)])
def test_the_energy_counts_the_map_of_the_goal_and_its_sum(kind, maps):
    counts = {}
    for condition in ("return", "goal", "both"):
        model = make_model(replace(TINY, kind=kind, condition=condition), TASK)
        with torch.inference_mode(), DecisionMeter(model) as meter:
            model(*make_batch(TASK, context=1, lengths=(1,)).fields, last_only=True)
            meter.count(torch.ones(1, 1, dtype=torch.bool))
        counts[condition] = meter.by_module
    width = maps * TINY.d_model
    assert counts["both"]["embedding.goal"].macs == counts["goal"]["embedding.goal"].macs == 2 * width
    assert counts["both"]["embedding"].acs - counts["return"]["embedding"].acs == width
    assert not any(name.startswith(("embedding.rtg", "embedding.code")) for name in counts["goal"])


def test_hindsight_learns_to_reach_goals_that_no_episode_aimed_at(data, tmp_path):
    rates = {}
    for share in (0.0, 1.0):
        outcome = snn_dt.train(settings(share=share), tmp_path / f"{share}", data=data)
        [row] = snn_dt.evaluate(outcome.policy, episodes=40, seed=500)
        rates[share] = row["success_rate"]
        assert row["success_interval"] == list(wilson_interval(round(40 * row["success_rate"]), 40))
        assert row["return_mean"] == row["success_rate"]
    assert rates[1.0] >= 0.75
    assert rates[0.0] <= 0.5
    policy, env = snn_dt.from_pretrained(tmp_path / "1.0" / "checkpoints" / "last"), gym.make("toy/Reach-v0")
    for seed in range(5):  # the environment sets the goal: the policy is told neither a target nor a reward
        policy.reset()
        observation, _ = env.reset(seed=seed)
        first = policy.act(observation)
        assert np.sign(first) == np.sign(observation["desired_goal"] - observation["achieved_goal"])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (settings(), "model.condition: goal needs observations with achieved_goal and desired_goal"),
        (
            settings(condition="return", share=0.5, return_conditioned=False),
            "data.relabel_goals: 0.5 needs observations",
        ),
    ],
)
def test_a_dataset_without_goals_is_refused_in_one_line(config, message, tmp_path):
    with pytest.raises(ConfigError, match=message) as error:
        shape_of(config, load_trajectories(config), 1.0)
    assert "found Box" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data.relabel_goals", "0.5"], "data.relabel_goals"),
        (["--data.relabel_goals", "0.5", "--model.condition", "both"], "data.relabel_goals"),
        (["--model.condition", "both", "--model.return_conditioned", "false"], "model.condition"),
        (["--model.condition", "goal"], "model.condition: goal needs observations"),
    ],
)
def test_the_command_line_refuses_what_does_not_fit_together(flags, message, tmp_path, capsys):
    assert main(["train", "--config", "configs/base.yaml", *flags, "--run-dir", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_goal_policy_is_not_written_as_c_and_its_graph_decides_alike(data):
    config = settings(context_length=2)
    model = make_model(config.model, shape_of(config, data, 1.0))
    policy = make_policy(model, data, config, 1.0)
    with pytest.raises(ExportError, match="return for C, found goal"):
        _network(policy)
    decision = Decision(policy)
    policy_state = decision.rest()
    policy.reset()
    for value in (0.5, -0.3, 0.1):
        observation = {
            key: np.array([value * i], np.float32) for i, key in enumerate(Reach.observation_space.spaces, 1)
        }
        flat = torch.from_numpy(policy.flatten(observation))[None]
        action, *policy_state = decision(flat, torch.zeros(1), *policy_state)
        np.testing.assert_allclose(action[0].detach(), policy.act(observation), rtol=1e-4, atol=1e-5)
        policy.observe(0.0)


def test_the_wilson_interval_has_its_known_values():
    assert wilson_interval(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(10, 10) == pytest.approx((0.7225, 1), abs=1e-4)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared")
def test_a_recorded_pointmaze_trains_on_its_goals(tmp_path):
    config = settings("snn_dt_stream", share=0.5)
    config = replace(
        config,
        data=replace(config.data, dataset=str(SHARED / "loader/pointmaze-open-dict-v0")),
        train=replace(config.train, steps=3),
        eval=replace(config.eval, episodes=0),
    )
    outcome = snn_dt.train(config, tmp_path / "run")
    assert outcome.policy.model.task.goal_columns == (2, 4)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line["loss"]) for line in lines if "loss" in line)
