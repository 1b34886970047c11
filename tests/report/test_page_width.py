"""In a browser a report fits its window, on a desk and on a phone. Needs Chromium (apt-get install chromium)."""

from __future__ import annotations

import os

import numpy as np
import pytest

from snn_dt.evaluation.rollout import evaluate
from snn_dt.report.run_report import write_run_report
from tests.browser import CHROMIUM, browse, measure
from tests.policies import countdown_policy


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
@pytest.mark.parametrize("width", [1280, 400])
def test_no_part_of_a_report_is_wider_than_the_window(tmp_path, width):
    rows = evaluate(countdown_policy(kind="snn_dt"), [3.0, 2.0, 1.0], episodes=2, seed=0)
    long = "/a/path/without/a/single/space" * 8
    facts = tmp_path / "run" / "provenance.json"
    facts.parent.mkdir()
    facts.write_text(f'{{"command": "snn-dt train --config {long}", "dataset_id": "{long}", "{long}": "{long}"}}')
    raster = {"blocks.0": np.eye(8, dtype=bool)}
    page = write_run_report(facts.parent, rows, tmp_path / "out", raster, [0.0, 1.0, 4.0], command=long)
    title, scrolled, shown, cut, tables = measure(page, tmp_path / "profile", width)
    assert title.startswith("Countdown-v0, run run")
    assert shown <= max(width, 500)  # the narrowest window of some versions
    assert scrolled <= shown
    assert cut == 0
    assert tables >= 4
    if folder := os.environ.get("SNN_DT_ARTEFACTS"):
        browse(page, tmp_path / "profile", width, f"--screenshot={folder}/report-{width}.png")
