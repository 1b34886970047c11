"""Runs of earlier versions resume; a truncated configuration does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from snn_dt import strict
from snn_dt.config import Config
from snn_dt.config_difference import check_whole, difference
from snn_dt.errors import CheckpointError

# The fields of version 0.2.0. A name that a later version adds does not belong here.
FIELDS_OF_0_2_0 = {
    "data": "dataset download filter_top normalize oversample_top reward_mode rtg_augment rtg_scale split_seed "
    "validation_fraction",
    "eval": "env_id episodes max_steps num_envs seed target_return",
    "model": "attention attention_window coding context_length d_model detach_reset dropout head head_neurons "
    "head_temperature kind loss mlp_ratio n_heads n_layers neuron norm_transition phase_generators phase_input "
    "positions reset return_conditioned routing sim_steps surrogate surrogate_slope tau_mem tokens v_threshold",
    "track": "entity group name project tags wandb",
    "train": "accumulate batch_size budget compile cuda_graph device eprop eval_every grad_clip learning_rate "
    "log_every plasticity precision rule save_every schedule seed slope_schedule stateful steps threads warmup_steps "
    "weight_decay",
}


def stored_by_0_2_0() -> dict:
    """What version 0.2.0 wrote into the config.yaml of a run: its own fields only."""
    now = strict.to_dict(Config())
    return {section: {name: now[section][name] for name in names.split()} for section, names in FIELDS_OF_0_2_0.items()}


def test_a_run_of_0_2_0_has_the_whole_configuration_of_its_time():
    check_whole(Config(), stored_by_0_2_0(), Path("config.yaml"))


@pytest.mark.parametrize("name", ["train.steps", "model.reset", "data.dataset"])
def test_a_configuration_without_a_field_of_its_time_is_refused(name):
    stored = stored_by_0_2_0()
    section, field = name.split(".")
    del stored[section][field]
    with pytest.raises(CheckpointError, match=f"found it without {name}"):
        check_whole(Config(), stored, Path("config.yaml"))


def test_null_and_the_default_of_the_kind_are_the_same_configuration():
    stored = stored_by_0_2_0()
    stored["model"]["reset"] = "soft"
    assert difference(Config(), stored) == ""
    stored["model"]["reset"] = "hard"
    assert difference(Config(), stored) == "model.reset is hard there and soft here"
