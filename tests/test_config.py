"""A config says what the user meant, or says in one line what is wrong with it."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from snn_dt.config import (
    Config,
    EvalConfig,
    TrainConfig,
    config_from_dict,
    config_to_dict,
    load_config,
    save_config,
    validate,
)
from snn_dt.errors import ConfigError
from tests.conftest import ROOT

FILES = sorted(ROOT.glob("configs/*.yaml"))


def load(tmp_path, text: str, **others: str) -> Config:
    """The config in a file with this text, beside other files."""
    for name, content in {"main": text, **others}.items():
        (tmp_path / f"{name}.yaml").write_text(content)
    return load_config(tmp_path / "main.yaml")


def complaint(tmp_path, text: str, **others: str) -> str:
    """What is said about a file with this text: one line, without the folder's path."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, **others)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(tmp_path.resolve()), "").replace(str(tmp_path), "")


@pytest.mark.parametrize(("text", "value"), [("1e-4", 1e-4), ("'1e-4'", 1e-4), ("1E3", 1e3), ("2", 2.0), (".5", 0.5)])
def test_numbers_in_yaml_are_numbers_however_they_are_written(tmp_path, text, value):
    rate = load(tmp_path, f"train: {{learning_rate: {text}}}").train.learning_rate
    assert rate == value
    assert isinstance(rate, float)


@pytest.mark.parametrize("text", ["1e3", "1000.0", "1000"])
def test_a_whole_number_is_an_integer_however_it_is_written(tmp_path, text):
    steps = load(tmp_path, f"train: {{steps: {text}}}").train.steps
    assert steps == 1000
    assert isinstance(steps, int)


