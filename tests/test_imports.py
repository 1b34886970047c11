"""Imports point one way: each layer imports earlier ones only, and the core never imports `experimental`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

# From the bottom to the top. The names in a line do not import each other; `snn_dt` is the root, which only names things.
LAYERS = (
    {"errors"},
    {"folders", "paths", "command"},
    {"io"},
    {"jsonl", "moved", "plain_yaml", "registry", "renamed", "user_cache"},
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
    {"checkpoint"},
    {"training"},
    {"report", "task"},
    {"run"},
    {"experimental"},
    {"cli"},
)
LAYER = {name: level for level, names in enumerate(LAYERS) for name in names}
# `data` stands beside the networks and under all configs but its own: the order above says more than is allowed.
NEVER = {
    "data": {"snn", "models", "energy", "config", "model_config", "rule_config", "device", "cuda_graph"},
    "training": {"evaluation", "checkpoint"},  # it is given `evaluate` and `save`
    "cli": {"experimental"},  # cli/main.py names its commands as text, and loads the one that is typed
}


def module_names(folder: Path) -> dict[str, Path]:
    """Return the package's modules by dotted name."""
    paths = {".".join(path.relative_to(folder).with_suffix("").parts): path for path in (folder / "snn_dt").rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in paths.items()}


def imports(folder: Path) -> set[tuple[str, str]]:
    """Return (module, what it imports) for each import of the package in itself, also inside functions."""
    known = module_names(folder)
    edges = set()
    for name, path in known.items():
        here = name if path.stem == "__init__" else name.rpartition(".")[0]  # what `.` means
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                edges |= {(name, alias.name) for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                above = here.split(".")[: len(here.split(".")) - node.level + 1] if node.level else []
                base = ".".join([*above, *([node.module] if node.module else [])])
                # `from snn_dt.data import load` names a module, `from snn_dt.data import load_dataset` does not.
                edges |= {(name, f"{base}.{a.name}" if f"{base}.{a.name}" in known else base) for a in node.names}
    return {(name, target) for name, target in edges if target.split(".")[0] == "snn_dt"}


def package(module: str) -> str:
    """Return the name under `snn_dt` in which a module lies: a package, or a module of the root."""
    return module.split(".")[1] if "." in module else "snn_dt"


def crossings(folder: Path) -> dict[tuple[str, str], list[str]]:
    """Return the imports from one package into another; the root, which is always loaded, is left out."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, target in sorted(imports(folder)):
        ends = package(name), package(target)
        if ends[0] != ends[1] and "snn_dt" not in ends:
            found.setdefault(ends, []).append(f"{name} -> {target}")
    return found


def wrong_imports(folder: Path) -> list[str]:
    """Return the imports that the layers do not allow."""
    return [
        line
        for (user, used), lines in crossings(folder).items()
        for line in lines
        if LAYER.get(used, len(LAYERS)) >= LAYER.get(user, -1) or used in NEVER.get(user, ())
    ]


def test_imports_point_one_way():
    assert wrong_imports(ROOT) == []


def test_every_package_has_its_layer():
    assert {package(name) for name in module_names(ROOT)} - {"snn_dt"} <= set(LAYER)


def test_the_core_never_imports_experimental():
    assert [lines for (_, used), lines in crossings(ROOT).items() if used == "experimental"] == []


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
