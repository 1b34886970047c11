"""Whatever the files beside a checkpoint say, an evaluation has its report: the odd part is left out and named."""

from __future__ import annotations

import json

import numpy as np
import pytest

from snn_dt.report.run_report import write_run_report
from tests.report.test_run_report import RASTER, ROW

DEEP = "[" * 20_000 + "]" * 20_000
ODD = {
    "config is a number": ('{"config": 5}', None, "config"),
    "config is a list": ('{"config": [1, 2]}', None, "config"),
    "config is text": ('{"config": "base"}', None, "config"),
    "the model in it is a list": ('{"config": {"model": [1]}}', None, "config"),
    "sim_steps is text": ('{"config": {"model": {"sim_steps": "four"}}}', None, "spike raster"),
    "sim_steps is null": ('{"config": {"model": {"sim_steps": null}}}', None, "spike raster"),
    "command is a number": ('{"command": 7}', None, "command"),
    "command is a list": ('{"command": ["snn-dt", "train"]}', None, "command"),
    "provenance is a list": ("[1]", None, "provenance.json"),
    "provenance is torn": ('{"a": ', None, "provenance.json"),
    "provenance is empty": ("", None, "provenance.json"),
    "provenance is deep": (DEEP, None, "provenance.json"),
    "quantiles are text": ("{}", "many", "returns of the data"),
    "quantiles are a number": ("{}", 5.0, "returns of the data"),
    "quantiles are nested": ("{}", [[1.0], [2.0, 3.0]], "returns of the data"),
    "quantiles are digits as text": ("{}", ["1", "2"], "returns of the data"),
    "quantiles hold NaN": ("{}", [1.0, float("nan")], "returns of the data"),
    "quantiles hold null": ("{}", [1.0, None], "returns of the data"),
    "quantiles are an object": ("{}", {"low": 1}, "returns of the data"),
    "quantiles are true": ("{}", True, "returns of the data"),
}


@pytest.fixture
def report(tmp_path):
    """Write a report of a checkpoint whose files say what they are told to; returns the page and the warnings."""

    def write(provenance: str = "{}", quantiles=None, policy="{}", config=None, metrics=None, row=ROW):
        run = tmp_path / "run"
        last = run / "checkpoints" / "last"
        last.mkdir(parents=True)
        (last / "provenance.json").write_text(provenance)
        (last / "config.json").write_text(f'{{"policy": {policy}}}')
        if config is not None:
            (run / "config.yaml").write_text(config)
        if metrics is not None:
            (run / "metrics.jsonl").write_text(metrics)
        said = []
        page = write_run_report(run, [row], tmp_path / "out", RASTER, data_returns=quantiles, say=said.append)
        assert (tmp_path / "out" / "return_vs_target.png").is_file()
        assert json.loads((tmp_path / "out" / "evaluation.json").read_text())[0]["return_mean"] == 495.0
        return page.read_text(encoding="utf-8"), said

    return write


@pytest.mark.parametrize("case", ODD)
def test_an_odd_part_is_left_out_with_one_warning_that_names_it(report, case):
    provenance, quantiles, named = ODD[case]
    page, said = report(provenance, quantiles)
    assert "95 % interval" in page
    assert len(said) == 1
    assert said[0].startswith("warning: the report leaves out ")
    assert named in said[0]
    assert "\n" not in said[0]


@pytest.mark.parametrize(
    "files",
    [
        {"policy": "[1]"},
        {"policy": '{"reference": {"min": "low", "max": 1}}', "row": ROW | {"normalized_score": 50.0}},
        {"policy": '{"reference": {"min": NaN, "max": 1}}', "row": ROW | {"normalized_score": 50.0}},
        {"config": "model: [1]\n"},
        {"config": "- 1\n"},
        {"config": "a: !!int x\n"},
        {"config": DEEP},
        {"metrics": '{"loss": 0.5, "step": "x"}\n{"loss": 0.5}\n'},
        {"metrics": '{"loss": 0.5, "step": 1, "evaluation": 3}\n'},
    ],
)
def test_other_files_may_be_odd_too(report, files):
    _, said = report(**files)
    assert len(said) == 1


def test_a_lone_surrogate_is_written_as_a_question_mark(report):
    page, said = report('{"dataset_id": "a\\ud800b", "command": "x\\ud800"}')
    assert "a?b" in page
    assert "x?" in page
    assert said == []


def test_good_files_leave_nothing_out(report):
    page, said = report(
        '{"command": "snn-dt train", "config": {"model": {"kind": "snn_dt", "sim_steps": 4}}}',
        np.linspace(0, 500, 101).tolist(),
        metrics='{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n',
    )
    assert "snn-dt train" in page
    assert page.count("<img") == 4
    assert said == []
