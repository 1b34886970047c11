"""The measures of scripts/house.py stay within their limits."""

from __future__ import annotations

import shutil

import pytest

from tests.conftest import ROOT, load_script

house = load_script("house")
LIMITS = {
    "core lines": 26_800,
    "core lines of code": 17_100,  # without comments, docstrings and empty lines
    "core packages": 10,
    "import cycles": [],
    "names used twice in core": [],
    "YAML files": 64,
    "tree MB": 35,
    "README lines": 170,
}
READING = {"training step": (23, 3_300), "decision": (12, 2_000)}


@pytest.fixture(scope="module")
def measures():
    """What is measured in this checkout without running anything."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a checkout")
    return house.static_measures()


@pytest.mark.parametrize("name", LIMITS)
def test_the_house_stays_within_its_limits(measures, name):
    assert measures[name] <= LIMITS[name]


@pytest.fixture(scope="module")
def reading():
    """The files of a training step and of a decision."""
    return house.reading_lists()


@pytest.mark.parametrize("path", READING)
def test_what_a_newcomer_reads_stays_short(reading, path):
    files, lines = len(reading[path]), sum(map(house.line_count, reading[path]))
    most_files, most_lines = READING[path]
    assert files <= most_files, [file.name for file in reading[path]]
    assert lines <= most_lines


@pytest.mark.parametrize(
    ("edges", "groups"),
    [
        ({("a", "b"), ("b", "c")}, []),
        ({("a", "b"), ("b", "a"), ("c", "a")}, [["a", "b"]]),
        ({("a", "b"), ("b", "c"), ("c", "a"), ("d", "e"), ("e", "d")}, [["a", "b", "c"], ["d", "e"]]),
    ],
)
def test_circles_of_imports_are_found(edges, groups):
    assert house.cycles(edges) == groups


def test_comments_and_commas_are_counted_without_code(tmp_path):
    path = tmp_path / "a.py"
    path.write_text('"""One thing, and another. Shapes `[B, K, D]` do not count.\n\nTwo\n"""\n# why\nx = "#"\n')
    assert house.comment_density([path]) == pytest.approx(100 / 6)
    assert house.commas_per_sentence([path]) == 0.5
    assert house.code_lines(path) == 1


def test_only_the_package_s_own_files_are_traced(tmp_path):
    trace = house.Trace()
    from snn_dt.errors import did_you_mean

    with trace.running():
        did_you_mean("stpes", ["steps"])
        shutil.which("git")
    assert [path.name for path in trace.files] == ["errors.py"]
