"""Atari: frames, the environment, reference returns, and files in the layout of Minari's `atari/*`."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import gymnasium as gym
import minari
import numpy as np
import pytest
from PIL import Image

import snn_dt
from snn_dt.cli.main import main
from snn_dt.data import atari
from snn_dt.data.atari_scores import ATARI_SCORES
from snn_dt.data.file_faults import Declared
from snn_dt.data.jpeg import decode
from snn_dt.data.registration import make_by_id
from snn_dt.data.scores import environment_reference, normalized_score
from snn_dt.errors import DataError, EnvironmentMismatchError

PIP = "pip install 'snn-dt[atari]'"
BREAKOUT, STICKY = "snn_dt/Atari-Breakout-v5", "snn_dt/AtariSticky-Breakout-v5"


@pytest.fixture
def ale():
    package = pytest.importorskip("ale_py", reason=PIP)
    gym.register_envs(package)
    return package


def test_a_frame_becomes_gray_with_the_place_of_its_objects():
    frame = np.zeros((210, 160, 3), np.uint8)
    frame[105:, :, 1] = 255  # the lower half is green
    found = atari.small(frame)
    assert (found.shape, found.dtype) == ((84, 84, 1), np.uint8)
    assert not found[:41].any()
    assert (found[43:] == round(0.587 * 255)).all()  # luma of ITU-R 601


def test_the_score_is_that_of_the_human_and_the_random_player():
    reference = environment_reference(BREAKOUT)
    assert (reference.min, reference.max) == (1.7, 30.5)
    assert {environment_reference(name) for name in ("ALE/Breakout-v5", STICKY)} == {reference}
    assert normalized_score(45.0, reference) == pytest.approx(100 * 43.3 / 28.8)
    assert environment_reference("ALE/Adventure-v5") is None
    assert len(ATARI_SCORES) == 57


def test_every_scored_game_has_an_environment(ale):
    names = {name.removeprefix("ALE/").removesuffix("-v5").lower() for name in gym.registry if name.startswith("ALE/")}
    assert set(ATARI_SCORES) <= names


def test_without_the_package_the_error_holds_the_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ale_py", None)  # an import of it fails
    with pytest.raises(EnvironmentMismatchError, match=r"pip install 'snn-dt\[atari\]'"):
        make_by_id(BREAKOUT)


def test_a_step_is_four_frames_of_the_game(ale):
    env = make_by_id("snn_dt/Atari-SpaceInvaders-v5", noop_max=0)
    game = gym.make("ALE/SpaceInvaders-v5", frameskip=1, repeat_action_probability=0.0)
    np.testing.assert_array_equal(env.reset(seed=5)[0], atari.small(game.reset(seed=5)[0]))
    early = 0.0  # rewards before the last of the four frames
    for action in np.random.default_rng(0).integers(4, size=60):
        observation, reward, terminated, _, info = env.step(action)
        frames = [game.step(action) for _ in range(4)]
        np.testing.assert_array_equal(observation, atari.small(frames[-1][0]))
        assert reward == sum(frame[1] for frame in frames)
        assert (terminated, info["lives"]) == (frames[-1][2], frames[-1][4]["lives"])
        early += sum(frame[1] for frame in frames[:-1])
    assert early > 0
    assert env.spec.max_episode_steps == 27_000


def test_the_reset_seed_draws_the_number_of_no_ops(ale):
    env = make_by_id("snn_dt/Atari-SpaceInvaders-v5")
    starts = {env.reset(seed=seed)[1]["episode_frame_number"] for seed in range(6)}
    assert len(starts) > 2
    assert max(starts) <= 30
    again = [env.reset(seed=3)[0] for _ in range(2)]
    np.testing.assert_array_equal(*again)


def test_sticky_actions_are_another_environment(ale):
    games = make_by_id(BREAKOUT), make_by_id(STICKY)
    probabilities = [env.unwrapped.game.unwrapped.ale.getFloat("repeat_action_probability") for env in games]
    assert probabilities == [0.0, 0.25]


def test_clipped_rewards_are_those_of_the_training_data_only():
    columns = np.zeros((3, 1)), np.array([0, 1, 0]), np.array([200.0, -0.5, -7.0]), np.zeros(3), np.array([0, 0, 1])
    data = snn_dt.Trajectories.from_arrays(*columns, reward_mode="clipped")
    assert data.rewards.tolist() == [1, -0.5, -1]
    assert data.returns_to_go.tolist() == [-0.5, -1.5, -1]
    with pytest.raises(DataError, match="'dense', 'delayed' or 'clipped'"):
        snn_dt.Trajectories.from_arrays(*columns, reward_mode="sign")


@pytest.fixture
def recorded(ale, minari_set):
    """Three short random episodes in the layout of Minari's `atari/breakout/expert-v0`, JPEG included."""
    env = gym.make("ALE/Breakout-v5", repeat_action_probability=0, max_episode_steps=27_000)
    episodes = []
    for seed, steps in enumerate((12, 9, 15)):
        rng, frames, rewards = np.random.default_rng(seed), [env.reset(seed=seed)[0]], []
        actions = rng.integers(4, size=steps)
        for action in actions:
            frame, reward, *_ = env.step(action)
            frames.append(frame)
            rewards.append(7.0 * (reward + 1))
        ends = np.arange(steps) == steps - 1
        columns = {"observations": np.stack(frames), "actions": actions, "rewards": rewards}
        episodes.append(columns | {"terminations": ends, "truncations": np.zeros(steps, bool)})
    minari_set(episodes, "atari/breakout/expert-v0", env.observation_space, env.action_space, env=env.spec)
    return episodes


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_jpeg_frames_are_decoded_as_minari_decodes_them(data_format, minari_set):
    space = gym.spaces.Box(0, 255, (40, 33, 3), np.uint8)
    episodes = []
    for steps in (3, 4):
        frames = np.random.default_rng(steps).integers(0, 255, (steps + 1, *space.shape), np.uint8)
        ends = np.arange(steps) == steps - 1
        columns = {"observations": frames, "actions": np.zeros(steps, np.int64), "rewards": np.ones(steps)}
        episodes.append(columns | {"terminations": ends, "truncations": ~ends & False})
    minari_set(episodes, "toy/pictures-v0", space, gym.spaces.Discrete(2), data_format=data_format)
    theirs = [episode.observations for episode in minari.load_dataset("toy/pictures-v0")]
    data = snn_dt.load_dataset("minari:toy/pictures-v0")
    assert (data.observations.dtype, data.n_steps) == (np.uint8, 7)
    np.testing.assert_array_equal(data.observations.reshape(7, *space.shape), np.concatenate([x[:-1] for x in theirs]))


