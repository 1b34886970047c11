"""Every dataset of the shared folder loads, or refuses, as its README says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import snn_dt
from snn_dt.data.scores import environment_reference, normalized_score
from snn_dt.errors import DataError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
README = SHARED / "minari" / "README.md"

pytestmark = pytest.mark.skipif(not README.is_file(), reason=f"needs the shared datasets in {SHARED}")


def _rows() -> list[list[str]]:
    """Return the cells of the README's table of sets."""
    lines = README.read_text().splitlines() if README.is_file() else []
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| `sb3/")]


def _numbers(cell: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.?\d*", cell)]


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row[0].strip("`"))
def test_counts_returns_and_scores_equal_the_readme(row):
    dataset_id, _, episodes, steps, length, extremes, quantiles, score, d4rl, terminated, *_ = row
    t = snn_dt.load_dataset(str(SHARED / "minari" / dataset_id.strip("`")))
    returns = t.episode_returns
    assert t.dataset_id == dataset_id.strip("`")
    assert (t.n_episodes, t.n_steps) == (int(episodes), int(steps))
    assert t.n_steps / t.n_episodes == pytest.approx(float(length), abs=0.51)
    assert [returns.min(), returns.mean(), returns.max()] == pytest.approx(_numbers(extremes), abs=0.051)
    assert np.quantile(returns, [0.1, 0.5, 0.9]).tolist() == pytest.approx(_numbers(quantiles), abs=0.51)
    assert normalized_score(returns.mean(), t.reference) == pytest.approx(float(score), abs=0.051)
    assert "metadata of sb3/" in t.reference.source
    if d4rl != "-":
        d4rl_score = normalized_score(returns.mean(), environment_reference(t.env_id))
        assert d4rl_score == pytest.approx(float(d4rl), abs=0.051)
    assert 100 * t.terminated.mean() == pytest.approx(_numbers(terminated)[0], abs=0.51)
    assert (t.terminated | t.truncated).all()


def test_the_readme_lists_21_sets():
    assert len(_rows()) == 21


def test_dict_observations_are_flattened_in_the_order_of_the_space():
    t = snn_dt.load_dataset(str(SHARED / "minari" / "loader" / "pointmaze-open-dict-v0"))
    assert (t.n_episodes, t.n_steps, t.obs_dim, t.action_dim) == (60, 2647, 8, 2)
    np.testing.assert_array_equal(t.observations[:, :2], t.observations[:, 4:6])  # achieved_goal is the position
    assert (t.env_id, t.reference) == ("PointMaze_Open-v3", None)


def test_text_is_refused_by_name():
    with pytest.raises(DataError, match="Text observations at '2'"):
        snn_dt.load_dataset(str(SHARED / "minari" / "loader" / "tuple-text-v0"))


@pytest.mark.parametrize("name", ["cartpole-image-hdf5-v0", "cartpole-image-arrow-v0"])
def test_recorded_images_stay_bytes(name):
    t = snn_dt.load_dataset(str(SHARED / "minari" / "loader" / name))
    assert (t.observations.dtype, t.observations.shape) == (np.uint8, (t.n_steps, 64 * 96 * 3))
    assert len(np.unique(t.observations[0])) > 1  # a picture, not one colour


@pytest.mark.parametrize(
    ("name", "episodes", "steps", "mean_return", "env_id"),
    [
        ("door_human", 25, 6729, None, "AdroitHandDoor-v1"),
        ("hopper_medium_standin", 62, 25000 - 62, 1476, "Hopper-v5"),
        ("hopper_medium_replay_standin", 129, 15000, 329, "Hopper-v5"),
        ("hopper_random_v0layout_standin", 232, 4988, None, "Hopper-v5"),
    ],
)
def test_d4rl_files_give_the_episodes_their_readme_names(name, episodes, steps, mean_return, env_id):
    t = snn_dt.load_dataset(f"d4rl:{SHARED / 'd4rl' / name}.hdf5")
    assert (t.n_episodes, t.n_steps, t.env_id) == (episodes, steps, env_id)
    assert t.observations.dtype == t.actions.dtype == np.float32
    if mean_return:
        assert t.episode_returns.mean() == pytest.approx(mean_return, abs=0.51)
    assert "D4RL" in t.reference.source


def test_the_human_door_demonstrations_have_the_readmes_lengths_and_returns():
    t = snn_dt.load_dataset(f"d4rl:{SHARED / 'd4rl' / 'door_human.hdf5'}")
    assert (t.episode_lengths.min(), t.max_episode_length) == (223, 300)
    assert (round(t.episode_returns.min()), round(t.episode_returns.max())) == (230, 1496)
    assert t.truncated.all()
    assert not t.terminated.any()
