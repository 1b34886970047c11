"""MinAtar's games as Gymnasium environments."""

from __future__ import annotations

import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from snn_dt.data.minatar import GAMES, env_id
from snn_dt.data.registration import make_by_id
from snn_dt.errors import EnvironmentMismatchError

PIP = "pip install 'snn-dt[minatar]'"


@pytest.fixture
def package():
    return pytest.importorskip("minatar", reason=PIP)


def test_without_the_package_the_error_holds_the_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "minatar", None)  # an import of it fails
    with pytest.raises(EnvironmentMismatchError, match=r"pip install 'snn-dt\[minatar\]'"):
        make_by_id(env_id("breakout"))


@pytest.mark.parametrize("game", GAMES)
def test_a_game_goes_step_by_step_as_the_package_plays_it(game, package):
    """Same seed of the game's generator, same actions: same pictures, rewards and ends, over several episodes."""
    env = make_by_id(env_id(game))
    theirs = package.Environment(game, sticky_action_prob=0.1)
    moves = theirs.minimal_action_set()
    actions = np.random.default_rng(1).integers(len(moves), size=400)
    observation, _ = env.reset(seed=7)
    theirs.seed(int(np.random.Generator(np.random.PCG64(7)).integers(2**32)))
    theirs.reset()
    for action in actions:
        np.testing.assert_array_equal(observation, 255 * theirs.state())
        observation, reward, terminated, truncated, _ = env.step(action)
        assert (reward, terminated, truncated) == (*theirs.act(moves[action]), False)
        if terminated:
            observation, _ = env.reset()
            theirs.last_action = 0
            theirs.reset()


def test_an_episode_depends_on_its_reset_seed_alone(package):
    """The package's own environment would repeat the last action of the episode before."""
    env = make_by_id(env_id("breakout"), sticky_action_prob=0.9)

    def play() -> list[np.ndarray]:
        seen = [env.reset(seed=3)[0]]
        return seen + [env.step(2)[0] for _ in range(8)]

    first = play()
    np.testing.assert_array_equal(play(), first)


@pytest.mark.filterwarnings("ignore:.*")
def test_games_keep_gymnasiums_interface(package):
    env = gym.make(env_id("space_invaders"), render_mode="rgb_array")
    check_env(env.unwrapped, skip_render_check=True)
    env.reset(seed=0)
    assert env.observation_space == gym.spaces.Box(0, 255, (10, 10, 6), np.uint8)
    picture = env.render()
    assert picture.shape == (320, 320, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 3  # cannon, aliens, nothing
