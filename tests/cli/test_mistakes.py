"""Whatever a user gets wrong with train or evaluate ends with status 2 and one line that says what to do."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys

import h5py
import numpy as np
import pytest
import torch

from snn_dt.checkpoint import from_pretrained
from snn_dt.cli.main import main
from tests.conftest import ROOT
from tests.runs import CARTPOLE, at_update, flags, resume, state_of, train

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("mistakes") / "run"
    assert train(folder, eval__episodes=0) == 0
    return folder


@pytest.fixture
def said(capsys):
    """Run a command that must fail as a user's mistake; returns its one line."""

    def fail(*words: str) -> str:
        capsys.readouterr()
        assert main([str(word) for word in words]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        assert error.startswith("snn-dt: ")
        return error

    return fail


@pytest.fixture
def dataset(tmp_path):
    """A copy of the CartPole data, to be damaged: its folder and its open HDF5 file."""
    shutil.copytree(CARTPOLE, tmp_path / "mine-v0")
    with h5py.File(tmp_path / "mine-v0" / "data" / "main_data.hdf5", "r+") as file:
        yield tmp_path / "mine-v0", file


def spoil(file: h5py.File, name: str, value: float) -> None:
    """Put one value into the third step of the first episode."""
    episode = file["episode_0"]
    where = (2, 1) if name == "observations" else 2
    episode[name][where] = value


def no_renderer(*_, **__):
    raise ModuleNotFoundError("no pygame")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("observations", np.nan, "NaN or infinite observations at step 2"),
        ("observations", np.inf, "NaN or infinite observations at step 2"),
        ("rewards", np.nan, "NaN or infinite rewards at step 2"),
        ("actions", 2, "action 2 at step 2: expected actions inside Discrete(2)"),
        ("actions", -1, "action -1 at step 2"),
    ],
)
def test_data_that_cannot_be_learned_from(dataset, said, tmp_path, name, value, expected):
    folder, file = dataset
    spoil(file, name, value)
    file.close()
    assert expected in said("train", *flags(tmp_path / "run", data__dataset=folder))
    assert not (tmp_path / "run").exists()


def test_a_truncated_file_and_a_file_that_is_not_there(dataset, said, tmp_path):
    folder, file = dataset
    file.close()
    path = folder / "data" / "main_data.hdf5"
    path.write_bytes(path.read_bytes()[:100_000])
    arguments = ["train", *flags(tmp_path / "run", data__dataset=folder)]
    assert str(path) in said(*arguments)
    path.unlink()
    assert str(path) in said(*arguments)
    assert f"no file '{tmp_path}/none.hdf5'" in said(
        "train", *flags(tmp_path / "run", data__dataset=f"d4rl:{tmp_path}/none.hdf5")
    )


def test_a_dataset_without_episodes(dataset, said, tmp_path):
    folder, file = dataset
    file.close()
    path = folder / "data" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"total_episodes": 0, "total_steps": 0}))
    assert "metadata.json says total_episodes 0, the file holds" in said(
        "train", *flags(tmp_path / "run", data__dataset=folder)
    )


