"""Killed right before, or in the middle of, any file operation, and taken up again: as if nothing had happened."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.conftest import ROOT, read_jsonl
from tests.experimental.finetune.test_runs import words as finetune_words
from tests.experimental.online.test_runs import left_behind as online_left
from tests.experimental.online.test_runs import words as online_words
from tests.experimental.rsnn.test_run import flags as rsnn_words
from tests.experimental.rsnn.test_run import left_behind as rsnn_left
from tests.kills import Commands
from tests.runs import flags, left_behind

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
EVERY = os.environ.get("SNN_DT_ALL_KILLS")
"""Set it to kill at every operation, which takes half an hour; else at the last ones and some of the others."""
GUIDE = {"guide__kind": "ppo", "guide__load": "hover"}
SHORT = {"train__steps": 4, "train__log_every": 1, "train__save_every": 2, "train__eval_every": 2, "eval__episodes": 1}
CHECKPOINT = ROOT / "results/pretrained/pendulum-snn_dt"
COMMANDS = {
    "train": (lambda run: ["train", *flags(run, **SHORT)], left_behind),
    "online": (lambda run: online_words(run, train__iterations=2, train__eval_every=1, **GUIDE), online_left),
    "finetune": (lambda run: finetune_words(run, CHECKPOINT, update__iterations=2, eval__episodes=1), left_behind),
    "rsnn": (lambda run: rsnn_words(run, "pattern"), rsnn_left),
}


@pytest.fixture(scope="module")
def commands():
    """A warm process."""
    with Commands(
        imports=("snn_dt.experimental.online.run", "snn_dt.experimental.finetune.run", "snn_dt.experimental.rsnn.run")
    ) as warm:
        yield warm


def points(operations: int) -> list[int]:
    """Where to kill: the last save and what follows it, and six of what comes before."""
    if EVERY:
        return list(range(operations))
    last = max(operations - 8, 0)
    return [*range(0, last, max(1, last // 6)), *range(last, operations, 2)]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_killed_at_a_file_operation_goes_on_as_if_it_had_not_been(commands, tmp_path, command):
    words, found = COMMANDS[command]
    whole = tmp_path / "whole"
    ended = commands.run(words(whole), under=whole)
    assert ended.status == 0, ended.err
    expected, run, wrong = found(whole), tmp_path / "run", []
    for at in points(ended.operations):
        shutil.rmtree(run, ignore_errors=True)
        killed = commands.run(words(run), under=run, at=at)
        assert killed.status == -9, (at, killed)
        begun = (run / "config.yaml").exists()
        again = commands.run([command, "--resume", str(run)] if begun else words(run))
        left = [str(path.relative_to(run)) for path in run.rglob("*") if path.name.startswith(".")]
        if again.status != 0 or left or found(run) != expected:
            wrong.append((at, again.status, again.err[-300:], left))
    assert not wrong


def test_a_run_that_is_killed_while_it_resumes_loses_nothing(commands, tmp_path):
    words, found = COMMANDS["online"]
    whole, run = tmp_path / "whole", tmp_path / "run"
    operations = commands.run(words(whole), under=whole).operations
    commands.run(words(run), under=run, at=operations // 2)
    begin = tmp_path / "begin"
    shutil.copytree(run, begin)
    resumed = commands.run(["online", "--resume", str(run)], under=run).operations
    for at in points(resumed)[::2]:
        shutil.rmtree(run)
        shutil.copytree(begin, run)
        assert commands.run(["online", "--resume", str(run)], under=run, at=at).status == -9
        assert commands.run(["online", "--resume", str(run)]).status == 0
        assert found(run) == found(whole)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_disk_that_fills_up_is_one_line_and_the_run_goes_on_with_room(commands, tmp_path, command):
    words, _ = COMMANDS[command]
    whole = tmp_path / "whole"
    ended = commands.run(words(whole), under=whole)
    for at in range(3, ended.operations, max(1, ended.operations // (ended.operations if EVERY else 4))):
        run = tmp_path / f"run{at}"
        full = commands.run(words(run), under=run, at=at, fault="full")
        assert not full.traceback, (at, full.err[-600:])
        assert full.status in (0, 2), (at, full)  # 0: what did not fit were lines of metrics, and it said so
        assert full.err.count("\n") <= 2, full.err
        begun = (run / "config.yaml").exists()
        again = commands.run([command, "--resume", str(run)] if begun else words(run))
        assert again.status == 0, (at, again.err)
        assert {row["step"] for row in read_jsonl(run / "metrics.jsonl")} <= {
            row["step"] for row in read_jsonl(whole / "metrics.jsonl")
        }
