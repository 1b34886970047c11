"""`scripts/reproduce.py` trains what is missing, writes a record per run, and a table that says what they say."""

from __future__ import annotations

import csv
import json
import shutil
import signal

import numpy as np
import pytest
import yaml

from snn_dt.checkpoint import from_pretrained
from snn_dt.data.public_sets import find_set
from snn_dt.device import choose_device, device_name
from snn_dt.errors import ConfigError, TrainingError
from snn_dt.evaluation.statistics import stratified_interval
from snn_dt.experimental.results.figures import returns_against_energy, returns_against_target
from snn_dt.experimental.results.files import BEGIN, END, write_short_tables, write_table
from snn_dt.experimental.results.page import page, short_table
from snn_dt.experimental.results.records import ALIASES, gone, read_records, uncommitted, write_record
from snn_dt.experimental.results.robust_mean import interquartile_mean
from snn_dt.experimental.results.runs_csv import COLUMNS, to_csv
from snn_dt.run import Run
from snn_dt.training.sweep.grid import read_sweep
from tests.conftest import ROOT
from tests.runs import stop_at_update


def record(variant: str, seed: int, returns: float, dataset: str = "sb3/a", best: float | None = None) -> dict:
    row = {
        "target_return": 5.0, "episodes": 4, "returns": [returns] * 4, "return_mean": returns,
        "normalized_score": 10 * returns, "spikes_per_decision": 1000.0, "macs_per_decision": 2e6,
        "acs_per_decision": 3e6, "neuron_updates_per_decision": 5e6,
        "energy_pj_per_decision": 4e6, "energy_vs_same_tokens": 0.125, "energy_vs_dt": 0.0625,
        "energy_vs_cached_dt": 0.5, "total_vs_cached_dt": 0.75,
        "decisions_per_second": 50.4, "layer_flags": {"blocks.1": "dead"} if variant == "silent" else {},
    }  # fmt: skip
    low = row | {"target_return": 1.0, "return_mean": returns / 2}
    return {
        "trial": f"{dataset[-1]}-{variant}-seed{seed}", "dataset": dataset, "env_id": "A-v0", "model": "dense",
        "variant": variant, "seed": seed, "updates": 7, "evaluation": [row, low],
        "best_evaluation": [row | {"return_mean": best or returns}], "minutes": 1.5, "commit": "abc",
        "command": "snn-dt train", "config": {"train": {}}, "reference": {"min": 0.0, "max": 10.0, "source": "made up"},
    }  # fmt: skip


def line_of(text: str, start: str) -> list[str]:
    """The cells of the one line of a page that begins so."""
    [line] = [line for line in text.splitlines() if line.startswith(start)]
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_the_csv_has_the_promised_columns_and_the_headline_target():
    run = record("full", 3, 2.0, best=2.5)
    [row] = csv.DictReader(to_csv([run, dict(run)]).splitlines())  # a run that two plans have is one row
    assert tuple(row) == COLUMNS
    assert (row["target_return"], row["last_return_mean"], row["best_return_mean"]) == ("5.0", "2.0", "2.5")
    assert (row["energy_vs_same_tokens"], row["energy_vs_dt"], row["minutes"]) == ("0.125", "0.0625", "1.5")
    assert (row["macs"], row["energy_pj"], row["variant"], row["seed"]) == ("2000000.0", "4000000.0", "full", "3")


def test_what_was_not_measured_is_empty_and_not_zero():
    old = record("full", 0, 2.0)
    for name in ("energy_vs_same_tokens", "energy_vs_dt", "layer_flags"):
        del old["evaluation"][0][name]
    [row] = csv.DictReader(to_csv([old]).splitlines())
    assert row["energy_vs_same_tokens"] == row["energy_vs_dt"] == ""
    assert line_of(page("T", [old], {}), "| full | 1 | 2.0 | 2.0")[13:15] == ["", ""]


