"""Commands are described below `cli`, found by name, and their help can be shown without what they need to run."""

from __future__ import annotations

import ast
import contextlib
import io
import shutil
import subprocess

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
        (["train", "--epochs", "3"], "--train.steps"),
        (["train", "--lr", "3"], "--train.learning_rate"),
        (["finetune", "--lr", "3"], "--update.learning_rate"),
        (["evaluate", "--ckpt", "x"], "--checkpoint"),
        (["evaluate", "--target", "3"], "--target_return"),
    ],
    ids=" ".join,
)
def test_a_mistyped_name_is_answered_with_the_one_that_was_meant(words, meant, capsys):
    assert main(words) == 2
    assert f"did you mean {meant}" in capsys.readouterr().err.replace("'", "")


def test_the_short_help_of_train_fits_80_columns_and_has_the_flags_of_the_contract(capsys):
    with pytest.raises(SystemExit) as leave:
        main(["train", "cartpole", "--train.steps", "77", "--help"])
    text = capsys.readouterr().out
    assert leave.value.code == 0
    assert max(map(len, text.splitlines())) <= 80
    assert len(text.splitlines()) < 70
    for flag in (
        *("data.dataset", "model.kind", "model.d_model", "model.n_layers", "model.n_heads", "model.context_length"),
        *("model.sim_steps", "train.steps", "train.batch_size", "train.learning_rate", "train.seed", "train.device"),
        *("eval.episodes", "eval.target_return", "track.wandb", "config", "run_dir", "resume"),
    ):
        assert f"\n  --{flag}  " in text
    assert "(500 29)" in text.replace(".0", "")  # the defaults are those of the preset
    assert "--help-all shows all" in text


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("snn-dt eval", {"evaluate"}),
        ("snn-dt train --train.see", {"--train.seed"}),
        ("snn-dt evaluate --target", {"--target_return", "--targets"}),
        ("snn-dt data --zz", set()),
    ],
)
def test_bash_completes_commands_and_flags(script, typed, found):
    words = typed.split()
    ask = f'COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}; _snn_dt; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == found


@pytest.fixture(scope="module")
def script():
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        assert main(["completion", "bash"]) == 0
    return shown.getvalue()


def test_a_flag_like_no_other_is_answered_without_a_guess(capsys):
    assert main(["train", "--zzzzzz", "3"]) == 2
    assert "did you mean" not in capsys.readouterr().err