@pytest.mark.parametrize(
    ("dataset_id", "expected"),
    [
        ("minari:sb3/cartpol/mixed-v0", "did you mean 'sb3/cartpole/mixed-v0'?"),
        ("d4rl:hopper-medum-v2", "did you mean 'hopper-medium-v2'?"),
        ("sb3/cartpole/mixed-v0", "did you mean 'minari:sb3/cartpole/mixed-v0'?"),
        ("", "expected minari:<id>, d4rl:<id>"),
    ],
)
def test_an_unknown_dataset(said, tmp_path, dataset_id, expected):
    assert expected in said("train", *flags(tmp_path / "run", data__dataset=dataset_id))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"train__device": "cuda:77"}, "expected the device cuda:77"),
        ({"train__device": "gpu"}, "expected the device auto, cpu, cuda, cuda:N, mps or xpu, found 'gpu'"),
        ({"eval__env_id": "CartPoll-v1"}, "expected the environment 'CartPoll-v1'"),
        ({"eval__env_id": "Acrobot-v1"}, "in Acrobot-v1; evaluate in CartPole-v1"),
        ({"model__n_heads": 5}, "model.n_heads: expected a divisor of 16, found 5"),
        ({"model__kind": "sdt"}, "model.kind: expected one of dense, "),
        ({"train__batch_size": 0}, "train.batch_size: expected at least 1, found 0"),
        ({"train__learning_rate": "fast"}, "--train.learning_rate: expected a number, found 'fast'"),
        ({"train__learning_rat": 1}, "did you mean --train.learning_rate?"),
    ],
)
def test_a_setting_that_cannot_be_used_leaves_no_folder_behind(said, tmp_path, changes, expected):
    assert expected in said("train", *flags(tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_a_config_file_with_a_mistake(said, tmp_path):
    (tmp_path / "mine.yaml").write_text("train: {stepz: 5}")
    for name, expected in (
        ("mine", "unknown key train.stepz; did you mean 'steps'?"),
        ("none", "expected a config file"),
    ):
        assert expected in said("train", "--config", tmp_path / f"{name}.yaml")


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_folder_that_cannot_be_written(said, run, tmp_path, command):
    (tmp_path / "file").touch()
    inside = tmp_path / "file" / "run"
    if command == "train":
        assert "expected a folder that can be written at" in said("train", *flags(inside))
    else:
        message = said("evaluate", "--checkpoint", run, "--episodes", 1, "--json", inside / "e.json")
        assert "expected a folder that can be written at" in message


def test_results_cannot_be_written_over_a_folder(said, run, tmp_path):
    message = said("evaluate", "--checkpoint", run, "--json", tmp_path)
    assert f"expected a file for --json, found the folder {tmp_path}" in message


def test_a_disk_that_fills_up_while_training_leaves_the_last_checkpoint_whole(said, tmp_path, monkeypatch):
    def fill():
        monkeypatch.setattr(torch, "save", lambda *_, **__: (_ for _ in ()).throw(FULL))

    at_update(monkeypatch, 7, fill)
    run = tmp_path / "run"
    message = said("train", *flags(run, eval__episodes=0, train__eval_every=0))
    assert "expected to write a checkpoint to" in message
    assert "No space left on device" in message
    assert state_of(run)["step"] == 5
    assert from_pretrained(run).provenance["step"] == 5
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["last"]


def test_a_disk_that_is_full_from_the_start(said, tmp_path, monkeypatch):
    def fsync(_):
        raise FULL

    monkeypatch.setattr(os, "fsync", fsync)
    assert "No space left on device" in said("train", *flags(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_results_that_do_not_fit_on_the_disk_leave_the_older_ones(said, run, tmp_path, monkeypatch):
    (tmp_path / "e.json").write_text("[]")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(FULL))
    words = ["evaluate", "--checkpoint", run, "--episodes", 1, "--target-return", 20, "--json", tmp_path / "e.json"]
    assert "No space left on device" in said(*words)
    assert (tmp_path / "e.json").read_text() == "[]"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_loss_that_explodes(said, tmp_path):
    changes = {"train__learning_rate": 1e38, "train__grad_clip": 0, "train__eval_every": 0, "train__steps": 40}
    message = said("train", *flags(tmp_path / "run", **changes))
    assert "lower --train.learning_rate or set --train.grad_clip, which is 0, to 1" in message
    assert "expected a finite" in message


def no_gpu_memory():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation")


@pytest.mark.parametrize(
    ("happens", "found"),
    [
        (lambda: torch.empty(10**15), "can't allocate memory: you tried to allocate 4000000000000000 bytes"),
        (lambda: np.empty(10**15), "Unable to allocate 7.11 PiB for an array"),
        (lambda: bytearray(10**17), "found: out of memory; close"),
        (no_gpu_memory, "CUDA out of memory. Tried to allocate 2.00 GiB. See documentation; close"),
    ],
    ids=["torch", "numpy", "python", "cuda"],
)
def test_memory_that_runs_out_is_a_line_and_the_run_goes_on_from_its_last_save(
    tmp_path, monkeypatch, capsys, happens, found
):
    at_update(monkeypatch, 7, happens)
    assert train(tmp_path / "run") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "snn-dt: expected enough memory, found: " in error
    assert found in error
    assert resume(tmp_path / "run") == 0


def test_any_other_error_is_not_called_a_lack_of_memory(tmp_path, monkeypatch):
    at_update(monkeypatch, 7, lambda: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        train(tmp_path / "run")


def test_a_checkpoint_that_is_not_there_or_damaged(said, run, tmp_path):
    assert f"run folder at {tmp_path}/none, found no such folder" in said("evaluate", "--checkpoint", tmp_path / "none")
    shutil.copytree(run, tmp_path / "run")
    weights = tmp_path / "run" / "checkpoints" / "last" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "expected a complete checkpoint" in said("evaluate", "--checkpoint", tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"find_spec": lambda _: None}, "found: MoviePy is not installed; pip install 'snn-dt[video]'"),
        ({"find_spec": lambda _: 1, "make_environment": no_renderer}, "found: no pygame; pip install 'snn-dt[video]'"),
    ],
)
def test_a_video_that_cannot_be_made_is_said_before_the_evaluation(said, run, tmp_path, monkeypatch, changes, expected):
    for name, value in changes.items():
        monkeypatch.setattr(f"snn_dt.evaluation.video.{name}", value)
    monkeypatch.setattr("snn_dt.evaluation.rollout.evaluate", lambda *_, **__: pytest.fail("an evaluation was made"))
    assert expected in said("evaluate", "--checkpoint", run, "--video", tmp_path / "videos")
    assert not (tmp_path / "videos").exists()


def test_a_video_that_does_not_fit_on_the_disk(said, run, tmp_path, monkeypatch):
    monkeypatch.setattr("snn_dt.evaluation.video.find_spec", lambda _: 1)
    monkeypatch.setattr("snn_dt.evaluation.video._record", lambda *_: (_ for _ in ()).throw(FULL))
    words = ["--episodes", 1, "--target-return", 20, "--json", tmp_path / "e.json", "--video", tmp_path]
    assert "No space left on device" in (message := said("evaluate", "--checkpoint", run, *words))
    assert "choose another --video" in message
    assert (tmp_path / "e.json").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--env-id", "Acrobot-v1"], "expected observations Box("),
        (["--env-id", "CartPoll-v1"], "expected the environment 'CartPoll-v1'"),
        (["--episodes", "0"], "expected --episodes"),
        (["--seed", "-1"], "--seed in [0, 2^32)"),
        (["--threads", "100000"], "expected 0 to 1024 CPU threads, found 100000"),
        (["--num-envs", "0"], "--num-envs of at least 1"),
        (["--target-return", "much"], "--target_return: expected a list, each a number or most, found 'much'"),
        (["--target-return", "nan"], "found 'nan'"),
        (["--device", "cuda:77"], "expected the device cuda:77, found"),
        (["--episode", "5"], "did you mean --episodes?"),
    ],
)
def test_evaluating_with_a_setting_that_cannot_be_used(said, run, words, expected):
    assert expected in said("evaluate", "--checkpoint", run, *words)


def test_the_most_is_unknown_to_an_older_checkpoint(said):
    folder = ROOT / "results/pretrained/cartpole-dense"
    assert "older than it" in said("evaluate", "--checkpoint", folder, "--target-return", "most", "--episodes", "1")


def test_an_export_that_cannot_be_made_leaves_nothing(said, run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    out = tmp_path / "exported"
    assert "snn-dt[onnx]" in said("export", run, "--to", "onnx", "--out", out)
    assert "--name without folders" in said("export", run, "--to", "pt2", "--out", out, "--name", "../x")
    assert not out.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named_with_the_way_out(said, run, tmp_path):
    message = said("evaluate", "--checkpoint", run, "--device", "cuda")
    assert "expected the device cuda, found 0 CUDA devices" in message
    assert "use --device cpu" in message
    assert "--train.device cpu" in said("train", *flags(tmp_path / "run", train__device="cuda"))


def test_resuming_what_is_no_run(said, run, tmp_path):
    assert "expected a run folder with a config.yaml" in said("train", "--resume", tmp_path)
    assert "expected --resume DIR alone" in said("train", "--resume", run, "--train.steps", 50)