def test_an_unknown_key_names_the_nearest_known_one(tmp_path):
    assert "unknown key train.lerning_rate; did you mean 'learning_rate'?" in complaint(
        tmp_path, "train: {lerning_rate: 1}"
    )
    assert "unknown key modle; did you mean 'model'?" in complaint(tmp_path, "modle: {kind: dense}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train: {steps: many}", "train.steps: expected an integer, found 'many'"),
        ("train: {steps: 1.5}", "train.steps: expected an integer, found 1.5"),
        ("train: {steps: true}", "train.steps: expected an integer, found True"),
        ("train: {steps: null}", "train.steps: expected an integer, found None"),
        ("train: {learning_rate: .nan}", "train.learning_rate: expected a number, found nan"),
        ("train: {learning_rate: [1]}", "train.learning_rate: expected a number, found [1]"),
        ("data: {normalize: 1}", "data.normalize: expected true or false, found 1"),
        ("data: {normalize: 'yes'}", "data.normalize: expected true or false, found 'yes'"),
        ("data: {dataset: 5}", "data.dataset: expected text, found 5"),
        ("data: {rtg_scale: big}", "data.rtg_scale: expected a number, found 'big'"),
        ("eval: {target_return: [1, x]}", "eval.target_return: expected a number or most, found 'x'"),
        ("model: {kind: dens}", "model.kind: expected one of dense, snn_dt"),
        ("model: {kind: dens}", "found 'dens'; did you mean 'dense'?"),
        ("model: dense", "model: expected a section of fields, found 'dense'"),
        ("- 1", "expected sections such as `model:`, found list"),
        ("train: {steps: 1", "expected YAML, found"),
        ("train: {steps: 1}\ntrain: {seed: 2}", "found the key 'train' twice"),
        ("train:\n  steps: 1\n  steps: 2", "found the key 'steps' twice"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_what_was_expected(tmp_path, text, expected):
    assert expected in complaint(tmp_path, text)


def test_a_scalar_stands_for_a_list_of_one(tmp_path):
    assert load(tmp_path, "eval: {target_return: -5}").eval.target_return == (-5.0,)
    assert load(tmp_path, "eval: {target_return: [-5, 1e2]}").eval.target_return == (-5.0, 100.0)


def test_a_file_wins_over_its_base_and_the_base_over_the_defaults(tmp_path):
    config = load(
        tmp_path,
        "base: middle.yaml\ntrain: {steps: 3}",
        middle="base: bottom.yaml\ntrain: {steps: 2, seed: 2}\ndata: {rtg_scale: null}",
        bottom="train: {steps: 1, seed: 1, batch_size: 1}\ndata: {rtg_scale: 7}",
    )
    train = config.train
    assert (train.steps, train.seed, train.batch_size) == (3, 2, 1)
    assert train.learning_rate == TrainConfig().learning_rate
    assert config.data.rtg_scale is None


def test_a_base_is_looked_for_beside_its_file(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "bottom.yaml").write_text("train: {steps: 9}")
    (tmp_path / "deep" / "middle.yaml").write_text("base: bottom.yaml")
    assert load(tmp_path, "base: deep/middle.yaml").train.steps == 9


def test_a_section_without_lines_keeps_what_the_base_says(tmp_path):
    assert load(tmp_path, "base: below.yaml\ntrain:\n  # steps: 5\n", below="train: {steps: 3}").train.steps == 3


def test_an_empty_file_is_all_defaults(tmp_path):
    assert load(tmp_path, "# nothing yet\n") == Config()


def test_of_several_bases_and_of_several_files_the_later_one_wins(tmp_path):
    files = {"a": "train: {steps: 1, seed: 1}\nmodel: {d_model: 8}", "b": "train: {steps: 2}"}
    found = load(tmp_path, "base: [a.yaml, b.yaml]\nmodel: {n_layers: 1}", **files)
    assert (found.train.steps, found.train.seed, found.model.d_model, found.model.n_layers) == (2, 1, 8, 1)
    assert load_config(tmp_path / "b.yaml", tmp_path / "a.yaml").train.steps == 1


def test_a_chain_of_bases_that_comes_back_is_refused(tmp_path):
    message = complaint(tmp_path, "base: other.yaml", other="base: main.yaml")
    assert "main.yaml: its `base` chain comes back to itself" in message


def test_a_missing_file_or_base_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"expected a config file at .*absent\.yaml, found none"):
        load_config(tmp_path / "absent.yaml")
    assert "expected a config file at /none.yaml, found none" in complaint(tmp_path, "base: none.yaml")


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("model", "d_model", 0),
        ("model", "d_model", -8),
        ("model", "n_heads", 3),
        ("model", "n_heads", 0),
        ("model", "d_model", 1_000_000_000),
        ("model", "n_layers", 0),
        ("model", "context_length", 0),
        ("model", "dropout", 1.0),
        ("model", "sim_steps", 0),
        ("model", "sim_steps", 1_000_000_000),
        ("model", "head_neurons", 1),
        ("model", "tau_mem", 0.5),
        ("model", "v_threshold", 0),
        ("model", "surrogate_slope", 0),
        ("data", "rtg_scale", 0),
        ("data", "rtg_scale", 1e-300),
        ("data", "validation_fraction", 1),
        ("data", "split_seed", -1),
        ("train", "steps", 0),
        ("train", "batch_size", 0),
        ("train", "accumulate", 7),
        ("train", "accumulate", 0),
        ("train", "learning_rate", 0),
        ("train", "weight_decay", -1),
        ("train", "grad_clip", -1),
        ("train", "seed", -1),
        ("train", "seed", 2**32),
        ("train", "threads", -1),
        ("train", "threads", 100_000),
        ("train", "log_every", 0),
        ("train", "save_every", 0),
        ("eval", "episodes", -1),
        ("eval", "seed", -1),
        ("eval", "num_envs", 0),
    ],
)
def test_a_value_out_of_range_names_its_field_and_the_flag_that_changes_it(section, field, value):
    with pytest.raises(ConfigError) as caught:
        config_from_dict({section: {field: value}})
    message = str(caught.value)
    assert message.startswith(f"{section}.{field}: expected ")
    assert f"found {value}" in message
    assert message.endswith(f"--{section}.{field}")


