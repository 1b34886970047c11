"""In a browser a report fits its window, on a desk and on a phone. Needs Chromium (apt-get install chromium)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import numpy as np
import pytest

from snn_dt.evaluation.rollout import evaluate
from snn_dt.report.run_report import write_run_report
from tests.patience import HANG
from tests.policies import countdown_policy

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
MEASURE = """<script>
for (const fold of document.querySelectorAll("details")) fold.open = true;
const page = document.documentElement, boxes = [...document.querySelectorAll(".wide")];
const cut = [...document.querySelectorAll("main *")].filter(element =>
  !element.closest(".wide") && element.getBoundingClientRect().right > page.clientWidth + 1);
document.title = ["WIDTH", page.scrollWidth, page.clientWidth, cut.length, boxes.length].join(" ");
</script>"""


def browse(page, folder, width, *options):
    """Run the browser on a page and return what it prints."""
    command = [CHROMIUM, *QUIET, f"--user-data-dir={folder}", f"--window-size={width},2400", *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=True).stdout


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
    measured = tmp_path / "out" / "measured.html"
    measured.write_text(page.read_text().replace("</body>", f"{MEASURE}</body>"))
    dom = browse(measured, tmp_path / "profile", width, "--dump-dom")
    scrolled, shown, cut, tables = map(int, re.search(r"<title>WIDTH (\d+) (\d+) (\d+) (\d+)</title>", dom).groups())
    assert shown <= max(width, 500)  # the narrowest window of some versions
    assert scrolled <= shown
    assert cut == 0
    assert tables >= 4
    if folder := os.environ.get("SNN_DT_ARTEFACTS"):
        browse(page, tmp_path / "profile", width, f"--screenshot={folder}/report-{width}.png")
