"""`snn-dt online` from the command line: what a run leaves, that it can be stopped and resumed exactly, mistakes."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from snn_dt.cli.main import main
from snn_dt.errors import CheckpointError
from snn_dt.experimental.online.config import load_online_config
from snn_dt.experimental.online.hover_trainer import HoverTrainer
from snn_dt.experimental.online.saved import load_actor
from tests.conftest import ROOT, read_jsonl
from tests.runs import bits, edit, set_number

TINY = {
    "task.drones": 2, "task.horizon": 30, "actor.hidden": "8 8", "learn.warm_up": 5,
    "learn.critic_first": 1, "learn.length": 10,
    "learn.stride": 5, "learn.batch_size": 4, "learn.critic_hidden": "8", "jump_start.first": 5,
    "jump_start.growth": 5, "train.iterations": 4, "train.updates": 2, "train.eval_every": 2, "train.save_every": 1,
    "train.threads": 1, "eval.flights": 3, "track.wandb": "disabled",
}  # fmt: skip


def words(folder, *more: str, method: str = "td3bc_jsrl", **changes) -> list[str]:
    values = TINY | {name.replace("__", "."): value for name, value in changes.items()}
    flags = [word for name, value in values.items() for word in (f"--{name}", *str(value).split())]
    return ["online", "--config", str(ROOT / f"configs/online/{method}.yaml"), "--run-dir", str(folder), *flags, *more]


def left_behind(folder) -> dict:
    """All that must not depend on whether the run was interrupted."""
    state = torch.load(folder / "state.pt", weights_only=True)
    return {
        "state": bits(state),
        "actors": [bits(load_file(folder / name / "model.safetensors")) for name in ("actor", "best_actor")],
        "lines": read_jsonl(folder / "metrics.jsonl"),
    }


def stop_in_iteration(monkeypatch, iteration: int, happens) -> None:
    iterate = HoverTrainer.iterate

    def iterated(self):
        if self.iteration == iteration:
            monkeypatch.setattr(HoverTrainer, "iterate", iterate)
            happens()
        return iterate(self)

    monkeypatch.setattr(HoverTrainer, "iterate", iterated)


METHODS = ("bc", "td3bc", "td3", "td3bc_jsrl", "jsrl_no_bc", "td3bc_no_jump_start")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_and_records_what_it_is_made_of(method, tmp_path):
    warm_up = {} if method not in ("td3", "td3bc_no_jump_start") else {"learn__warm_up": 0}
    assert main(words(tmp_path / "run", method=method, **warm_up)) == 0
    lines = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert ["score" in line for line in lines] == [False, True, False, True]
    assert ("critic_loss" in lines[0]) == (method != "bc")
    assert (lines[0]["bc_weight"] > 0) == (method not in ("td3", "jsrl_no_bc"))
    flown = [line["env_steps"] for line in lines]
    assert flown == ([600] * 4 if method in ("bc", "td3bc") else [60, 120, 180, 240])
    assert (lines[0]["guided"] > 0) == (method not in ("td3", "td3bc_no_jump_start"))


def test_the_weight_of_behaviour_cloning_decays_and_the_share_of_the_guide_shrinks(tmp_path):
    assert main(words(tmp_path / "run")) == 0
    lines = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    np.testing.assert_allclose([line["bc_weight"] for line in lines], 0.2 * 0.99 ** np.arange(4))
    assert [line["guided"] for line in lines] == [25, 20, 15, 10]


@pytest.mark.slow
def test_a_run_stopped_or_killed_goes_on_bit_for_bit(tmp_path, monkeypatch, capsys):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main(words(whole)) == 0
    stop_in_iteration(monkeypatch, 1, lambda: signal.raise_signal(signal.SIGTERM))
    assert main(words(cut)) == 128 + signal.SIGTERM
    assert f"stopped after iteration 2 of 4\ngo on with: snn-dt online --resume {cut}" in capsys.readouterr().out

    def killed():
        raise KeyboardInterrupt

    stop_in_iteration(monkeypatch, 3, killed)
    assert main(["online", "--resume", str(cut)]) == 130
    assert main(["online", "--resume", str(cut)]) == 0
    assert left_behind(cut) == left_behind(whole)


def test_a_trained_guide_is_kept_and_lent(tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    guide = {"guide__kind": "td3", "guide__most_steps": 1, "guide__hidden": "8"}
    assert main(words(first, train__iterations=1, **guide)) == 0
    lent = str(first / "guide.safetensors")
    assert main(words(second, "--guide.load", lent, train__iterations=1, **guide)) == 0
    assert (second / "guide.safetensors").read_bytes() == (first / "guide.safetensors").read_bytes()
    assert left_behind(first) == left_behind(second)
    name = set_number(Path(lent), float("inf"))
    assert main(words(tmp_path / "third", "--guide.load", lent, train__iterations=1, **guide)) == 2
    assert f"NaN or infinite numbers in {name}" in capsys.readouterr().err


def test_a_saved_actor_acts_like_the_one_that_was_trained(tmp_path):
    assert main(words(tmp_path / "run")) == 0
    actor = load_actor(tmp_path / "run")
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert all(torch.equal(value, state["learner"]["actor"][name]) for name, value in actor.state_dict().items())
    facts = json.loads((tmp_path / "run" / "actor" / "config.json").read_text())["provenance"]
    assert facts["iteration"] == 4
    with pytest.raises(CheckpointError, match=r"expected JSON in .*nowhere"):
        load_actor(tmp_path / "nowhere")
    name = set_number(tmp_path / "run" / "actor" / "model.safetensors", float("nan"))
    with pytest.raises(CheckpointError, match=f"weights of an actor in .*NaN or infinite numbers in {name}"):
        load_actor(tmp_path / "run")


@pytest.mark.parametrize("schedule", ["short", "published"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_fits_every_schedule(method, schedule):
    files = [ROOT / f"configs/online/{name}.yaml" for name in (method, schedule)]
    assert load_online_config(*files) != load_online_config(files[0])


@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [
        ("learn.warm_up", "10", "learn.warm_up: expected in [0, learn.length), found 10"),
        ("learn.q_weigth", "1", "did you mean --learn.q"),
        ("learn.bc_weight", "-1", "learn.bc_weight: expected at least 0"),
        ("guide.load", "nowhere.safetensors", "guide.load: expected null for the pilot"),
        ("learn.tau", "2", "learn.tau: expected in (0, 1], found 2"),
        ("learn.policy_noise", "-1", "learn.policy_noise: expected at least 0, found -1"),
        ("learn.critic_hidden", "8 0", "learn.critic_hidden: expected sizes of at least 1, found (8, 0)"),
        ("jump_start.guide_noise", "-1", "jump_start.guide_noise: expected at least 0, found -1"),
        ("guide.most_steps", "0", "guide.most_steps: expected at least 1, found 0"),
        ("eval.seed", "-1", "eval.seed: expected in [0, 2^32), found -1"),
        ("eval.guided", "-1", "eval.guided: expected in [0, task.horizon), found -1"),
        ("train.threads", "-1", "train.threads: expected in [0, 1024], found -1"),
        ("guide.kind", "eagle", "guide.kind"),
        ("jump_start.enabled", "false --train.offline true", "train.offline: expected false without a guide"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(flag, value, expected, tmp_path, capsys):
    assert main([*words(tmp_path / "run"), f"--{flag}", *value.split()]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert expected in error
    assert not (tmp_path / "run").exists()


def test_a_guide_that_is_not_there_a_folder_in_use_and_a_damaged_state_are_mistakes(tmp_path, capsys):
    run = tmp_path / "run"
    missing = {"guide__kind": "td3", "guide__load": "nowhere.safetensors"}
    assert main(words(run, **missing)) == 2
    assert "guide.load: expected the weights of a guide" in capsys.readouterr().err
    assert main(words(run, train__iterations=1)) == 0
    assert main(words(run)) == 2
    assert "expected a new run folder" in capsys.readouterr().err
    (run / "state.pt").write_bytes(b"")
    assert main(["online", "--resume", str(run)]) == 2
    assert "expected the state of this run" in capsys.readouterr().err
    edit(run, "learn", gamma=0.5)
    assert main(["online", "--resume", str(run)]) == 2
    assert "there and 0.5 here; put it back" in capsys.readouterr().err
