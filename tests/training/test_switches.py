"""Every switch of the architectures trains on data that ship: the loss falls, and the policy acts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.runs import lines_of, shared_cache, train  # noqa: F401

FULL = {"model__kind": "snn_dt", "model__positions": "phase", "model__routing": "true"}
SWITCHES = {
    "full": FULL | {"model__tau_mem": 20, "model__reset": "soft"},
    "full, spikes": FULL | {"model__coding": "spikes"},
    "gate, linear, no reset": FULL
    | {"model__phase_input": "gate", "model__attention": "linear", "model__reset": "none", "model__tau_mem": 20},
    "sinusoidal, merged, rate head": {
        "model__kind": "snn_dt", "model__positions": "sinusoidal", "model__tokens": "merged", "model__head": "rate",
    },
    "plasticity": {"model__kind": "snn_dt", "train__plasticity__eta": 1e-4},
    "budget": FULL | {"train__budget__mean_firing_rate": 0.1},
    "tssa": {"model__kind": "dsformer_tssa", "model__norm_transition": 0.5},
    "pssa, three tokens a step": {
        "model__kind": "dsformer_pssa", "model__tokens": "interleaved", "model__attention_window": 3,
        "model__norm_transition": 0.5,
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_trains_on_real_data(name, tmp_path):
    settings = {"data.dataset": ROOT / "datasets/sb3/pendulum/mixed-v0", "eval.target_return": -1, "eval.episodes": 1}
    settings |= {"train.steps": 60, "train.batch_size": 32, "train.learning_rate": 3e-3, "train.save_every": 60}
    settings |= {"train.eval_every": 0, "model.d_model": 32, "model.n_heads": 2}
    assert train(tmp_path / "run", **settings, **SWITCHES[name]) == 0
    rows = lines_of(tmp_path / "run")
    losses = [row["loss"] for row in rows if "loss" in row]
    assert all(map(math.isfinite, losses))
    assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:2]), losses
    [last] = [row["evaluation"] for row in rows if "evaluation" in row]
    assert last[0]["spikes_per_decision"] > 0
    assert -2000 < last[0]["return_mean"] < 0
