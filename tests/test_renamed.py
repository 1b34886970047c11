"""Old names of fields keep working, with one warning line that names the new one."""

from __future__ import annotations

import logging

import pytest

from snn_dt import renamed
from snn_dt.cli.arguments import parse
from snn_dt.config import Config, config_from_dict, config_to_dict, load_config
from snn_dt.config_difference import difference

OLD = {
    "model.propagation": ("model.coding", "spikes"),
    "data.raised_rtg": ("data.rtg_augment", 0.25),
    "data.best_share": ("data.oversample_top", 0.5),
    "data.top_fraction": ("data.filter_top", 0.5),
    "train.carry_state": ("train.stateful", False),
}


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch):
    monkeypatch.setattr(renamed, "_told", set())


LOWER = {"model.coding": "rate", "train.stateful": "false"}
"""Values of the file below; 0.75 elsewhere."""


def value(config, name):
    section, field = name.split(".")
    return getattr(getattr(config, section), field)


@pytest.mark.parametrize("old", OLD)
def test_an_old_key_in_a_file_is_the_new_field_over_one_that_has_the_new_key(tmp_path, caplog, old):
    new, wanted = OLD[old]
    section, field = old.split(".")
    (tmp_path / "base.yaml").write_text(f"{section}:\n  {new.split('.')[1]}: {LOWER.get(new, 0.75)}\n")
    (tmp_path / "own.yaml").write_text(f"base: base.yaml\n{section}:\n  {field}: {str(wanted).lower()}\n")
    with caplog.at_level(logging.WARNING):
        config = load_config(tmp_path / "own.yaml")
        load_config(tmp_path / "own.yaml")
    assert value(config, new) == wanted
    assert [record.getMessage() for record in caplog.records] == [f"{old} is an old name: write {new}"]


@pytest.mark.parametrize("old", OLD)
def test_an_old_flag_is_the_new_field(caplog, old):
    new, wanted = OLD[old]
    config = parse(Config, [f"--{old.replace('_', '-')}", str(wanted)], "snn-dt train")
    assert value(config, new) == wanted
    assert new in caplog.text


def test_a_stored_configuration_with_old_keys_is_the_same_one():
    stored = config_to_dict(Config())
    for old, (new, _) in OLD.items():
        section, field = old.split(".")
        stored[section][field] = stored[section].pop(new.split(".")[1])
    assert config_from_dict(stored, "stored") == Config()
    assert difference(Config(), stored) == ""
