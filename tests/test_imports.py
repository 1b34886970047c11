"""Imports point one way: each layer imports earlier ones only, and the core never imports `experimental`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ROOT, load_script

house = load_script("house")

# From the bottom to the top; names in one line do not import each other. The root, `snn_dt`, is left out.
LAYERS = (
    {"errors"},
    {"folders", "paths", "command"},
    {"io"},
    {"hub", "release"},
    {"jsonl", "moved", "named", "plain_yaml", "registry", "renamed", "user_cache"},
    {"run_folder", "strict"},
    {"model_config"},
    {"rule_config"},
    {"config", "device", "cuda_graph"},
    {"config_difference"},
    {"snn"},
    {"models"},
    {"energy"},
    {"data"},
    {"learning"},
    {"evaluation"},
    {"training"},
    {"report", "task", "convert", "export"},
    {"run"},
    {"experimental"},
    {"cli"},
)
LAYER = {name: level for level, names in enumerate(LAYERS) for name in names}
# `data` stands beside the networks and under all configs but its own: the order above says more than is allowed.
NEVER = {
    "data": {"snn", "models", "energy", "config", "model_config", "rule_config", "device", "cuda_graph"},
    "training": {"evaluation"},  # it is given `evaluate` and `save`
    "cli": {"experimental"},  # cli/main.py names its commands as text, and loads the one that is typed
}


def wrong_imports(folder: Path = ROOT) -> list[str]:
    """Return the imports that the layers do not allow."""
    return [
        line
        for (user, used), lines in house.crossings(folder).items()
        for line in lines
        if LAYER.get(used, len(LAYERS)) >= LAYER.get(user, -1) or used in NEVER.get(user, ())
    ]


def test_imports_point_one_way():
    assert wrong_imports() == []


def test_packages_import_each_other_in_no_circle():
    assert house.cycles(set(house.crossings())) == []


def test_every_package_has_its_layer():
    assert {house.package(name) for name in house.modules()} - {"snn_dt"} <= set(LAYER)


def test_the_core_never_imports_experimental():
    assert [lines for (_, used), lines in house.crossings().items() if used == "experimental"] == []


@pytest.mark.parametrize(
    ("path", "text", "wrong"),
    [
        ("models/a.py", "from snn_dt.snn.neurons import LIF", ""),
        ("models/a.py", "from snn_dt.data import load_dataset", "snn_dt.models.a -> snn_dt.data"),
        ("models/a.py", "import snn_dt.data.load", "snn_dt.models.a -> snn_dt.data.load"),
        ("snn/a.py", "def f():\n    from snn_dt import models", "snn_dt.snn.a -> snn_dt.models"),
        ("snn/a.py", "from ..models import b", "snn_dt.snn.a -> snn_dt.models"),
        ("snn/a.py", "from . import b\nfrom .b import c", ""),
        ("data/a.py", "from snn_dt.models import build_model", "snn_dt.data.a -> snn_dt.models"),
        ("cli/a.py", "from snn_dt.experimental.rsnn import run", "snn_dt.cli.a -> snn_dt.experimental.rsnn"),
        ("experimental/a.py", "from snn_dt.cli.main import main", "snn_dt.experimental.a -> snn_dt.cli.main"),
        ("newcomer.py", "from snn_dt.errors import ConfigError", "snn_dt.newcomer -> snn_dt.errors"),
        ("cli/a.py", "COMMANDS = {'rsnn': 'snn_dt.experimental.rsnn.command'}", ""),
    ],
)
def test_an_import_against_the_layers_is_found_wherever_it_stands(tmp_path, path, text, wrong):
    for name in ("__init__", "snn/__init__", "models/__init__", "data/__init__", "experimental/rsnn/__init__"):
        file = tmp_path / "snn_dt" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    file = tmp_path / "snn_dt" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    assert "\n".join(wrong_imports(tmp_path)) == wrong
