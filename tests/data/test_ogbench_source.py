"""OGBench's npz files become episodes of a task, with the rewards of its own package."""

from __future__ import annotations

import sys
import types

import gymnasium as gym
import numpy as np
import pytest

import snn_dt
from snn_dt.data.file_faults import MIN_ALLOWED_BYTES
from snn_dt.data.ogbench_source import episode_bounds, split_name
from snn_dt.errors import DataError
from tests.data.test_arrays import refusal
from tests.echo import Echo

NAME = "toymaze-large-navigate-singletask-task1-v0"


def write(folder, lengths=(4, 5, 3), **changes):
    """Write a file in OGBench's layout: a point that walks along x, one unit a step, from 0 in every trajectory."""
    n = sum(lengths)
    x = np.concatenate([np.arange(length, dtype=np.float32) for length in lengths])
    arrays = {
        "observations": np.stack([x, np.zeros(n, np.float32)], axis=1),
        "actions": np.tile(np.float32([1.0, 0.0]), (n, 1)),
        "terminals": np.isin(np.arange(n), np.cumsum(lengths) - 1).astype(np.float32),
        "qpos": np.stack([x, np.zeros(n)], axis=1),
        "qvel": np.ones((n, 2)),
    } | changes
    path = folder / "toymaze-large-navigate-v0.npz"
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return arrays


class ToyMaze(Echo):
    """An environment with the spaces of the file."""

    def __init__(self, **_):
        super().__init__(gym.spaces.Box(-np.inf, np.inf, (2,), np.float64), gym.spaces.Box(-1, 1, (2,), np.float32))


@pytest.fixture
def package(monkeypatch):
    """A stand-in for ogbench: an environment of two numbers whose goal is at x = 2, and the rule of its rewards."""

    def relabel_dataset(env_name, env, dataset):
        assert env_name == "toymaze-large-singletask-task1-v0"
        successes = (np.abs(dataset["qpos"][:, 0] - 2) <= 0.5).astype(np.float32)
        dataset["rewards"], dataset["masks"] = successes - 1.0, 1.0 - successes

    module, rules = types.ModuleType("ogbench"), types.ModuleType("ogbench.relabel_utils")
    rules.relabel_dataset, module.relabel_utils, module.__path__ = relabel_dataset, rules, []
    monkeypatch.setitem(sys.modules, "ogbench", module)
    monkeypatch.setitem(sys.modules, "ogbench.relabel_utils", rules)
    name = "toymaze-large-singletask-task1-v0"
    gym.registry.pop(name, None)
    gym.register(name, entry_point="tests.data.test_ogbench_source:ToyMaze", max_episode_steps=1000)
    yield
    gym.registry.pop(name, None)


def test_episodes_end_at_success_and_the_last_state_of_a_trajectory_has_no_action(tmp_path, package):
    write(tmp_path)
    t = snn_dt.load_dataset(f"ogbench:{tmp_path}/{NAME}")
    # Steps 0, 1, 2 of each trajectory; step 3 of the second begins anew. The third has only two actions.
    assert t.observations[:, 0].tolist() == [0, 1, 2, 0, 1, 2, 3, 0, 1]
    assert t.episode_offsets.tolist() == [0, 3, 6, 7, 9]
    assert t.terminated.tolist() == [True, True, False, False]
    assert t.rewards.tolist() == [-1, -1, 0, -1, -1, 0, -1, -1, -1]
    assert (t.env_id, t.time_limit, t.reference) == ("toymaze-large-singletask-task1-v0", 1000, None)


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ([0, 0, 0], [(0, 3, False)]),
        ([0, 1, 1, 1], [(0, 2, True)]),
        ([1, 1, 0, 0, 1], [(0, 1, True), (2, 5, True)]),
        ([0, 1, 0], [(0, 2, True), (2, 3, False)]),
        ([], []),
    ],
)
def test_a_trajectory_is_cut_at_success(over, expected):
    assert list(episode_bounds(np.array(over, bool))) == expected


