"""A dataset names an environment; opening the dataset makes none but a registered one, and runs nothing else."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import gymnasium as gym
import pytest
from gymnasium import spaces

import snn_dt
from snn_dt.cli.main import main
from snn_dt.data.checked_env import MAX_EPISODE_STEPS
from snn_dt.data.collect import collect
from snn_dt.data.env_spec import parse_spec
from snn_dt.data.spaces import clean_env_spec
from snn_dt.errors import DataError, EnvironmentMismatchError, SnnDtError
from tests.data.toy_episodes import random_episodes
from tests.odd_environments import FINE, REFUSED, register_odd

PENDULUM = gym.make("Pendulum-v1").spec.to_json()
EVIL = {
    "an entry point": {"id": "Evil-v0", "entry_point": "evilmod:run"},
    "a callable of the library": {
        "id": "Evil-v0",
        "entry_point": "subprocess:getoutput",
        "kwargs": {"cmd": "touch MARK"},
    },
    "an id that imports": {"id": "evilmod:Evil-v0"},
    "an id that imports and is registered": {"id": "evilmod:Pendulum-v1"},
    "a wrapper": {"additional_wrappers": [{"name": "run", "entry_point": "evilmod:run", "kwargs": {}}]},
    "a wrapper of the library": {
        "additional_wrappers": [{"name": "x", "entry_point": "subprocess:getoutput", "kwargs": {"cmd": "touch MARK"}}]
    },
    "an argument that is a path": {"kwargs": {"xml_file": "/etc/passwd"}},
    "an argument that is a module": {"kwargs": {"g": {"f": ["evilmod:run"]}}},
    "a namespace": {"id": "evilmod/Evil-v0"},
    "no version": {"id": "Pendulum"},
}


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A module that leaves a mark when it is imported; returns whether anything did."""
    (tmp_path / "evilmod.py").write_text("open('MARK', 'w')\ndef run(*_, **__): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield lambda: Path("MARK").exists()
    sys.modules.pop("evilmod", None)


@pytest.fixture
def without_spaces(minari_set):
    """A dataset that leaves its spaces to the environment it names."""

    def make(name: str = "set", **spec) -> Path:
        box = spaces.Box(-2.0, 2.0, (1,))
        episodes = [e | {"actions": e["actions"][:, :1]} for e in random_episodes([5, 4])]
        folder = minari_set(episodes, f"toy/{name}-v0", action_space=box)
        file = folder / "data" / "metadata.json"
        facts = json.loads(file.read_text()) | {"env_spec": json.dumps(json.loads(PENDULUM) | spec)}
        del facts["observation_space"], facts["action_space"]
        file.write_text(json.dumps(facts))
        return folder

    return make


@pytest.mark.parametrize("name", EVIL)
def test_a_dataset_without_spaces_runs_nothing_that_it_names(without_spaces, evil, capsys, tmp_path, name):
    folder = without_spaces(**EVIL[name])
    with pytest.raises(DataError, match="cannot tell the spaces") as caught:
        snn_dt.load_dataset(folder, cache=False)
    assert "\n" not in str(caught.value)
    assert "add the two spaces" in str(caught.value)
    train = ["train", "--data.dataset", str(folder), "--run-dir", str(tmp_path / "run"), "--track.wandb", "disabled"]
    for command in (["data", "info", str(folder)], ["data", "cache", str(folder)], train):
        assert main(command) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not evil()


def test_a_registered_environment_tells_the_spaces_and_a_trusted_dataset_any(without_spaces, evil):
    assert snn_dt.load_dataset(without_spaces()).action_space == gym.make("Pendulum-v1").action_space
    folder = without_spaces("own", id="Own-v0", entry_point="gymnasium.envs.classic_control.pendulum:PendulumEnv")
    with pytest.raises(DataError, match="--trust-env-spec"):
        snn_dt.load_dataset(folder)
    assert main(["data", "info", str(folder)]) == 2
    assert main(["data", "info", str(folder), "--trust-env-spec"]) == 0
    assert snn_dt.load_dataset(folder, trust=True, cache=False).n_episodes == 2


@pytest.mark.parametrize("spec", [5, ["x"], {"id": "Pendulum-v1"}, True, "{", "5", '{"id": 5}', "[" * 100_000])
@pytest.mark.parametrize("key", ["env_spec", "eval_env_spec"])
def test_a_specification_that_is_none_is_one_line(minari_set, capsys, key, spec):
    folder = minari_set(random_episodes([3]))
    file = folder / "data" / "metadata.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: spec}))
    assert main(["data", "info", str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "specification" in error


def test_a_step_limit_beyond_reason_is_refused_and_none_is_none():
    assert clean_env_spec(PENDULUM)[2] == 200
    assert clean_env_spec(json.dumps({"id": "Pendulum-v1"}))[2] is None
    for limit in (10**400, 0, -1, "200", 1.5, True):
        with pytest.raises(DataError, match="max_episode_steps of 'Pendulum-v1': expected null or 1 to"):
            clean_env_spec(json.dumps({"id": "Pendulum-v1", "max_episode_steps": limit}))


def test_an_evaluation_in_another_environment_than_the_recording_is_said(minari_set, caplog):
    folder = minari_set(random_episodes([3]))
    file = folder / "data" / "metadata.json"
    longer = json.dumps(json.loads(PENDULUM) | {"max_episode_steps": 300, "kwargs": {"g": 1.0}})
    file.write_text(json.dumps(json.loads(file.read_text()) | {"env_spec": PENDULUM, "eval_env_spec": longer}))
    with caplog.at_level(logging.WARNING, "snn_dt"):
        assert snn_dt.load_dataset(folder).time_limit == 300
    assert "max_episode_steps 200, then 300" in caplog.text
    assert "kwargs {}, then {'g': 1.0}" in caplog.text


@pytest.mark.parametrize("kind", FINE)
def test_what_gymnasium_means_is_collected_as_the_plain_environment(tmp_path, kind):
    register_odd()
    folder = collect(f"Odd-{kind}-v0", episodes=2, seed=0, dataset_id="odd/a-v0", root=tmp_path)
    t = snn_dt.load_dataset(folder)
    assert t.episode_lengths.tolist() == [3, 3]
    assert t.rewards.tolist() == [1.0] * 6


@pytest.mark.parametrize("kind", REFUSED)
def test_an_environment_that_misbehaves_while_it_is_recorded_is_one_line_and_leaves_nothing(tmp_path, kind):
    register_odd()
    with pytest.raises(EnvironmentMismatchError, match=f"Odd-{kind}-v0") as caught:
        collect(f"Odd-{kind}-v0", episodes=2, seed=0, dataset_id="odd/a-v0", root=tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.hdf5"))


def test_an_environment_without_an_end_is_cut_where_it_is_asked_and_a_warning_says_so(tmp_path, capsys, caplog):
    register_odd()
    command = ["data", "collect", "Forever-v0", "--id", "odd/b-v0", "--episodes", "2", "--root", str(tmp_path)]
    assert main([*command, "--max-steps", "0"]) == 2
    assert "max_steps of at least 1" in capsys.readouterr().err
    with caplog.at_level(logging.WARNING, "snn_dt"):
        assert main([*command, "--max-steps", "7"]) == 0
    assert "2 of 2 episodes in Forever-v0 were cut after 7 steps" in caplog.text
    t = snn_dt.load_dataset(tmp_path / "odd" / "b-v0")
    assert t.episode_lengths.tolist() == [7, 7]
    assert t.truncated.all()
    assert MAX_EPISODE_STEPS == 100_000


@pytest.mark.parametrize("name", ["abc", "a/b", "a b-v0", "-v0", ""])
def test_an_id_that_minari_does_not_know_is_one_line(tmp_path, capsys, name):
    assert (
        main(["data", "collect", "CartPole-v1", f"--id={name}", "--episodes", "1", "--root", str(tmp_path / "r")]) == 2
    )
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(("wrappers", "refused"), [(100, False), (101, True), (5000, True)])
def test_more_wrappers_than_the_stack_holds_are_refused_with_their_number(wrappers, refused):
    entry = {"name": "ClipAction", "entry_point": "gymnasium.wrappers:ClipAction", "kwargs": {}}
    spec = json.dumps({"id": "Pendulum-v1", "additional_wrappers": [entry] * wrappers})
    if refused:
        with pytest.raises((ValueError, SnnDtError), match=f"expected 100 at most, found {wrappers}"):
            parse_spec(spec)
    else:
        assert parse_spec(spec)
