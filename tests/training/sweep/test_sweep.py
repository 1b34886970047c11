"""`snn-dt sweep` from end to end: broken off in every way, it comes to what it would have come to."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from snn_dt.cli.main import main
from tests.patience import HANG
from tests.training.sweep.conftest import start_sweep, uninterrupted_weights, wait_for, weights


def attempt(root, name):
    try:
        return json.loads((root / name / "attempt.json").read_text())
    except (OSError, ValueError):
        return {}


def trial_pids(root, name):
    """The processes that work on a trial, by what their command line says."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        except OSError:
            continue
        if command[-2:-1] == [str(root / name)]:
            found.append(int(pid))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc"), reason="finds processes in /proc")
def test_a_trial_killed_and_a_sweep_killed_end_with_the_weights_of_an_unbroken_run(sweep_file, tmp_path):
    path, root = sweep_file(steps=700, seeds=[0, 1]), tmp_path / "runs"
    sweep = start_sweep(path, root, "--local", "--processes", "2")
    names = ("tiny-seed0", "tiny-seed1")
    wait_for(lambda: all((root / name / "checkpoints/last").is_dir() for name in names))
    [pid] = trial_pids(root, names[0])
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: attempt(root, names[0]).get("number") == 2)
    sweep.kill()
    sweep.wait()
    wait_for(lambda: not any(trial_pids(root, name) for name in names))
    assert not (root / names[1] / "result.json").exists(), "the trials stopped when nobody waited for them any more"

    again = start_sweep(path, root, "--local", "--processes", "2")
    out, _ = again.communicate(timeout=HANG)
    assert again.returncode == 0, out
    assert "2 done" in out
    for i, name in enumerate(names):
        assert weights(root / name) == uninterrupted_weights(path, name, tmp_path / f"whole{i}")
    assert attempt(root, names[0])["number"] == 3
    summary = json.loads((root / "summary.json").read_text())
    assert [row["step"] for row in summary] == [700, 700]


@pytest.mark.slow
def test_a_signal_leaves_trials_that_the_same_command_goes_on_with(sweep_file, tmp_path):
    path, root = sweep_file(steps=3000, seeds=[0]), tmp_path / "runs"
    sweep = start_sweep(path, root, "--local")
    wait_for((root / "tiny-seed0/metrics.jsonl").exists)
    sweep.send_signal(signal.SIGINT)
    out, _ = sweep.communicate(timeout=HANG)
    assert sweep.returncode == 128 + signal.SIGINT, out
    assert f"go on with: snn-dt sweep --config {path}" in out
    assert (root / "tiny-seed0/checkpoints/last/training_state.pt").exists()
    assert attempt(root, "tiny-seed0")["running"] is False


@pytest.mark.slow
def test_a_failing_trial_is_reported_by_its_own_words_and_the_others_finish(sweep_file, tmp_path, capsys):
    path = sweep_file(steps=20, seeds=[0], grid={"data.dataset": ["datasets/sb3/cartpole/mixed-v0", "nowhere"]})
    assert main(["sweep", "--config", str(path), "--run_root", str(tmp_path / "runs"), "--local"]) == 2
    out, err = capsys.readouterr()
    assert "1 done, 1 failed" in out
    assert len(err.splitlines()) == 1
    assert "1 failed, the first tiny-dataset=nowhere-seed0: exit status 2: snn-dt: no dataset at 'nowhere'" in err


def test_list_makes_the_folders_and_prints_a_command_for_each_trial(sweep_file, tmp_path, capsys):
    root = tmp_path / "runs"
    assert main(["sweep", "--config", str(sweep_file(seeds=[0, 1])), "--run_root", str(root), "--list"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"snn-dt trial --run_dir {root / f'tiny-seed{i}'}" for i in (0, 1)]
    assert (root / "tiny-seed1" / "trial.json").is_file()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--local", "--address", "auto"], "expected --local or --address, found both"),
        (["--processes", "-1"], "expected --processes of at least 0"),
    ],
)
def test_flags_that_contradict_are_refused(sweep_file, capsys, flags, words):
    assert main(["sweep", "--config", str(sweep_file()), *flags]) == 2
    assert words in capsys.readouterr().err


def test_without_ray_the_error_names_the_package_and_the_way_around(sweep_file, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    assert main(["sweep", "--config", str(sweep_file()), "--run_root", str(tmp_path / "runs")]) == 2
    err = capsys.readouterr().err
    assert "pip install 'snn-dt[ray]'" in err
    assert "--local" in err
    assert len(err.splitlines()) == 1
