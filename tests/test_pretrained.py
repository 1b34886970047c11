"""The checkpoints that ship are those of the table's best seeds, and return what their rows say."""

from __future__ import annotations

import numpy as np
import pytest

from snn_dt import evaluate, from_pretrained
from tests.conftest import ROOT

PLANS = "classic", "mujoco"
PRETRAINED = ROOT / "results" / "pretrained"
NAMES = sorted(path.name for path in PRETRAINED.iterdir())
CLASSIC = [name for name in NAMES if name.split("-")[0] in ("cartpole", "mountaincar", "acrobot", "pendulum")]
MUJOCO = ["hopper-snn_dt", "halfcheetah-dense", "walker2d-snn_dt-sparse"]  # a thousand decisions an episode


@pytest.fixture
def rows(reproduce) -> dict[str, dict]:
    """The record of the best seed of every checkpoint's name."""
    best = [reproduce.best_runs(reproduce.Arguments(plan=plan, results=ROOT / "results")) for plan in PLANS]
    return {name: record for found in best for name, (_, record) in found.items()}


def test_every_dataset_of_the_tables_has_a_dense_and_a_spiking_checkpoint():
    tasks = "cartpole", "mountaincar", "acrobot", "pendulum", "hopper", "halfcheetah", "walker2d"
    assert {f"{task}-{kind}" for task in tasks for kind in ("dense", "snn_dt")} <= {*NAMES}


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
