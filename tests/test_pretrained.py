"""The checkpoints that ship are those of the table's best seeds, and return what their rows say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from snn_dt import evaluate, from_pretrained
from tests.conftest import ROOT

PLANS = "classic", "mujoco"
PRETRAINED = ROOT / "results" / "pretrained"
NAMES = sorted(path.name for path in PRETRAINED.iterdir() if path.is_dir())
FIGURES = json.loads((PRETRAINED / "evaluations.json").read_text())
CLASSIC = [name for name in NAMES if name.split("-")[0] in ("cartpole", "mountaincar", "acrobot", "pendulum")]
MUJOCO = ["hopper-snn_dt"]  # a thousand decisions an episode


@pytest.fixture
def rows(reproduce) -> dict[str, dict]:
    """The record of the best seed of every checkpoint's name."""
    best = [reproduce.best_runs(reproduce.Arguments(plan=plan, results=ROOT / "results")) for plan in PLANS]
    return {name: record for found in best for name, (_, record) in found.items()}


def test_the_repository_holds_one_checkpoint_of_each_kind_for_each_environment_whose_data_it_holds(reproduce, rows):
    assert [name for name in sorted(rows) if reproduce.ships(name)] == NAMES == sorted(FIGURES)
    tasks = "cartpole", "mountaincar", "acrobot", "pendulum", "hopper"
    assert {f"{task}-{kind}" for task in tasks for kind in ("snn_dt", "snn_dt_stream")} < {*NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoints_own_figure_is_from_episodes_that_no_choice_has_seen(name, rows):
    figure, chosen = FIGURES[name], rows[name]["evaluation"][0]
    begin = min(figure["seed"], chosen["seed"]), max(figure["seed"], chosen["seed"])
    assert begin[0] + max(figure["episodes"], chosen["episodes"]) < begin[1]
    assert figure["episodes"] == len(figure["returns"]) >= 4 * chosen["episodes"]
    assert figure["return_mean"] == pytest.approx(np.mean(figure["returns"]))
    assert (figure["env_id"], figure["target_return"]) == (chosen["env_id"], chosen["target_return"])
    assert not figure["commit"].endswith("-dirty")
    assert figure["chosen_by"]["return_mean"] == chosen["return_mean"]
    assert figure["chosen_by"]["trial"] == rows[name]["trial"]
    [line] = [line for line in (PRETRAINED / "README.md").read_text().splitlines() if line.startswith(f"| `{name}` |")]
    assert f"{figure['return_mean']:,.1f} (" in line


@pytest.mark.parametrize("name", CLASSIC)
def test_the_first_fresh_episodes_come_out_as_recorded(name):
    figure = FIGURES[name]
    policy = from_pretrained(PRETRAINED / name, device="cpu")
    [again] = evaluate(policy, figure["target_return"], episodes=10, seed=figure["seed"], num_envs=10)
    error = figure["return_std"] / np.sqrt(10)
    assert again["return_mean"] == pytest.approx(np.mean(figure["returns"][:10]), abs=4 * error + 1e-6)


def test_the_page_names_what_does_not_ship_and_the_command_that_makes_it(rows):
    page = (PRETRAINED / "README.md").read_text()
    for name in rows.keys() - {*NAMES}:
        [line] = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert rows[name]["command"] in line
        assert rows[name]["commit"][:7] in line


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_is_of_the_best_recorded_seed(name, rows):
    facts, row = from_pretrained(PRETRAINED / name).provenance, rows[name]
    for key in ("commit", "command", "seed", "dataset_checksum", "env_id"):
        assert facts[key] == row[key], key
    assert facts["step"] == row["evaluation_step"]
    assert facts["config"]["model"]["kind"] == row["model"]


@pytest.mark.parametrize("name", [*CLASSIC, *MUJOCO])
def test_a_checkpoint_returns_what_its_row_says(name, rows):
    """The first episodes of the row once more. Another CPU rounds otherwise, so that single episodes may differ."""
    if name in MUJOCO:
        pytest.importorskip("mujoco")
    row = rows[name]["evaluation"][0]
    policy = from_pretrained(PRETRAINED / name, device="cpu")
    episodes = 5 if name in MUJOCO else 10
    [again] = evaluate(policy, [row["target_return"]], episodes=episodes, seed=row["seed"], num_envs=episodes)
    error = row["return_std"] / np.sqrt(episodes)
    assert again["return_mean"] == pytest.approx(np.mean(row["returns"]), abs=4 * error + 1e-6)
    assert again["normalized_score"] is not None
    for count in ("spikes_per_decision", "acs_per_decision", "energy_pj_per_decision"):
        assert again[count] == pytest.approx(row[count], rel=0.1), count
