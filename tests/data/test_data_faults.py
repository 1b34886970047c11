"""What is wrong with a dataset is said in one line: what was expected, what was found, what to do."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from gymnasium import spaces

import snn_dt
from snn_dt.errors import DataError
from tests.data.test_minari_source import edit_metadata
from tests.data.toy_episodes import ACTION_BOX, random_episodes

LENGTHS = [5, 1, 12]


def refusal(spec: str | Path, **options: str) -> str:
    """Return the message with which a dataset is refused; it must be one line."""
    with pytest.raises(DataError) as error:
        snn_dt.load_dataset(spec, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_observations_that_are_no_finite_float32_name_their_episode_and_step(minari_set, value):
    episodes = random_episodes(LENGTHS)
    episodes[2]["observations"] = episodes[2]["observations"].astype(np.float64)
    episodes[2]["observations"][7, 1] = value
    message = refusal(str(minari_set(episodes)))
    assert "NaN or infinite observations at step 7" in message
    assert "episode 2" in message


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e39])
def test_rewards_that_are_no_finite_float32_name_their_episode_and_step(minari_set, value):
    episodes = random_episodes(LENGTHS)
    episodes[0]["rewards"][4] = value
    assert "episode 0" in (message := refusal(str(minari_set(episodes))))
    assert "NaN or infinite rewards at step 4" in message


def test_a_nan_after_the_last_action_is_nobodys_business(minari_set):
    episodes = random_episodes(LENGTHS)
    episodes[0]["observations"][-1] = np.nan
    assert snn_dt.load_dataset(str(minari_set(episodes))).n_steps == 18


@pytest.mark.parametrize("value", [1.5, -1.01, np.nan])
def test_a_vector_action_outside_the_box_is_refused(minari_set, value):
    episodes = random_episodes(LENGTHS)
    episodes[2]["actions"][3, 1] = value
    message = refusal(str(minari_set(episodes)))
    assert "at step 3: expected actions inside Box(-1.0, 1.0" in message


def test_a_rounding_error_beyond_the_box_is_accepted(minari_set):
    episodes = random_episodes(LENGTHS)
    episodes[2]["actions"][3, 1] = 1.0 + 1e-6
    assert snn_dt.load_dataset(str(minari_set(episodes))).n_steps == 18


@pytest.mark.parametrize("value", [1, 5])
def test_a_choice_outside_the_discrete_space_is_refused(minari_set, value):
    space = spaces.Discrete(3, start=2)
    episodes = random_episodes(LENGTHS, action_space=space)
    episodes[2]["actions"][3] = value
    assert f"action {value} at step 3" in refusal(str(minari_set(episodes, action_space=space)))


def test_actions_of_another_length_than_the_space_says_are_refused(minari_set):
    folder = minari_set(random_episodes(LENGTHS))
    wide = '{"type": "Box", "dtype": "float32", "shape": [3], "low": [-1, -1, -1], "high": [1, 1, 1]}'
    edit_metadata(folder, action_space=wide)
    assert "actions of 2 numbers: expected 3" in refusal(str(folder))


def test_zero_episodes_are_refused(minari_set):
    folder = minari_set(random_episodes([3]))
    edit_metadata(folder, total_episodes=0)
    with h5py.File(folder / "data" / "main_data.hdf5", "r+") as file:
        del file["episode_0"]
    assert "has no episode" in refusal(str(folder))


def test_a_d4rl_file_whose_episodes_are_all_cut_is_refused(tmp_path):
    with h5py.File(tmp_path / "hopper.hdf5", "w") as file:
        file["observations"], file["actions"] = np.zeros((9, 11)), np.zeros((9, 3))
        file["rewards"], file["terminals"], file["timeouts"] = np.zeros(9), np.zeros(9, bool), np.zeros(9, bool)
    assert "has no episode" in refusal(f"d4rl:{tmp_path / 'hopper.hdf5'}")


def test_rows_that_do_not_match_are_refused(minari_set):
    episodes = random_episodes(LENGTHS)
    episodes[0]["observations"] = episodes[0]["observations"][:3]
    assert "3 observations, 5 actions and 5 rewards" in refusal(str(minari_set(episodes)))


@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_a_truncated_hdf5_file_is_refused(minari_set, keep):
    folder = minari_set(random_episodes(LENGTHS))
    file = folder / "data" / "main_data.hdf5"
    file.write_bytes(file.read_bytes()[:keep])
    message = refusal(str(folder))
    assert str(file) in message
    assert "download or copy the dataset again" in message


@pytest.mark.parametrize("data_format", ["arrow", "parquet"])
def test_a_truncated_table_is_refused(minari_set, data_format):
    folder = minari_set(random_episodes(LENGTHS), data_format=data_format)
    (part,) = (folder / "data" / "1").glob("part-*")
    part.write_bytes(part.read_bytes()[:100])
    assert str(part.parent) in refusal(str(folder))


def test_corrupt_bytes_inside_a_compressed_file_are_refused(tmp_path):
    path = tmp_path / "hopper.hdf5"
    with h5py.File(path, "w") as file:
        rows = np.random.default_rng(0).normal(size=(2000, 11))
        file.create_dataset("observations", data=rows, compression="gzip", fletcher32=True)
        file["actions"], file["rewards"] = np.zeros((2000, 3)), np.zeros(2000)
        file["terminals"] = file["timeouts"] = np.arange(2000) % 100 == 99
        chunk = file["observations"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + 50] ^= 0xFF
    path.write_bytes(content)
    assert str(path) in refusal(f"d4rl:{path}")


def test_missing_pieces_are_named(minari_set, tmp_path):
    folder = minari_set(random_episodes(LENGTHS), "a-v0")
    edit_metadata(folder, total_episodes=7)
    assert "episode_3" in refusal(str(folder))
    (folder / "data" / "main_data.hdf5").unlink()
    assert "main_data.hdf5" in refusal(str(folder))
    (folder / "data" / "metadata.json").write_text('{"total_episodes": ')
    assert "metadata.json" in refusal(str(folder))
    (folder / "data" / "metadata.json").unlink()
    assert "expected minari:<id>" in refusal(str(folder))
    assert "no file" in refusal(f"d4rl:{tmp_path / 'absent.hdf5'}")


def test_a_file_of_another_layout_is_not_taken_for_d4rl(tmp_path):
    with h5py.File(tmp_path / "hopper.hdf5", "w") as file:
        file["observations"] = np.zeros((9, 11))
    assert "lacks actions, rewards, terminals" in refusal(f"d4rl:{tmp_path / 'hopper.hdf5'}")


def test_an_unknown_format_and_an_unknown_spec_say_what_is_known(minari_set):
    folder = minari_set(random_episodes(LENGTHS), "toy/a-v0")
    assert "did you mean 'minari:toy/a-v0'" in refusal("toy/a-v0")
    edit_metadata(folder, data_format="zarr")
    assert "expected one of hdf5, arrow, parquet" in refusal(str(folder))


@pytest.mark.parametrize("env_spec", ["{", '{"kwargs": {}}', "[1]"])
def test_an_environment_spec_that_is_none_is_refused(minari_set, env_spec):
    folder = minari_set(random_episodes(LENGTHS))
    edit_metadata(folder, env_spec=env_spec)
    assert "JSON with an id" in refusal(str(folder))


@pytest.mark.parametrize(
    ("observation_space", "action_space", "expected"),
    [
        (spaces.Box(0, 1, (64, 64, 3), np.float32), ACTION_BOX, "image (64, 64, 3) observations of float32"),
        (spaces.Tuple([spaces.Box(0, 255, (64, 64), np.uint8)] * 2), ACTION_BOX, "image (64, 64) observations at '1'"),
        (spaces.Dict({"a": spaces.Text(5), "b": spaces.Box(0, 1)}), ACTION_BOX, "Text observations at 'a'"),
        (spaces.Box(0, 1), spaces.MultiDiscrete([3, 5000]), "MultiDiscrete actions (5,003 one-hot columns"),
        (spaces.Tuple((spaces.Discrete(5000),)), ACTION_BOX, "Discrete observations at '0' (5,000 one-hot columns"),
        (spaces.Box(0, 1), spaces.Dict({"a": ACTION_BOX, "b": spaces.Dict()}), "empty Dict actions at 'b'"),
    ],
)
def test_spaces_that_are_no_vectors_are_refused_by_name(minari_set, observation_space, action_space, expected):
    from minari.serialization import serialize_space

    folder = minari_set(random_episodes(LENGTHS))
    edit_metadata(
        folder, observation_space=serialize_space(observation_space), action_space=serialize_space(action_space)
    )
    message = refusal(str(folder))
    assert expected in message
    assert "supported are Box, Discrete, MultiDiscrete and MultiBinary" in message


def test_small_grids_of_bytes_are_numbers_not_images(minari_set):
    space = spaces.Box(0, 255, (7, 7, 3), np.uint8)
    episodes = random_episodes([2])
    episodes[0]["observations"] = np.full((3, 7, 7, 3), 200, np.uint8)
    t = snn_dt.load_dataset(str(minari_set(episodes, observation_space=space)))
    assert t.obs_dim == 147
    assert t.observations[0, 0] == 200.0


def test_an_unknown_reward_mode_is_refused(minari_set):
    with pytest.raises(DataError, match="expected 'dense', 'delayed' or 'clipped'"):
        snn_dt.load_dataset(str(minari_set(random_episodes(LENGTHS))), reward_mode="sparse")
