"""Actions of several parts: the loss by hand, and a whole run: collect, train, evaluate, checkpoint, energy."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

import snn_dt
from snn_dt.cli.main import main
from snn_dt.data import encoding
from snn_dt.data.collect import collect
from snn_dt.data.trajectories import Trajectories
from snn_dt.data.windows import WindowSampler
from snn_dt.errors import ConfigError, ExportError
from snn_dt.export.graph import Decision
from snn_dt.learning.composite_loss import composite_loss
from snn_dt.learning.losses import loss_of
from snn_dt.models.layers import ActionHead, CompositeHead
from snn_dt.rule_config import PlasticityConfig
from tests.any_spaces import SPACES, quick, samples, stacked
from tests.echo import ACTIONS, OBSERVATIONS, answer, register_echo
from tests.policies import make_policy
from tests.runs import shared_cache as shared_cache
from tests.runs import train


def test_the_loss_of_a_composite_action_is_the_sum_of_its_parts_by_hand():
    codes = (2, 2, -1, 0, 0)
    logits = [1.0, 0.0, 0.0, 3.0, -2.0]
    predictions = torch.tensor([[[*logits, 0.5, 1.0], [9.0] * 7]])
    actions = torch.tensor([[[1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 3.0], [0.0] * 7]])
    mask = torch.tensor([[True, False]])
    half_range = torch.tensor([0.5] * 5 + [1.0, 2.0])
    loss, metrics = composite_loss(predictions, actions, mask, codes, half_range)
    choices = math.log(1 + math.exp(-1)) + math.log(1 + math.exp(3))
    bit = math.log(1 + math.exp(2))
    numbers = (0.5**2 + (2 / 2) ** 2) / 2
    assert loss.item() == pytest.approx(choices + bit + numbers, rel=1e-6)
    assert metrics["accuracy"].item() == pytest.approx(1 / 3)
    assert metrics["action_error"].item() == pytest.approx(math.sqrt(numbers))


def test_a_bit_counts_as_right_on_its_side_of_zero():
    logits = torch.tensor([[[0.5], [-0.5], [0.5], [-0.5]]])
    bits = torch.tensor([[[1.0], [0.0], [0.0], [0.0]]])
    _, metrics = composite_loss(logits, bits, torch.ones(1, 4, dtype=torch.bool), (-1,))
    assert metrics["accuracy"].item() == 0.75


def test_only_numbers_are_squashed_into_bounds():
    policy = make_policy(OBSERVATIONS, ACTIONS)
    assert type(policy.model.head) is CompositeHead
    x = torch.randn(3, policy.model.config.d_model) * 100
    y = policy.model.head(x)
    numbers = torch.tensor(policy.model.task.number_columns)
    assert (y[:, numbers].abs() <= 2).all()
    torch.testing.assert_close(y[:, ~numbers], policy.model.head.drive(x)[:, ~numbers])
    assert type(make_policy(OBSERVATIONS, spaces.MultiDiscrete([2, 3])).model.head) is ActionHead


@settings(quick, max_examples=12)
@given(SPACES, SPACES, st.sampled_from(["dense", "snn_dt_stream"]))
def test_dataset_batch_policy_and_environment_speak_of_the_same_values(observations, actions, kind):
    seen, done = samples(observations, 7), samples(actions, 7)
    t = Trajectories.from_arrays(
        stacked(observations, seen), stacked(actions, done), np.ones(7), np.arange(7) == 6, np.zeros(7, bool),
        observation_space=observations, action_space=actions,
    )  # fmt: skip
    choices = ~encoding.number_columns(encoding.parts(observations))
    assert not t.state_mean[choices].any()
    assert (t.state_std[choices] == 1).all()
    batch = WindowSampler(t, 4, rtg_scale=7.0, normalize=False).at(np.array([6]))
    np.testing.assert_allclose(batch.states[0], [spaces.flatten(observations, value) for value in seen[3:]], rtol=1e-6)
    if isinstance(actions, spaces.Discrete):
        assert (batch.actions[0].numpy() + actions.start).tolist() == done[3:]
    else:
        np.testing.assert_allclose(batch.actions[0], [spaces.flatten(actions, value) for value in done[3:]], rtol=1e-6)
    policy = make_policy(observations, actions, kind=kind)
    loss, _ = loss_of(policy.model, batch, policy.model(*batch.fields))
    assert torch.isfinite(loss)
    policy.reset(3.0)
    for value in seen[:3]:
        assert actions.contains(action := policy.act(value)), action
        policy.observe(1.0)
    policy.reset(3.0, batch_size=2)
    both = policy.act(np.stack([policy.flatten(value) for value in seen[:2]]))
    assert all(actions.contains(int(a) if isinstance(actions, spaces.Discrete) else a) for a in both)


@pytest.mark.parametrize("space", [ACTIONS, spaces.MultiBinary(3), spaces.MultiDiscrete([3, 2])])
@pytest.mark.parametrize("kind", ["dense", "snn_dt", "snn_dt_stream"])
def test_fast_and_plain_ways_of_deciding_give_the_same_action(space, kind):
    policy = make_policy(OBSERVATIONS, space, kind=kind)
    OBSERVATIONS.seed(5)
    seen = [OBSERVATIONS.sample() for _ in range(8)]

    def play() -> list[np.ndarray]:
        policy.reset(4.0)
        found = []
        for observation in seen:
            found.append(spaces.flatten(space, policy.act(observation)))
            policy.observe(0.5)
        return found

    fast = play()
    with policy.through_modules():
        np.testing.assert_allclose(play(), fast, atol=1e-4)


def test_a_rate_head_takes_choices_and_refuses_bits_and_mixtures():
    assert make_policy(OBSERVATIONS, spaces.MultiDiscrete([3, 2]), kind="snn_dt-rate-head").model.head.bounded is False
    for space in (ACTIONS, spaces.MultiBinary(3)):
        with pytest.raises(ConfigError, match="expected linear for actions with bits, or numbers beside choices"):
            make_policy(OBSERVATIONS, space, kind="snn_dt-rate-head")


def test_a_graph_of_actions_of_several_parts_is_refused_by_name():
    with pytest.raises(ExportError, match="expected Box or Discrete actions, found MultiBinary"):
        Decision(make_policy(OBSERVATIONS, spaces.MultiBinary(2)))


def test_plasticity_refuses_actions_of_several_parts():
    with pytest.raises(ConfigError, match="expected 0 for MultiDiscrete"):
        make_policy(OBSERVATIONS, ACTIONS).adapt(PlasticityConfig(eta=0.1))


def test_a_run_learns_every_part_from_collected_data_and_its_checkpoint_acts(tmp_path, capsys):
    def behave(observation):
        return answer(observation) if rng.random() < 0.8 else ACTIONS.sample()

    rng = np.random.default_rng(0)
    ACTIONS.seed(0)
    env_id = register_echo(OBSERVATIONS, ACTIONS, answer=answer)
    folder = collect(env_id, behave, episodes=150, seed=0, dataset_id="toy/echo-v0", root=tmp_path / "data")
    run = tmp_path / "run"
    changes = {
        "data__dataset": str(folder), "model__d_model": 48, "model__context_length": 3, "train__steps": 150,
        "train__batch_size": 48, "train__learning_rate": 3e-3, "train__eval_every": 0, "train__save_every": 150,
        "eval__target_return": 5, "eval__env_id": env_id,
    }  # fmt: skip
    assert train(run, **changes) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert max(line.get("accuracy", line.get("train/accuracy", 0)) for line in lines) > 0.75
    results = tmp_path / "rows.json"
    command = ["evaluate", "--checkpoint", str(run), "--episodes", "5", "--json", str(results), "--env-id", env_id]
    command += ["--target-return", "5"]
    assert main(command) == 0
    (row,) = json.loads(results.read_text())
    assert row["return_mean"] > 4.2  # 5 if every part is right, 2.9 at random
    assert row["macs_per_decision"] > 0
    policy = snn_dt.from_pretrained(run)
    policy.reset(5.0)
    observation = OBSERVATIONS.sample()
    action = policy.act(observation)
    assert ACTIONS.contains(action)
    assert (action["gear"], action["wheels"][1].tolist()) == (
        answer(observation)["gear"],
        answer(observation)["wheels"][1].tolist(),
    )