def test_the_table_has_means_over_seeds_and_the_interquartile_mean_with_its_interval():
    returns = [1.0, 2.0, 3.0, 4.0, 9.5]
    text = page("Toys", [record("full", i, r) for i, r in enumerate(returns)], {"A-v0": ["published 42"]})
    cells = line_of(text, "| full | 5 | 3.9 ±")
    assert cells[2] == f"3.9 ± {np.std(returns, ddof=1):.1f}"
    assert cells[3].startswith("3.0 ("), "the middle three of five"
    low, high = stratified_interval(interquartile_mean, np.array(returns)[:, None], rng=np.random.default_rng(5))
    found = [float(word) for word in cells[3].removeprefix("3.0 (").removesuffix(")").split(" to ")]
    assert found == pytest.approx([float(low), float(high)], abs=0.4), (
        "equal episodes leave the spread of the runs alone"
    )
    assert cells[7:15] == ["2.00", "3.00", "5.00", "4.00", "50.0 %", "75.0 %", "12.5 %", "6.2 %"]
    assert "- published 42" in text
    assert line_of(text, "| *random policy*")[2] == "0.0"
    assert line_of(text, "| *best known agent*")[2] == "10.0"
    assert line_of(text, "| full | 3.9 / 1.9")[1] == "3.9 / 1.9", "asked for 5 and for 1"
    assert "†" not in text


def test_better_than_the_best_known_agent_is_marked_as_suspicious_and_a_dead_layer_is_named():
    text = page("T", [record("silent", 0, 11.0), record("silent", 1, 12.0), record("dense", 0, 9.0)], {})
    assert line_of(text, "| silent | 2 | 11.5")[3].endswith("†")
    assert "†" not in line_of(text, "| dense | 1 | 9.0 |")[3]
    assert "† above the best known agent" in text
    assert "Dead or saturated layers: silent `blocks.1` dead in 2 of 2 runs." in text


def test_times_are_of_a_cpu_where_there_are_such_and_else_say_that_they_are_of_a_gpu():
    gpu = record("full", 1, 2.0) | {"device": "NVIDIA H200", "minutes": 0.1}
    gpu["evaluation"][0]["decisions_per_second"] = 1000.0
    assert line_of(page("T", [record("full", 0, 2.0), gpu], {}), "| full | 2 | 2.0")[-2:] == ["50", "1.5"]
    assert line_of(page("T", [gpu], {}), "| full | 1 | 2.0")[-2:] == ["1,000", "0.1 (GPU)"]


def test_all_datasets_together_take_the_seeds_that_every_dataset_has():
    records = [record("full", s, 1.0, d) for d in ("sb3/a", "sb3/b") for s in range(2)] + [record("full", 2, 9.0)]
    records += [record("dense", 0, 3.0), record("dense", 0, 0.5, "sb3/b"), record("only-a", 0, 1.0)]
    text = page("T", records, {})
    full = line_of(text, "| full | 2 | 23.3 | 10.0 (10.0 to 10.0)")
    assert full[4:6] == ["50.0 %", "12.5 %"]
    assert full[6].startswith("+0.7 ("), "the mean of 1, 1, 9 minus 3"
    assert full[7] == "+0.5 (+0.5 to +0.5)"
    assert line_of(text, "| dense | 1 | 17.5 | 17.5")[6:] == ["", ""]
    assert line_of(text, "| only-a |  |  |  |")[6].startswith("-2.0")
    alone = page("T", [record("full", 0, 3.0)], {})
    assert len(line_of(alone, "| full | 1 | 30.0")) == 6, "nothing to compare with"
    assert "minus that of" not in alone


def test_the_fewest_spikes_are_those_of_the_sparsest_variant_with_95_percent_of_its_kinds_score():
    def spiking(name: str, returns: float, spikes: float, model: str = "snn_dt", limit: float | None = 5.0) -> dict:
        run = record(name, 0, returns) | {"model": model}
        run["evaluation"][0]["spikes_per_decision"] = spikes
        return run | {"config": {"train": {"budget": {"synaptic_operations": limit}}}}

    free = spiking("snn_dt-full", 8.0, 900, limit=None)
    stream = spiking("snn_dt_stream", 5.0, 200, "snn_dt_stream", limit=None)
    few, silent = spiking("few", 4.8, 2.5, "snn_dt_stream"), spiking("silent", 4.8, 0, "snn_dt_stream", limit=None)
    good, poor = spiking("good", 7.6, 70), spiking("poor", 7.5, 9)
    text = page("T", [free, good, poor, stream, few, silent], {})
    cells = line_of(text, "| A-v0 `a` | snn_dt-full")
    assert cells == ["A-v0 `a`", "snn_dt-full", "900", "80.0", "good", "70", "76.0", "4.00"]
    cells = line_of(text, "| A-v0 `a` | snn_dt_stream")
    assert cells == ["A-v0 `a`", "snn_dt_stream", "200", "50.0", "few", "2.5", "48.0", "4.00"]
    assert "| A-v0 `a` | snn_dt_stream" not in page("T", [free, good, stream], {}), "nothing limits the streaming model"
    assert "fewest spikes" not in page("T", [free, stream], {}), "nothing is limited"