def test_a_small_file_that_would_fill_the_memory_is_refused(tmp_path, package):
    zeros = np.zeros(MIN_ALLOWED_BYTES // 4 + 1, np.float32)
    np.savez_compressed(tmp_path / "toymaze-large-navigate-v0.npz", observations=zeros)
    assert "declares" in refusal(snn_dt.load_dataset, f"ogbench:{tmp_path}/{NAME}")


def test_rows_without_an_end_are_left_out_and_said(tmp_path, package):
    write(tmp_path, terminals=np.isin(np.arange(12), [3, 8]).astype(np.float32))
    t = snn_dt.load_dataset(f"ogbench:{tmp_path}/{NAME}")
    assert t.n_steps == 7
    assert "3 rows after the last end of a trajectory are left out" in t.notes


def test_a_name_imports_no_module(tmp_path, package, monkeypatch):
    (tmp_path / "strange.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    write(tmp_path)
    (tmp_path / "toymaze-large-navigate-v0.npz").rename(tmp_path / "strange:toymaze-large-navigate-v0.npz")
    assert "without a colon" in refusal(snn_dt.load_dataset, f"ogbench:{tmp_path}/strange:{NAME}")


def test_names_give_the_file_and_the_environment():
    assert split_name(NAME) == ("toymaze-large-navigate-v0", "toymaze-large-singletask-task1-v0")
    assert split_name("scene-play-singletask-v0") == ("scene-play-v0", "scene-singletask-v0")
    for name in ("antmaze-large-navigate-v0", "singletask", "scene-singletask-v0"):
        with pytest.raises(DataError, match="add -singletask"):
            split_name(name)


def test_a_missing_file_or_package_or_array_is_one_line(tmp_path, package, monkeypatch):
    assert "https://rail.eecs.berkeley.edu/datasets/ogbench/toymaze" in refusal(
        snn_dt.load_dataset, f"ogbench:{tmp_path}/{NAME}"
    )
    write(tmp_path, terminals=None)
    assert "it lacks terminals" in refusal(snn_dt.load_dataset, f"ogbench:{tmp_path}/{NAME}")
    write(tmp_path, actions=np.zeros((3, 2), np.float32))
    assert "as many rows in every array" in refusal(snn_dt.load_dataset, f"ogbench:{tmp_path}/{NAME}")
    write(tmp_path, qpos=None)
    assert "expected qpos and button_states" in refusal(snn_dt.load_dataset, f"ogbench:{tmp_path}/{NAME}")
    (tmp_path / "toymaze-large-navigate-v0.npz").write_bytes(b"no archive")
    assert "missing, damaged or incomplete" in refusal(snn_dt.load_dataset, f"ogbench:{tmp_path}/{NAME}")
    write(tmp_path)
    monkeypatch.setitem(sys.modules, "ogbench", None)
    assert "pip install ogbench" in refusal(snn_dt.load_dataset, f"ogbench:{tmp_path}/{NAME}")


def test_the_real_package_rewards_a_real_task(tmp_path):
    pytest.importorskip("ogbench", reason="pip install ogbench")
    env = gym.make("pointmaze-medium-singletask-task1-v0")
    env.reset(seed=0)
    goal = np.asarray(env.unwrapped.cur_goal_xy)
    path = np.stack([goal - 4, goal - 2, goal, goal], axis=0).astype(np.float32)
    arrays = {
        "observations": path,
        "actions": np.zeros((4, 2), np.float32),
        "terminals": np.array([0, 0, 0, 1.0]),
        "qpos": path.astype(np.float64),
    }
    np.savez(tmp_path / "pointmaze-medium-navigate-v0.npz", **arrays)
    t = snn_dt.load_dataset(f"ogbench:{tmp_path}/pointmaze-medium-navigate-singletask-task1-v0")
    assert (t.rewards.tolist(), t.terminated.tolist()) == ([-1, -1, 0], [True])