@pytest.mark.parametrize(
    ("budget", "expected"),
    [({"mean_firing_rate": 2}, "in (0, 1], found 2.0"), ({"synaptic_operations": 0}, "above 0 or null, found 0.0")],
)
def test_a_limit_that_limits_nothing_is_refused(budget, expected):
    with pytest.raises(ConfigError, match=re.escape(f"train.budget.{next(iter(budget))}: expected {expected}")):
        config_from_dict({"train": {"budget": budget}})


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_number_that_is_none_is_refused_in_a_config_that_was_built_in_python_too(number):
    with pytest.raises(ConfigError, match=f"learning_rate: expected above 0, found {number}"):
        validate(Config(train=TrainConfig(learning_rate=number)))


def test_the_defaults_are_in_range():
    assert config_from_dict({}) == Config()


@given(
    rate=st.floats(1e-300, 1e300),
    targets=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    name=st.text(max_size=20) | st.none(),
    scale=st.floats(1e-6, 1e300) | st.none(),
    normalize=st.booleans(),
)
def test_a_config_written_to_yaml_is_read_back_the_same(rate, targets, name, scale, normalize):
    changes = {
        "train": {"learning_rate": rate},
        "eval": {"target_return": targets},
        "track": {"name": name},
        "data": {"rtg_scale": scale, "normalize": normalize},
    }
    config = config_from_dict(changes)
    assert config.eval.target_return == tuple(targets)
    assert config_from_dict(yaml.safe_load(yaml.safe_dump(config_to_dict(config)))) == config


def test_a_saved_config_holds_every_field_and_is_loaded_back_the_same(tmp_path):
    config = Config(eval=EvalConfig(target_return=(-1.0, 2.5)), train=TrainConfig(learning_rate=3e-5))
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())
    for section in dataclasses.fields(Config):
        assert list(written[section.name]) == [f.name for f in dataclasses.fields(getattr(config, section.name))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_shipped_config_loads_and_its_dataset_is_shipped_or_known(path):
    from snn_dt.data.d4rl_files import URLS
    from snn_dt.data.public_sets import find_set

    dataset = load_config(path).data.dataset
    kind, _, name = dataset.rpartition(":")
    if kind == "d4rl":
        assert name in URLS
    elif kind == "atari":
        assert find_set(dataset)
    elif name.endswith("/medium-v0"):
        described = (ROOT / "datasets" / "README.md").read_text()
        assert f"`{name}`" in described, "a set that does not ship is described there"
    else:
        folder = ROOT / "datasets" / name if kind == "minari" else ROOT / dataset
        assert (folder / "data" / "metadata.json").is_file()


def test_a_variant_laid_over_an_environment_is_a_model_on_its_data():
    for kind in ("dense", "snn_dt", "snn_dt_stream", "dsformer_pssa", "dsformer_tssa"):
        config = load_config(ROOT / "configs/hopper.yaml", ROOT / f"configs/variant/{kind}.yaml")
        assert (config.model.kind, config.model.d_model, config.eval.target_return) == (kind, 128, (3600.0, 1200.0))


@pytest.mark.parametrize("text", ["1:30", "010", "0x1", "0o7", "0b1", "1_000", "١٢", "1 0", "'0x1'", "2024-01-01"])
def test_what_is_a_number_in_yaml_1_1_alone_is_refused_with_a_hint(tmp_path, text):
    message = complaint(tmp_path, f"train: {{steps: {text}}}")
    assert "train.steps: expected an integer, found" in message
    assert message.endswith("write a number in decimal digits, as 90 or 1.5e3")


@pytest.mark.parametrize("text", ["yes", "no", "on", "off", "y", "1"])
def test_only_true_and_false_are_truth_values(tmp_path, text):
    assert "data.normalize: expected true or false" in complaint(tmp_path, f"data: {{normalize: {text}}}")
    if text != "1":
        assert load(tmp_path, f"track: {{name: {text}}}").track.name == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train: {steps: !!int x}", "found the tag"),
        ("train: {steps: !!float x}", "found the tag"),
        ("train: {compile: !!bool maybe}", "found the tag"),
        ("train: {steps: !!python/object/apply:os.getcwd []}", "found the tag"),
        (f"train: {{steps: {'9' * 5000}}}", "4300 digits"),
        (f"train: {{steps: {'9' * 30}}}", "train.steps: expected an integer, found 999"),
        (f"train: {{learning_rate: {'9' * 400}}}", "train.learning_rate: expected a number, found 999"),
        (f"train: {{learning_rate: {'9' * 400}.0}}", "train.learning_rate: expected a number, found inf"),
        ("train: {steps: 1e999999999}", "expected an integer"),
        ("train: {steps: 1e-999999999}", "expected an integer"),
        ("train: {steps: " + "[" * 5000 + "}", "more than 64 levels of nesting"),
        ("a: &a [*a]", "the alias *a of nothing before it"),
        ("base: 5", "base: expected the name of a file"),
        ("base: [[x]]", "base: expected the name of a file"),
        ('base: "a\\0b"', "expected a config file without NUL"),
        (f"base: {'x' * 300}", "names of at most 255 bytes"),
        ("base: /dev/zero", "found a device instead of a regular file"),
        ("base: .", "found a folder instead of a regular file"),
        ("a: 1\n---\nb: 1", "a second document"),
        ("#" + "x" * 200_000, "found a file of more than 131072 bytes"),
    ],
)
def test_a_file_that_would_take_long_or_raise_is_one_line(tmp_path, text, expected):
    message = complaint(tmp_path, text)
    assert expected in message
    assert len(message) < 400