@pytest.mark.parametrize("plan", ["classic", "mujoco", "d4rl", "long", "dropout", "stream", "budget"])
def test_the_plans_are_of_the_promised_size(plan):
    trials = read_sweep(ROOT / "configs" / "reproduce" / f"{plan}.yaml")[1]
    sizes = {"classic": 4 * 11 * 5, "mujoco": 4 * 11 * 3, "d4rl": 44 * 4 * 5, "long": 2 * 4 * 3, "dropout": 3 * 3}
    sizes |= {"stream": 4 * 6 * 3, "budget": 4 * 7 * 3}
    assert len(trials) == sizes[plan]
    variants = {trial.variant: trial.config for trial in trials}
    if plan == "stream":
        assert {config.model.kind for config in variants.values()} == {"snn_dt_stream"}
        assert variants["snn_dt_stream-budget-300"].train.budget.synaptic_operations == 300
        return
    full = variants["snn_dt-full"].model
    assert (full.kind, full.positions, full.routing) == ("snn_dt", "phase", True)
    if plan == "budget":
        limits = [config.train.budget.synaptic_operations for config in variants.values()]
        assert limits == [None, 1_000_000, 300_000, 100_000, 30_000, 10_000, 3_000]
        return
    if plan == "long":
        steps = {t.variant: t.config.train.steps for t in read_sweep(ROOT / "configs/reproduce/mujoco.yaml")[1]}
        assert {name: config.train.steps for name, config in variants.items()} == {n: 2 * steps[n] for n in variants}
        return
    if plan == "dropout":
        assert {config.model.dropout for config in variants.values()} == {0.1}
        return
    assert not variants["bc10"].model.return_conditioned
    assert variants["bc10"].data.filter_top == 0.1
    assert all(
        config.data.oversample_top == (0.5 if name.endswith("-top10") else 0) for name, config in variants.items()
    )
    assert variants["dsformer_pssa"].model.resolved().tau_mem == pytest.approx(4 / 3)
    assert variants["dsformer_pssa"].model.resolved().reset == "hard"


def test_the_plan_of_d4rl_is_as_published():
    """dt-peers and DSFormer's own script: sizes, lengths and rates; the rates of the other plans are not theirs."""
    for trial in read_sweep(ROOT / "configs" / "reproduce" / "d4rl.yaml")[1]:
        assert find_set(trial.config.data.dataset), trial.name
        model, train = trial.config.model, trial.config.train
        dsformer = trial.variant == "dsformer_pssa"
        assert (model.context_length, model.n_layers, model.n_heads, model.d_model) == (20, 3, 1, 128), trial.name
        assert (train.batch_size, train.learning_rate, train.weight_decay) == (64, 1e-4, 1e-4), trial.name
        assert train.grad_clip == 0.25
        assert (train.steps, train.warmup_steps) == ((20_000, 2_000) if dsformer else (100_000, 10_000)), trial.name
        assert train.schedule == ("cosine" if dsformer else "constant"), trial.name
        assert model.dropout == (0 if dsformer else 0.1), trial.name
        env = trial.config.data.dataset.split("-")[0].removeprefix("d4rl:")
        targets = {"hopper": (3600, 1800), "halfcheetah": (12_000, 6_000), "walker2d": (5_000, 2_500)}
        targets |= {"pen": (3100, 1550), "door": (2900, 1450), "hammer": (12_800, 6400), "relocate": (4300, 2150)}
        assert trial.config.eval.target_return == targets.get(env, ()), trial.name


@pytest.mark.parametrize("plan", ["classic", "mujoco", "stream", "budget"])
def test_every_committed_record_is_of_a_run_that_its_plan_still_has(plan, reproduce):
    trials = {trial.name: trial for trial in read_sweep(ROOT / "configs" / "reproduce" / f"{plan}.yaml")[1]}
    recorded = sorted(path.stem for path in (ROOT / "results" / "runs" / plan).glob("*.json"))
    assert recorded
    assert set(recorded) <= trials.keys()
    for name in recorded:  # an error tells that a record's configuration is another one
        assert reproduce.recorded(trials[name], reproduce.Arguments(plan=plan)), name