def test_a_frame_of_another_size_is_refused():
    stream = io.BytesIO()
    Image.fromarray(np.zeros((50, 33, 3), np.uint8)).save(stream, format="JPEG")
    with pytest.raises(ValueError, match=r"frame 0 of shape \(50, 33, 3\), expected \(40, 33, 3\)"):
        decode([stream.getvalue()], gym.spaces.Box(0, 255, (40, 33, 3), np.uint8), Declared(Path("data")))


def test_minaris_layout_is_read_as_small_frames_with_the_environment_that_emits_them(recorded):
    data = snn_dt.load_dataset("atari:breakout/expert-v0")
    assert (data.n_episodes, data.n_steps, data.observation_space.shape) == (3, 36, (84, 84, 1))
    assert (data.env_id, data.time_limit, data.reference.max) == (BREAKOUT, 27_000, 30.5)
    frames = np.concatenate([[atari.small(frame) for frame in episode["observations"][:-1]] for episode in recorded])
    lost = np.abs(frames.reshape(36, -1).astype(int) - data.observations)
    assert lost.mean() < 3  # of 255: JPEG


@pytest.mark.filterwarnings("ignore:expected a target return between")
def test_one_line_trains_as_published_and_plays_the_game(recorded, tmp_path):
    run, small = (
        tmp_path / "run",
        ["--model.n_layers", "1", "--model.context_length", "3", "--model.d_model", "32", "--train.batch_size", "2"],
    )
    short = ["--train.steps", "2", "--eval.episodes", "1", "--eval.max_steps", "3", "--track.wandb", "disabled"]
    dataset = ["--data.dataset", "atari:breakout/expert-v0", "--eval.target_return", "90"]
    assert main(["train", "atari", *dataset, *small, *short, "--run-dir", str(run)]) == 0
    policy = snn_dt.from_pretrained(run)
    assert policy.spec.return_range == (9, 15)  # every reward of the recording is at least 7
    [row] = snn_dt.evaluate(policy, 90.0, episodes=1, max_steps=3)
    assert (row["env_id"], row["episodes_cut"]) == (BREAKOUT, 1)
