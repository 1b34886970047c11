"""A trial's folder belongs to one configuration and to one process at a time."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time

import pytest

from snn_dt.errors import CheckpointError
from snn_dt.training.sweep.folder import Attempt, prepare, read_config
from snn_dt.training.sweep.grid import read_sweep
from snn_dt.training.sweep.progress import Progress
from tests.patience import HANG
from tests.training.sweep.conftest import wait_for


@pytest.fixture
def trial(sweep_file):
    return read_sweep(sweep_file(seeds=[0]))[1][0]


def test_a_folder_gives_back_the_configuration_it_was_made_for(trial, tmp_path):
    prepare(tmp_path / "run", trial)
    prepare(tmp_path / "run", trial)
    assert read_config(tmp_path / "run") == trial.config


def test_a_folder_of_another_configuration_is_refused_by_the_field_that_differs(trial, tmp_path):
    prepare(tmp_path / "run", trial)
    longer = dataclasses.replace(trial.config, train=dataclasses.replace(trial.config.train, steps=61))
    with pytest.raises(CheckpointError, match=r"train\.steps is 60 there and 61 here; choose another"):
        prepare(tmp_path / "run", dataclasses.replace(trial, config=longer))


def test_threads_and_tracking_may_change(trial, tmp_path):
    prepare(tmp_path / "run", trial)
    config = dataclasses.replace(trial.config, train=dataclasses.replace(trial.config.train, threads=7))
    prepare(tmp_path / "run", dataclasses.replace(trial, config=config))


def test_a_folder_from_before_a_field_was_there_has_its_default(trial, tmp_path):
    prepare(tmp_path / "run", trial)
    path = tmp_path / "run" / "trial.json"
    facts = json.loads(path.read_text())
    del facts["config"]["data"]["filter_top"], facts["config"]["train"]["slope_schedule"]
    path.write_text(json.dumps(facts))
    prepare(tmp_path / "run", trial)
    cloning = dataclasses.replace(trial.config, data=dataclasses.replace(trial.config.data, filter_top=0.1))
    with pytest.raises(CheckpointError, match=r"data\.filter_top is 1\.0 there and 0\.1 here"):
        prepare(tmp_path / "run", dataclasses.replace(trial, config=cloning))
    path.write_text(json.dumps(facts | {"config": facts["config"] | {"modle": {}}}))
    with pytest.raises(CheckpointError, match="unknown key modle"):
        prepare(tmp_path / "run", trial)


def test_a_folder_that_no_sweep_made_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"expected a trial's folder, with trial\.json"):
        read_config(tmp_path)


def test_the_seconds_of_an_attempt_that_was_killed_count_to_its_last_record(tmp_path):
    now = time.time()
    facts = {"owner": "gone", "number": 1, "running": True, "started": now - 100, "seconds": 7.0}
    (tmp_path / "attempt.json").write_text(json.dumps(facts))
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    os.utime(tmp_path / "metrics.jsonl", (now - 60, now - 60))
    attempt = Attempt(tmp_path)
    assert attempt.number == 2
    assert 47 <= attempt.seconds <= 47 + (time.time() - now)


def test_an_older_process_leaves_the_folder_to_a_newer_one(tmp_path):
    code = f"""
import time
from pathlib import Path
from snn_dt.training.sweep.folder import Attempt
attempt = Attempt(Path({str(tmp_path)!r}))
attempt.watch(orphaned=lambda: None)
time.sleep({HANG})
"""
    old = subprocess.Popen([sys.executable, "-c", code])
    try:
        wait_for((tmp_path / "attempt.json").exists)
        attempt = Attempt(tmp_path)
        assert old.wait(timeout=HANG) == 75, "the older process leaves by itself"
    finally:
        old.kill()
    attempt.end()
    assert json.loads((tmp_path / "attempt.json").read_text())["running"] is False


def test_progress_follows_a_file_that_grows_is_torn_and_is_replaced(tmp_path):
    path = tmp_path / "metrics.jsonl"
    progress = Progress(tmp_path)
    progress.refresh()
    assert (progress.step, progress.last_return) == (0, None)
    path.write_text('{"step": 10, "loss": 1}\n{"step": 20, "evaluation": [{"return_mean": 3.5}]}\n{"step": 3')
    progress.refresh()
    assert (progress.step, progress.last_return) == (20, 3.5)
    with path.open("a") as file:
        file.write("0}\nnonsense\n")
    progress.refresh()
    assert progress.step == 30
    (tmp_path / "new").write_text('{"step": 10, "loss": 1}\n')
    (tmp_path / "new").replace(path)
    progress.refresh()
    assert progress.step == 10