def test_a_run_of_uncommitted_code_is_marked_in_table_csv_and_figures(tmp_path):
    dirty = record("full", 1, 3.0) | {"commit": "abc-dirty"}
    runs = [record("full", 0, 1.0), dirty, record("dense", 0, 2.0)]
    text = page("T", runs, {})
    assert line_of(text, "| full | 2 (1 ‡) |")
    assert line_of(text, "| dense | 1 | 2.0")
    assert "‡ the number of seeds that were made with uncommitted changes" in text
    assert "‡" not in page("T", [runs[0], runs[2]], {})
    assert line_of(short_table(runs, ["full"]), "| `full`")[-1] == "2 ‡"
    rows = {row["variant"] + row["seed"]: row["marks"] for row in csv.DictReader(to_csv(runs).splitlines())}
    assert rows == {"full0": "", "full1": "uncommitted", "dense0": ""}
    for figure in (returns_against_energy(runs), returns_against_target(runs)):
        dots = [dot for axes in figure.axes for dot in axes.collections if dot.get_sizes()[0] == 14]
        assert sum(len(dot.get_facecolors()) == 0 for dot in dots) == 1, "hollow"


def test_a_row_whose_command_names_files_that_are_gone_says_so(tmp_path):
    (tmp_path / "here.yaml").touch()
    run = record("full", 0, 1.0) | {"command": "snn-dt train --config here.yaml configs/was.yaml --train.seed 0"}
    [row] = csv.DictReader(to_csv([run], tmp_path).splitlines())
    assert row["marks"] == "gone: configs/was.yaml"
    run["commit"] = None
    [row] = csv.DictReader(to_csv([run], tmp_path).splitlines())
    assert row["marks"] == "uncommitted; gone: configs/was.yaml"


@pytest.mark.parametrize(
    ("kind", "transition", "marks"),
    [("dsformer_pssa", 200, "transition: 200 forwards"), ("dsformer_pssa", 0.1, ""), ("dense", 200, "")],
)
def test_a_dsformer_of_the_older_transition_bears_a_mark(tmp_path, kind, transition, marks):
    run = record("full", 0, 1.0) | {"command": "snn-dt train", "commit": "c0ffee"}
    run["config"] = {"model": {"kind": kind, "norm_transition": transition}}
    [row] = csv.DictReader(to_csv([run], tmp_path).splitlines())
    assert row["marks"] == marks


def test_every_committed_record_of_uncommitted_code_or_of_a_file_that_is_gone_bears_the_mark():
    rows = list(csv.DictReader((ROOT / "results" / "runs.csv").open()))
    for row in rows:
        assert ("uncommitted" in row["marks"]) == uncommitted(row), row["command"]
        assert ("gone" in row["marks"]) == bool(gone(row, ROOT)), row["command"]
    assert sum("uncommitted" in row["marks"] for row in rows) <= 98, "no more than there were"


def test_a_record_from_uncommitted_code_is_refused_or_marked_and_warned_of(
    reproduce, tmp_path, tiny_plans, monkeypatch, capsys
):
    tiny_plans()
    words = ["--variants", "dense", "--seeds", "1"]
    for commit in ("abc-dirty", None):
        monkeypatch.setattr(reproduce, "provenance", lambda commit=commit: {"commit": commit})
        with pytest.raises(ConfigError, match=r"expected a tree whose changes are committed, .* --allow-dirty"):
            reproduce.main(words)
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "results").exists()
    begun = []
    monkeypatch.setattr(reproduce, "run", lambda trials, args: (15, begun.extend(trials) or []))
    assert reproduce.main([*words, "--allow-dirty"]) == 143
    assert len(begun) == 1
    capsys.readouterr()
    write_record(record("dense", 0, 1.0) | {"commit": "abc-dirty"}, tmp_path / "x.json")
    assert "x.json: made by code that no commit holds (commit abc-dirty)" in capsys.readouterr().err
    write_record(record("dense", 0, 1.0), tmp_path / "x.json")
    assert capsys.readouterr().err == ""


