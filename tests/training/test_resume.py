"""A run that was interrupted and resumed leaves, bit for bit, what it would have left anyway."""

from __future__ import annotations

import json
import shutil
import signal

import pytest

from snn_dt.run import Run
from snn_dt.training.tracking import Tracker
from tests.runs import (
    CARTPOLE,
    at_update,
    edit,
    flags,
    left_behind,
    lines_of,
    main,
    resume,
    state_of,
    stop_at_update,
    train,
)

KINDS = {
    "dense with dropout": {"model__dropout": 0.2},
    "snn_dt": {"model__kind": "snn_dt", "model__positions": "phase"},
    "dsformer": {"model__kind": "dsformer_tssa", "train__accumulate": 2, "train__seed": 3},
    "stream, state carried": {"model__kind": "snn_dt_stream", "train__stateful": "true"},
}


@pytest.fixture(scope="module", params=KINDS)
def uninterrupted(request, tmp_path_factory):
    """A kind of run and what it leaves when nobody stops it."""
    folder = tmp_path_factory.mktemp("whole")
    assert train(folder / "run", **KINDS[request.param]) == 0
    return KINDS[request.param], left_behind(folder / "run")


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """What a plain dense run leaves."""
    folder = tmp_path_factory.mktemp("dense")
    assert train(folder / "run") == 0
    return folder / "run", left_behind(folder / "run")


class KilledError(BaseException):
    """The process is gone: nothing more is saved."""


def killed() -> None:
    raise KilledError


@pytest.mark.slow
def test_a_run_stopped_between_its_records_and_saves_goes_on_bit_for_bit(uninterrupted, tmp_path, monkeypatch, capsys):
    changes, whole = uninterrupted
    run = tmp_path / "run"
    for step in (8, 12):  # after update 9, then after update 13
        stop_at_update(monkeypatch, step)
        assert (resume(run) if run.exists() else train(run, **changes)) == 128 + signal.SIGTERM
        assert state_of(run)["step"] == step + 1
        assert (
            f"stopped after update {step + 1} of 14\ngo on with: snn-dt train --resume {run}" in capsys.readouterr().out
        )
    assert resume(run) == 0
    assert left_behind(run) == whole


@pytest.mark.slow
def test_a_run_killed_at_any_update_goes_on_from_its_last_save_bit_for_bit(uninterrupted, tmp_path, monkeypatch):
    changes, whole = uninterrupted
    run = tmp_path / "run"
    for step, saved in ((3, None), (8, 6), (11, 10), (12, 12)):
        at_update(monkeypatch, step, killed)
        with pytest.raises(KilledError):
            resume(run) if run.exists() else train(run, **changes)
        assert (run / "checkpoints" / "last").exists() == (saved is not None)
        assert saved is None or state_of(run)["step"] == saved
    assert resume(run) == 0
    assert left_behind(run) == whole


@pytest.mark.slow
@pytest.mark.parametrize("evaluation", [1, 2, 3])
def test_a_run_stopped_inside_an_evaluation_evaluates_again_and_records_it_once(
    dense, tmp_path, monkeypatch, capsys, evaluation
):
    _, whole = dense
    real, calls = Run.evaluate, []

    def evaluate(self, *arguments):
        calls.append(1)
        if len(calls) == evaluation:
            signal.raise_signal(signal.SIGINT)
        return real(self, *arguments)

    monkeypatch.setattr(Run, "evaluate", evaluate)
    run = tmp_path / "run"
    assert train(run) == 128 + signal.SIGINT
    assert state_of(run)["step"] == [6, 12, 14][evaluation - 1]
    assert sum("evaluation" in line for line in lines_of(run)) == evaluation - 1
    assert resume(run) == 0
    assert left_behind(run) == whole


@pytest.mark.slow
@pytest.mark.parametrize("evaluation", [1, 2, 3])
def test_a_run_killed_after_an_evaluation_and_before_it_is_saved_loses_no_update_and_records_it_once(
    dense, tmp_path, monkeypatch, evaluation
):
    _, whole = dense
    real, calls = Tracker.log_evaluation, []

    def log_evaluation(self, *arguments):
        real(self, *arguments)
        calls.append(1)
        if len(calls) == evaluation:
            raise KilledError

    monkeypatch.setattr(Tracker, "log_evaluation", log_evaluation)
    run = tmp_path / "run"
    with pytest.raises(KilledError):
        train(run)
    assert state_of(run)["step"] == [6, 12, 14][evaluation - 1]
    assert resume(run) == 0
    assert left_behind(run) == whole


