"""`import snn_dt` is cheap, and what it offers is what the documentation names."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import snn_dt

HEAVY = {
    *("gymnasium", "minari", "h5py", "pyarrow", "wandb", "matplotlib", "tyro", "rich", "PIL", "pandas", "mujoco"),
    *("yaml", "safetensors", "einops", "pygame", "huggingface_hub", "torch._dynamo.convert_frame"),
}
IMPORTS = "import json, sys; {}; print(json.dumps(sorted(sys.modules)))"


def modules_after(statement: str) -> set[str]:
    """What a fresh process has imported after a statement."""
    command = [sys.executable, "-c", IMPORTS.format(statement)]
    return set(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def test_importing_the_package_costs_no_more_than_torch_and_numpy():
    assert modules_after("import torch, numpy, snn_dt") & HEAVY == modules_after("import torch, numpy") & HEAVY == set()


def test_the_neurons_need_neither_environments_nor_files():
    assert modules_after("from snn_dt.snn import LIF") & (HEAVY - {"torch._dynamo.convert_frame"}) == set()


@pytest.mark.parametrize("given", [None, "7"])
def test_threads_spin_little_from_the_first_import_on_unless_the_user_says_otherwise(given):
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    environment |= {"GOMP_SPINCOUNT": given} if given else {}
    command = [sys.executable, "-c", "import os, snn_dt; print(os.environ['GOMP_SPINCOUNT'])"]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.strip()
    assert found == (given or "1000")


def test_every_public_name_is_there():
    documented = {"load_dataset", "from_pretrained", "evaluate", "Policy", "Trajectories", "Config", "load_config"}
    assert documented | {"SnnDtError", "__version__"} <= set(snn_dt.__all__)
    for name in snn_dt.__all__:
        assert getattr(snn_dt, name) is not None
    assert dir(snn_dt) == snn_dt.__all__
    from snn_dt.evaluation.policy import Policy

    assert snn_dt.Policy is Policy


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'snn_dt' has no attribute 'from_pretraned'"):
        _ = snn_dt.from_pretraned


def test_the_packages_version_is_that_of_its_metadata():
    from importlib.metadata import version

    assert snn_dt.__version__ == version("snn-dt")


def test_every_error_of_ours_is_one_a_user_can_catch():
    from snn_dt import errors

    kinds = [kind for name, kind in vars(errors).items() if name.endswith("Error")]
    assert len(kinds) >= 6
    assert all(issubclass(kind, snn_dt.SnnDtError) for kind in kinds)
