"""An update of a model with state begins from what the update before has left behind."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from gymnasium import spaces

from snn_dt.cli.main import main
from snn_dt.data.episode_streams import EpisodeStreams
from snn_dt.data.windows import WindowSampler
from snn_dt.errors import ConfigError
from snn_dt.training.distributed import Workers
from snn_dt.training.gradient import StatefulForward
from snn_dt.training.state import TrainingState
from tests.conftest import DISCRETE, make_model
from tests.data.conftest import trajectories as trajectories
from tests.models.test_stream import CONFIG
from tests.runs import flags, state_of, train

LENGTHS = [30, 7, 16, 41, 25]


@pytest.fixture
def data(trajectories):
    """Episodes of discrete actions."""
    return trajectories(LENGTHS, action_space=spaces.Discrete(3))


def carried(model) -> StatefulForward:
    """The forward of a fresh training run."""
    return StatefulForward(model, TrainingState(torch.optim.SGD(model.parameters(), 0.1)))


def test_predictions_are_those_of_whole_episodes(data):
    lanes = EpisodeStreams(data, 10, rtg_scale=10.0)
    model = make_model(CONFIG, dataclasses.replace(DISCRETE, state_dim=3))
    forward, whole = carried(model), {}
    for length, end in zip(LENGTHS, data.episode_offsets[1:] - 1, strict=True):
        episode = WindowSampler(data, length, rtg_scale=10.0).at(np.array([end]))
        whole[length] = (episode.states[0], model(*episode.fields)[0].detach())
    lengths = dict.fromkeys(range(3))
    compared = 0
    for step in range(25):
        batch = lanes.batch(0, step, 3)
        with torch.no_grad():
            predictions = forward(*batch.fields)
        for lane in range(3):
            mask = batch.attention_mask[lane]
            if int(batch.timesteps[lane, 0]) == 0:
                first = batch.states[lane][mask][0]
                lengths[lane] = next(n for n, (states, _) in whole.items() if torch.equal(states[0], first))
            if lengths[lane]:
                expected = whole[lengths[lane]][1][batch.timesteps[lane][mask]]
                torch.testing.assert_close(predictions[lane][mask], expected, rtol=1e-3, atol=1e-4)
                compared += int(mask.sum())
    assert compared > 300


def test_a_checkpoint_holds_the_state_and_a_run_without_one_none(tmp_path):
    for carry in (True, False):
        run = tmp_path / str(carry)
        assert train(run, model__kind="snn_dt_stream", train__stateful=str(carry).lower(), eval__episodes=0) == 0
        kept = state_of(run)["carried"]
        assert bool(kept) == carry
        if carry:
            assert kept["blocks.0.sum"].shape[0] == 8
            assert kept["blocks.0.sum"].any()


def test_updates_see_the_state_they_are_said_to_see(tmp_path, monkeypatch):
    seen = []

    def spy(self, *inputs_and_state):  # goal, rtg, states, actions, timesteps, mask, state
        state = inputs_and_state[-1]
        seen.append((None if state is None else state["begun"].clone(), inputs_and_state[4][:, 0] == 0))
        return real(self, *inputs_and_state)

    real = StatefulForward._advance
    monkeypatch.setattr(StatefulForward, "_advance", spy)
    assert train(tmp_path / "run", model__kind="snn_dt_stream", train__stateful="true", eval__episodes=0) == 0
    assert seen[0][0] is None
    for begun, begins in seen[1:]:
        assert torch.equal(begun, ~begins), "rows begin at rest exactly where an episode does"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model__kind": "snn_dt"}, "train.stateful: expected false for snn_dt, found True"),
        ({"model__kind": "snn_dt_stream", "train__accumulate": 2}, "train.accumulate: expected 1 where"),
    ],
)
def test_carrying_a_state_is_refused_where_there_is_none_or_it_would_be_split(tmp_path, capsys, changes, expected):
    assert main(["train", *flags(tmp_path / "run", train__stateful="true", **changes)]) == 2
    assert expected in capsys.readouterr().err


def test_several_processes_are_refused(monkeypatch):
    workers = Workers("cpu")
    monkeypatch.setattr(workers, "world_size", 2)
    with pytest.raises(ConfigError, match=r"train\.stateful: expected false in 2 processes"):
        workers.check(8, 1, stateful=True)
    workers.check(8, 1)