def test_the_names_of_0_1_0_mean_the_same_variants(reproduce, tmp_path, tiny_plans, capsys):
    old = record("snn_dt-sparse128", 1, 2.0)
    write_record(old, tmp_path / "runs" / "mujoco" / "x.json")
    [found] = read_records(tmp_path / "runs" / "mujoco", [("a", "snn_dt-budget-4M")])
    assert (found["variant"], found["trial"]) == ("snn_dt-budget-4M", "a-snn_dt-budget-4M-seed1")
    assert {k: v for k, v in found.items() if k not in ("variant", "trial")} == {
        k: v for k, v in old.items() if k not in ("variant", "trial")
    }
    page_of = "<!-- short table: mujoco: snn_dt-sparse128 -->\n<!-- end of short table -->"
    (tmp_path / "README.md").write_text(page_of)
    write_short_tables(tmp_path / "README.md", tmp_path, {"mujoco": [("a", "snn_dt-budget-4M")]})
    assert "| `snn_dt-budget-4M` | 2.0 |" in (tmp_path / "README.md").read_text()
    tiny_plans()
    with pytest.raises(ConfigError, match="found 'dense-top10'"):
        reproduce.main(["--variants", "dense-best"])
    assert capsys.readouterr().err == "warning: the variant dense-best is called dense-top10 now\n"
    plans = ("classic", "mujoco", "budget", "stream")
    known = {trial.variant for plan in plans for trial in read_sweep(ROOT / f"configs/reproduce/{plan}.yaml")[1]}
    assert {*ALIASES.values()} <= known


def test_a_record_tells_once_what_each_module_does(tmp_path):
    run = record("full", 0, 2.0)
    counts = {"macs": 1.5, "acs": 0.0, "neuron_updates": 8.0, "spikes": 2.0}
    for key in ("evaluation", "best_evaluation"):
        for i, row in enumerate(run[key]):
            row["by_module"] = {"lif": {name: count * (i + 1) for name, count in counts.items()} | {"energy_pj": 44.0}}
            row |= {"firing_rates": {"lif": 0.25}, "energy_constants": "45 nm"}
    run["best"] = {"step": 3, **run["evaluation"][1]}
    write_record(run, tmp_path / "x.json")
    found = read_records(tmp_path, [("a", "full")])[0]
    assert found["by_module"] == {"columns": ["macs", "acs", "neuron_updates", "spikes"], "lif": [1.5, 0, 8.0, 2.0]}
    assert found["energy_constants"] == "45 nm"
    for row in (*found["evaluation"], *found["best_evaluation"], found["best"]):
        assert not {"by_module", "firing_rates", "energy_constants"} & row.keys()
        assert row["return_mean"] in (2.0, 1.0)
    write_record(found, tmp_path / "x.json")
    assert read_records(tmp_path, [("a", "full")])[0] == found, "twice is the same"
    assert to_csv([found]) == to_csv([run])


def test_a_short_table_has_mean_returns_of_the_variants_that_ran():
    records = [record("full", s, 1.0 + s, d) for d in ("sb3/a", "sb3/b") for s in range(2)] + [record("full", 2, 9.0)]
    text = short_table([*records, record("dense", 0, 3.0)], ["dense", "none", "full"])
    assert line_of(text, "| variant")[1:3] == ["A-v0 `a`", "A-v0 `b`"]
    assert line_of(text, "| `full`")[1:] == ["4.0", "1.5", "27.5", "50.0 %", "12.5 %", "2 to 3"]
    assert line_of(text, "| `dense`")[1:] == ["3.0", "", "", "50.0 %", "12.5 %", "1"]
    assert "none" not in text


def test_the_pages_that_are_committed_say_what_the_records_say(reproduce, tmp_path):
    """`python scripts/reproduce.py --table-only` after each change of the records."""
    results, readme = ROOT / "results", tmp_path / "README.md"
    orders = reproduce.orders()
    records = [r for plan, order in orders.items() for r in read_records(results / "runs" / plan, order)]
    assert (results / "runs.csv").read_text() == to_csv(records)
    text = (ROOT / "README.md").read_text()
    readme.write_text(text.replace("| `dense` | 500.0 |", "| `dense` | 499.9 |"))
    write_short_tables(readme, results, orders)
    assert readme.read_text() == text
    assert "| `dense` | 500.0 |" in text


