"""`scripts/check_tree.sh`: the repository stays light."""

from __future__ import annotations

import re
import subprocess

import pytest

from snn_dt.training.sweep.grid import read_sweep
from tests.conftest import ROOT

SCRIPT = ROOT / "scripts" / "check_tree.sh"


@pytest.fixture
def tree(tmp_path):
    """Return a function that puts files of given sizes into a repository and checks it: (exit status, what it says)."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)

    def check(**sizes: int) -> tuple[int, str]:
        for name, size in sizes.items():
            path = tmp_path / name.replace("__", "/").replace("_DOT_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * size)
        subprocess.run(["git", "-C", str(tmp_path), "add", "-A"], check=True)
        done = subprocess.run(["bash", str(SCRIPT), str(tmp_path)], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    return check


def test_a_light_tree_passes_and_its_size_is_printed(tree):
    assert tree(a_DOT_md=3_000, b_DOT_yaml=2_000) == (
        0, "tree: 5 kB of 35000 kB, 1 of 64 YAML files, 0 files too large\n",
    )  # fmt: skip


def test_a_large_file_that_nobody_has_agreed_to_is_refused_by_name(tree):
    status, said = tree(results__big_DOT_json=1_000_001)
    assert status == 1
    assert "results/big.json: expected at most 1 MB, found 1000001 bytes" in said
    assert tree(results__big_DOT_json=1_000_000)[0] == 0


def test_too_many_yaml_files_or_a_tree_too_heavy_are_refused(tree):
    assert tree(**{f"c{i}_DOT_yaml": 1 for i in range(65)})[0] == 1
    assert tree(**{f"c{i}_DOT_yaml": 1 for i in range(65)} | {f"f{i}": 1_000_000 for i in range(36)})[0] == 1


def test_the_quickstart_writes_over_nothing_that_is_tracked():
    text = (ROOT / "scripts" / "quickstart.sh").read_text()
    assert "results/" not in text
    assert "run=runs/quickstart" in text


def test_every_figure_in_results_is_shown_by_a_page():
    pages = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("results/**/*.md")]
    shown = {
        (page.parent / link).resolve()
        for page in pages
        for link in re.findall(r"""(?:\]\(|src=")([^)"\s]+\.png)""", page.read_text())
    }
    figures = {path.resolve() for path in ROOT.glob("results/**/*.png")}
    assert figures <= shown


@pytest.mark.parametrize(
    "folder", sorted(path for path in (ROOT / "experiments").iterdir() if path.is_dir()), ids=lambda folder: folder.name
)
def test_an_experiment_says_what_it_is_and_its_plan_can_be_swept(folder):
    text = (folder / "README.md").read_text()
    assert "results" in text
    for path in folder.iterdir():
        assert path.name == "README.md" or path.name in text, path
    if (folder / "plan.yaml").exists():
        assert read_sweep(folder / "plan.yaml")[1]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_this_repository_is_light():
    done = subprocess.run(["bash", str(SCRIPT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