@pytest.mark.parametrize("line", ["{{<<: [{0}], k{1}: 1}}", "[{0}]", "{{a: [{0}], b: [{0}]}}"])
def test_lines_that_repeat_the_line_before_many_times_are_refused(tmp_path, line):
    lines = ["v0: &v0 {x: 1}"]
    lines += [f"v{i}: &v{i} " + line.format(", ".join([f"*v{i - 1}"] * 10), i) for i in range(1, 12)]
    assert "more than 10000 values, with every alias written out" in complaint(tmp_path, "\n".join(lines))


def test_anchors_and_merges_of_usual_size_work(tmp_path):
    config = load(tmp_path, "model: &m {d_model: 8, n_heads: 2}\ntrain:\n  <<: {steps: 3, seed: 1}\n  seed: 2")
    assert (config.model.d_model, config.train.steps, config.train.seed) == (8, 3, 2)


def test_a_base_that_is_named_many_times_is_read_once(tmp_path, monkeypatch):
    from snn_dt import io, strict

    read = []
    monkeypatch.setattr(strict.io, "read_text", lambda path, most: read.append(path) or Path.read_text(path))
    files = {f"b{i}": f"base: [{', '.join([f'b{i + 1}.yaml'] * 10)}]" for i in range(8)}
    assert io is strict.io
    assert load(tmp_path, "base: b0.yaml", **files, b8="train: {steps: 7}").train.steps == 7
    assert len(read) == len(set(read)) == 10


def test_a_very_long_chain_of_bases_is_one_line(tmp_path):
    files = {f"b{i}": f"base: b{i + 1}.yaml" for i in range(500)}
    assert "`base` chain of at most 64 files" in complaint(tmp_path, "base: b0.yaml", **files)


@pytest.mark.parametrize("name", ["1e5", "0o7", "010", "1:30", "yes", "null", "~", "=", "<<", "1_0", "2024-01-01", "5"])
def test_a_name_that_looks_like_something_else_survives_being_written_and_read(tmp_path, name):
    from snn_dt.config import TrackConfig

    save_config(Config(track=TrackConfig(name=name)), tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml").track.name == name


def test_an_integer_in_text_keeps_all_of_its_digits(tmp_path):
    assert load(tmp_path, "train: {steps: '9007199254740993'}").train.steps == 9007199254740993