@pytest.fixture
def tiny_plans(tmp_path, monkeypatch):
    """Return a function that writes plans of runs of 6 updates, with `changes`, into a folder, and goes there."""

    def write(**changes: object) -> None:
        grid = {
            "data.dataset": str(ROOT / "datasets/sb3/cartpole/mixed-v0"), "model.d_model": 8, "model.n_layers": 1,
            "train.steps": 6, "train.eval_every": 3, "train.save_every": 2, "eval.episodes": 2,
            "track.wandb": "disabled",
        } | {name.replace("__", "."): value for name, value in changes.items()}  # fmt: skip
        plan = {
            "configs": [str(ROOT / "configs" / "cartpole.yaml")],
            "variants": [str(ROOT / "configs" / "variant" / f"{name}.yaml") for name in ("dense", "bc10")],
            "seeds": [0, 1],
            "episodes": 3,
            "grid": {name: [value] for name, value in grid.items()},
        }
        (tmp_path / "configs" / "reproduce").mkdir(parents=True, exist_ok=True)
        for name in ("classic", "mujoco", "d4rl"):
            (tmp_path / "configs" / "reproduce" / f"{name}.yaml").write_text(yaml.safe_dump(plan))
        (tmp_path / "configs" / "reproduce" / "published.yaml").write_text("{}")

    monkeypatch.chdir(tmp_path)
    return write


@pytest.mark.slow
def test_a_plan_goes_on_where_it_stopped_is_recorded_and_not_run_again(
    reproduce, tmp_path, tiny_plans, monkeypatch, capfd
):
    tiny_plans()
    words = [
        "--only",
        "cartpole",
        "--variants",
        "dense",
        "--seeds",
        "1",
        "--jobs",
        "1",
        "--allow-dirty",
        "--pretrained",
    ]
    args = reproduce.parse(reproduce.Arguments, words, "reproduce.py", bare_flags=True)
    [trial] = reproduce.chosen(args)
    folder = reproduce.folder(trial, args)
    reproduce.prepare(folder, trial)
    with monkeypatch.context() as patch:
        stop_at_update(patch, 3)
        assert Run(trial.config, folder).train() == signal.SIGTERM
    assert reproduce.main(words) == 0
    assert "updates 4 to 6" in (folder / "log.txt").read_text()
    [path] = (tmp_path / "results" / "runs" / "classic").iterdir()
    found = json.loads(path.read_text())
    assert path.name == "cartpole-dense-seed0.json"
    assert (found["seed"], found["updates"], found["evaluation_step"]) == (0, 6, 6)
    assert found["versions"]["torch"]
    assert found["device"] == device_name(choose_device(trial.config.train.device))
    assert [len(row["returns"]) for row in found["evaluation"]] == [3, 3]
    assert len(found["best_evaluation"]) == 1
    [row] = csv.DictReader((tmp_path / "results" / "runs.csv").open())
    assert float(row["last_return_mean"]) == pytest.approx(found["evaluation"][0]["return_mean"], abs=1e-3)
    assert row["updates"] == "6"
    assert "| dense | 1 |" in (tmp_path / "results" / "README.md").read_text()
    for figure in ("classic-return-vs-energy.png", "classic-return-vs-target.png"):
        assert (tmp_path / "results" / "figures" / figure).read_bytes()[1:4] == b"PNG"
        assert f"(figures/{figure})" in (tmp_path / "results" / "README.md").read_text()
    shipped = tmp_path / "results" / "pretrained" / "cartpole-dense"
    assert {p.name for p in shipped.iterdir()} == {
        "config.json", "model.safetensors", "stats.safetensors", "provenance.json",
    }  # fmt: skip
    facts = json.loads((shipped / "provenance.json").read_text())
    assert facts["command"] == found["command"]
    assert facts["command"].startswith("snn-dt train --config ")
    assert from_pretrained(shipped).provenance["step"] == 6
    [(name, figure)] = json.loads((shipped.parent / "evaluations.json").read_text()).items()
    assert (name, figure["episodes"], figure["seed"]) == ("cartpole-dense", 12, 1_000_000), "four times as many, fresh"
    assert figure["chosen_by"]["return_mean"] == found["evaluation"][0]["return_mean"]
    assert "| `cartpole-dense` | 500 |" in (shipped.parent / "README.md").read_text()
    shutil.rmtree(tmp_path / "runs")
    capfd.readouterr()
    assert reproduce.main(words) == 0
    assert not list(tmp_path.glob("runs/**/log.txt")), "what is recorded is not run again"
    said = capfd.readouterr().out
    assert "nothing to run" in said
    assert "cartpole-dense stays, as the best is cartpole-dense-seed0, whose run is not in" in said
    assert from_pretrained(shipped).provenance["step"] == 6
    kept = (tmp_path / "results" / "README.md").read_bytes()
    assert reproduce.main([*words[:-1], "--again"]) == 0
    assert "again: the same in all 3 episodes" in capfd.readouterr().out
    assert (tmp_path / "results" / "README.md").read_bytes() == kept
    once = tmp_path / "runs" / "again" / "results" / "runs" / "classic" / path.name
    for told in (once, tmp_path / "runs" / "again" / "classic" / path.stem / "result.json"):
        told.write_text(told.read_text().replace('"returns": [', '"returns": [-1.0, '))
    assert reproduce.main([*words[:-1], "--again"]) == 0
    assert "again: the same in all 3 episodes" in capfd.readouterr().out, "made again once more, not read"
    assert reproduce.main([*words[:-1], "--again", "--table-only"]) == 0
    assert once.exists()
    found["config"]["model"]["d_model"] = 10
    path.write_text(json.dumps(found))
    with pytest.raises(ConfigError, match="d_model is 10 there and 8 here"):
        reproduce.main(words)
    path.unlink()
    with pytest.raises(ConfigError, match=r"variants \(dense, bc10\) of .* found 'dence'"):
        reproduce.main(["--variants", "bc10", "dence"])
    with pytest.raises(ConfigError, match=r"datasets \(cartpole\) .* found 'pendulum'"):
        reproduce.main(["--only", "cartpole", "pendulum"])
    with pytest.raises(ConfigError, match="--plan to be one of classic, mujoco, d4rl"):
        reproduce.main(["--plan", "clasic"])
    for flag in ("--seeds", "--jobs"):
        with pytest.raises(ConfigError, match=f"expected {flag} of at least 0, which takes all, found -1"):
            reproduce.main([flag, "-1"])


