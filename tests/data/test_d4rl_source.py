"""A flat D4RL file becomes the episodes that D4RL's own `sequence_dataset` means."""

from __future__ import annotations

import sys
import urllib.request
from pathlib import Path
from urllib.error import URLError

import h5py
import numpy as np
import pytest

import snn_dt
from snn_dt.data import d4rl_source
from snn_dt.data.d4rl_files import URLS
from snn_dt.errors import DataError


def write(path: Path, n: int, obs_dim: int = 11, action_dim: int = 3, ends: dict[int, str] | None = None, **entries):
    """Write a D4RL-like file of n rows; `ends` maps a row to the flag that is set there."""
    rng = np.random.default_rng(0)
    flags = {name: np.zeros(n, bool) for name in ("terminals", "timeouts")}
    for row, name in (ends or {}).items():
        flags[name][row] = True
    data = {
        "observations": rng.normal(size=(n, obs_dim)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (n, action_dim)).astype(np.float32),
        "rewards": rng.normal(size=n).astype(np.float32),
        **flags,
        **entries,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, value in data.items():
            if value is not None:
                file[name] = value
    return data


def test_episodes_end_at_terminals_and_timeouts_and_the_cut_tail_is_dropped(tmp_path):
    path = tmp_path / "hopper_toy.hdf5"
    data = write(path, 50, ends={9: "terminals", 29: "timeouts", 41: "terminals"})
    t = snn_dt.load_dataset(f"d4rl:{path}")
    assert t.episode_offsets.tolist() == [0, 10, 30, 42]
    assert t.terminated.tolist() == [True, False, True]
    assert t.truncated.tolist() == [False, True, False]
    np.testing.assert_array_equal(t.observations, data["observations"][:42])
    np.testing.assert_allclose(
        t.episode_returns, [data["rewards"][a:b].sum() for a, b in [(0, 10), (10, 30), (30, 42)]]
    )


def test_reading_in_blocks_gives_the_same_rows(tmp_path, monkeypatch):
    path = tmp_path / "hopper_toy.hdf5"
    write(path, 50, ends={9: "terminals", 12: "terminals", 29: "timeouts", 41: "terminals"})
    whole = snn_dt.load_dataset(f"d4rl:{path}", cache=False)
    monkeypatch.setattr(d4rl_source, "_BLOCK_ROWS", 15)
    assert snn_dt.load_dataset(f"d4rl:{path}", cache=False).checksum == whole.checksum


@pytest.mark.parametrize("rows", [501, 560])  # the last episode just fits, a tail is cut
def test_without_timeouts_every_episode_ends_at_the_tasks_limit(tmp_path, rows):
    path = tmp_path / "pen_toy.hdf5"  # limit 100
    write(path, rows, 45, 24, ends={49: "terminals", 349: "terminals", 400: "terminals"}, timeouts=None)
    t = snn_dt.load_dataset(f"d4rl:{path}")
    assert t.episode_offsets.tolist() == [0, 50, 150, 250, 350, 401, 501]
    assert t.terminated.tolist() == [True, False, False, True, True, False]


def test_without_timeouts_and_without_a_known_limit_the_file_is_refused(tmp_path):
    write(tmp_path / "mine.hdf5", 50, ends={9: "terminals"}, timeouts=None)
    with pytest.raises(DataError, match="no timeouts"):
        snn_dt.load_dataset(f"d4rl:{tmp_path / 'mine.hdf5'}")


def test_float64_replays_and_columns_of_one_are_the_same_as_flat_float32(tmp_path):
    ends = {9: "terminals", 49: "timeouts"}
    data = write(tmp_path / "a" / "hopper.hdf5", 50, ends=ends)
    wide = {name: data[name].astype(np.float64) for name in ("observations", "actions")}
    flags = {name: data[name].reshape(-1, 1).astype(np.float32) for name in ("terminals", "timeouts")}
    write(
        tmp_path / "b" / "hopper.hdf5", 50, **wide, **flags, rewards=data["rewards"].reshape(-1, 1).astype(np.float64)
    )
    a, b = (snn_dt.load_dataset(f"d4rl:{tmp_path / folder / 'hopper.hdf5'}") for folder in "ab")
    assert a.checksum == b.checksum
    assert b.observations.dtype == np.float32


def test_entries_whose_first_axis_is_not_time_are_left_alone(tmp_path):
    metadata = {
        "metadata/iteration": 7,
        "metadata/algorithm": b"SAC",
        "metadata/policy/fc0/weight": np.zeros((256, 11)),
    }
    write(tmp_path / "hopper.hdf5", 50, ends={49: "timeouts"}, **metadata, **{"infos/qpos": np.full((50, 6), np.nan)})
    assert snn_dt.load_dataset(f"d4rl:{tmp_path / 'hopper.hdf5'}").n_steps == 50


def test_antmaze_ends_at_timeouts_only_and_keeps_its_rewards(tmp_path):
    at_goal = dict.fromkeys((17, 18, 19, 37, 38), "terminals")
    path = tmp_path / "antmaze-umaze-v2.hdf5"
    write(
        path,
        40,
        29,
        8,
        ends=at_goal,
        timeouts=np.isin(np.arange(40), [19, 39]),
        rewards=np.isin(np.arange(40), [*at_goal]),
    )
    t = snn_dt.load_dataset(f"d4rl:{path}")
    assert t.episode_lengths.tolist() == [20, 20]
    assert t.episode_returns.tolist() == [3.0, 2.0]
    assert t.env_id is None


def test_maze2d_ends_where_its_goals_are_reached(tmp_path):
    path = tmp_path / "maze2d-umaze-sparse-v1.hdf5"
    write(path, 100, 4, 2, ends={9: "timeouts", 79: "timeouts"})
    t = snn_dt.load_dataset(f"d4rl:{path}")
    assert (t.dataset_id, t.episode_lengths.tolist(), t.time_limit) == ("maze2d-umaze-v1", [10, 70], 300)
    assert t.reference.max == 161.86


def test_minigrid_grids_and_choices_stored_as_floats_are_flattened_and_discrete(tmp_path):
    path = tmp_path / "minigrid4rooms.hdf5"
    grids, choices = np.zeros((102, 7, 7, 3), np.float32), (np.arange(102) % 7).astype(np.float32)
    write(path, 102, observations=grids, actions=choices, ends={50: "terminals", 101: "terminals"}, timeouts=None)
    t = snn_dt.load_dataset(f"d4rl:{path}")
    assert (t.obs_dim, t.action_dim, t.discrete, t.n_episodes) == (147, 7, True, 2)


@pytest.mark.parametrize(
    ("dataset_id", "url"),
    [
        ("hopper-medium-v2", "gym_mujoco_v2/hopper_medium-v2.hdf5"),
        ("walker2d-medium-replay-v0", "gym_mujoco/walker_mixed.hdf5"),
        ("ant-full-replay-v1", "gym_mujoco_v1/ant_full_replay-v1.hdf5"),
        ("pen-human-v1", "hand_dapg_v1/pen-human-v1.hdf5"),
        ("door-cloned-v0", "hand_dapg/door-demos-v0-bc-combined.hdf5"),
        ("kitchen-complete-v0", "kitchen/mini_kitchen_microwave_kettle_light_slider-v0.hdf5"),
        ("maze2d-umaze-v1", "maze2d/maze2d-umaze-sparse-v1.hdf5"),
        ("maze2d-eval-large-dense-v1", "maze2d/maze2d-eval-large-dense-v1.hdf5"),
        ("antmaze-umaze-v2", "ant_maze_v2/Ant_maze_u-maze_noisy_multistart_False_multigoal_False_sparse_fixed.hdf5"),
        (
            "antmaze-large-play-v0",
            "ant_maze_new/Ant_maze_hardest-maze_noisy_multistart_True_multigoal_False_sparse.hdf5",
        ),
        ("minigrid-fourrooms-v0", "minigrid/minigrid4rooms.hdf5"),
    ],
)
def test_ids_lead_to_the_files_of_d4rls_server(dataset_id, url):
    assert URLS[dataset_id] == f"http://rail.eecs.berkeley.edu/datasets/offline_rl/{url}"


def test_an_id_is_looked_for_under_its_address_and_then_under_its_own_name(tmp_path):
    write(tmp_path / "d4rl" / "hopper-medium-v2.hdf5", 50, ends={19: "timeouts"})
    assert snn_dt.load_dataset("d4rl:hopper-medium-v2").n_steps == 20
    write(tmp_path / "d4rl" / "hopper_medium-v2.hdf5", 50, ends={29: "timeouts"})
    t = snn_dt.load_dataset("d4rl:hopper-medium-v2")
    assert (t.n_steps, t.dataset_id, t.env_id, t.time_limit) == (30, "hopper-medium-v2", "Hopper-v5", 1000)
    assert t.reference.source == "D4RL infos.py, hopper"


def test_a_missing_id_names_the_files_the_folder_and_the_address(tmp_path):
    with pytest.raises(DataError) as error:
        snn_dt.load_dataset("d4rl:hopper-medium-v2")
    for part in ("hopper_medium-v2.hdf5", "hopper-medium-v2.hdf5", str(tmp_path / "d4rl"), URLS["hopper-medium-v2"]):
        assert part in str(error.value)
    with pytest.raises(DataError, match="did you mean 'hopper-medium-v2'"):
        snn_dt.load_dataset("d4rl:hoper-medium-v2")


def test_a_download_is_complete_or_absent(tmp_path, monkeypatch):
    def fetch(url, path):
        assert url == URLS["hopper-medium-v2"]
        write(Path(path), 50, ends={19: "timeouts"})

    def break_off(url, path):
        Path(path).write_bytes(b"half")
        raise URLError("gone")

    monkeypatch.setattr(urllib.request, "urlretrieve", break_off)
    with pytest.raises(DataError, match="could not download"):
        snn_dt.load_dataset("d4rl:hopper-medium-v2", download=True)
    assert list((tmp_path / "d4rl").iterdir()) == []
    monkeypatch.setattr(urllib.request, "urlretrieve", fetch)
    assert snn_dt.load_dataset("d4rl:hopper-medium-v2", download=True).n_steps == 20
    assert [file.name for file in (tmp_path / "d4rl").iterdir()] == ["hopper_medium-v2.hdf5"]


def test_a_file_named_after_a_task_but_of_other_shapes_claims_neither_its_scores_nor_its_environment(tmp_path):
    write(tmp_path / "hopper_hopping_robot.hdf5", 50, 21, 5, ends={49: "timeouts"})
    t = snn_dt.load_dataset(f"d4rl:{tmp_path / 'hopper_hopping_robot.hdf5'}")
    assert t.reference is None
    assert t.env_id is None


def test_the_environment_of_ant_emits_d4rls_111_numbers(tmp_path):
    gym = pytest.importorskip("gymnasium")
    pytest.importorskip("mujoco")
    write(tmp_path / "ant_medium-v2.hdf5", 50, 111, 8, ends={49: "timeouts"})
    t = snn_dt.load_dataset(f"d4rl:{tmp_path / 'ant_medium-v2.hdf5'}")
    env = gym.make(gym.envs.registration.EnvSpec.from_json(t.env_spec))
    assert env.observation_space.shape == (111,)


def test_the_d4rl_package_is_never_imported(tmp_path):
    write(tmp_path / "hopper.hdf5", 50, ends={49: "timeouts"})
    snn_dt.load_dataset(f"d4rl:{tmp_path / 'hopper.hdf5'}")
    assert not {"d4rl", "mujoco_py"} & set(sys.modules)
