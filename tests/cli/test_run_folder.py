"""One process at a time works in a run folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from snn_dt import strict
from snn_dt.cli.main import main
from snn_dt.config import Config, save_config
from snn_dt.experimental.finetune.config import FinetuneConfig
from snn_dt.experimental.online.config import OnlineConfig
from snn_dt.experimental.rsnn.config import RSNNConfig
from snn_dt.run_folder import lock_run_folder
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
    with lock_run_folder(run, resume=False):
        save_config(CONFIGS[command], run / "config.yaml")
        assert main([command, "--resume", str(run)]) == 2
    assert "that no other process works in" in capsys.readouterr().err


def test_a_process_that_was_killed_holds_nothing(tmp_path):
    script = "import os, sys; from pathlib import Path; from snn_dt.run_folder import lock_run_folder\n"
    script += "with lock_run_folder(Path(sys.argv[1]), False): os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path / "run")], timeout=HANG).returncode == -9
    assert (tmp_path / "run" / ".lock").exists()
    with lock_run_folder(tmp_path / "run", resume=False):
        pass
    assert not (tmp_path / "run").exists()


def test_a_new_folder_that_stays_empty_goes_again_and_one_with_something_in_it_stays(tmp_path):
    with lock_run_folder(tmp_path / "empty", resume=False):
        pass
    with lock_run_folder(tmp_path / "used", resume=False):
        (tmp_path / "used" / "config.yaml").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["used"]


def lack_section(text):
    return text[: text.rindex("\ntrack:") + 1]


def lack_field(text):
    return "\n".join(line for line in text.splitlines() if "wandb:" not in line)


@pytest.mark.parametrize("command", CONFIGS)
@pytest.mark.parametrize(
    "damage",
    [
        lambda _: "",
        lambda _: "{}\n",
        lambda _: "# nothing\n",
        lambda text: text[: len(text) // 2],
        lack_section,
        lack_field,
    ],
    ids=["empty", "no sections", "a comment", "half", "a section less", "a field less"],
)
def test_a_configuration_that_is_not_whole_is_not_resumed(tmp_path, capsys, command, damage):
    save_config(CONFIGS[command], tmp_path / "config.yaml")
    path = tmp_path / "config.yaml"
    path.write_text(damage(path.read_text()))
    assert main([command, "--resume", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "config.yaml" in error
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_trial_whose_configuration_is_not_whole_is_not_run(tmp_path, capsys):
    whole = {"name": "a", "overrides": {}, "command": "snn-dt train", "config": strict.to_dict(Config())}
    for odd in ({"config": {}}, {"config": 3}, {"config": {"train": {"steps": 3}}}, {"name": None}, {"overrides": []}):
        (tmp_path / "trial.json").write_text(json.dumps(whole | odd))
        assert main(["trial", "--run-dir", str(tmp_path)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["trial.json"]


def test_what_killed_processes_left_goes_at_the_next_start_and_nothing_else(tmp_path):
    run = tmp_path / "run"
    for name in (
        "checkpoints/last",
        "checkpoints/last.old",
        "checkpoints/best.old",
        "checkpoints/.last.partial",
        "actor",
    ):
        (run / name).mkdir(parents=True)
        (run / name / "config.json").touch()
    (run / "actor/.model.safetensors.partial").touch()
    (run / ".config.yaml.partial").touch()
    (run / ".writable-123").touch()
    (run / "mine.partial").touch()
    with lock_run_folder(run, resume=True):
        left = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.name != "config.json")
    assert left == [".lock", "actor", "checkpoints", "checkpoints/best.old", "checkpoints/last", "mine.partial"]


@pytest.mark.parametrize("program", [["train"], ["online"], ["finetune"], ["rsnn"]])
@pytest.mark.parametrize("flag", ["--run-dir", "--resume", "--config"])
@pytest.mark.parametrize("name", ["", " ", "a" * 300, "a\0b", "\ud800", "a/" * 3000])
def test_a_path_that_no_system_has_is_one_line(tmp_path, monkeypatch, capsys, program, flag, name):
    monkeypatch.chdir(tmp_path)
    assert main([*program, flag, name]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "expected a path, found" in error
    assert not list(tmp_path.iterdir())