@pytest.mark.slow
def test_making_runs_again_goes_on_where_it_was_stopped_and_begins_anew_where_it_was_not(
    reproduce, tmp_path, tiny_plans, monkeypatch
):
    tiny_plans()
    monkeypatch.setattr(reproduce, "provenance", lambda: {"commit": "now"})
    args = reproduce.Arguments(variants=("dense",), run_root=tmp_path / "runs", results=tmp_path / "again")
    trials = reproduce.chosen(args)
    folders = [reproduce.folder(trial, args) for trial in trials]

    def left(*finished: int, commit: str = "now") -> list[tuple[bool, bool]]:
        """Leave runs, some finished, and clear; tell which runs and records are still there."""
        for i, (trial, at) in enumerate(zip(trials, folders, strict=True)):
            reproduce.prepare(at, trial)
            (at / "checkpoints" / "last").mkdir(parents=True, exist_ok=True)
            (at / "checkpoints" / "last" / "provenance.json").write_text(json.dumps({"commit": commit}))
            if i in finished:
                (at / "result.json").write_text('{"seed": 0}')
                write_record(record("dense", i, 1.0), reproduce.record(trial, args))
        reproduce.clear(trials, args)
        return [
            (at.exists(), reproduce.record(trial, args).exists()) for trial, at in zip(trials, folders, strict=True)
        ]

    assert left(0) == [(True, True), (True, False)]
    assert left(0, 1) == [(False, False), (False, False)]
    assert left(0, commit="before") == [(False, False), (False, False)]


@pytest.mark.parametrize("content", ["{", "[]", '{"seed": 0}', ""])
def test_a_damaged_record_is_named(reproduce, tmp_path, tiny_plans, content):
    tiny_plans()
    path = tmp_path / "results" / "runs" / "classic" / "cartpole-dense-seed0.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    for words in (["--table-only"], ["--variants", "dense", "--seeds", "1"]):
        with pytest.raises(ConfigError, match=r"cartpole-dense-seed0\.json: expected a run's record, found it damaged"):
            reproduce.main(words)
    assert path.read_text() == content


