"""What `snn-dt evaluate` asks, prints and writes."""

from __future__ import annotations

import io
import json

import pytest

from snn_dt.checkpoint import save_checkpoint
from snn_dt.cli import progress_bar as progress_module
from snn_dt.cli.evaluation_tables import print_evaluation
from snn_dt.cli.main import main
from snn_dt.cli.progress_bar import Progress
from snn_dt.evaluation.calibration import calibration
from snn_dt.evaluation.rollout import evaluate
from tests.conftest import ROOT
from tests.policies import countdown_policy

CARTPOLE = ROOT / "results/pretrained/cartpole-snn_dt"


def run(capsys, *words):
    """The status, standard output and standard error of an evaluation of one episode per target."""
    status = main(["evaluate", "--episodes", "1", "--threads", "1", *map(str, words)])
    return status, *capsys.readouterr()


def test_the_tables_hold_the_yardsticks_the_parts_and_the_layers_that_tell_nothing(capsys):
    rows = evaluate(countdown_policy(kind="snn_dt"), [2.0, 1.0], episodes=2, seed=0)
    rows[1]["layer_flags"] = {"blocks.0.attention.lif_in": "saturated"}
    print_evaluation(rows)
    printed = capsys.readouterr().out
    for row in rows:
        for name in ("energy_vs_cached_dt", "energy_vs_dt"):
            assert f"{100 * row[name]:.1f} %" in printed
    assert "target 1: layer blocks.0.attention.lif_in is saturated" in printed
    assert "target 2: layer" not in printed
    for part in ("embedding", "blocks.0.attention", "blocks.1.mlp", "head"):
        assert f"\n{part} " in printed


def test_large_numbers_fit_80_columns_with_every_digit(capsys):
    (row,) = evaluate(countdown_policy(kind="snn_dt"), [2.0], episodes=2, seed=0)
    large = {
        **{"target_return": -123456.0, "return_mean": -12345.6, "return_std": 1234.5, "normalized_score": -1234.5},
        **{"return_interval": [-12345.6, -12345.1], "spikes_per_decision": 1234567.0, "decisions_per_second": 123456.0},
        **{"macs_per_decision": 123.456e6, "acs_per_decision": 1234.567e6, "energy_pj_per_decision": 1234.567e6},
        **{"env_id": "AdroitHandRelocateSparse-v1", "score_reference": "D4RL infos.py applied to it by convention"},
    }
    rows = [row | large | {"target_return": target} for target in (-123456.0, -100000.0, -1e5 - 1)]
    print_evaluation(rows, calibration(rows, [-2e5, 0.0]))
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    for words in ("-12345.6 ± 1234.5", "-12345.6 to -12345.1", "1234567", "1234.567", "123456", "calibration over 3"):
        assert words in printed
    assert "…" not in printed


def test_without_targets_five_quantiles_of_the_data_are_asked_and_the_calibration_lies_beside(tmp_path, capsys):
    status, out, err = run(capsys, "--checkpoint", CARTPOLE, "--json", tmp_path / "e.json", "--no-count")
    rows = json.loads((tmp_path / "e.json").read_text())
    assert (status, err) == (0, "")
    assert [row["target_return"] for row in rows] == [500.0, 51.0, 29.0, 18.0, 8.0]
    assert "targets: 5 quantiles of the data's returns, 500 51 29 18 8" in out
    lines = [line for line in out.splitlines() if line.startswith("target ")]
    assert len(lines) == 6  # one for each, and the head of the table
    assert lines[0].startswith("target 500: return ")
    assert "; 1 of 5 targets, " in lines[0]
    assert lines[0].endswith(" left")
    found = json.loads((tmp_path / "e.calibration.json").read_text())
    assert found["targets"] == [8.0, 18.0, 29.0, 51.0, 500.0]
    assert found["spread"] == 492.0
    assert "calibration over 5 targets" in out
    run(capsys, "--checkpoint", CARTPOLE, "--json", tmp_path / "e.json", "--target-return", 20, "--no-count")
    assert not (tmp_path / "e.calibration.json").exists()  # two targets have none


