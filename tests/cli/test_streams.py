"""Whatever becomes of what a command prints to, its work is kept: narrow encodings, closed and broken streams."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from snn_dt.cli import evaluate as evaluate_command
from snn_dt.cli.main import main
from snn_dt.cli.streams import Steady
from snn_dt.command import plain_console
from snn_dt.evaluation import rollout
from snn_dt.training.signals import StopSignal
from tests.conftest import ROOT
from tests.experimental.finetune.test_runs import words as finetune_words
from tests.experimental.online.test_runs import words as online_words
from tests.experimental.rsnn.test_run import flags as rsnn_words
from tests.kills import Commands
from tests.runs import CARTPOLE, flags, left_behind, state_of

CHECKPOINT = ROOT / "results/pretrained/pendulum-snn_dt"
EVALUATE = ["evaluate", "--checkpoint", str(CHECKPOINT), "--episodes", "1", "--threads", "1", "--no-count"]
STREAMS = {
    "ascii": {"encoding": "ascii"},
    "all closed": {"stdout": "closed", "stderr": "closed"},
    "broken": {"stdout": "broken"},
}
OTHERS = (
    *("data list", "data info", "data info --json", "data collect", "sweep", "finetune", "online", "rsnn", "analyse"),
    *("help", "train --help"),
)
SWEEP = """
configs: [{config}]
seeds: [0]
grid:
  train.steps: [2]
