"""Files that can be opened and hold something else than trajectories are refused in one line."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from gymnasium import spaces

from tests.data.test_d4rl_source import write
from tests.data.test_data_faults import refusal
from tests.data.test_minari_source import edit_metadata
from tests.data.toy_episodes import random_episodes

WIDE = '{"type": "Box", "dtype": "float32", "shape": [4], "low": [0, 0, 0, 0], "high": [1, 1, 1, 1]}'


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("observation_space", "Box(3)", "cannot tell the spaces of dataset 'toy/set-v0': expected observation_space"),
        ("observation_space", '{"type": "Ball"}', "expected observation_space and action_space, as Minari writes"),
        ("action_space", {"type": "Box"}, "cannot tell the spaces"),
        ("observation_space", WIDE, "observations of 3 numbers: expected 4 for Box(0.0, 1.0, (4,), float32)"),
        ("env_spec", {"id": "CartPole-v1"}, "JSON with an id"),
        ("env_spec", 5, "JSON with an id"),
        ("data_format", ["hdf5"], "expected one of hdf5, arrow, parquet"),
    ],
)
def test_metadata_of_a_wrong_kind_says_what_was_expected(minari_set, key, value, expected):
    folder = minari_set(random_episodes([5, 1]))
    edit_metadata(folder, **{key: value})
    assert expected in refusal(folder)


@pytest.mark.parametrize("content", [{"total_steps": "many"}, {"total_steps": None}, []])
def test_an_episodes_own_metadata_of_a_wrong_kind_names_its_folder(minari_set, content):
    folder = minari_set(random_episodes([5, 1]), data_format="parquet") / "data" / "1"
    (folder / "metadata.json").write_text(json.dumps(content))
    assert str(folder) in refusal(folder.parents[1])


@pytest.mark.parametrize("name", ["observations", "actions", "rewards"])
@pytest.mark.parametrize("value", [np.full((50, 3), b"xy"), np.zeros((50, 3), complex), np.zeros(50, "f4,f4")])
def test_columns_of_d4rl_that_are_no_numbers_are_named(tmp_path, name, value):
    value = value[:, 0] if name == "rewards" and value.ndim > 1 else value
    write(tmp_path / "mine.hdf5", 50, ends={9: "terminals"}, **{name: value})
    assert f"has {name} of type " in refusal(f"d4rl:{tmp_path / 'mine.hdf5'}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("observations", np.zeros((0, 11))),
        ("actions", np.zeros((49, 3))),
        ("rewards", np.zeros((50, 2))),
        ("terminals", np.zeros(1, bool)),
        ("timeouts", np.zeros(51, bool)),
    ],
)
def test_columns_of_d4rl_with_different_numbers_of_rows_are_refused(tmp_path, name, value):
    write(tmp_path / "mine.hdf5", 50, **{name: value})
    assert "expected as many rows in every column, found {'observations': " in refusal(f"d4rl:{tmp_path}/mine.hdf5")


@pytest.mark.parametrize("name", ["observations", "actions", "rewards", "terminals"])
def test_a_group_in_place_of_a_column_of_d4rl_is_refused(tmp_path, name):
    write(tmp_path / "mine.hdf5", 50, **{name: None, f"{name}/inside": np.zeros(50)})
    assert "mine.hdf5: it is missing, damaged or incomplete" in refusal(f"d4rl:{tmp_path}/mine.hdf5")


@pytest.mark.parametrize("reward_mode", ["dense", "delayed"])
def test_rewards_whose_sum_is_no_finite_float32_are_refused(tmp_path, reward_mode):
    write(tmp_path / "mine.hdf5", 50, ends={9: "terminals"}, rewards=np.full(50, 3e38, np.float32))
    message = refusal(f"d4rl:{tmp_path}/mine.hdf5", reward_mode=reward_mode)
    assert "episode 0 of dataset 'mine' has NaN or infinite returns-to-go at step 0" in message


def test_choices_of_two_numbers_are_refused(minari_set):
    space = spaces.Discrete(3)
    folder = minari_set(random_episodes([5], action_space=space), action_space=space)
    with h5py.File(folder / "data" / "main_data.hdf5", "r+") as file:
        del file["episode_0/actions"]
        file["episode_0/actions"] = np.zeros((5, 2), np.int64)
    assert "actions of 2 numbers: expected 1 for Discrete(3)" in refusal(folder)
