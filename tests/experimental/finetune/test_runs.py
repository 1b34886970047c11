"""`snn-dt finetune` from the command line: what a run leaves, that it resumes exactly, mistakes."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from snn_dt.checkpoint import from_pretrained
from snn_dt.cli.main import main
from snn_dt.experimental.finetune.config import load_finetune_config, validate_finetune
from snn_dt.experimental.finetune.finetune_loop import FinetuneLoop
from tests.conftest import ROOT, read_jsonl
from tests.runs import CARTPOLE, edit, left_behind

PENDULUM = str(ROOT / "datasets/sb3/pendulum/mixed-v0")


def words(run: Path, checkpoint: Path | str, **changes) -> list[str]:
    values = {
        "explore.episodes": 2, "update.iterations": 3, "update.updates": 2, "update.batch_size": 4,
        "update.critic_warm_up": 2, "update.critic_hidden": 8, "update.eval_every": 2, "update.save_every": 1,
        "update.threads": 1, "update.device": "cpu", "eval.episodes": 2, "track.wandb": "disabled",
    } | {name.replace("__", "."): value for name, value in changes.items()}  # fmt: skip
    flags = [word for name, value in values.items() for word in (f"--{name}", str(value))]
    return ["finetune", "--checkpoint", str(checkpoint), "--run-dir", str(run), *flags]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Tiny models of both kinds, barely trained: {"pendulum": folder, "cartpole": folder}."""
    folder = tmp_path_factory.mktemp("trained")
    for name, dataset, kind in (("pendulum", PENDULUM, "snn_dt"), ("cartpole", CARTPOLE, "dense")):
        flags = {
            "data.dataset": dataset, "model.kind": kind, "model.d_model": 8, "model.n_layers": 1, "model.n_heads": 1,
            "model.context_length": 4, "train.steps": 2, "train.batch_size": 4, "train.threads": 1,
            "eval.episodes": 0, "track.wandb": "disabled",
        }  # fmt: skip
        arguments = [f"--{key}={value}" for key, value in flags.items()]
        assert main(["train", "--run-dir", str(folder / name), *arguments]) == 0
    return folder


def in_iteration(monkeypatch, iteration: int, happens) -> None:
    iterate = FinetuneLoop.iterate

    def iterated(self):
        if self.iteration == iteration:
            monkeypatch.setattr(FinetuneLoop, "iterate", iterate)
            happens()
        return iterate(self)

    monkeypatch.setattr(FinetuneLoop, "iterate", iterated)


@pytest.mark.slow
def test_a_run_stopped_or_killed_goes_on_bit_for_bit(trained, tmp_path, monkeypatch, capsys):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    changes = {"update__dataset": PENDULUM, "update__q_weight": 1}
    assert main(words(whole, trained / "pendulum", **changes)) == 0
    in_iteration(monkeypatch, 0, lambda: signal.raise_signal(signal.SIGTERM))
    assert main(words(cut, trained / "pendulum", **changes)) == 128 + signal.SIGTERM
    assert f"stopped after iteration 1 of 3\ngo on with: snn-dt finetune --resume {cut}" in capsys.readouterr().out

    def killed():
        raise KeyboardInterrupt

    in_iteration(monkeypatch, 2, killed)
    assert main(["finetune", "--resume", str(cut)]) == 130
    last = cut / "checkpoints" / "last"
    last.rename(last.with_name("last.old"))  # killed between the two renames of a save
    assert main(["finetune", "--resume", str(cut)]) == 0
    assert left_behind(cut) == left_behind(whole)


