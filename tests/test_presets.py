"""Presets, datasets and checkpoints are found by name: in a clone, away from it, and in a release."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import snn_dt
from snn_dt import named, release
from snn_dt.checkpoint import find_checkpoint
from snn_dt.cli.main import COMMANDS, main
from snn_dt.cli.preset_words import spell_out
from snn_dt.cli.run_command import read_run
from snn_dt.cli.train import TRAIN
from snn_dt.config import ModelConfig, load_config
from snn_dt.data import load
from snn_dt.errors import CheckpointError, ConfigError, DataError
from snn_dt.task import worth_asking
from tests.conftest import ROOT

CARTPOLE = "sb3/cartpole/mixed-v0"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder, with an empty cache and no release."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(release, "cache", lambda kind: tmp_path / "cache" / kind)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.delenv(release.VARIABLE, raising=False)
    release._index.cache_clear()
    return tmp_path / "here"


@pytest.fixture
def installed(elsewhere, monkeypatch):
    """As a wheel is installed: neither datasets nor checkpoints beside the package."""
    empty = {"datasets": elsewhere / "none", "pretrained": elsewhere / "none"}
    monkeypatch.setattr(named, "_CLONED", empty)


@pytest.fixture(scope="module")
def release_folder(tmp_path_factory):
    """A release with the CartPole dataset and one checkpoint."""
    folder = tmp_path_factory.mktemp("release")
    command = [sys.executable, ROOT / "scripts/release.py", folder, CARTPOLE, "cartpole-snn_dt"]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture
def released(release_folder, tmp_path):
    """A copy of it, and a server of this machine: (address, folder)."""
    folder = shutil.copytree(release_folder, tmp_path / "release")

    class Silent(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Silent, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()


def train_config(words: str):
    return read_run(TRAIN, words.split())[1]


def complaint(capsys, *words: str) -> str:
    assert main(words) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


def test_a_preset_and_variants_are_the_files_of_the_same_names(elsewhere):
    files = [ROOT / f"configs/{name}.yaml" for name in ("hopper", "variant/snn_dt", "variant/dense")]
    assert train_config("hopper --variant snn_dt dense") == load_config(*files)
    assert train_config("hopper --variant=snn_dt --variant dense --train.seed 3").train.seed == 3
    assert train_config("cartpole acrobot").data == load_config(ROOT / "configs/acrobot.yaml").data


def test_a_variant_is_laid_over_the_files_and_flags_over_both(elsewhere):
    (elsewhere / "mine.yaml").write_text("base: configs/cartpole.yaml\nmodel: {kind: dense, d_model: 32}")
    made = train_config("--config mine.yaml --variant snn_dt --train.steps 7")
    assert (made.model.kind, made.model.d_model, made.train.steps, made.eval.target_return) == (
        "snn_dt", 32, 7, (500.0, 29.0),
    )  # fmt: skip
    assert train_config("mine.yaml").model.kind == "dense"


def test_a_run_that_names_only_its_dataset_has_the_recipe_of_the_tables(elsewhere):
    made = train_config(f"--data.dataset minari:{CARTPOLE}")
    table = load_config(ROOT / "configs/cartpole.yaml", ROOT / "configs/variant/snn_dt.yaml")
    assert made.model.resolved() == table.model.resolved()
    assert (made.train, made.eval.episodes) == (table.train, table.eval.episodes)
    model = made.model.resolved()
    assert (model.tau_mem, model.reset, model.surrogate_slope, made.train.learning_rate) == (20.0, "soft", 3.0, 3e-3)
    facts = json.loads((ROOT / "results/pretrained/cartpole-snn_dt/provenance.json").read_text())["config"]
    recipe = {"tau_mem", "reset", "surrogate_slope", "detach_reset", "surrogate", "v_threshold", "n_layers", "n_heads"}
    assert all(getattr(model, name) == facts["model"][name] for name in recipe)
    assert made.train.learning_rate == facts["train"]["learning_rate"]


@pytest.mark.parametrize("kind", ["dense", "snn_dt", "snn_dt_stream", "dsformer_pssa", "dsformer_tssa"])
def test_the_neuron_of_a_kind_is_that_of_its_variant(kind):
    variant = load_config(ROOT / f"configs/variant/{kind}.yaml").model.resolved()
    alone = ModelConfig(kind=kind).resolved()
    for name in ("tau_mem", "v_threshold", "reset", "detach_reset", "surrogate", "surrogate_slope"):
        assert getattr(alone, name) == getattr(variant, name), name


def test_a_run_says_its_scale_its_recipe_and_three_targets_worth_asking_for(elsewhere, capsys):
    data = snn_dt.load_dataset(f"minari:{CARTPOLE}")
    assert worth_asking(data) == {500.0: "best", 117.0: "best tenth", 29.0: "median"}
    tiny = "--model.d_model 8 --model.n_layers 1 --train.steps 1 --eval.episodes 0 --track.wandb disabled"
    assert main(["train", "cartpole", *tiny.split(), "--run-dir", "run"]) == 0
    said = capsys.readouterr().out
    for line in (
        "return scale 500 (the largest of the data)",
        "targets      500, 29",
        "worth asking for: 500 (best), 117 (best tenth), 29 (median)",
        "tau_mem 20, soft reset, surrogate slope 3",
        "recipe       learning rate 0.003",
    ):
        assert line in said


def test_the_words_of_other_commands_name_the_presets_of_that_command():
    for command in ("rsnn", "online", "finetune"):
        name, path = next(iter(named.presets(command).items()))
        assert spell_out(command, [name, "--x", "1"]) == ["--config", str(path), "--x", "1"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train cartpol", "expected a preset, found 'cartpol'; did you mean 'cartpole'?"),
        ("train ../cartpole", "expected a preset, found '../cartpole'"),
        ("train cartpole --variant snn_td", "expected a variant, found 'snn_td'; did you mean 'snn_dt'?"),
        ("train cartpole --variant", "expected a name after --variant, found none"),
        ("train cartpole --release", "expected a folder or an address after --release, found none"),
        ("train --config configs/cartpol.yaml", "expected a config file at"),
        ("evaluate --checkpoint hoper-snn_dt", "nor a checkpoint of that name; did you mean 'hopper-snn_dt'?"),
        ("train --data.dataset minari:sb3/cartpol/mixed-v0", "did you mean 'sb3/cartpole/mixed-v0'?"),
        ("list --jsn", "Unrecognized options: --jsn; did you mean --json?"),
    ],
)
def test_a_wrong_name_is_one_line_with_the_right_one(elsewhere, capsys, words, said):
    assert said in complaint(capsys, *words.split())


def test_paths_of_a_clone_mean_the_same_elsewhere(elsewhere):
    assert load_config("configs/quickstart.yaml") == load_config(ROOT / "configs/quickstart.yaml")
    assert find_checkpoint(Path("results/pretrained/cartpole-snn_dt")) == find_checkpoint(Path("cartpole-snn_dt"))
    found = [
        load._select(name)[0].locate(load._select(name)[1], False)
        for name in (f"datasets/{CARTPOLE}", f"minari:{CARTPOLE}")
    ]
    assert found[0] == found[1]


def test_a_folder_or_file_here_wins_over_a_name(elsewhere):
    (elsewhere / "configs").mkdir()
    (elsewhere / "configs/cartpole.yaml").write_text("train: {steps: 5}")
    assert load_config("configs/cartpole.yaml").train.steps == 5
    (elsewhere / "cartpole-snn_dt").mkdir()
    with pytest.raises(CheckpointError, match=r"found no config\.json in it; see snn-dt list"):
        find_checkpoint(Path("cartpole-snn_dt"))


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/", "../../etc", "a\0b", "x" * 5000, "cartpole-snn_dt/..", "~nobody/x"]
)
def test_no_name_leads_out_of_the_folders_that_are_searched(elsewhere, name):
    for kind in ("datasets", "pretrained"):
        assert named.find(kind, name) is None


def test_a_path_is_no_name(elsewhere):
    there = named.find("pretrained", "cartpole-snn_dt")
    for path in (f"../{there.parent.name}/{there.name}", str(there)):
        assert named.find("pretrained", path) is None


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_list_fits_its_terminal_and_has_one_line_for_each_name(elsewhere, capsys, monkeypatch, width):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= max(width, len("pretrained: --checkpoint NAME, snn_dt.from_pretrained('NAME')") + 20)
    entries = [line for line in lines if line.startswith("  ")]
    assert max(map(len, entries)) <= width
    for name in ("cartpole", "snn_dt_stream", CARTPOLE, "cartpole-snn_dt"):
        assert any(line.split()[0] == name for line in entries)


def test_the_list_as_json_names_files_that_are_there_and_says_what_each_is(elsewhere, capsys):
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"presets", "variants", "datasets", "pretrained"}
    for entries in found.values():
        assert all(entry["about"] for entry in entries.values())
        assert all(Path(entry.get("file") or entry["folder"]).exists() for entry in entries.values())
    assert found["presets"]["cartpole"]["here"]
    assert not found["presets"]["hopper-medium"]["here"]


@pytest.mark.parametrize("path", sorted((ROOT / "snn_dt/presets").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_begins_with_a_comment_that_says_what_it_is(path):
    first = path.read_text().partition("\n")[0]
    assert first.startswith("# ")
    assert len(first) > 20


def test_what_a_release_holds_is_fetched_once_and_then_needs_no_network(installed, released, monkeypatch, caplog):
    address, _ = released
    with pytest.raises(CheckpointError, match="others come from a release: --release"):
        find_checkpoint(Path("cartpole-snn_dt"))
    monkeypatch.setenv(release.VARIABLE, address)
    policy = snn_dt.from_pretrained("cartpole-snn_dt")
    assert policy.spec.env_id == "CartPole-v1"
    assert load._select(CARTPOLE)[0].locate(f"datasets/{CARTPOLE}", False).path == release.cache("datasets") / CARTPOLE
    assert [record.message.split(" (")[0] for record in caplog.records] == [
        "fetching cartpole-snn_dt", f"fetching {CARTPOLE}",
    ]  # fmt: skip
    monkeypatch.delenv(release.VARIABLE)
    assert snn_dt.from_pretrained("cartpole-snn_dt").spec == policy.spec
    assert named.find("datasets", CARTPOLE) == release.cache("datasets") / CARTPOLE


def test_a_release_may_be_a_folder_and_is_named_by_a_flag_of_any_command(installed, released, capsys, monkeypatch):
    _, folder = released
    assert main(["list", "--release", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "cartpole-snn_dt" in shown
    assert "in the release" in shown
    words = [
        "evaluate",
        "--checkpoint",
        "cartpole-snn_dt",
        "--episodes",
        "1",
        "--num_envs",
        "1",
        "--target_return",
        "9",
    ]
    assert main([*words, f"--release={folder}"]) == 0
    assert release.place() is None, "the flag lasts as long as the command"
    assert main(words) == 0, "what was fetched stays"


def test_a_file_that_is_not_the_listed_one_is_refused_and_nothing_is_left(installed, released, monkeypatch):
    _, folder = released
    monkeypatch.setenv(release.VARIABLE, str(folder))
    weights = folder / "pretrained/cartpole-snn_dt/model.safetensors"
    content = weights.read_bytes()
    for wrong in (content[:-1] + b"x", content[:-1], content + b"x"):
        weights.write_bytes(wrong)
        with pytest.raises(ConfigError, match=r"model\.safetensors .* found other content"):
            snn_dt.from_pretrained("cartpole-snn_dt")
    weights.unlink()
    with pytest.raises(ConfigError, match="No such file"):
        snn_dt.from_pretrained("cartpole-snn_dt")
    assert list((release.cache("pretrained")).iterdir()) == []


def test_another_release_of_the_same_name_is_fetched_and_an_unreachable_one_is_not_needed(
    installed, released, tmp_path, monkeypatch, caplog
):
    _, folder = released
    monkeypatch.setenv(release.VARIABLE, str(folder))
    assert "changed" not in snn_dt.from_pretrained("cartpole-snn_dt").provenance
    assert len(caplog.records) == 1
    snn_dt.from_pretrained("cartpole-snn_dt")
    assert len(caplog.records) == 1, "the same files are not fetched again"

    other = shutil.copytree(folder, tmp_path / "other")
    facts = other / "pretrained/cartpole-snn_dt/provenance.json"
    facts.write_text(json.dumps({"changed": True}))
    index = json.loads((other / "release.json").read_text())
    listed = index["pretrained"]["cartpole-snn_dt"]["files"]["provenance.json"]
    listed |= {"bytes": facts.stat().st_size, "sha256": hashlib.sha256(facts.read_bytes()).hexdigest()}
    (other / "release.json").write_text(json.dumps(index))
    monkeypatch.setenv(release.VARIABLE, str(other))
    assert snn_dt.from_pretrained("cartpole-snn_dt").provenance == {"changed": True}
    monkeypatch.setenv(release.VARIABLE, "http://127.0.0.1:9")
    assert snn_dt.from_pretrained("cartpole-snn_dt").provenance == {"changed": True}
    assert "is used as it was fetched before" in caplog.records[-1].message
    assert [path.name for path in release.cache("pretrained").iterdir()] == ["cartpole-snn_dt"]


@pytest.mark.parametrize("size", ["Infinity", "-1", "1.5", "true", '"7"', "null", "1" + "0" * 30])
def test_a_listed_size_that_is_none_or_does_not_fit_is_one_line(installed, tmp_path, monkeypatch, size):
    text = '{"pretrained": {"x": {"files": {"config.json": {"bytes": SIZE, "sha256": "0"}}}}}'.replace("SIZE", size)
    (tmp_path / "release.json").write_text(text)
    monkeypatch.setenv(release.VARIABLE, str(tmp_path))
    with pytest.raises(ConfigError, match=r"no list of files|MB of disk"):
        find_checkpoint(Path("x"))


@pytest.mark.parametrize("bad", ["../evil", "/etc/evil", "a/../../evil", "", "a//b", "a/.."])
def test_a_release_cannot_write_outside_its_folder(installed, tmp_path, monkeypatch, bad):
    facts = {"bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    index = {"pretrained": {"good": {"files": {bad: facts}}, bad: {"files": {"x": facts}}}}
    (tmp_path / "release.json").write_text(json.dumps(index))
    monkeypatch.setenv(release.VARIABLE, str(tmp_path))
    for name in ("good", bad):
        with pytest.raises(ConfigError, match="found: the name"):
            release.fetch("pretrained", name)
    assert not release.cache("pretrained").exists()


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("http://127.0.0.1:9", "refused"),
        ("http://snn-dt.invalid", "expected a release at http://snn-dt.invalid"),
        ("ftp://example.org", "an address that is neither http nor https"),
        ("file:///etc", "an address that is neither http nor https"),
        ("/nowhere", "No such file or directory"),
    ],
)
def test_a_release_out_of_reach_is_one_quick_line(installed, monkeypatch, capsys, place, said):
    begin = time.monotonic()
    message = complaint(capsys, "evaluate", "--checkpoint", "hopper-snn_dt", "--release", place)
    assert said in message
    assert time.monotonic() - begin < 15


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"pretrained": {"x": {}}}', '{"pretrained": {"x": 3}}', '{"pretrained": 5}']
)
def test_a_damaged_list_of_a_release_is_one_line(installed, tmp_path, monkeypatch, text):
    (tmp_path / "release.json").write_text(text)
    monkeypatch.setenv(release.VARIABLE, str(tmp_path))
    with pytest.raises((ConfigError, CheckpointError)):
        find_checkpoint(Path("x"))


def test_a_dataset_that_is_nowhere_names_the_places_and_the_ways_to_get_it(installed):
    with pytest.raises(DataError, match=r"no Minari dataset 'sb3/hopper/mixed-v0' in .*--release"):
        snn_dt.load_dataset("datasets/sb3/hopper/mixed-v0")


def test_the_link_configs_is_the_folder_of_the_presets():
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    assert (ROOT / "configs").resolve() == named.PRESETS.resolve()
    assert shutil.which("git") is None or subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-s", "configs"], capture_output=True, text=True
    ).stdout.startswith("120000")
    assert "list" in COMMANDS
