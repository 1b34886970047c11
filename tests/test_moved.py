"""Modules of 0.1.0 are found by their old names, with a warning that names the new one."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from importlib import import_module

import pytest

from snn_dt import renamed
from snn_dt.config import DataConfig, TrainConfig
from snn_dt.model_config import ModelConfig
from snn_dt.moved import MOVED, new_name


@pytest.mark.parametrize("old", MOVED)
def test_an_old_module_name_gives_the_module_that_took_its_place(old):
    sys.modules.pop(f"snn_dt.{old}", None)
    with pytest.warns(FutureWarning, match=rf"import snn_dt\.{MOVED[old]}\b"):
        module = import_module(f"snn_dt.{old}")
    assert module is import_module(f"snn_dt.{MOVED[old]}")
    assert module.__spec__.name == module.__name__ == f"snn_dt.{MOVED[old]}"


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("cuda_graph", "Replay", "CudaGraph"),
        ("data", "Windows", "WindowSampler"),
        ("data.episode_streams", "Lanes", "EpisodeStreams"),
        ("data.windows", "Mixture", "OversampledWindows"),
        ("experimental.online.heterogeneous_lif", "OwnConstantsLIF", "HeterogeneousLIF"),
        ("models.layers", "Chain", "MaskedSequential"),
    ],
)
def test_a_renamed_class_is_found_by_its_old_name(module, old, new):
    found = import_module(f"snn_dt.{module}")
    assert getattr(found, old) is getattr(found, new)


def test_what_lies_in_a_moved_package_follows_it_and_is_loaded_once():
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from snn_dt.finetune.explore import Explorer as old\n"
        "from snn_dt.experimental.finetune.explore import Explorer as new\n"
        "assert old is new\n"
        "from snn_dt.envs import crazyflie\n"
        "assert crazyflie.__name__ == 'snn_dt.experimental.online.crazyflie'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_present_names_and_unknown_ones_are_left_alone():
    assert new_name("snn_dt.data.windows") is None
    assert new_name("snn_dt.finetune.explore") == "snn_dt.experimental.finetune.explore"
    with pytest.raises(ModuleNotFoundError):
        import_module("snn_dt.no_such_module")


def test_a_config_takes_and_answers_to_old_field_names(monkeypatch, caplog):
    monkeypatch.setattr(renamed, "_told", set())
    config = ModelConfig(propagation="spikes")
    assert (config.coding, config.propagation) == ("spikes", "spikes")
    assert [record.getMessage() for record in caplog.records] == ["propagation is an old name: write coding"]
    assert TrainConfig(carry_state=True).stateful
    assert DataConfig(best_share=0.5, top_fraction=0.1).filter_top == 0.1
    assert copy.deepcopy(config) == pickle.loads(pickle.dumps(config)) == config
    with pytest.raises(TypeError, match="propagate"):
        ModelConfig(propagate="spikes")
    with pytest.raises(AttributeError, match="propagate"):
        _ = config.propagate
