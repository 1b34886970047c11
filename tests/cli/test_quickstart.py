"""`snn-dt quickstart` leaves a policy, its evaluation and a report in any folder, and says what to do next."""

from __future__ import annotations

import json

import snn_dt
from snn_dt.cli.main import main
from tests.runs import shared_cache as shared_cache

TINY = (
    "--model.d_model 8 --model.n_layers 1 --model.context_length 2 --train.steps 2 --train.device cpu --eval.episodes 0"
)


def test_an_empty_folder_gets_a_policy_an_evaluation_and_a_report(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("snn_dt.cli.quickstart.EPISODES", "2")
    assert main(["quickstart", *TINY.split()]) == 0
    said = capsys.readouterr().out
    assert snn_dt.from_pretrained("runs/quickstart").spec.env_id == "CartPole-v1"
    rows = json.loads((tmp_path / "runs/quickstart/evaluation.json").read_text())
    assert [row["target_return"] for row in rows] == [500, 100, 29]
    assert (tmp_path / "runs/quickstart/report/report.html").is_file()
    assert "snn-dt train quickstart --run-dir runs/quickstart" in said, "each step names the command that makes it"
    end = said.partition("Done in ")[2].splitlines()
    assert len(end) > 5
    assert max(map(len, end)) <= 80
    assert [path.name for path in tmp_path.iterdir()] == ["runs"], "nothing else is written"
    (tmp_path / "runs/quickstart/report/report.html").write_text("mine")
    assert main(["quickstart", *TINY.split(), "--train.seed=1"]) == 0
    assert (tmp_path / "runs/quickstart-2/evaluation.json").is_file(), "a second one takes a new folder"
    assert (tmp_path / "runs/quickstart/report/report.html").read_text() == "mine"


def test_a_mistake_in_a_flag_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words in (["--train.stpes", "1"], ["--run-dir"]):
        assert main(["quickstart", *words]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert main(["quickstart", "--help"]) == 0
    assert list(tmp_path.iterdir()) == []
