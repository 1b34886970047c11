"""A sweep file means the trials that it says."""

from __future__ import annotations

import shlex

import pytest

from snn_dt.cli.run_command import read_run
from snn_dt.cli.train import TRAIN
from snn_dt.errors import ConfigError
from snn_dt.training.sweep.grid import read_sweep
from tests.conftest import ROOT


def test_a_grid_is_every_combination_with_every_seed_and_a_seed_is_finished_before_the_next(sweep_file):
    path = sweep_file(seeds=[0, 7], grid={"model.dropout": [0.0, 0.1], "train.weight_decay": "1e-3"})
    _, trials = read_sweep(path)
    assert [trial.name for trial in trials] == [
        "tiny-dropout=0.0-seed0",
        "tiny-dropout=0.1-seed0",
        "tiny-dropout=0.0-seed7",
        "tiny-dropout=0.1-seed7",
    ]
    last = trials[-1].config
    assert (last.train.seed, last.model.dropout, last.train.weight_decay) == (7, 0.1, 1e-3)
    assert last.model.d_model == 16


def test_seeds_and_a_grid_of_seeds_mean_the_same(sweep_file):
    one = read_sweep(sweep_file(seeds=[1, 2]))[1]
    other = read_sweep(sweep_file(grid={"train.seed": [1, 2]}))[1]
    assert one == other


def test_fields_of_one_last_name_are_told_apart(sweep_file):
    _, trials = read_sweep(sweep_file(grid={"eval.seed": [1, 2], "data.split_seed": [3], "train.seed": [4, 5]}))
    assert [t.name for t in trials] == [
        "tiny-seed=1-seed4",
        "tiny-seed=1-seed5",
        "tiny-seed=2-seed4",
        "tiny-seed=2-seed5",
    ]


def test_the_command_of_a_trial_makes_its_configuration(sweep_file):
    grid = {"eval.target_return": [[500, 29], [29]], "model.detach_reset": [True], "data.rtg_scale": [None, 2.5]}
    grid |= {"model.kind": ["snn_dt"], "train.budget.mean_firing_rate": [0.1, 0.2], "train.budget.weight": [0.5]}
    for trial in read_sweep(sweep_file(seeds=[3], grid=grid))[1]:
        program, command, *flags = shlex.split(trial.command)
        assert (program, command) == ("snn-dt", "train")
        assert read_run(TRAIN, flags)[1] == trial.config


def test_an_entry_may_have_a_name_and_values_of_its_own(sweep_file):
    variants = [
        {"name": "plain"},
        {"name": "wide", "model.d_model": 32, "train.budget.mean_firing_rate": 0.1, "model.kind": "snn_dt"},
    ]
    configs = [{"name": "long", "config": "tiny.yaml", "train.steps": 9, "eval.target_return": [500, 29]}, "tiny.yaml"]
    _, trials = read_sweep(sweep_file(configs=configs, variants=variants, seeds=[0], grid={"train.steps": [11]}))
    assert [(t.name, t.variant) for t in trials] == [
        ("long-plain-seed0", "plain"), ("long-wide-seed0", "wide"), ("tiny-plain-seed0", "plain"),
        ("tiny-wide-seed0", "wide"),
    ]  # fmt: skip
    wide = trials[1].config
    assert (wide.model.d_model, wide.train.budget.mean_firing_rate, wide.eval.target_return) == (32, 0.1, (500.0, 29.0))
    assert {trial.config.train.steps for trial in trials} == {11}, "the grid has the last word"
    for trial in trials:
        assert read_run(TRAIN, shlex.split(trial.command)[2:])[1] == trial.config, (
            "the command makes the same run by hand"
        )


def test_the_variants_of_the_plans_that_have_a_budget_are_named_after_it():
    for plan in ("classic", "mujoco", "budget", "stream"):
        for trial in read_sweep(ROOT / "configs/reproduce" / f"{plan}.yaml")[1]:
            limit = trial.variant.partition("-budget-")[2]
            number = float(limit.rstrip("kM")) * {"k": 1e3, "M": 1e6}.get(limit[-1], 1) if limit else None
            assert trial.config.train.budget.synaptic_operations == number, trial.name


