"""Commands are described below `cli`, found by name, and their help can be shown without what they need to run."""

from __future__ import annotations

import ast

import pytest

from snn_dt.cli.main import COMMANDS, main
from tests.conftest import ROOT


@pytest.mark.parametrize("path", sorted((ROOT / "snn_dt/experimental").rglob("*.py")), ids=lambda path: path.stem)
def test_no_experimental_module_imports_the_command_line(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        assert not [name for name in names if name.startswith("snn_dt.cli")]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_shows_its_help(name, capsys):
    try:
        status = main([name, "--help"])
    except SystemExit as leave:
        status = leave.code
    assert not status
    assert f"usage: snn-dt {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["trian"], "train"),
        (["train", "--trian.steps", "3"], "--train.steps"),
        (["train", "--train.step", "3"], "--train.steps"),
        (["train", "--steps", "3"], "--train.steps"),
        (["train", "--batch-size", "3"], "--train.batch_size"),
        (["train", "--model.kindd", "x"], "--model.kind"),
        (["rsnn", "--train.steps", "3"], "--learn.steps"),
        (["rsnn", "--train.learning_rate", "3"], "--learn.learning_rate"),
        (["finetune", "--train.seed", "3"], "--update.seed"),
        (["train", "--learn.batch_size", "3"], "--train.batch_size"),
        (["train", "--run-dr", "x"], "--run_dir"),
        (["analyse", "gradient"], "gradients"),
    ],
    ids=" ".join,
)
def test_a_mistyped_name_is_answered_with_the_one_that_was_meant(words, meant, capsys):
    assert main(words) == 2
    assert f"did you mean {meant}" in capsys.readouterr().err.replace("'", "")


def test_a_flag_like_no_other_is_answered_without_a_guess(capsys):
    assert main(["train", "--zzzzzz", "3"]) == 2
    assert "did you mean" not in capsys.readouterr().err
