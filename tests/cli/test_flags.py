"""A command line means what the same words mean in a config file; a mistake in it is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from snn_dt.cli.arguments import parse
from snn_dt.cli.evaluate import EvaluateArguments
from snn_dt.cli.export import ExportArguments
from snn_dt.cli.main import main
from snn_dt.cli.run_command import read_run
from snn_dt.cli.train import TRAIN, TrainArguments
from snn_dt.config import Config, SlopeConfig
from snn_dt.errors import ConfigError


def config(words: str) -> Config:
    """The config that `snn-dt train` makes of a command line."""
    return read_run(TRAIN, words.split())[1]


def complaint(cls, words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(cls, words.split(), "snn-dt train")
    message = str(caught.value)
    assert "\n" not in message
    assert not set(message) & set("│─╭╮╰╯")
    assert "---" not in message
    return message


def test_defaults_lose_against_a_base_which_loses_against_the_file_which_loses_against_flags(tmp_path):
    (tmp_path / "base.yaml").write_text("train: {steps: 1, seed: 1, batch_size: 1}\neval: {target_return: [1, 2]}")
    (tmp_path / "main.yaml").write_text("base: base.yaml\ntrain: {steps: 2, seed: 2}")
    for flag in (f"--config {tmp_path}/main.yaml", f"--config={tmp_path}/main.yaml"):
        made = config(f"{flag} --train.steps 3")
        assert (made.train.steps, made.train.seed, made.train.batch_size) == (3, 2, 1)
        assert made.train.learning_rate == Config().train.learning_rate
        assert made.eval.target_return == (1.0, 2.0)


@pytest.mark.parametrize(
    "words", ["--config A B", "--config A --config B", "--config=A --config=B", "--config A --train.seed 3 --config=B"]
)
def test_of_several_config_files_each_is_laid_over_those_before_it(tmp_path, words):
    (tmp_path / "a.yaml").write_text("train: {steps: 1, seed: 3}")
    (tmp_path / "b.yaml").write_text("train: {steps: 2}\nmodel: {return_conditioned: false}")
    made = config(words.replace("A", f"{tmp_path}/a.yaml").replace("B", f"{tmp_path}/b.yaml"))
    assert (made.train.steps, made.train.seed, made.model.return_conditioned) == (2, 3, False)


def test_a_config_flag_without_a_file_is_a_mistake():
    for words in ("--config", "--config --train.steps 3"):
        with pytest.raises(ConfigError, match="expected a path after --config, found none"):
            config(words)


@pytest.mark.parametrize(
    ("words", "section", "field", "value"),
    [
        ("--train.learning_rate 1e-4", "train", "learning_rate", 1e-4),
        ("--train.learning-rate=1e-4", "train", "learning_rate", 1e-4),
        ("--train.steps 1e3", "train", "steps", 1000),
        ("--eval.target_return -5", "eval", "target_return", (-5.0,)),
        ("--eval.target-return -5 -1e3 500", "eval", "target_return", (-5.0, -1000.0, 500.0)),
        ("--eval.target_return=-5", "eval", "target_return", (-5.0,)),
        ("--eval.target_return=[-5,1e2]", "eval", "target_return", (-5.0, 100.0)),
        ("--eval.target_return", "eval", "target_return", ()),
        ("--data.normalize false", "data", "normalize", False),
        ("--data.normalize False", "data", "normalize", False),
        ("--data.normalize=true", "data", "normalize", True),
        ("--data.rtg_scale null", "data", "rtg_scale", None),
        ("--data.rtg_scale 2", "data", "rtg_scale", 2.0),
        ("--track.tags a 1 true", "track", "tags", ("a", "1", "true")),
        ("--track.name null", "track", "name", None),
        ("--track.name 007", "track", "name", "007"),
        ("--model.reset none", "model", "reset", "none"),
        ("--train.slope_schedule.kind cubic", "train", "slope_schedule", SlopeConfig(kind="cubic")),
        ("--train.slope_schedule.layers 1 2", "train", "slope_schedule", SlopeConfig(layers=(1.0, 2.0))),
        ("--data.dataset d4rl:a=b.hdf5", "data", "dataset", "d4rl:a=b.hdf5"),
    ],
)
def test_a_flag_takes_what_its_field_takes_in_a_file(words, section, field, value):
    found = getattr(getattr(config(words), section), field)
    assert found == value
    assert type(found) is type(value)


def test_every_field_of_the_config_has_a_flag(capsys):
    import dataclasses

    with pytest.raises(SystemExit) as leave:
        parse(TrainArguments, ["--help-all"], "snn-dt train")
    assert leave.value.code == 0
    text = capsys.readouterr().out
    for section in dataclasses.fields(Config):
        for field in dataclasses.fields(getattr(Config(), section.name)):
            assert f"--{section.name}.{field.name}" in text


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_mistake_in_a_flag_is_said_in_one_line_that_names_it(monkeypatch, encoding):
    import io
    import sys

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    assert complaint(TrainArguments, "--train.lerning_rate 1") == (
        "Unrecognized options: --train.lerning_rate, 1; did you mean --train.learning_rate?; see snn-dt train --help"
    )
    assert complaint(TrainArguments, "--train.steps many") == (
        "--train.steps: expected an integer, found 'many'; see snn-dt train --help"
    )
    assert "--train.steps: expected an integer, found '1.5'" in complaint(TrainArguments, "--train.steps 1.5")
    assert "--data.normalize: expected true or false, found 'x'" in complaint(TrainArguments, "--data.normalize x")
    assert "--data.rtg_scale: expected a number or null, found 'x'" in complaint(TrainArguments, "--data.rtg_scale x")
    assert "expected a list, each a number or most, found '1 x'" in complaint(
        TrainArguments, "--eval.target_return 1 x"
    )
    assert "--model.reset" in complaint(TrainArguments, "--model.reset hart")
    assert "--train.steps" in complaint(TrainArguments, "--train.steps")
    assert complaint(ExportArguments, "") == "expected --checkpoint; see snn-dt train --help"


@pytest.mark.parametrize("word", ["nan", "inf", "-inf", ".nan", "-.inf", "1e999"])
def test_numbers_that_are_not_finite_are_refused(word):
    assert "found" in complaint(TrainArguments, f"--train.learning_rate {word}")
    assert "found" in complaint(EvaluateArguments, f"--checkpoint x --target-return {word}")


def test_flags_of_evaluate_are_read_in_both_spellings():
    dashes = "--checkpoint a --target-return -5 500 --num-envs 2 --env-id X --seed=7"
    arguments = parse(EvaluateArguments, dashes.split(), "snn-dt evaluate")
    assert arguments == parse(
        EvaluateArguments, dashes.replace("t-r", "t_r").replace("m-e", "m_e").replace("v-i", "v_i").split(), "p"
    )
    assert arguments.target_return == (-5.0, 500.0)
    assert arguments.checkpoint == Path("a")
    assert (arguments.num_envs, arguments.env_id, arguments.seed) == (2, "X", 7)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("--reference", (True, True)),
        ("--reference --no-count", (True, False)),
        ("--no-count --reference true", (True, False)),
        ("--count=false", (False, False)),
        ("--no_count --no-reference", (False, False)),
    ],
)
def test_the_name_of_a_boolean_is_enough_and_no_means_false(words, found):
    arguments = parse(EvaluateArguments, ["--checkpoint", "a", *words.split()], "snn-dt evaluate")
    assert (arguments.reference, arguments.count) == found
    assert not config("--data.no-normalize").data.normalize


def test_an_unknown_command_and_an_unknown_flag_leave_with_status_2_and_one_line(capsys):
    for words in (["trian"], ["train", "--tain.steps", "3"], ["evaluate", "--checkpoint", "x", "--episode", "3"]):
        assert main(words) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert err.startswith("snn-dt: ")
        assert "Traceback" not in err
    assert main(["evalaute"]) == 2
    assert "did you mean 'evaluate'?" in capsys.readouterr().err


def test_help_and_version_leave_with_status_0(capsys):
    from snn_dt import __version__

    assert main([]) == 0
    assert main(["--help"]) == 0
    assert "evaluate" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize("words", ["--resume DIR --train.steps 5", "--resume=DIR --train.steps=5", "--x --resume DIR"])
def test_resume_takes_no_other_flag(tmp_path, words):
    with pytest.raises(ConfigError, match="expected --resume DIR alone"):
        read_run(TRAIN, words.replace("DIR", str(tmp_path)).split())