def test_what_is_not_counted_is_null_and_said(tmp_path, capsys):
    words = ("--checkpoint", CARTPOLE, "--target-return", 20, "--json", tmp_path / "e.json")
    status, out, _ = run(capsys, *words, "--no-count")
    (row,) = json.loads((tmp_path / "e.json").read_text())
    assert status == 0
    assert "nothing was counted (--no-count)" in out
    counts = ("spikes_per_decision", "firing_rate", "macs_per_decision", "acs_per_decision", "energy_pj_per_decision")
    assert [row[name] for name in counts] == [None] * len(counts)
    assert (row["by_module"], row["meter_every"], row["decided_by"]) == ({}, 0, "act")
    assert row["decisions_per_second"] > 0
    run(capsys, *words)
    (counted,) = json.loads((tmp_path / "e.json").read_text())
    assert counted.keys() == row.keys()
    assert counted["spikes_per_decision"] > 0


@pytest.mark.parametrize(("kind", "quantiles"), [("dense", None), ("bc", [0.0, 5.0])])
def test_a_policy_without_known_returns_or_without_a_target_is_asked_its_own_and_says_why(
    tmp_path, capsys, kind, quantiles
):
    policy = countdown_policy(kind="dense", target_return=3.0)
    config = policy.model.config
    if kind == "bc":
        object.__setattr__(config, "return_conditioned", False)
    save_checkpoint(tmp_path / "c", policy, config, policy.model.task, {"dataset_return_quantiles": quantiles}, None)
    status, out, err = run(capsys, "--checkpoint", tmp_path / "c")
    assert status == 0, err
    assert "target 3: return" in out
    why = {"dense": "does not state the returns of its data", "bc": "ignores its target return"}
    assert f"targets: 3, the policy's own; the {'checkpoint' if kind == 'dense' else 'policy'} {why[kind]}" in out


@pytest.mark.parametrize(
    "words", ["--targets 0", "--targets 3 --target-return 20", "--targets x", "--spacing odd", "--meter-every 0"]
)
def test_targets_that_cannot_be_asked_are_a_mistake_of_one_line(capsys, words):
    status, out, err = run(capsys, "--checkpoint", CARTPOLE, *words.split())
    assert (status, out) == (2, "")
    assert err.count("\n") == 1


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_off_a_terminal_a_line_comes_every_half_minute_and_on_one_the_bar_shows_time_that_passes(monkeypatch, stream):
    now, shown = [0.0], stream()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr("sys.stdout", shown)
    progress = Progress("episodes", lines=True)
    for second in range(70):
        now[0] = float(second)
        progress(second / 10, 20)
    progress.stop()
    if stream is Terminal:
        assert "6/20" in shown.getvalue()
        assert "02:11 left" in shown.getvalue()
    else:
        assert shown.getvalue() == "episodes 3 of 20, 02:50 left\nepisodes 6 of 20, 02:20 left\n"


def test_fewer_steps_of_context_count_fewer_operations_and_the_row_states_them(tmp_path, capsys):
    counts = []
    for words in ((), ("--context-length", 2)):
        words = ("--checkpoint", CARTPOLE, "--target-return", 20, "--json", tmp_path / "e.json", *words)
        assert run(capsys, *words)[0] == 0
        (row,) = json.loads((tmp_path / "e.json").read_text())
        counts.append((row["context_length"], row["energy_pj_per_decision"]))
    assert [steps for steps, _ in counts] == [None, 2]
    assert counts[1][1] < 0.7 * counts[0][1]


@pytest.mark.parametrize(("kind", "steps"), [("snn_dt", 0), ("snn_dt", 9), ("snn_dt_stream", 2)])
def test_a_context_that_the_policy_cannot_have_is_a_mistake(tmp_path, capsys, kind, steps):
    folder = countdown_policy(kind=kind).save_pretrained(tmp_path / "policy")
    status, _, err = run(capsys, "--checkpoint", folder, "--context-length", steps)
    assert status == 2
    expected = "a policy that decides from a state" if "stream" in kind else "1 to 6 steps of context, as in training"
    assert "--context-length: expected" in err
    assert expected in err
