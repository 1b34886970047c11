"""`snn-dt online` from the command line: what a run leaves, that it can be stopped and resumed exactly, mistakes."""

from __future__ import annotations

import json
import signal
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from snn_dt.checkpoint import from_pretrained
from snn_dt.cli.main import main
from snn_dt.errors import CheckpointError
from snn_dt.experimental.online.config import TaskConfig, load_online_config
from snn_dt.experimental.online.guide import SHIPPED
from snn_dt.experimental.online.hover_trainer import HoverTrainer
from snn_dt.experimental.online.mlp_guide import MLPGuide, load_guide, save_guide
from snn_dt.experimental.online.replay import Replay
from snn_dt.experimental.online.saved import load_actor
from snn_dt.experimental.online.score import as_actor, score_flights
from snn_dt.experimental.online.task import make_task
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


METHODS = ("bc", "td3bc", "td3", "td3bc_jsrl")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_of_recorded_flights_runs_and_records_what_it_is_made_of(method, tmp_path):
    warm_up = {} if method != "td3" else {"learn__warm_up": 0}
    assert main(words(tmp_path / "run", method=method, **warm_up)) == 0
    lines = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert ["score" in line for line in lines] == [False, True, False, True]
    assert ("critic_loss" in lines[0]) == (method != "bc")
    assert (lines[0]["bc_weight"] > 0) == (method != "td3")
    flown = [line["env_steps"] for line in lines]
    assert flown == ([600] * 4 if method in ("bc", "td3bc") else [60, 120, 180, 240])
    assert (lines[0]["guided"] > 0) == (method != "td3")


def test_dagger_flies_the_guide_once_and_then_the_learner_whom_the_guide_labels(tmp_path, monkeypatch):
    labelled, label = [], Replay._labelled

    def noted(self, flight):
        labelled.append((flight, label(self, flight)))
        return labelled[-1][1]

    monkeypatch.setattr(Replay, "_labelled", noted)
    assert main(words(tmp_path / "run", method="dagger", guide__kind="ppo", guide__load="hover")) == 0
    guide = load_guide(tmp_path / "run" / "guide.safetensors", make_task(TaskConfig()), "")
    assert {flight.guided == len(flight.rewards) for flight, _ in labelled[:2]} == {True}
    assert {flight.guided for flight, _ in labelled[2:]} == {0}
    for flight, learned in labelled:
        assert np.array_equal(learned.actions, guide(flight.observations[:-1]))
    assert not np.array_equal(labelled[-1][0].actions, labelled[-1][1].actions)


def test_the_weight_of_behaviour_cloning_decays_and_the_share_of_the_guide_shrinks(tmp_path):
    assert main(words(tmp_path / "run")) == 0
    lines = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    np.testing.assert_allclose([line["bc_weight"] for line in lines], 0.2 * 0.99 ** np.arange(4))
    assert [line["guided"] for line in lines] == [25, 20, 15, 10]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["td3bc_jsrl", "dagger", "ppo"])
def test_a_run_stopped_or_killed_goes_on_bit_for_bit(tmp_path, monkeypatch, capsys, method):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main(words(whole, method=method)) == 0
    stop_in_iteration(monkeypatch, 1, lambda: signal.raise_signal(signal.SIGTERM))
    assert main(words(cut, method=method)) == 128 + signal.SIGTERM
    assert f"stopped after iteration 2 of 4\ngo on with: snn-dt online --resume {cut}" in capsys.readouterr().out

    def killed():
        raise KeyboardInterrupt

    stop_in_iteration(monkeypatch, 3, killed)
    assert main(["online", "--resume", str(cut)]) == 130
    assert main(["online", "--resume", str(cut)]) == 0
    assert left_behind(cut) == left_behind(whole)


def test_training_flights_are_shorter_begin_wider_and_differ_evaluation_flights_do_not():
    config = TaskConfig(training_spread=1.0, flight=20, mass=0.2)
    training, evaluation = make_task(config).make(200), make_task(config).make(200, training=False, perturbed=False)
    starts = []
    for env, steps, factors in ((training, 20, 200), (evaluation, 500, 1)):
        env.reset(seed=0)
        assert (env.max_episode_steps, len(np.unique(env.factors[0]))) == (steps, factors)
        starts.append(np.abs(env.state[:, 0]).max())
    assert starts[0] > 0.4 > 0.25 >= starts[1]


def test_a_loaded_guide_is_kept_whatever_its_size(tmp_path, capsys):
    run, guide = tmp_path / "run", MLPGuide([146, 8, 4], "tanh")
    save_guide(guide, tmp_path / "mine.safetensors")
    flags = {"train__iterations": 1, "method": "dagger", "guide__kind": "ppo"}
    flags["guide__load"] = tmp_path / "mine.safetensors"
    assert main(words(run, **flags)) == 0
    own = load_guide(run / "guide.safetensors", make_task(TaskConfig()), "")
    assert (own.sizes, own.output) == ([146, 8, 4], "tanh")
    assert bits(own.state_dict()) == bits(guide.state_dict())
    name = set_number(tmp_path / "mine.safetensors", float("inf"))
    assert main(words(tmp_path / "third", **flags)) == 2
    assert f"NaN or infinite numbers in {name}" in capsys.readouterr().err
    save_guide(MLPGuide([200, 8, 4]), tmp_path / "mine.safetensors")
    assert main(words(tmp_path / "fourth", **flags)) == 2
    assert "guide.load: expected an MLP for 146 observation and 4 action columns" in capsys.readouterr().err


