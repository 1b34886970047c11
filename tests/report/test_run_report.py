"""The report of a run: everything in one page, whatever the run folder lacks, and nothing outside the page."""

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from snn_dt.errors import CheckpointError
from snn_dt.evaluation.rollout import evaluate
from snn_dt.report.html import Code, Facts, Folded, Picture, Table, Text, write_report
from snn_dt.report.run_report import write_run_report
from tests.policies import countdown_policy

ROW = {
    "env_id": "CartPole-v1",
    "target_return": 500.0,
    "episodes": 2,
    "returns": [490.0, 500.0],
    "return_mean": 495.0,
    "return_std": 5.0,
    "return_interval": [490.0, 500.0],
    "normalized_score": None,
    "spikes_per_decision": 4312.4,
    "firing_rate": 0.1234,
    "firing_rates": {"blocks.0": 0.0, "blocks.1": 0.2},
    "macs_per_decision": 31234.2,
    "acs_per_decision": 912345.6,
    "energy_pj_per_decision": float("nan"),
    "decisions_per_second": 812.3,
    "seed": 1,
}
RASTER = {"blocks.0": np.zeros((8, 4), dtype=bool), "blocks.1": np.eye(8, dtype=bool)}


class Page(HTMLParser):
    """The words of a page, the sources it loads, and whether every element is closed."""

    def __init__(self, text):
        super().__init__()
        self.words, self.sources, self.open = "", [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data + "\n"


@pytest.fixture
def run_dir(tmp_path):
    last = tmp_path / "run" / "checkpoints" / "last"
    last.mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text("model:\n  kind: snn_dt\n  sim_steps: 4\n")
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n{"st')
    provenance = {
        "command": "train.py --name '<b>&x</b>'",
        "commit": "abc",
        "config": {},
        "versions": {"torch": "2.13"},
    }
    (last / "provenance.json").write_text(json.dumps(provenance))
    (last / "config.json").write_text(json.dumps({"policy": {"reference": {"min": 20.0, "max": 500.0}}}))
    return tmp_path / "run"


def test_the_report_holds_numbers_pictures_config_provenance_and_command(run_dir, tmp_path):
    page = write_run_report(
        run_dir, [ROW, ROW | {"target_return": 30.0}], tmp_path / "a" / "out", RASTER, command="evaluate.py"
    )
    assert page == tmp_path / "a" / "out" / "report.html"
    names = {path.name for path in page.parent.iterdir()}
    pictures = {"return_vs_target.png", "firing_rates.png", "spike_raster.png", "learning_curve.png"}
    assert names == pictures | {"evaluation.json", "report.html"}
    text = page.read_text()
    parsed = Page(text)
    assert parsed.open == []
    shown = [base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in parsed.sources]
    assert sorted(shown) == sorted((page.parent / name).read_bytes() for name in pictures)
    for words in (
        "snn_dt on CartPole-v1",
        "912,346",
        "490 to 500",
        "train.py --name '<b>&x</b>'",
        "evaluate.py",
        "torch 2.13",
        "sim_steps: 4",
    ):
        assert words in parsed.words
    assert "<b>" not in text
    assert not re.search(r"https?://|<script|@import|url\(", text)  # nothing is fetched


def test_the_report_says_where_the_energy_goes_and_what_it_is_held_against(run_dir, tmp_path):
    (row,) = evaluate(countdown_policy(kind="snn_dt"), [2.0], episodes=2, seed=0)
    row["layer_flags"] = {"blocks.0.mlp.2": "dead"}
    words = Page(write_run_report(run_dir, [row], tmp_path / "out").read_text()).words
    assert f"{100 * row['energy_vs_same_tokens']:.1f} % of a dense model with the same tokens" in words
    assert f"{100 * row['energy_vs_dt']:.1f} % of a Decision Transformer" in words
    assert "blocks.0.mlp.2 is dead" in words
    for name, module in row["by_module"].items():
        assert name in words
        assert f"\n{100 * module['energy_pj'] / row['energy_pj_per_decision']:.1f} %\n" in words
    assert "blocks.0.attention\n" in words


def test_evaluation_json_is_the_rows_as_valid_json(run_dir, tmp_path):
    write_run_report(run_dir, [ROW], tmp_path / "out")
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text(), parse_constant=pytest.fail)
    assert written == [ROW | {"energy_pj_per_decision": None}]


@pytest.mark.parametrize("where", ["checkpoints/last", "."])
def test_a_checkpoint_folder_inside_a_run_finds_the_run(run_dir, tmp_path, where):
    words = Page(write_run_report(run_dir / where, [ROW], tmp_path / "out").read_text()).words
    assert "kind: snn_dt" in words
    assert "Training" in words
    assert "score" in words


def test_a_bare_folder_a_dense_model_and_damaged_files_still_give_a_report(tmp_path):
    (tmp_path / "provenance.json").write_text("{ torn")
    dense = {key: ROW[key] for key in ("env_id", "target_return", "episodes", "returns", "return_mean", "seed")}
    page = write_run_report(tmp_path, [dense], tmp_path / "out")
    assert {path.name for path in page.parent.iterdir()} == {"evaluation.json", "report.html", "return_vs_target.png"}


def test_a_run_whose_loss_was_never_a_number_has_a_report_without_a_curve(run_dir, tmp_path):
    (run_dir / "metrics.jsonl").write_text('{"step": 1, "loss": null}\n')
    page = write_run_report(run_dir, [ROW], tmp_path / "out")
    assert not (page.parent / "learning_curve.png").exists()


def test_a_folder_that_cannot_be_written_is_named(run_dir, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"expected to write a report to .*file"):
        write_run_report(run_dir, [ROW], tmp_path / "file")


def test_no_rows_are_refused(run_dir, tmp_path):
    with pytest.raises(ValueError, match="at least one evaluation"):
        write_run_report(run_dir, [], tmp_path / "out")


def test_every_text_of_a_page_is_escaped(tmp_path):
    evil = "</pre><script>alert('\"&')</script>"
    parts = [
        Text(evil),
        Code(evil),
        Folded(evil, Code(evil)),
        Picture(b"x", evil),
        Table([evil], [[evil]]),
        Facts({evil: {evil: 1}}),
    ]
    write_report(tmp_path / "page.html", evil, [(evil, parts)], evil)
    text = (tmp_path / "page.html").read_text()
    assert "<script" not in text
    assert Page(text).open == []
    assert Page(text).words.count(evil) == 14


def test_numbers_in_a_table_are_short_and_missing_ones_empty():
    html = Table(["a", "b", "c", "d"], [[1234567.8, 0.123456, None, "x"]]).html()
    assert re.findall(r"<td[^>]*>(.*?)</td>", html) == ["1,234,568", "0.1235", "", "x"]
