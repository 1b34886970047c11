"""Real processes, really interrupted: Ctrl-C and SIGTERM save, kill -9 leaves the last save, and all of them resume."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT, read_jsonl
from tests.patience import HANG
from tests.runs import flags, resume, state_of, stop_at_update

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * HANG)]
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]
SAVE_EVERY = 10


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """Three runs that would take for ever, each sent one signal: {signal: (run, status, stdout, stderr)}."""
    folder = tmp_path_factory.mktemp("signals")
    settings = {"train__steps": 10**6, "train__save_every": SAVE_EVERY, "train__log_every": 1, "train__eval_every": 0}
    processes = {}
    for signum in SIGNALS:
        command = [sys.executable, str(ROOT / "scripts/train.py"), *flags(folder / signum.name, **settings)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes[signum] = subprocess.Popen(command, **pipes)
    results = {}
    try:
        for signum, process in processes.items():
            wait_for_updates(folder / signum.name, process, SAVE_EVERY + 3)
            process.send_signal(signum)
        for signum, process in processes.items():
            out, err = process.communicate(timeout=HANG)
            results[signum] = (folder / signum.name, process.returncode, out, err)
    finally:
        for process in processes.values():
            process.kill()
    return results


def wait_for_updates(run, process, number: int) -> None:
    """Wait until a run has recorded so many updates."""
    end = time.monotonic() + HANG
    path = run / "metrics.jsonl"
    while not path.exists() or path.read_text().count("\n") < number:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "hangs"
        time.sleep(0.05)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_leaves_with_128_plus_its_number(interrupted, signum):
    run, status, out, err = interrupted[signum]
    assert status == 128 + signum
    assert err == ""
    step = state_of(run)["step"]
    assert f"stopped after update {step} of 1000000\ngo on with: snn-dt train --resume {run}" in out
    assert read_jsonl(run / "metrics.jsonl")[-1]["step"] == step


def test_a_killed_process_leaves_its_last_save(interrupted):
    run, status, _, _ = interrupted[signal.SIGKILL]
    assert status == -signal.SIGKILL
    step = state_of(run)["step"]
    assert step % SAVE_EVERY == 0
    assert step >= SAVE_EVERY


@pytest.mark.parametrize("signum", SIGNALS, ids=lambda signum: signum.name)
def test_an_interrupted_run_goes_on_from_its_checkpoint(interrupted, signum, monkeypatch, capsys):
    run = interrupted[signum][0]
    step = state_of(run)["step"]
    stop_at_update(monkeypatch, step + 2)
    assert resume(run) == 128 + signal.SIGTERM
    assert f"updates {step} to 1000000" in capsys.readouterr().out
    assert state_of(run)["step"] == step + 3
    steps = [line["step"] for line in read_jsonl(run / "metrics.jsonl")]
    assert steps == list(range(1, step + 4))