def test_the_best_of_all_recorded_seeds_ships_whatever_was_asked_for(reproduce, tmp_path, tiny_plans, capsys):
    tiny_plans()
    for seed, returns in ((0, 1.0), (1, 2.0)):
        write_record(record("dense", seed, returns), tmp_path / f"results/runs/classic/cartpole-dense-seed{seed}.json")
    assert reproduce.main(["--table-only", "--seeds", "1", "--variants", "dense", "--pretrained"]) == 0
    assert "cartpole-dense stays, as the best is cartpole-dense-seed1" in capsys.readouterr().out
    assert reproduce.main(["--table-only", "--variants", "bc10", "--pretrained"]) == 0
    assert "pretrained" not in capsys.readouterr().out, "what was not asked for is left alone"


def test_a_run_that_fails_is_named_and_leaves_no_record(reproduce, tmp_path, tiny_plans):
    (tmp_path / "results" / "runs" / "classic").mkdir(parents=True)
    (tmp_path / "results" / "runs" / "classic" / "x.json").write_text(json.dumps(record("full", 0, 2.0)))
    tiny_plans(data__dataset="minari:no/such/set-v0")
    with pytest.raises(TrainingError, match=r"1 failed, the first cartpole-dense-seed0: exit status 2.*no/such/set-v0"):
        reproduce.main(["--variants", "dense", "--seeds", "1", "--jobs", "1", "--allow-dirty"])
    assert [path.name for path in (tmp_path / "results" / "runs" / "classic").iterdir()] == ["x.json"]
    assert "| full | 1 | 2.0 |" in (tmp_path / "results" / "README.md").read_text(), "what there is becomes a table"


def test_text_around_the_table_stays(tmp_path):
    readme = tmp_path / "README.md"
    write_record(record("full", 0, 2.0), tmp_path / "runs" / "toys" / "x.json")
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    orders = {"toys": [("a", "full")], "nothing": [("b", "full")]}
    write_table(tmp_path, orders, {})
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "### toys" in text
    assert "nothing" not in text
    write_table(tmp_path, orders, {})
    assert readme.read_text() == text, "twice is the same"
    readme.write_text("no marks\n")
    with pytest.raises(ConfigError, match="marks"):
        write_table(tmp_path, orders, {})
    assert readme.read_text() == "no marks\n"


def test_rows_come_in_the_order_of_the_plan_then_by_seed_and_strangers_last(tmp_path):
    runs = [
        ("b", "full", 0),
        ("a", "full", 11),
        ("a", "full", 2),
        ("a", "dense", 0),
        ("z", "dense", 0),
        ("a", "new", 0),
    ]
    for task, variant, seed in runs:
        write_record(record(variant, seed, 1.0, f"sb3/{task}"), tmp_path / f"{task}-{variant}-{seed}.json")
    found = read_records(tmp_path, [("b", "dense"), ("b", "full"), ("a", "dense"), ("a", "full")])
    assert [record["trial"] for record in found] == [
        "b-full-seed0", "a-dense-seed0", "a-full-seed2", "a-full-seed11", "a-new-seed0", "z-dense-seed0",
    ]  # fmt: skip
    assert found[0] == record("full", 0, 1.0, "sb3/b")


def test_a_run_made_again_is_compared_with_its_record(reproduce, tmp_path, tiny_plans):
    tiny_plans()
    before = reproduce.Arguments(results=tmp_path / "results")
    now = reproduce.Arguments(results=tmp_path / "again")
    trial = reproduce.chosen(before)[0]

    def compare(returns: list[float], interval: list[float]) -> str:
        other = record("dense", 0, 3.0)
        other["evaluation"][0] |= {"returns": returns, "return_mean": np.mean(returns), "return_interval": interval}
        write_record(other, reproduce.record(trial, now))
        return reproduce.comparison(trial, before, now)

    assert reproduce.comparison(trial, before, now) == "cartpole-dense-seed0: not recorded"
    first = record("dense", 0, 3.0)
    first["evaluation"][0] |= {"return_interval": [2.0, 4.0]}
    write_record(first, reproduce.record(trial, before))
    assert reproduce.comparison(trial, before, now).endswith("not made again")
    assert compare([3.0] * 4, [2.0, 4.0]).endswith("the same in all 4 episodes")
    assert "3.0 (2.0 to 4.0) recorded, 5.0 (4.0 to 6.0) again: within noise" in compare([5.0] * 4, [4.0, 6.0])
    assert compare([5.0] * 4, [4.1, 6.0]).endswith("different")
