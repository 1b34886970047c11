"""`snn-dt data` shows, caches, lists and collects."""

from __future__ import annotations

import json

import gymnasium as gym
import pytest

import snn_dt
from snn_dt.cli.data import data_main
from snn_dt.data.collect import collect
from snn_dt.errors import ConfigError, DataError
from tests.data.test_minari_source import edit_metadata
from tests.data.toy_episodes import random_episodes
from tests.echo import register_echo


def test_info_states_counts_spaces_returns_and_where_the_score_comes_from(capsys):
    assert data_main(["info", "minari:sb3/cartpole/mixed-v0"]) == 0
    shown = capsys.readouterr().out
    for part in ("821", "50,001", "CartPole-v1", "Discrete(2)", "p90 117.0", "mean 60.9", "metadata of sb3/cartpole"):
        assert part in shown


def test_info_says_so_when_there_is_no_reference(minari_set, capsys):
    data_main(["info", str(minari_set(random_episodes([3, 4])))])
    assert "none: neither the dataset nor D4RL's table" in capsys.readouterr().out


def test_info_as_json_is_the_description(minari_set, capsys):
    folder = str(minari_set(random_episodes([3, 4])))
    data_main(["info", folder, "--json"])
    assert json.loads(capsys.readouterr().out) == snn_dt.load_dataset(folder).describe()


def test_info_writes_a_histogram(minari_set, tmp_path):
    data_main(["info", str(minari_set(random_episodes([3, 4]))), "--plot", str(tmp_path / "returns.png")])
    assert (tmp_path / "returns.png").read_bytes().startswith(b"\x89PNG")


def test_a_histogram_that_cannot_be_written_is_one_clear_line(minari_set, tmp_path):
    with pytest.raises(DataError, match="cannot write the histogram"):
        data_main(["info", str(minari_set(random_episodes([3]))), "--plot", str(tmp_path / "absent" / "returns.png")])


def test_cache_builds_the_folder_it_names(minari_set, tmp_path, capsys):
    data_main(["cache", str(minari_set(random_episodes([3, 4]))), "--reward-mode", "delayed"])
    (entry,) = (tmp_path / "cache" / "datasets").iterdir()
    assert str(entry) in capsys.readouterr().out.replace("\n", "")


def test_cache_fails_where_it_cannot_write(minari_set, tmp_path, monkeypatch):
    monkeypatch.setenv("SNN_DT_CACHE", str(tmp_path / "file" / "below"))
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="SNN_DT_CACHE"):
        data_main(["cache", str(minari_set(random_episodes([3, 4])))])


def test_list_names_the_datasets_of_all_roots(minari_set, capsys):
    minari_set(random_episodes([3, 4]), "toy/mine-v0")
    data_main(["list"])
    shown = capsys.readouterr().out
    assert "minari:toy/mine-v0" in shown
    assert "minari:sb3/hopper/mixed-v0" in shown


def test_list_says_what_is_damaged_and_shows_the_others(minari_set, capsys):
    folders = {name: minari_set(random_episodes([3, 4]), f"toy/{name}-v0") for name in ("cut", "gone", "odd", "whole")}
    metadata = {name: folder / "data" / "metadata.json" for name, folder in folders.items()}
    metadata["cut"].write_text('{"total_episodes": ')
    metadata["gone"].unlink()
    edit_metadata(folders["odd"], env_spec=5)
    assert data_main(["list"]) == 0
    shown, said = capsys.readouterr()
    assert "minari:toy/whole-v0" in shown
    assert "minari:sb3/hopper/mixed-v0" in shown
    cut, gone, odd = said.splitlines()
    assert cut.startswith(f"snn-dt: minari:toy/cut-v0: cannot use {metadata['cut']}: expected Minari's metadata")
    assert gone.startswith(f"snn-dt: minari:toy/gone-v0: cannot use {metadata['gone']}")
    assert odd.startswith("snn-dt: minari:toy/odd-v0: expected the environment spec")
    assert not [name for name in ("cut", "gone", "odd") if name in shown]


def test_collected_random_data_load_and_can_be_read_by_minari(tmp_path):
    import minari

    data_main(["collect", "CartPole-v1", "--id", "mine/cartpole/random-v0", "--episodes", "5", "--seed", "3"])
    t = snn_dt.load_dataset("minari:mine/cartpole/random-v0")
    assert (t.n_episodes, t.env_id, t.discrete) == (5, "CartPole-v1", True)
    dataset = minari.load_dataset("mine/cartpole/random-v0")
    assert dataset.total_steps == t.n_steps
    assert [path.name for path in (tmp_path / "minari" / "mine" / "cartpole").iterdir()] == ["random-v0"]


def test_a_policy_of_ones_own_is_what_gets_recorded(tmp_path):
    folder = collect(
        "CartPole-v1",
        lambda observation: int(observation[2] + observation[3] > 0),
        **{"episodes": 2, "seed": 0, "dataset_id": "balance-v0", "root": tmp_path},
    )
    t = snn_dt.load_dataset(str(folder))
    assert t.episode_returns.min() > 100  # random: about 20
    assert ((t.observations[:, 2] + t.observations[:, 3] > 0) == t.actions).all()


@pytest.mark.parametrize(
    ("env", "dataset_id", "match"),
    [("CartPol-v1", "a-v0", "CartPole"), ("CartPole-v1", "no version", "no version"), ("toy/Words-v0", "a-v0", "Text")],
)
def test_what_cannot_be_collected_is_refused_and_leaves_nothing(tmp_path, env, dataset_id, match):
    if env == "toy/Words-v0":
        register_echo(gym.spaces.Text(4), gym.spaces.Discrete(2), env)
    with pytest.raises(DataError, match=match):
        collect(env, episodes=1, seed=0, dataset_id=dataset_id, root=tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_a_policy_named_on_the_command_line_flies_each_episode_at_its_skill(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a relative root
    command = (
        "collect snn_dt/CrazyflieHover-v0 --id mine/drone-v0 --episodes 3 --seed 8 --root here --reference -70 470"
    )
    data_main([*command.split(), "--policy", "snn_dt.experimental.online.crazyflie_controller:Apprentice"])
    t = snn_dt.load_dataset("here/mine/drone-v0")
    assert (t.reference.min, t.reference.max, t.n_episodes) == (-70, 470, 3)
    assert t.episode_returns[2] > 300 > 0 > t.episode_returns[0]
    with pytest.raises(ConfigError, match=r"expected MODULE:NAME .* 'Nobody'"):
        data_main([*command.split(), "--policy", "snn_dt.experimental.online.crazyflie_controller:Nobody"])


def test_collecting_over_a_dataset_is_refused(minari_set):
    minari_set(random_episodes([3]), "toy/mine-v0")
    with pytest.raises(DataError, match="already"):
        data_main(["collect", "CartPole-v1", "--id", "toy/mine-v0"])


@pytest.mark.parametrize("arguments", [[], ["inof"], ["info"], ["info", "x", "--what"], ["collect", "CartPole-v1"]])
def test_wrong_arguments_are_one_line(arguments):
    with pytest.raises(ConfigError) as error:
        data_main(arguments)
    assert "\n" not in str(error.value)
