"""What goes wrong while a dataset is collected is one line and status 2, and leaves nothing half-written."""

from __future__ import annotations

import shutil
import sys
from types import SimpleNamespace

import gymnasium as gym
import h5py
import numpy as np
import pytest

import snn_dt
from snn_dt.cli.main import main
from snn_dt.data.collect import collect
from snn_dt.data.episode_recorder import record
from snn_dt.errors import DataError

POLICIES = {
    "raises": lambda observation: {}["left"],
    "fails_to_write": lambda observation: open("/absent/file"),  # noqa: SIM115
    "outside": lambda observation: 2,
    "wide": lambda observation: np.array([1]),
    "none": lambda observation: None,
    "word": lambda observation: "left",
    "half": lambda observation: 0.5,
    "not_callable": 5,
}


@pytest.fixture
def said(tmp_path, capsys):
    """Collect with flags that cannot be used; returns the one line and looks for what is left."""

    def fail(*words: str) -> str:
        root = tmp_path / "root"
        assert main(["data", "collect", "CartPole-v1", "--id", "a-v0", "--root", str(root), *words]) == 2
        assert not root.exists() or list(root.iterdir()) == []
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        return error

    return fail


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--seed", "-1"], "expected --episodes in [1, 2^31), --seed in [0, 2^32), found 100, -1"),
        (["--seed", str(2**32)], "--seed in [0, 2^32)"),
        (["--episodes", "0"], "expected --episodes in [1, 2^31)"),
        (["--reference", "5", "5"], "finite reference returns, the one for 0 below the one for 100, found 5.0 and 5.0"),
        (["--reference", "nan", "1"], "found nan and 1.0"),
        (["--reference", "9", "1"], "found 9.0 and 1.0"),
    ],
)
def test_a_flag_that_cannot_be_used_says_what_was_expected(said, words, expected):
    assert expected in said(*words)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("raises", "cannot record episode 0: expected a policy and an environment that run, found KeyError('left') in"),
        ("fails_to_write", "found FileNotFoundError(2, 'No such file or directory') in"),
        ("outside", "the policy gives 2 at step 0 of episode 0: expected an action inside Discrete(2)"),
        ("wide", "the policy gives array([1]) at step 0 of episode 0"),
        ("none", "the policy gives None at step 0"),
        ("word", "the policy gives 'left' at step 0"),
        ("half", "the policy gives 0.5 at step 0"),
        ("not_callable", "expected it to return a function observation -> action, found 5"),
        ("made_of_nothing", "expected MODULE:NAME of a function (episodes, seed) -> policy, found TypeError("),
        ("absent", "has no attribute 'absent'"),
    ],
)
def test_a_policy_that_cannot_be_recorded_is_named_with_what_it_did(said, monkeypatch, name, expected):
    made = {name: lambda episodes, seed, policy=policy: policy for name, policy in POLICIES.items()}
    monkeypatch.setitem(sys.modules, "pilots", SimpleNamespace(**made, made_of_nothing=lambda: None))
    assert expected in said("--policy", f"pilots:{name}")


@pytest.mark.parametrize("action", [np.float64(2.5), np.zeros(2), np.nan, [[0.0]]])
def test_vector_actions_outside_their_box_or_of_another_shape_are_refused(action):
    with pytest.raises(DataError, match="expected an action inside Box") as error:
        record(gym.make("Pendulum-v1"), lambda observation: action, seed=0, index=3)
    assert "\n" not in str(error.value)


def test_an_action_is_recorded_in_the_type_in_which_it_is_played():
    env = gym.make("Pendulum-v1")
    episode = record(env, lambda observation: [0.1], seed=0, index=0)
    assert episode.actions.dtype == env.action_space.dtype
    assert (episode.actions == np.float32(0.1)).all()


def test_a_root_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write the dataset to .*Not a directory.* choose another root"):
        collect("CartPole-v1", episodes=1, seed=0, dataset_id="a-v0", root=tmp_path / "file" / "root")


def test_a_disk_that_fills_up_while_collecting_is_one_line(said, monkeypatch):
    usages = iter([10**12, 10**12, 1000])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=next(usages)))
    assert "No space left on device" in said("--episodes", "5")
    assert next(usages, None) is None


def test_a_seed_below_zero_is_refused_from_python_too(tmp_path):
    with pytest.raises(DataError, match="-1"):
        collect("CartPole-v1", episodes=1, seed=-1, dataset_id="a-v0", root=tmp_path)


def test_a_file_that_hdf5_cannot_flush_is_one_line(said, monkeypatch):
    from minari.dataset._storages.hdf5_storage import HDF5Storage

    def fail(*_):
        raise RuntimeError("Can't decrement id ref count\n(no space)")

    monkeypatch.setattr(HDF5Storage, "update_episodes", fail)
    assert "cannot write the dataset" in said()


def test_what_is_collected_has_checksums_so_that_a_flipped_bit_is_refused(tmp_path):
    collect("CartPole-v1", episodes=3, seed=0, dataset_id="mine-v0", root=tmp_path)
    path = tmp_path / "mine-v0" / "data" / "main_data.hdf5"
    with h5py.File(path) as file:
        group = file["episode_1"]
        assert all(group[name].fletcher32 for name in ("observations", "actions", "rewards", "terminations"))
        chunk = group["rewards"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size - 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"main_data\.hdf5"):
        snn_dt.load_dataset(tmp_path / "mine-v0")