def test_a_finished_run_is_left_as_it_is(dense):
    run, whole = dense
    config = (run / "config.yaml").read_text()
    assert resume(run) == 0
    assert left_behind(run) == whole
    assert (run / "config.yaml").read_text() == config


def test_the_record_of_a_run_is_what_was_asked_for(dense):
    _, whole = dense
    steps = [(line["step"], "evaluation" if "evaluation" in line else "loss" if "loss" in line else "validation_loss")
             for line in whole["lines"]]  # fmt: skip
    evaluated = [(step, name) for step in (6, 12, 14) for name in ("validation_loss", "evaluation")]
    assert sorted(steps) == sorted([(step, "loss") for step in (4, 8, 12, 14)] + evaluated)


def test_what_is_recorded_saved_and_evaluated_on_the_way_does_not_change_the_training(uninterrupted, tmp_path):
    changes, whole = uninterrupted
    quiet = {"train__log_every": 14, "train__save_every": 100, "train__eval_every": 0, "eval__episodes": 0}
    assert train(tmp_path / "run", **changes, **quiet) == 0
    left = left_behind(tmp_path / "run")
    assert left["weights"]["last"] == whole["weights"]["last"]
    assert left["state"]["optimizer"] == whole["state"]["optimizer"]


@pytest.fixture
def stopped(dense, tmp_path, monkeypatch):
    """A run that can be resumed."""
    run = tmp_path / "run"
    shutil.copytree(dense[0], run)
    return run


def complaint(run, capsys) -> str:
    """What is said, in one line, when a run cannot be resumed."""
    capsys.readouterr()
    assert resume(run) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("snn-dt: ")
    return error


def test_a_run_is_not_resumed_on_other_data(stopped, capsys):
    provenance = stopped / "checkpoints" / "last" / "provenance.json"
    facts = json.loads(provenance.read_text())
    provenance.write_text(json.dumps(facts | {"dataset_checksum": "0" * 64}))
    assert f"expected the data {stopped} was trained on, found other data" in complaint(stopped, capsys)


@pytest.mark.parametrize(
    ("section", "name", "value", "was"),
    [("model", "d_model", 8, 16), ("train", "steps", 20, 14), ("data", "filter_top", 0.5, 1.0)],
)
def test_a_run_whose_configuration_was_changed_is_not_resumed(stopped, capsys, section, name, value, was):
    edit(stopped, section, **{name: value})
    assert f"{section}.{name} is {was} there and {value} here; put it back" in complaint(stopped, capsys)


def test_what_lies_around_the_training_may_change_before_it_is_resumed(stopped, tmp_path):
    shutil.copytree(CARTPOLE, tmp_path / "moved-v0")
    edit(stopped, "train", log_every=1, threads=2)
    edit(stopped, "data", dataset=str(tmp_path / "moved-v0"))
    edit(stopped, "eval", episodes=1)
    assert resume(stopped) == 0


@pytest.mark.parametrize(
    ("name", "expected"), [("training_state.pt", "state of a run"), ("model.safetensors", "weights")]
)
@pytest.mark.parametrize("damage", ["missing", "truncated", "empty"])
def test_a_damaged_checkpoint_is_not_resumed(stopped, capsys, name, expected, damage):
    path = stopped / "checkpoints" / "last" / name
    data = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(data[: len(data) // 2 if damage == "truncated" else 0])
    message = complaint(stopped, capsys)
    assert expected in message
    assert str(stopped) in message


def test_a_checkpoint_copied_for_use_is_not_resumed(dense, tmp_path, capsys):
    shutil.copytree(dense[0] / "checkpoints" / "best", tmp_path / "run")
    assert "expected a run folder with a config.yaml" in complaint(tmp_path / "run", capsys)


def test_a_run_folder_is_not_used_twice(dense, capsys):
    before = left_behind(dense[0])
    capsys.readouterr()
    assert main(["train", *flags(dense[0])]) == 2
    error = capsys.readouterr().err
    assert f"expected a new run folder, found a run at {dense[0]}; go on with it (--resume {dense[0]})" in error
    assert left_behind(dense[0]) == before
