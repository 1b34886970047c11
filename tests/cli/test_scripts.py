"""The two scripts, as a stranger runs them: from another folder, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import yaml

from snn_dt.config import Config, config_to_dict
from snn_dt.snn.build import load_library
from tests.conftest import ROOT, read_jsonl
from tests.patience import HANG
from tests.runs import flags

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * HANG)]
CONTRACT = {
    **{"env_id": str, "target_return": float, "episodes": int, "returns": list, "return_mean": float},
    **{"return_std": float, "normalized_score": float, "spikes_per_decision": float, "firing_rate": float},
    **{"macs_per_decision": float, "acs_per_decision": float, "energy_pj_per_decision": float},
    **{"decisions_per_second": float, "seed": int},
}


def script(name: str, *arguments: str, cwd) -> subprocess.CompletedProcess:
    """Run `scripts/<name>.py` to its end."""
    command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=HANG, check=False)


BEYOND = (
    "warning: expected a target return between 8 and 500, as in the data, found -5: what the policy does then is not "
    'learned; "most" is the best that the data hold\n'
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run made by scripts/train.py from a config file and flags, in `out/run` of a folder of its own."""
    load_library()  # whoever compiles it says so on stderr
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "base.yaml").write_text("train: {learning_rate: 1e-3, steps: 9}\nmodel: {n_layers: 2}\n")
    (folder / "mine.yaml").write_text("base: base.yaml\ntrain: {learning_rate: 5e-4}\n")
    changes = {"model__kind": "snn_dt", "train__eval_every": 0, "eval__target_return": -5}
    arguments = [flag for flag in flags("out/run", **changes) if "n_layers" not in flag]
    return folder, script("train", "--config", "mine.yaml", *arguments, cwd=folder)


@pytest.fixture(scope="module")
def evaluated(trained):
    """What scripts/evaluate.py says of it at two targets, and the JSON it writes to a new folder."""
    folder, _ = trained
    arguments = ["--episodes", "3", "--target-return", "-5", "40", "--seed", "7", "--json", "new/folder/e.json"]
    result = script("evaluate", "--checkpoint", "out/run", "--device", "cpu", *arguments, cwd=folder)
    assert result.returncode == 0, result.stderr
    return result, json.loads((folder / "new" / "folder" / "e.json").read_text())


def test_training_leaves_the_run_folder_of_the_contract(trained):
    folder, result = trained
    assert result.returncode == 0, result.stderr
    assert result.stderr == BEYOND
    run = folder / "out" / "run"
    assert sorted(path.name for path in run.iterdir()) == ["checkpoints", "config.yaml", "metrics.jsonl"]
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best", "last"]
    files = {"config.json", "model.safetensors", "provenance.json", "stats.safetensors"}
    assert {path.name for path in (run / "checkpoints" / "best").iterdir()} == files
    assert {path.name for path in (run / "checkpoints" / "last").iterdir()} == files | {"training_state.pt"}


def test_the_written_config_is_resolved_and_flags_won_over_file_over_base(trained):
    written = yaml.safe_load((trained[0] / "out" / "run" / "config.yaml").read_text())
    assert written.keys() == config_to_dict(Config()).keys()
    assert all(written[name].keys() == section.keys() for name, section in config_to_dict(Config()).items())
    assert written["train"]["learning_rate"] == 5e-4
    assert written["train"]["steps"] == 14
    assert written["model"]["n_layers"] == 2
    assert written["eval"]["target_return"] == [-5.0]


def test_every_line_of_metrics_has_its_step_and_says_how_training_goes(trained):
    lines = read_jsonl(trained[0] / "out" / "run" / "metrics.jsonl")
    assert [line["step"] for line in lines] == [4, 8, 12, 14, 14, 14]
    for line in lines[:4]:
        assert {"loss", "accuracy", "grad_norm", "learning_rate", "firing_rate", "steps_per_second"} <= line.keys()
    (evaluation,) = (line["evaluation"] for line in lines if "evaluation" in line)
    assert evaluation[0]["target_return"] == -5.0


def test_provenance_says_what_made_the_weights(trained):
    facts = json.loads((trained[0] / "out" / "run" / "checkpoints" / "last" / "provenance.json").read_text())
    assert facts["dataset_id"] == "sb3/cartpole/mixed-v0"
    assert facts["step"] == 14
    assert facts["command"].startswith("train.py --config mine.yaml --run-dir out/run")
    assert facts["config"]["train"]["learning_rate"] == 5e-4


def test_training_tells_where_the_run_is_and_how_to_evaluate_it(trained):
    out = trained[1].stdout
    assert "821 episodes, 50001 steps" in out
    assert "update 12/14  loss" in out
    assert "evaluate it with: snn-dt evaluate --checkpoint out/run" in out
    assert "CartPole-v1, 3 episodes per target" in out


def test_evaluation_writes_one_object_per_target_with_the_keys_of_the_contract(evaluated):
    _, rows = evaluated
    assert [row["target_return"] for row in rows] == [-5.0, 40.0]
    for row in rows:
        assert {name: type(row[name]) for name in CONTRACT} == CONTRACT
        assert row["env_id"] == "CartPole-v1"
        assert row["seed"] == 7
        assert row["episodes"] == len(row["returns"]) == 3
        assert row["return_mean"] == pytest.approx(sum(row["returns"]) / 3)
        assert 0 < row["firing_rate"] < 1
        assert row["acs_per_decision"] > row["spikes_per_decision"] > 0


def test_evaluation_prints_a_table_and_on_stderr_only_that_a_target_is_beyond_the_data(evaluated):
    result, rows = evaluated
    assert result.stderr == BEYOND
    assert "CartPole-v1, 3 episodes per target, reset seeds from 7" in result.stdout
    for row in rows:
        assert f"{row['return_mean']:.1f} ± {row['return_std']:.1f}" in result.stdout


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("evaluate", ["--checkpoint", "out/run", "--device", "cuda:77"], "expected the device cuda:77, found"),
        ("train", ["--data.dataset", "minari:sb3/cartpol/mixed-v0"], "did you mean 'sb3/cartpole/mixed-v0'?"),
        (
            "evaluate",
            ["--checkpoint", "out/run", "--env-id", "Hopper-v2", "--target-return", "9"],
            "expected the environment 'Hopper-v2'",
        ),
    ],
)
def test_a_mistake_is_one_line_on_stderr_with_status_2_and_no_traceback(trained, name, arguments, expected):
    result = script(name, *arguments, cwd=trained[0])
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("snn-dt: ")
    assert expected in result.stderr


@pytest.mark.parametrize(
    ("name", "usage"), [("train", "[PRESET ...] [--flag value ...]"), ("evaluate", "[-h] [OPTIONS]")]
)
def test_help_works_and_may_be_cut_off(trained, name, usage):
    command = f"{sys.executable} {ROOT}/scripts/{name}.py --help | head -1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=trained[0], check=False)
    assert result.stdout == f"usage: snn-dt {name} {usage}\n"
    assert result.stderr == ""


@pytest.mark.parametrize("extras", ["--help", "dev,mujocco", "dev,", "core"])
def test_the_set_up_refuses_extras_that_there_are_none_of(tmp_path, extras):
    command = ["bash", str(ROOT / "scripts" / "setup.sh"), extras]
    environment = os.environ | {"SNN_DT_VENV": str(tmp_path / "venv"), "PYTHON": sys.executable}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=HANG, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("setup: expected extras out of mujoco, ")
    assert result.stderr.count("\n") == 1
    assert repr(extras.split(",")[-1]) in result.stderr
    assert not (tmp_path / "venv").exists()
