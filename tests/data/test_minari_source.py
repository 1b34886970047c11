"""Every form in which Minari stores an episode gives the same flat rows."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

import snn_dt
from snn_dt.errors import DataError
from tests.data.toy_episodes import random_episodes

LENGTHS = [5, 1, 12]


def edit_metadata(folder: Path, **changes: object) -> None:
    file = folder / "data" / "metadata.json"
    metadata = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in metadata.items() if value is not None}))


@pytest.mark.parametrize("action_space", [spaces.Discrete(3, start=2), spaces.Box(-1.0, 1.0, (2,), np.float32)])
def test_hdf5_arrow_and_parquet_give_the_same_content(minari_set, action_space):
    episodes = random_episodes(LENGTHS, action_space=action_space)
    loaded = []
    for data_format in ("hdf5", "arrow", "parquet"):
        folder = minari_set(episodes, f"{data_format}-v0", data_format=data_format, action_space=action_space)
        loaded.append(snn_dt.load_dataset(str(folder)))
    for t in loaded:
        np.testing.assert_array_equal(t.observations, np.concatenate([e["observations"][:-1] for e in episodes]))
        np.testing.assert_array_equal(t.actions, np.concatenate([e["actions"] for e in episodes]))
        np.testing.assert_array_equal(t.rewards, np.concatenate([e["rewards"] for e in episodes]).astype(np.float32))
        assert t.terminated.tolist() == [True, False, True]
        assert t.checksum == loaded[0].checksum


def test_a_discrete_space_with_a_start_keeps_environment_units(minari_set):
    space = spaces.Discrete(3, start=5)
    t = snn_dt.load_dataset(str(minari_set(random_episodes([50], action_space=space), action_space=space)))
    assert t.discrete
    assert t.action_dim == 3
    assert set(t.actions.tolist()) == {5, 6, 7}
    assert t.action_space == space


@pytest.mark.parametrize("data_format", ["hdf5", "parquet"])
def test_nested_observations_are_flattened_in_the_order_of_the_space(minari_set, data_format):
    box = spaces.Box(-1.0, 1.0, (2,), np.float64)
    space = spaces.Dict({"z": box, "a": spaces.Tuple((spaces.Box(-1.0, 1.0, (2, 2)), spaces.Box(0.0, 9.0, ())))})
    space.seed(0)
    steps = [space.sample() for _ in range(5)]
    observations = {
        "z": np.stack([s["z"] for s in steps]),
        "a": (np.stack([s["a"][0] for s in steps]), np.stack([s["a"][1] for s in steps])),
    }
    episode = random_episodes([4])[0] | {"observations": observations}
    t = snn_dt.load_dataset(str(minari_set([episode], observation_space=space, data_format=data_format)))
    assert t.obs_dim == 7
    for row, step in enumerate(steps[:-1]):
        np.testing.assert_allclose(t.observations[row], gym.spaces.flatten(t.observation_space, step), rtol=1e-6)


def test_an_episode_with_as_many_observations_as_actions_is_read_whole(minari_set):
    episodes = random_episodes([6, 4])
    episodes[1]["observations"] = episodes[1]["observations"][:4]
    t = snn_dt.load_dataset(str(minari_set(episodes)))
    assert t.episode_lengths.tolist() == [6, 4]
    np.testing.assert_array_equal(t.observations[6:], episodes[1]["observations"])


def test_an_arrow_episode_that_spans_several_batches_is_read_whole(minari_set):
    import pyarrow as pa

    (episode,) = random_episodes([50])
    folder = minari_set([episode], data_format="arrow")
    (part,) = (folder / "data" / "0").glob("part-*")
    table = pa.ipc.open_file(part.read_bytes()).read_all()
    with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    t = snn_dt.load_dataset(str(folder))
    np.testing.assert_array_equal(t.observations, episode["observations"][:50])


def test_an_old_environment_spec_with_keys_gymnasium_dropped_still_makes_the_environment(minari_set):
    spec = json.loads(gym.spec("CartPole-v1").to_json()) | {"autoreset": False, "apply_api_compatibility": False}
    folder = minari_set(random_episodes(LENGTHS))
    edit_metadata(folder, env_spec=json.dumps(spec))
    t = snn_dt.load_dataset(str(folder))
    assert (t.env_id, t.time_limit) == ("CartPole-v1", 500)
    gym.make(gym.envs.registration.EnvSpec.from_json(t.env_spec)).close()


def test_the_evaluation_environment_wins_over_the_one_that_collected(minari_set):
    folder = minari_set(random_episodes(LENGTHS))
    specs = {"env_spec": gym.spec("CartPole-v0").to_json(), "eval_env_spec": gym.spec("CartPole-v1").to_json()}
    edit_metadata(folder, **specs)
    assert snn_dt.load_dataset(str(folder)).env_id == "CartPole-v1"


def test_spaces_missing_from_the_metadata_are_taken_from_the_environment(minari_set):
    env = gym.make("CartPole-v1")
    episodes = random_episodes(LENGTHS, action_space=env.action_space)
    for episode in episodes:
        episode["observations"] = np.zeros((len(episode["observations"]), 4), np.float32)
    folder = minari_set(episodes, observation_space=env.observation_space, action_space=env.action_space, env=env)
    edit_metadata(folder, observation_space=None, action_space=None)
    t = snn_dt.load_dataset(str(folder))
    assert t.action_space == env.action_space
    assert t.obs_dim == 4


def test_reference_scores_come_from_the_dataset_then_from_d4rl_then_from_nowhere(minari_set):
    hopper = gym.spec("Hopper-v5").to_json()
    own = minari_set(random_episodes(LENGTHS), "own-v0")
    edit_metadata(own, ref_min_score=1.0, ref_max_score=9.0, env_spec=hopper)
    table, none = minari_set(random_episodes(LENGTHS), "table-v0"), minari_set(random_episodes(LENGTHS), "none-v0")
    edit_metadata(table, env_spec=hopper)
    own, table, none = (snn_dt.load_dataset(str(folder)).reference for folder in (own, table, none))
    assert (own.min, own.max, own.source) == (1.0, 9.0, "metadata of own-v0")
    assert (table.max, "D4RL" in table.source) == (3234.3, True)
    assert none is None


@pytest.mark.parametrize(("low", "high"), [(5, 5), (9, 1), (float("nan"), 1), (0, float("inf")), ("low", 1), ([], 1)])
def test_reference_scores_that_cannot_be_used_are_said_and_count_as_missing(minari_set, caplog, low, high):
    folder = minari_set(random_episodes(LENGTHS), "own-v0")
    edit_metadata(folder, ref_min_score=low, ref_max_score=high)
    assert snn_dt.load_dataset(folder).reference is None
    edit_metadata(folder, env_spec=gym.spec("Hopper-v5").to_json())
    assert "D4RL" in snn_dt.load_dataset(folder).reference.source
    assert [record.getMessage().count("\n") for record in caplog.records] == [0, 0]
    assert "the reference returns in the metadata of own-v0 are not used" in caplog.text


def test_infos_are_not_read(minari_set):
    episode = random_episodes([4])[0]
    with_infos = minari_set([episode | {"infos": {"qpos": np.full((5, 2), np.nan)}}], "infos-v0")
    without = minari_set([episode], "plain-v0")
    assert snn_dt.load_dataset(str(with_infos)).checksum == snn_dt.load_dataset(str(without)).checksum


def test_an_id_is_found_in_minaris_root_and_in_the_checkout(minari_set):
    minari_set(random_episodes(LENGTHS), "toy/mine-v0")
    assert snn_dt.load_dataset("minari:toy/mine-v0").dataset_id == "toy/mine-v0"
    assert snn_dt.load_dataset("minari:sb3/cartpole/mixed-v0").env_id == "CartPole-v1"


def test_a_folder_is_named_by_text_or_by_a_path(minari_set):
    folder = minari_set(random_episodes(LENGTHS))
    assert snn_dt.load_dataset(folder).checksum == snn_dt.load_dataset(str(folder)).checksum


def test_a_missing_dataset_is_refused_at_once_without_the_network(minari_set, tmp_path, monkeypatch):
    minari_set(random_episodes(LENGTHS), "toy/mine-v0")
    monkeypatch.setattr(socket, "socket", lambda *a, **k: pytest.fail("asked the network"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: pytest.fail("asked the network"))
    with pytest.raises(DataError) as error:
        snn_dt.load_dataset("minari:toy/mime-v0")
    message = str(error.value)
    assert str(tmp_path / "minari") in message
    assert "did you mean 'toy/mine-v0'" in message
    assert "minari download toy/mime-v0" in message


def test_a_missing_dataset_is_downloaded_on_request_only(minari_set, tmp_path, monkeypatch):
    import minari

    def download(dataset_id):
        minari_set(random_episodes(LENGTHS), dataset_id)

    monkeypatch.setattr(minari, "download_dataset", download)
    with pytest.raises(DataError):
        snn_dt.load_dataset("minari:far/away-v0")
    assert snn_dt.load_dataset("minari:far/away-v0", download=True).n_steps == 18


@pytest.mark.parametrize("failure", [ConnectionError("no route"), ValueError("no such\nid"), ImportError("hub")])
def test_a_failed_download_is_one_clear_line(monkeypatch, failure):
    import minari

    def download(dataset_id):
        raise failure

    monkeypatch.setattr(minari, "download_dataset", download)
    with pytest.raises(DataError, match=r"far/away-v0|snn-dt\[hub\]") as error:
        snn_dt.load_dataset("minari:far/away-v0", download=True)
    assert "\n" not in str(error.value)


def test_nothing_is_downloaded_when_the_hub_is_told_to_stay_offline(monkeypatch):
    import minari

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(minari, "download_dataset", lambda _: pytest.fail("asked the hub"))
    with pytest.raises(DataError, match="HF_HUB_OFFLINE"):
        snn_dt.load_dataset("minari:far/away-v0", download=True)
