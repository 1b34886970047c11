"""`snn_dt.train` trains from a configuration, or from trajectories at hand, and returns the finished run."""

from __future__ import annotations

import dataclasses
import json
import signal

import pytest

import snn_dt
from snn_dt.config import config_from_dict, load_config
from snn_dt.errors import CheckpointError, ConfigError
from snn_dt.run import Run
from tests.runs import CARTPOLE, bits, stop_at_update
from tests.runs import shared_cache as shared_cache

CONFIG = config_from_dict(
    {
        "data": {"dataset": CARTPOLE},
        "model": {"kind": "dense", "d_model": 16, "n_layers": 1, "context_length": 5},
        "train": {"steps": 6, "batch_size": 8, "log_every": 2, "threads": 1, "device": "cpu"},
        "eval": {"episodes": 2, "target_return": [20.0], "max_steps": 20},
        "track": {"wandb": "disabled"},
    }
)


def weights(run: Run) -> object:
    return bits(run.policy.model.state_dict())


def test_a_run_has_its_policy_its_evaluation_and_its_folder(tmp_path):
    run = snn_dt.train(CONFIG, tmp_path / "run")
    assert run.run_dir == tmp_path / "run"
    assert run.rows[0]["target_return"] == 20.0
    assert not run.policy.model.training
    loaded = snn_dt.from_pretrained(run.run_dir)
    for policy in (run.policy, loaded):
        policy.reset(target_return=20.0)
    observation = policy.state_mean.numpy()
    assert run.policy.act(observation) == loaded.act(observation)
    steps = [row["step"] for row in map(json.loads, (tmp_path / "run/metrics.jsonl").open()) if "loss" in row]
    assert steps == [2, 4, 6]


def test_trajectories_at_hand_train_the_same_weights_as_their_file(tmp_path):
    data = snn_dt.load_dataset(CARTPOLE)
    nowhere = dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, dataset="minari:is/not/there-v0"))
    run = snn_dt.train(nowhere, tmp_path / "arrays", data=data)
    assert weights(run) == weights(snn_dt.train(CONFIG, str(tmp_path / "file")))
    assert load_config(tmp_path / "arrays/config.yaml").data.dataset == data.dataset_id


def test_without_a_folder_one_is_made_under_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = snn_dt.train(CONFIG)
    assert run.run_dir.parent.name == "runs"
    assert (tmp_path / run.run_dir / "checkpoints/last/model.safetensors").is_file()


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    snn_dt.train(CONFIG, tmp_path)
    with pytest.raises(CheckpointError, match="expected a new run folder"):
        snn_dt.train(CONFIG, tmp_path)


def test_a_configuration_built_in_python_is_checked(tmp_path):
    wrong = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, batch_size=0))
    with pytest.raises(ConfigError, match=r"train\.batch_size"):
        snn_dt.train(wrong, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_run_raises_and_resumes_to_the_same_weights(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at_update(patch, 3, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            snn_dt.train(CONFIG, tmp_path / "stopped", data=snn_dt.load_dataset(CARTPOLE))
    config = load_config(tmp_path / "stopped/config.yaml")
    run = Run(config, tmp_path / "stopped", resume=True, data=snn_dt.load_dataset(CARTPOLE))
    assert run.state.step == 4
    assert run.train() is None
    assert weights(run) == weights(snn_dt.train(CONFIG, tmp_path / "whole"))


def test_a_run_in_another_thread_leaves_signals_alone(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    before = signal.getsignal(signal.SIGINT)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(snn_dt.train, CONFIG, tmp_path).result()
    assert run.state.step == 6
    assert signal.getsignal(signal.SIGINT) == before