"""


@pytest.fixture(scope="module")
def commands():
    """A warm process."""
    with Commands(
        imports=("snn_dt.experimental.online.run", "snn_dt.experimental.finetune.run", "snn_dt.experimental.rsnn.run")
    ) as warm:
        yield warm


@pytest.mark.parametrize("streams", STREAMS)
def test_an_evaluation_keeps_its_results(commands, tmp_path, streams):
    words = [*EVALUATE, "--target-return", "-200", "-1000", "--json", str(tmp_path / "e.json")]
    ended = commands.run(words, **STREAMS[streams])
    assert ended.status == 0
    assert ended.err == ""
    rows = json.loads((tmp_path / "e.json").read_text())
    assert [row["target_return"] for row in rows] == [-200.0, -1000.0]
    if streams == "ascii":
        assert "target -200: return " in ended.out
        assert " ? " in ended.out  # the sign of plus or minus, which ASCII lacks


@pytest.mark.slow
@pytest.mark.parametrize("streams", STREAMS)
def test_a_training_keeps_its_updates_and_goes_on(commands, tmp_path, streams):
    run, settings = tmp_path / "run", {"train__steps": 6, "train__log_every": 1, "train__eval_every": 0}
    ended = commands.run(["train", *flags(run, **settings)], **STREAMS[streams])
    broken = STREAMS[streams].get("stdout") == "broken"
    assert ended.status == (128 + signal.SIGPIPE if broken else 0)
    assert "Traceback" not in ended.err
    assert state_of(run)["step"] == (0 if broken else 6)  # the first line that cannot be printed is the run's folder
    if streams == "broken":
        assert ended.err == f"stopped after update 0 of 6\ngo on with: snn-dt train --resume {run}\n"
        whole = tmp_path / "whole"
        assert commands.run(["train", *flags(whole, **settings)]).status == 0
        assert commands.run(["train", "--resume", str(run)]).status == 0
        assert left_behind(run) == left_behind(whole)


def others(folder):
    config = folder / "config.yaml"
    names = {
        "data": {"dataset": CARTPOLE}, "train": {"steps": 2, "batch_size": 4, "threads": 1, "device": "cpu"},
        "model": {"kind": "dense", "d_model": 8, "n_layers": 1, "n_heads": 1}, "eval": {"episodes": 0},
    }  # fmt: skip
    config.write_text(json.dumps(names))
    (folder / "sweep.yaml").write_text(SWEEP.format(config=config))
    return {
        "data list": ["data", "list"],
        "data info": ["data", "info", CARTPOLE],
        "data info --json": ["data", "info", CARTPOLE, "--json"],
        "data collect": ["data", "collect", "CartPole-v1", "--id", "a-v0", "--episodes", "1", "--root", str(folder)],
        "sweep": ["sweep", "--config", str(folder / "sweep.yaml"), "--run-root", str(folder / "sweep"), "--local"],
        "finetune": finetune_words(folder / "fine", CHECKPOINT, update__iterations=1, eval__episodes=1),
        "online": online_words(folder / "online", train__iterations=1),
        "rsnn": rsnn_words(folder / "rsnn", "pattern"),
        "analyse": ["analyse", "gradients", "--out", str(folder / "analysis"), "--draws", "1", "--slopes", "1", "10"],
        "help": ["--help"],
        "train --help": ["train", "--help"],
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_every_command_ends_as_it_should(commands, tmp_path, name):
    for streams, how in STREAMS.items():
        folder = tmp_path / streams.replace(" ", "-")
        folder.mkdir()
        ended = commands.run(others(folder)[name], **how)
        stops = how.get("stdout") == "broken" and name in ("sweep", "finetune", "online", "rsnn")
        assert ended.status in ((0, 128 + signal.SIGPIPE) if stops else (0,)), (streams, ended)
        assert not ended.traceback, (streams, ended)
        if name == "data collect":
            assert (folder / "a-v0" / "data" / "main_data.hdf5").is_file()
        if name == "analyse":
            assert json.loads((folder / "analysis" / "gradients.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["| head -1", ">&- 2>&-", "> /dev/full"])
def test_a_shell_cannot_lose_an_evaluation(tmp_path, ending):
    command = " ".join([sys.executable, "-m", "snn_dt.cli.main", *EVALUATE, "--json", str(tmp_path / "e.json"), ending])
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    shell = ["bash", "-o", "pipefail", "-c", command]
    ended = subprocess.run(shell, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0
    assert ended.stderr == ""
    assert len(json.loads((tmp_path / "e.json").read_text())) == 5


def test_the_results_of_a_target_are_kept_before_the_next_one_is_begun(tmp_path, monkeypatch, capsys):
    path, play, asked = tmp_path / "e.json", rollout.run_episodes, []

    def episodes(policy, envs, target, *rest):
        asked.append(target)
        if len(asked) == 3:
            assert [row["target_return"] for row in json.loads(path.read_text())] == asked[:2]
            signal.raise_signal(signal.SIGTERM)
        return play(policy, envs, target, *rest)

    monkeypatch.setattr(rollout, "run_episodes", episodes)
    words = [*EVALUATE, "--target-return", "-200", "-500", "-1000", "--json", str(path)]
    assert main(words) == 128 + signal.SIGTERM
    assert len(json.loads(path.read_text())) == 2
    said = capsys.readouterr()
    assert said.err == "snn-dt: interrupted\n"
    assert [line.split(":")[0] for line in said.out.splitlines()] == ["target -200", "target -500"]


def test_results_are_written_before_they_are_printed(tmp_path, monkeypatch):
    def fail(rows, found):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate_command, "print_evaluation", fail)
    assert main([*EVALUATE, "--target-return", "-200", "--json", str(tmp_path / "e.json")]) == 130
    assert len(json.loads((tmp_path / "e.json").read_text())) == 1


@pytest.mark.slow
def test_the_file_of_results_is_a_list_whenever_it_is_there(commands, tmp_path):
    words = [*EVALUATE, "--target-return", "-200", "-1000", "--json", str(tmp_path / "e" / "e.json")]
    operations = commands.run(words, under=tmp_path / "e").operations
    found = set()
    for at in range(operations):
        shutil.rmtree(tmp_path / "e", ignore_errors=True)
        assert commands.run(words, under=tmp_path / "e", at=at).status == -9
        if (tmp_path / "e" / "e.json").exists():
            found.add(len(json.loads((tmp_path / "e" / "e.json").read_text())))
    assert found == {1}


class Full(io.StringIO):
    """A file on a full disk."""

    encoding = "utf-8"

    def write(self, text):
        raise OSError(28, "No space left on device")


def test_a_stream_that_breaks_asks_the_run_that_listens_to_stop_and_no_other():
    Steady(Full(), stops_runs=True).write("a")
    with StopSignal() as stop:
        Steady(Full(), stops_runs=False).write("a")
        assert stop.signum is None
        stream = Steady(Full(), stops_runs=True)
        assert [stream.write("ab"), stream.write("c")] == [2, 1]
        assert stop.signum == signal.SIGPIPE


def test_names_are_printed_as_they_are(capsys):
    for name in ("a[/red]b", "[bold]a", "[link=x]", ":smile:", "\\[a]"):
        plain_console().print(name)
        assert capsys.readouterr().out == f"{name}\n"
