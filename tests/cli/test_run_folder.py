"""One process at a time works in a run folder."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from snn_dt import strict
from snn_dt.cli.main import main
from snn_dt.cli.run_folder import hold
from snn_dt.config import Config, save_config
from snn_dt.finetune.config import FinetuneConfig
from snn_dt.online.config import OnlineConfig
from snn_dt.rsnn.config import RSNNConfig
from tests.patience import HANG
from tests.runs import at_update, flags, left_behind, resume, train

CONFIGS = {
    "train": Config(),
    "finetune": strict.build(FinetuneConfig, {"checkpoint": "somewhere"}, "test"),
    "online": OnlineConfig(),
    "rsnn": RSNNConfig(),
}


@pytest.mark.slow
def test_a_second_process_is_refused_and_the_run_goes_on_as_if_alone(tmp_path, monkeypatch, capsys):
    alone, met, status = tmp_path / "alone", tmp_path / "met", []
    assert train(alone) == 0
    at_update(monkeypatch, 7, lambda: status.extend([resume(met), main(["train", *flags(met)])]))
    assert train(met) == 0
    assert status == [2, 2]
    assert f"found process {os.getpid()} of " in capsys.readouterr().err
    assert left_behind(met) == left_behind(alone)
    assert not (met / ".lock").exists()


@pytest.mark.parametrize("command", CONFIGS)
def test_every_command_that_makes_runs_holds_its_folder(tmp_path, capsys, command):
    run = tmp_path / "run"
    with hold(run, resume=False):
        save_config(CONFIGS[command], run / "config.yaml")
        assert main([command, "--resume", str(run)]) == 2
    assert "that no other process works in" in capsys.readouterr().err


def test_a_process_that_was_killed_holds_nothing(tmp_path):
    script = "import os, sys; from pathlib import Path; from snn_dt.cli.run_folder import hold\n"
    script += "with hold(Path(sys.argv[1]), False): os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path / "run")], timeout=HANG).returncode == -9
    assert (tmp_path / "run" / ".lock").exists()
    with hold(tmp_path / "run", resume=False):
        pass
    assert not (tmp_path / "run").exists()


def test_a_new_folder_that_stays_empty_goes_again_and_one_with_something_in_it_stays(tmp_path):
    with hold(tmp_path / "empty", resume=False):
        pass
    with hold(tmp_path / "used", resume=False):
        (tmp_path / "used" / "config.yaml").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["used"]