@pytest.mark.parametrize(
    ("sweep", "words"),
    [
        ({"configs": []}, "configs: expected at least one config file"),
        ({"confgs": ["tiny.yaml"]}, "unknown key confgs; did you mean 'configs'"),
        ({"seeds": [0], "grid": {"train.seed": [1]}}, "`seeds` or train.seed"),
        ({"grid": {"model.surogate_slope": [3]}}, "unknown key model.surogate_slope; did you mean 'surrogate_slope'"),
        ({"grid": {"seed": [3]}}, "expected section.field"),
        ({"grid": {"train.seed.first": [1]}}, "train.seed: expected an integer, found {'first': 1}"),
        ({"grid": {"train.budget.rate": [1]}}, "unknown key train.budget.rate"),
        ({"grid": {"train.seed": []}}, "expected section.field: [value, ...], found train.seed: []"),
        ({"grid": {"model.d_model": ["wide"]}}, "model.d_model: expected an integer, found 'wide'"),
        ({"grid": {"model.n_heads": [3]}}, "model.n_heads: expected a divisor of 16, found 3"),
        ({"configs": ["tiny.yaml", "./tiny.yaml"]}, "two trials are named tiny-seed0"),
        ({"configs": ["absent.yaml"]}, "expected a config file"),
        ({"variants": [{"model.d_model": 8}]}, "variants: expected a name or a file in each entry, found neither"),
        (
            {"variants": [{"name": "a", "steps": 8}]},
            "expected name, config or section.field, found 'steps'",
        ),
        ({"variants": [{"name": "a", "model.d_modl": 8}]}, "unknown key model.d_modl"),
        ({"variants": [7]}, "variants: expected a config file or {name, config, section.field: value}, found 7"),
        ({"configs": [{"name": "a", "config": 7}]}, "configs: config: expected a file or a list of files, found 7"),
        ({"threads": -1}, "threads: expected at least 0, found -1"),
    ],
)
def test_a_wrong_sweep_file_is_named_in_one_line(sweep_file, sweep, words):
    with pytest.raises(ConfigError) as error:
        read_sweep(sweep_file(**sweep))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_the_sweep_of_the_documents_has_the_trial_that_they_name(tmp_path):
    text = (ROOT / "docs" / "scale.md").read_text()
    sweep = text.split("```yaml\n")[1].split("```")[0].replace("../", f"{ROOT}/configs/")
    (tmp_path / "sweep.yaml").write_text(sweep)
    names = [trial.name for trial in read_sweep(tmp_path / "sweep.yaml")[1]]
    assert len(names) == 2 * 2 * 2 * 3
    assert f"(`{names[0]}`)" in text


def test_the_shipped_sweep_can_be_read():
    _, trials = read_sweep(ROOT / "configs/sweep/surrogate.yaml")
    assert len({trial.name for trial in trials}) == len(trials) > 1


def test_the_command_of_the_wandb_sweep_is_one_that_train_takes():
    import yaml
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    sweep = yaml.safe_load((ROOT / "configs/sweep/wandb-cartpole.yaml").read_text())
    chosen = {"train.learning_rate": 0.0003, "model.detach_reset": True, "train.seed": 2, "model.kind": "snn_dt"}
    assert chosen.keys() <= sweep["parameters"].keys()
    arguments = create_sweep_command_args({"args": {key: {"value": value} for key, value in chosen.items()}})["args"]
    assert "--train.learning_rate=0.0003" in arguments
    command = create_sweep_command(sweep["command"])
    assert (ROOT / sweep["program"]).is_file()
    flags = command[command.index("${program}") + 1 : command.index("${args}")] + arguments
    _, config, _ = read_run(TRAIN, [str(ROOT / flag) if flag.endswith(".yaml") else flag for flag in flags])
    assert config.train.learning_rate == 0.0003
    assert config.train.seed == 2
    assert config.model.detach_reset is True