def test_a_run_whose_configuration_was_changed_is_not_resumed(trained, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(words(run, trained / "cartpole", update__q_weight=0, update__iterations=1)) == 0
    edit(run, "update", updates=3)
    assert main(["finetune", "--resume", str(run)]) == 2
    assert "update.updates is 2 there and 3 here; put it back" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_counts_its_steps_scores_before_and_after_and_leaves_a_policy(trained, tmp_path):
    run = tmp_path / "run"
    assert main(words(run, trained / "pendulum")) == 0
    lines = read_jsonl(run / "metrics.jsonl")
    assert [line["step"] for line in lines if "evaluation" in line] == [0, 2, 3]
    assert [line["env_steps"] for line in lines if "env_steps" in line] == [400, 800, 1200]
    before, after = from_pretrained(trained / "pendulum"), from_pretrained(run)
    assert replace(after.spec, return_range=before.spec.return_range) == before.spec
    assert after.provenance["env_steps"] == 1200
    assert after.provenance["dataset_id"] == before.provenance["dataset_id"]
    weights = (p.model.state_dict() for p in (before, after))
    assert any(not torch.equal(a, b) for a, b in zip(*(w.values() for w in weights), strict=True))
    after.reset()
    assert after.act(np.zeros(3, np.float32)).shape == (1,)


@pytest.mark.parametrize("dataset", [None, CARTPOLE])
def test_a_checkpoint_states_the_returns_that_fine_tuning_has_seen(trained, tmp_path, dataset):
    start = shutil.copytree(trained / "cartpole/checkpoints/last", tmp_path / "start")
    facts = json.loads((start / "config.json").read_text())
    facts["task"] |= {"rtg_range": [0.002, 0.004], "rtg_quantiles": [0.002, 0.004]}
    facts["policy"]["return_range"] = [1.0, 2.0]
    (start / "config.json").write_text(json.dumps(facts))
    changes = {"explore__target_return": 2.0, **({"update__dataset": dataset} if dataset else {})}
    assert main(words(tmp_path / "run", start, **changes)) == 0
    after = from_pretrained(tmp_path / "run")
    best = max(line.get("new_return_best", 0) for line in read_jsonl(tmp_path / "run/metrics.jsonl"))
    assert best > 2
    best = 500.0 if dataset else best
    assert after.model.task.rtg_range[1] == after.model.embedding.rtg_range[1] == pytest.approx(best / 500)
    assert after.spec.return_range == (1.0, best)


def test_choices_are_fine_tuned_without_a_critic(trained, tmp_path):
    run = tmp_path / "run"
    assert main(words(run, trained / "cartpole", update__q_weight=0, update__dataset=CARTPOLE)) == 0
    lines = [line for line in read_jsonl(run / "metrics.jsonl") if "loss" in line]
    assert all("critic_loss" not in line and "accuracy" in line for line in lines)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"update__q_weight": 1}, "update.q_weight: expected 0 for actions that are discrete"),
        ({"update__dataset": PENDULUM}, "update.dataset: expected (observation size"),
        ({"env_id": "Pendulum-v1"}, "expected observations"),
        ({"eval__env_id": "CartPole-v1"}, "eval.env_id: expected null, as env_id names the environment"),
        ({"update__dataset_share": 1}, "update.dataset_share: expected in [0, 1), found 1"),
        (
            {"update__dataset": CARTPOLE, "update__batch_size": 1},
            "update.dataset_share: expected some of the 1 win",
        ),
        ({"update__dataset": CARTPOLE, "update__dataset_share": 0.9}, "of a batch and not all of them, found 0.9"),
        ({"update__tau": 2}, "update.tau: expected in (0, 1], found 2"),
        ({"update__weight_decay": -1}, "update.weight_decay: expected at least 0, found -1"),
        ({"update__critic_hidden": 0}, "update.critic_hidden: expected sizes of at least 1, found (0,)"),
        ({"eval__seed": -1}, "eval.seed: expected in [0, 2^32), found -1"),
        ({"update__threads": -1}, "update.threads: expected in [0, 1024], found -1"),
        ({"update__steps": 5}, "--update.steps"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_folder(trained, tmp_path, capsys, changes, expected):
    assert main(words(tmp_path / "run", trained / "cartpole", **changes)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert expected in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/finetune/*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_name_what_ships(path):
    config = load_finetune_config(path)
    validate_finetune(config)
    assert (ROOT / config.checkpoint / "config.json").is_file()
    assert (ROOT / config.update.dataset).is_dir()


def test_no_checkpoint_and_a_copied_one_are_mistakes(tmp_path, capsys):
    assert main(words(tmp_path / "run", tmp_path / "nowhere")) == 2
    assert "expected a checkpoint folder" in capsys.readouterr().err
    assert main(["finetune", "--run-dir", str(tmp_path / "run")]) == 2
    assert "checkpoint: expected the folder of a trained model" in capsys.readouterr().err
    assert main(["finetune", "--resume", str(tmp_path)]) == 2
    assert "expected a run folder with a config.yaml" in capsys.readouterr().err
