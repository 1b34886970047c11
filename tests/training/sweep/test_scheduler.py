"""What becomes of trials that end well, badly, or are asked to stop; the trials are played by a script."""

from __future__ import annotations

import csv
import json
import os
import signal

import pytest

from snn_dt.training.sweep.folder import prepare
from snn_dt.training.sweep.grid import read_sweep
from snn_dt.training.sweep.scheduler import TrialStatus, run_sweep
from snn_dt.training.sweep.summary import write_summary
from snn_dt.training.sweep.view import View


class Stage:
    """A backend of `slots` slots on which trial i ends, one poll after its start, with the codes of `scripts[i]`."""

    def __init__(self, scripts, slots=2):
        self.scripts, self.slots = scripts, slots
        self.started, self.most, self.stopped = [], 0, []

    def free(self, running):
        self.most = max(self.most, running)
        return running < self.slots

    def start(self, folder):
        self.started.append(folder.name)
        return folder

    def poll(self, folder):
        code = self.scripts[folder.name].pop(0)
        if code == 0:
            row = {"step": 60, "evaluation": [{"target_return": 500, "return_mean": 42.0}]}
            (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
            (folder / "result.json").write_text(json.dumps({"evaluation": row["evaluation"], "minutes": 1.5}))
        elif code is not None:
            (folder / "log.txt").write_text("step 5\nTraceback\n  line\n    ^^^^\nValueError: a reason\n")
        return code

    def stop(self, folder, force=False):
        self.stopped.append((folder.name, force))
        self.scripts[folder.name] = [143]

    def close(self):
        pass


@pytest.fixture
def statuses(sweep_file, tmp_path, monkeypatch):
    monkeypatch.setattr("snn_dt.training.sweep.scheduler.POLL_SECONDS", 0)
    _, trials = read_sweep(sweep_file(seeds=[0, 1, 2]))
    for trial in trials:
        prepare(tmp_path / "runs" / trial.name, trial)
    return [TrialStatus(trial, tmp_path / "runs" / trial.name) for trial in trials]


def names(*seeds):
    return [f"tiny-seed{seed}" for seed in seeds]


def play(statuses, stage, tmp_path, retries=2):
    return run_sweep(statuses, stage, retries, View(statuses), lambda: write_summary(tmp_path, statuses))


def test_no_more_trials_run_than_there_are_slots_and_all_get_their_turn(statuses, tmp_path):
    stage = Stage({name: [None, 0] for name in names(0, 1, 2)}, slots=2)
    assert play(statuses, stage, tmp_path) is None
    assert stage.most == 2
    assert stage.started == names(0, 1, 2)
    assert {status.state for status in statuses} == {"done"}


def test_a_killed_trial_is_taken_up_again_and_a_hopeless_one_fails_after_its_retries(statuses, tmp_path, capsys):
    stage = Stage({"tiny-seed0": [-9, 0], "tiny-seed1": [1, 1, 1], "tiny-seed2": [0]})
    play(statuses, stage, tmp_path, retries=2)
    assert [status.state for status in statuses] == ["done", "failed", "done"]
    assert stage.started.count("tiny-seed0") == 2
    assert stage.started.count("tiny-seed1") == 3
    assert statuses[1].error == "exit status 1: Traceback | line | ValueError: a reason"
    assert "tiny-seed0 broke off and is tried again (1 of 2): killed by SIGKILL" in capsys.readouterr().out


def test_a_users_mistake_is_not_tried_again(statuses, tmp_path):
    stage = Stage({"tiny-seed0": [2], "tiny-seed1": [0], "tiny-seed2": [0]})
    play(statuses, stage, tmp_path)
    assert statuses[0].state == "failed"
    assert stage.started == names(0, 1, 2)


def test_a_trial_that_another_sweep_has_taken_over_is_left_to_it(statuses, tmp_path, capsys):
    stage = Stage({"tiny-seed0": [75], "tiny-seed1": [0], "tiny-seed2": [0]})
    play(statuses, stage, tmp_path)
    assert stage.started == names(0, 1, 2)
    assert statuses[0].error.startswith("another process has taken it over")


def test_a_result_that_is_cut_off_is_made_once_more(statuses, tmp_path):
    play(statuses, Stage({name: [0] for name in names(0, 1, 2)}), tmp_path)
    result = statuses[1].folder / "result.json"
    result.write_text(result.read_text()[:10])
    again = [TrialStatus(status.trial, status.folder) for status in statuses]
    stage = Stage({"tiny-seed1": [0]})
    play(again, stage, tmp_path)
    assert stage.started == ["tiny-seed1"]
    assert {status.state for status in again} == {"done"}


def test_finished_trials_are_skipped(statuses, tmp_path):
    play(statuses, Stage({name: [0] for name in names(0, 1, 2)}), tmp_path)
    again = [TrialStatus(status.trial, status.folder) for status in statuses]
    stage = Stage({})
    play(again, stage, tmp_path)
    assert stage.started == []
    assert again[0].progress.last_return == 42.0


def test_a_signal_stops_the_running_trials_and_starts_no_other(statuses, tmp_path):
    stage = Stage({"tiny-seed0": [None] * 9, "tiny-seed1": [None] * 9, "tiny-seed2": [0]})
    polled, poll = [], stage.poll
    stage.poll = lambda folder: (
        polled.append(1),
        len(polled) == 3 and os.kill(os.getpid(), signal.SIGTERM),
        poll(folder),
    )[2]
    assert play(statuses, stage, tmp_path) == signal.SIGTERM
    assert stage.stopped == [("tiny-seed0", False), ("tiny-seed1", False)]
    assert [status.state for status in statuses] == ["stopped", "stopped", "waiting"]


def test_the_summary_has_a_row_for_every_trial_in_both_formats(statuses, tmp_path):
    play(statuses, Stage({"tiny-seed0": [0], "tiny-seed1": [2], "tiny-seed2": [0]}), tmp_path)
    rows = json.loads((tmp_path / "summary.json").read_text())
    table = list(csv.DictReader((tmp_path / "summary.csv").open()))
    assert [row["trial"] for row in rows] == [row["trial"] for row in table] == names(0, 1, 2)
    assert [row["state"] for row in rows] == ["done", "failed", "done"]
    assert rows[0]["return_mean"] == float(table[0]["return_mean"]) == 42.0
    assert rows[0]["minutes"] == 1.5
    assert "ValueError: a reason" in table[1]["error"]
