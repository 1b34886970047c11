"""A checkpoint is loaded exactly as it was saved, or not at all; a save that fails leaves the older one."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import safetensors.torch
import torch

import snn_dt.checkpoint as module
from snn_dt.checkpoint import find_checkpoint, from_pretrained, provenance, save_checkpoint
from snn_dt.errors import CheckpointError, DeviceError
from tests.conftest import make_batch, run, space_json
from tests.policies import BOX, make_policy, shape_of
from tests.runs import set_number

SPACES = {
    "discrete": (BOX, gym.spaces.Discrete(3, start=-1)),
    "continuous": (BOX, gym.spaces.Box(np.float32([-2, 0]), np.float32([2, 1]))),
}
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def save(directory: Path, kind: str = "dense", actions: str = "discrete", seed: int = 0, **spec):
    """Save a policy with random weights and return it."""
    policy = make_policy(*SPACES[actions], kind=kind, seed=seed, mean=0.3, std=1.7, **spec)
    save_checkpoint(directory, policy, *shape_of(*SPACES[actions], kind), {"seed": seed}, {"step": seed})
    return policy


def seed_of(directory: Path) -> int:
    """Which of two saves a checkpoint comes from; it must be whole."""
    assert torch.load(directory / "training_state.pt", weights_only=True)["step"] == from_pretrained(
        directory
    ).provenance.get("seed")
    return from_pretrained(directory).provenance["seed"]


def litter(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in ("last", "last.old"))


@pytest.mark.parametrize("kind", ["dense", "snn_dt"])
@pytest.mark.parametrize("actions", SPACES)
def test_a_saved_policy_is_loaded_bit_for_bit_with_its_predictions(tmp_path, kind, actions):
    reference = {"min": 1.0, "max": 2.0, "source": "a table"}
    facts = {"env_id": "X-v1", "env_spec": "{}", "reference": reference, "target_return": 1 / 3, "delayed": True}
    policy = save(tmp_path / "last", kind, actions, **facts)
    loaded = from_pretrained(tmp_path / "last")
    weights, again = policy.model.state_dict(), loaded.model.state_dict()
    assert list(weights) == list(again)
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert loaded.spec == policy.spec
    assert torch.equal(loaded.state_mean, policy.state_mean)
    assert torch.equal(loaded.state_std, policy.state_std)
    assert not loaded.model.training
    batch = make_batch(shape_of(*SPACES[actions], kind)[1])
    assert torch.equal(run(policy.model, batch), run(loaded.model, batch))
    assert loaded.action_space == SPACES[actions][1]


def test_a_checkpoint_is_found_from_its_run_folder_and_from_inside_it(tmp_path, monkeypatch):
    last = tmp_path / "run" / "checkpoints" / "last"
    save(last)
    monkeypatch.chdir(tmp_path / "run")
    assert find_checkpoint(tmp_path / "run") == find_checkpoint(Path()) == find_checkpoint(last) == last
    monkeypatch.chdir(last)
    assert find_checkpoint(Path()) == last


def test_no_pickle_is_needed_to_use_a_checkpoint(tmp_path, monkeypatch):
    save(tmp_path / "last")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was read"))
    (tmp_path / "last" / "training_state.pt").unlink()
    from_pretrained(tmp_path / "last")


def test_files_are_as_readable_as_others_the_user_writes(tmp_path):
    (tmp_path / "plain").touch()
    save(tmp_path / "last")
    wanted = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "last").iterdir()} == {wanted}


def weights_without_one(folder):
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    weights.pop("norm.weight")
    safetensors.torch.save_file(weights, folder / "model.safetensors")


def weights_with_one_more(folder):
    weights = safetensors.torch.load_file(folder / "model.safetensors") | {"extra.weight": torch.zeros(1)}
    safetensors.torch.save_file(weights, folder / "model.safetensors")


def truncated(name, size=0.5):
    def damage(folder):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * size)])

    return damage


def without(name):
    return lambda folder: (folder / name).unlink()


def edited(*path, value):
    def damage(folder):
        description = json.loads((folder / "config.json").read_text())
        inner = description
        for key in path[:-1]:
            inner = inner[key]
        if value is None:
            del inner[path[-1]]
        else:
            inner[path[-1]] = value
        (folder / "config.json").write_text(json.dumps(description))

    return damage


def one_number(file, name, value):
    return lambda folder: set_number(folder / file, value, name)


def other_statistics(folder):
    stats = {"state_mean": torch.zeros(7), "state_std": torch.ones(7)}
    safetensors.torch.save_file(stats, folder / "stats.safetensors")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (weights_without_one, "Missing key"),
        (weights_with_one_more, "Unexpected key"),
        (truncated("model.safetensors"), "complete checkpoint"),
        (truncated("model.safetensors", 0), "complete checkpoint"),
        (truncated("stats.safetensors"), "complete checkpoint"),
        (truncated("config.json"), "expected JSON"),
        (truncated("provenance.json"), "expected JSON"),
        (without("model.safetensors"), "No such file"),
        (without("stats.safetensors"), "No such file"),
        (without("provenance.json"), "No such file"),
        (without("config.json"), "no config.json in it"),
        (other_statistics, "statistics of shape (7,) for 2 numbers of a state"),
        (edited("format", value=99), "expected checkpoint format 1, found 99"),
        (edited("format", value=None), "expected checkpoint format 1, found None"),
        (edited("model", "d_model", value=8), "size mismatch"),
        (edited("model", "n_heads", value=0), "model.n_heads"),
        (edited("model", "kind", value="other"), "model.safetensors"),
        (edited("model", "widht", value=8), "unknown key widht"),
        (edited("task", "state_dim", value=None), "state_dim"),
        (edited("policy", "rtg_scale", value="much"), "rtg_scale: expected a number, found 'much'"),
        (edited("policy", "rtg_scale", value=None), "rtg_scale"),
        (edited("policy", value=None), "policy"),
        (edited("policy", "rtg_scale", value=0), "policy.rtg_scale: expected a number above 0, found '0.0'"),
        (edited("policy", "observation_space", value="Box"), "policy.observation_space: expected a space of size 2"),
        (edited("policy", "observation_space", value=space_json(SPACES["discrete"][1])), 'found \'{"type": "Discrete'),
        (
            edited("policy", "action_space", value='{"type": "Bax"}'),
            "policy.action_space: expected a Discrete space of",
        ),
        (edited("policy", "action_space", value=space_json(BOX)), "policy.action_space: expected a Discrete space of"),
        (edited("policy", "env_spec", value="Hopper-v5"), "policy.env_spec: expected the JSON of an environment's"),
        (
            edited("policy", "env_spec", value='{"kwargs": "x"}'),
            "policy.env_spec: expected the JSON of an environment's",
        ),
        (edited("policy", "reference", value={"min": 0}), "policy.reference: expected min, another max"),
        (
            edited("policy", "reference", value={"min": 0, "max": "much", "source": ""}),
            "policy.reference: expected min",
        ),
        (edited("policy", "reference", value={"min": 1, "max": 1, "source": ""}), "policy.reference: expected min"),
        (edited("policy", "context_length", value=10**12), "eval.context_length: expected in [1, "),
        (edited("policy", "dataset_id", value="a\x1b[31m"), "policy.dataset_id: expected text that can be printed"),
        (edited("policy", "env_id", value="a\nb"), "policy.env_id: expected text that can be printed"),
        (edited("policy", "context_length", value=0), "eval.context_length: expected in [1, "),
        (edited("policy", "return_range", value=[0, 1, 2]), "policy.return_range: expected two ascending"),
        (one_number("model.safetensors", "norm.weight", torch.nan), "NaN or infinite numbers in norm.weight"),
        (one_number("stats.safetensors", "state_mean", torch.inf), "NaN or infinite numbers in state_mean"),
        (one_number("stats.safetensors", "state_std", 0), "a state_std that is not above 0"),
    ],
)
def test_a_damaged_checkpoint_is_refused_in_one_line_that_names_it(tmp_path, damage, expected):
    folder = tmp_path / "last"
    save(folder)
    damage(folder)
    with pytest.raises(CheckpointError) as caught:
        from_pretrained(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert expected in message or expected == "model.safetensors"
    assert "\n" not in message


def test_a_missing_checkpoint_is_named(tmp_path):
    for path in (tmp_path / "none", tmp_path, Path("/")):
        with pytest.raises(CheckpointError, match="expected a checkpoint folder"):
            from_pretrained(path)


def test_a_device_that_is_not_there_is_named(tmp_path):
    save(tmp_path / "last")
    with pytest.raises(DeviceError, match="expected the device cuda:77, found"):
        from_pretrained(tmp_path / "last", device="cuda:77")


def fails_at(monkeypatch, owner, name, calls: int, error: Exception = FULL):
    """Make the n-th call of a function fail."""
    real, made = getattr(owner, name), []

    def wrapper(*args, **kwargs):
        made.append(1)
        if len(made) == calls:
            raise error
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, wrapper)


WRITES = [
    (Path, "mkdir", 1),
    (Path, "write_text", 1),
    (Path, "write_text", 2),
    (Path, "write_bytes", 1),
    (Path, "write_bytes", 2),
    (torch, "save", 1),
    (os, "fsync", 1),
    (os, "fsync", 5),
    (Path, "rename", 1),
    (Path, "rename", 2),
]


@pytest.mark.parametrize(("owner", "name", "calls"), WRITES, ids=[f"{name}-{n}" for _, name, n in WRITES])
def test_a_full_disk_leaves_the_older_checkpoint_and_nothing_half_written(tmp_path, monkeypatch, owner, name, calls):
    last = tmp_path / "last"
    save(last, seed=1)
    with monkeypatch.context() as context:
        fails_at(context, owner, name, calls)
        with pytest.raises(CheckpointError, match="No space left on device"):
            save(last, seed=2)
    assert seed_of(last) == 1
    assert litter(tmp_path) == []
    save(last, seed=3)  # and the next save works
    assert seed_of(last) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last"]


def test_torchs_own_report_of_a_full_disk_is_understood_too(tmp_path, monkeypatch):
    fails_at(monkeypatch, torch, "save", 1, RuntimeError("[enforce fail at inline_container.cc] unexpected pos 64"))
    with pytest.raises(CheckpointError, match="unexpected pos"):
        save(tmp_path / "last")
    assert litter(tmp_path) == []


def test_a_crash_between_the_two_renames_still_loads_and_still_saves(tmp_path, monkeypatch):
    last = tmp_path / "checkpoints" / "last"
    save(last, seed=1)
    with monkeypatch.context() as context:
        fails_at(context, Path, "rename", 2, SystemExit())
        with pytest.raises(SystemExit):
            save(last, seed=2)
    assert not last.exists()
    for path in (last, tmp_path):
        assert from_pretrained(path).provenance["seed"] == 1
    with monkeypatch.context() as context:  # the only copy must survive a second failure at the same place
        fails_at(context, Path, "rename", 1)
        with pytest.raises(CheckpointError):
            save(last, seed=3)
    assert from_pretrained(last).provenance["seed"] == 1
    save(last, seed=4)
    assert seed_of(last) == 4
    assert not last.with_name("last.old").exists()


def test_what_a_killed_process_left_is_cleared_by_the_next_save(tmp_path, monkeypatch):
    last = tmp_path / "last"
    with monkeypatch.context() as context:
        context.setattr(module, "_replace", lambda *_: (_ for _ in ()).throw(SystemExit))
        context.setattr(shutil, "rmtree", lambda *_, **__: None)  # a killed process clears nothing
        with pytest.raises(SystemExit):
            save(last, seed=1)
    assert litter(tmp_path) != []
    save(last, seed=2)
    assert litter(tmp_path) == []


@pytest.mark.parametrize("blocked", ["a file in the way", "no permission"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch, blocked):
    if blocked == "no permission":
        fails_at(monkeypatch, Path, "mkdir", 1, PermissionError(errno.EACCES, "Permission denied"))
        directory = tmp_path / "last"
    else:
        (tmp_path / "file").touch()
        directory = tmp_path / "file" / "checkpoints" / "last"
    with pytest.raises(CheckpointError, match="expected to write a checkpoint to") as caught:
        save(directory)
    assert str(directory) in str(caught.value)


def test_provenance_names_versions_commit_and_a_command_that_can_be_pasted(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/train.py", "--track.name", "two words"])
    facts = provenance(seed=3)
    assert facts["seed"] == 3
    assert facts["command"] == "train.py --track.name 'two words'"
    # The package's metadata may lack the local part of the version, such as +cu128.
    assert facts["versions"]["torch"] in (torch.__version__, torch.__version__.partition("+")[0])
    assert facts["commit"] is None or len(facts["commit"].removesuffix("-dirty")) == 40
    json.dumps(facts)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "stats.safetensors", "provenance.json"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "deep"])
def test_what_is_no_file_of_a_checkpoint_is_one_line_at_once(tmp_path, name, kind):
    folder = tmp_path / "checkpoint"
    shutil.copytree(Path(__file__).parents[1] / "results" / "pretrained" / "cartpole-dense", folder)
    (folder / name).unlink()
    if kind == "pipe":
        os.mkfifo(folder / name)
    elif kind == "device":
        (folder / name).symlink_to("/dev/zero")
    elif kind == "folder":
        (folder / name).mkdir()
    else:
        (folder / name).write_text("[" * 100_000)
    with pytest.raises(CheckpointError) as caught:
        from_pretrained(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        (None, "format", True),
        (None, "format", 1.0),
        ("task", "n_timesteps", 10**12),
        ("task", "n_timesteps", 10**400),
        ("model", "n_layers", 65536),
        ("model", "d_model", 65536),
        ("policy", "env_spec", "[" * 100_000),
    ],
)
def test_a_configuration_far_larger_than_the_weights_is_refused_before_it_is_made(tmp_path, section, field, value):
    folder = tmp_path / "checkpoint"
    shutil.copytree(Path(__file__).parents[1] / "results" / "pretrained" / "cartpole-dense", folder)
    description = json.loads((folder / "config.json").read_text())
    (description[section] if section else description)[field] = value
    (folder / "config.json").write_text(json.dumps(description))
    with pytest.raises(CheckpointError):
        from_pretrained(folder)


def test_a_neighbour_called_old_is_no_checkpoint_of_a_run_that_is_there(tmp_path):
    def folder(path):
        path.mkdir(parents=True)
        (path / "config.json").write_text("{}")
        return path

    last, neighbour = folder(tmp_path / "mine/checkpoints/last"), folder(tmp_path / "mine.old")
    assert find_checkpoint(tmp_path / "mine") == last
    torn = folder(tmp_path / "torn/checkpoints/last.old")
    assert find_checkpoint(tmp_path / "torn") == find_checkpoint(tmp_path / "torn/checkpoints/last") == torn
    shutil.rmtree(tmp_path / "mine")
    assert find_checkpoint(tmp_path / "mine") == neighbour  # a replacement that was cut short


def test_git_is_asked_once_however_often_is_saved(monkeypatch):
    asked = []
    module._commit.cache_clear()
    monkeypatch.setattr(module.subprocess, "run", lambda *a, **k: asked.append(a) or SimpleNamespace(stdout="x\n"))
    commits = {provenance()["commit"] for _ in range(3)}
    module._commit.cache_clear()
    assert len(commits) == 1
    assert len(asked) == 2