def test_the_guide_that_ships_flies_as_well_as_it_says():
    task = make_task(TaskConfig())
    guide = load_guide(SHIPPED["hover"], task, "")
    score = score_flights(as_actor(guide), task, 16, 20_000)
    assert score["lasted"] == 1.0
    assert score["return"] == pytest.approx(float(guide.about["return"]), abs=15)


def test_a_library_trains_a_guide_for_any_task(tmp_path):
    pytest.importorskip("stable_baselines3", reason='pip install "snn-dt[rl]"')
    flags = {"guide__most_steps": 1, "guide__hidden": "8", "guide__kind": "ppo", "guide__normalise": True}
    pendulum = {"task__env_id": "Pendulum-v1", "task__horizon": 0, "train__iterations": 1}
    assert main(words(tmp_path / "run", method="dagger", **flags, **pendulum)) == 0
    guide = load_guide(tmp_path / "run" / "guide.safetensors", make_task(TaskConfig(env_id="Pendulum-v1")), "")
    assert guide.sizes == [3, 8, 1]
    assert int(guide.about["steps"]) >= 1
    assert load_actor(tmp_path / "run").obs_dim == 3


def test_without_the_library_the_error_says_how_to_install_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    assert main(words(tmp_path / "run", method="dagger", guide__kind="ppo")) == 2
    assert 'pip install "snn-dt[rl]"' in capsys.readouterr().err


@pytest.mark.parametrize("method", ["ppo", "td3"])
def test_any_gymnasium_task_with_continuous_actions_is_learned_on(method, tmp_path):
    task = {"task__env_id": "Pendulum-v1", "task__horizon": 0, "train__iterations": 1, "learn__warm_up": 0}
    assert main(words(tmp_path / "run", method=method, **task)) == 0
    line = read_jsonl(tmp_path / "run" / "metrics.jsonl")[-1]
    assert line["score"]["length"] == 200
    assert -2000 < line["score"]["return"] < -100


def test_ppo_goes_on_from_an_earlier_run(tmp_path):
    assert main(words(tmp_path / "first", train__iterations=1)) == 0
    more = {"train__iterations": 1, "learn__actor_rate": 1e-12, "learn__start": tmp_path / "first"}
    assert main(words(tmp_path / "second", method="ppo", **more)) == 0
    first, second = (load_actor(tmp_path / name).state_dict() for name in ("first", "second"))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=1e-6, rtol=0)


def test_a_saved_actor_acts_like_the_one_that_was_trained(tmp_path):
    assert main(words(tmp_path / "run")) == 0
    actor = load_actor(tmp_path / "run")
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert all(torch.equal(value, state["learner"]["actor"][name]) for name, value in actor.state_dict().items())
    facts = json.loads((tmp_path / "run" / "actor" / "config.json").read_text())["provenance"]
    assert facts["iteration"] == 4
    with pytest.raises(CheckpointError, match=r"expected JSON in .*nowhere"):
        load_actor(tmp_path / "nowhere")
    description = tmp_path / "run" / "actor" / "config.json"
    text = description.read_text()
    facts = json.loads(text)
    facts["actor"]["hidden"] = [10**9, 10**9]
    description.write_text(json.dumps(facts))
    with pytest.raises(CheckpointError, match="weights for sizes"):
        load_actor(tmp_path / "run")
    description.write_text(text)
    name = set_number(tmp_path / "run" / "actor" / "model.safetensors", float("nan"))
    with pytest.raises(CheckpointError, match=f"weights of an actor in .*NaN or infinite numbers in {name}"):
        load_actor(tmp_path / "run")


@pytest.mark.parametrize("folder", ["run", "run/actor"])
def test_what_reads_checkpoints_says_how_to_use_an_actor(folder, tmp_path, capsys):
    assert main(words(tmp_path / "run", train__iterations=1)) == 0
    capsys.readouterr()
    assert main(["evaluate", "--checkpoint", str(tmp_path / folder)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "saved.load_actor" in error
    with pytest.raises(CheckpointError, match=r"actor of snn-dt online.*flights\.py"):
        from_pretrained(tmp_path / folder)


def test_a_learner_that_sees_its_commands_is_taught_by_the_pilot_that_sees_the_truth(tmp_path):
    differ = {"task.mass": 0.2, "task.noise": 1, "task.delay": "1 2", "task.commands": 2, "guide.load": "null"}
    run = tmp_path / "run"
    flags = [word for name, value in differ.items() for word in (f"--{name}", *str(value).split())]
    assert main([*words(run, method="dagger", guide__kind="pilot", guide__skill=1), *flags]) == 0
    assert load_actor(run).obs_dim == 18 + 2 * 4


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
        ("guide.load", "nowhere.safetensors --guide.kind ppo", "guide.load: expected an MLP for 146 observation"),
        ("task.env_id", "Pendulum-v1", "guide.kind: expected ppo (only the drone has a pilot), found pilot"),
        ("task.env_id", "CartPole-v1 --guide.kind ppo", "task.env_id: expected a Gymnasium environment with bounded"),
        ("task.delay", "3 1", "task.delay: expected two rising numbers"),
        ("task.commands", "1 --task.delay 0 2", "task.commands: expected 0, or from the longest task.delay to 32"),
        ("task.mass", "1.5", "task.mass: expected in [0, 1)"),
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


def test_a_folder_in_use_and_a_damaged_state_are_mistakes(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(words(run, train__iterations=1)) == 0
    assert main(words(run)) == 2
    assert "expected a new run folder" in capsys.readouterr().err
    (run / "state.pt").write_bytes(b"")
    assert main(["online", "--resume", str(run)]) == 2
    assert "expected the state of this run" in capsys.readouterr().err
    edit(run, "learn", gamma=0.5)
    assert main(["online", "--resume", str(run)]) == 2
    assert "there and 0.5 here; put it back" in capsys.readouterr().err
