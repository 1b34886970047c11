"""Links lead to files, commands have their flags, README's Python runs, and pages use the words of the field."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import pkgutil
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from snn_dt import named
from snn_dt.cli.main import COMMANDS, main
from snn_dt.renamed import RENAMED
from tests.conftest import ROOT
from tests.test_extending import own_entries

DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted(ROOT.glob("docs/*.md"))]
PAGES = [
    *DOCS,
    ROOT / "CHANGELOG.md",
    ROOT / "datasets" / "README.md",
    *(path for folder in ("results", "experiments") for path in sorted(ROOT.glob(f"{folder}/**/*.md"))),
]
FENCED = re.compile(r"^ *```(\w*)(?: run)?\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
RUNNABLE = re.compile(r"^```python run\n(.*?)^```", re.DOTALL | re.MULTILINE)
PARTS = {
    "data": ("info", "cache", "collect", "list"),
    "analyse": ("gradients", "stability", "eprop"),
    "hub": ("push",),
    "import": ("hf", "original"),
}
"""Commands of commands."""

# Words of 0.1.0 that meant several things, or that are no term of the field; what to write stands behind them.
DIALECT = {
    r"asked for|asks for": "target return, requested, required",
    r"\blanes?\b": "episode streams",
    r"\bdeaf\b|\bhears?\b": "ignores / follows its target return",
    r"yardstick": "baseline",
    r"recurrent twin": "recurrent baseline",
    r"\bheld to (a|so|so little)\b": "limited to",
    r"\bby heart\b": "overfits",
    r"raised returns": "return-to-go augmentation",
    r"-sparse\d*\b|-6500k\b|-plain\b": "names of variants in docs/glossary.md",
    rf"\b({'|'.join(RENAMED)})\b": "docs/glossary.md, old names",
}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", FENCED.sub("", text))


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    titles = re.findall(r"^#+ +(.*)$", FENCED.sub("", path.read_text()), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)|`", r"\1", title).lower() for title in titles)
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_to_a_file_and_a_heading(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if re.match(r"\w+:", link):
            continue
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name(page)}: {link}"
        if heading:
            assert heading in anchors(target), f"{name(page)}: {link}"


@pytest.mark.parametrize("page", DOCS, ids=name)
def test_every_path_that_a_page_names_is_there(page):
    folders = "tests|snn_dt|configs|scripts|docs|results|experiments|datasets"
    rooted = rf"(?:{folders})/[\w./-]+\.(?:py|md|yaml|sh|cpp|png|json)"
    text = page.read_text()
    for path in sorted(set(re.findall(rf"(?<![\w/.-]){rooted}", text))):
        assert (ROOT / path).exists(), f"{name(page)}: {path}"
    for path in sorted(set(re.findall(r"`((?!\w*/?NAME)[a-z_]+/[a-z_/]+\.py)`", text))):
        assert (ROOT / path).exists() or (ROOT / "snn_dt" / path).exists(), f"{name(page)}: {path}"


@pytest.mark.parametrize("page", DOCS, ids=name)
def test_every_python_name_that_a_page_gives_can_be_imported(page):
    text, _, old = page.read_text().partition("## Old names")
    text += "".join(row.split("|")[2] for row in old.splitlines() if row.startswith("|"))  # the column of new names
    for dotted in sorted(set(re.findall(r"(?<![\w/-])snn_dt(?:\.\w+)+", text))):
        if dotted != "snn_dt.plugins" and not dotted.endswith((".py", ".cpp", ".yaml")):  # a group of entry points
            assert pkgutil.resolve_name(dotted) is not None, f"{name(page)}: {dotted}"


@cache
def flags(command: tuple[str, ...]) -> frozenset[str]:
    """The flags that a command's help names."""
    if command[0].endswith(".py"):
        help_flag = "--help-all" if command[0] == "scripts/train.py" else "--help"
        done = subprocess.run([sys.executable, str(ROOT / command[0]), help_flag], capture_output=True, text=True)
        text = done.stdout
    else:
        text = help_of(list(command))
    return frozenset(flag.replace("-", "_") for flag in re.findall(r"--([a-zA-Z][\w.-]*\w)", text))


def help_of(words: list[str]) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main([*words, "--help-all" if words[0] == "train" else "--help"])
    return said.getvalue()


def commands(text: str) -> list[str]:
    """The commands of a page: lines of its code blocks, and code within its lines."""
    blocks = "\n".join(body for _, body in FENCED.findall(text)).replace("\\\n", " ")
    indented = "\n".join(re.findall(r"^    (.*)$", text, re.MULTILINE)).replace("\\\n", " ")
    inline = re.findall(r"`([^`]+)`", FENCED.sub("", text))
    lines = [re.sub(r"\s#.*", "", line) for line in [*blocks.splitlines(), *indented.splitlines()]]
    return [*lines, *(" ".join(code.split()) for code in inline)]


def calls(line: str) -> list[tuple[tuple[str, ...], str]]:
    """The calls of our programs in one line of a shell: the command, and the words behind it."""
    found = []
    for match in re.finditer(r"snn-dt ([a-z]+)(?: ([a-z]+))?([^|;]*)", line):
        part = [match[2]] if match[2] in PARTS.get(match[1], ()) else []
        found.append(((match[1], *part), match[3]))
    for match in re.finditer(r"(scripts/(?:train|evaluate|reproduce)\.py)([^|;]*)", line):
        found.append(((match[1],), match[2]))
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_that_a_page_shows_has_its_flags(page):
    for line in commands(page.read_text()):
        for command, words in calls(line):
            assert command[0] in COMMANDS or command[0].endswith(".py"), f"{name(page)}: {line}"
            known = flags(command) | {"help", "help_all", "no_count", "release", "trust_env_spec"}
            for flag in re.findall(r"(?<![\w-])--([a-zA-Z][\w.-]*)", words):
                assert flag.rstrip(".").replace("-", "_") in known, f"{name(page)}: --{flag} of {line}"


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 170


def test_the_first_training_of_readme_needs_no_more_than_the_quickstart_installs():
    text = (ROOT / "README.md").read_text()
    preset, variant = re.search(r"snn-dt train (\S+) --variant (\S+) --run-dir", text).groups()
    assert preset in named.presets()
    assert variant in named.presets("variant")
    assert preset == "cartpole", "MuJoCo is not in the core"
    assert 'setup.sh ""' in (ROOT / "scripts" / "quickstart.sh").read_text()


@pytest.mark.parametrize("page", DOCS, ids=name)
def test_the_python_of_a_page_can_be_parsed(page):
    for language, body in FENCED.findall(page.read_text()):
        if language == "python":
            ast.parse(body)


def test_the_python_of_readme_runs(monkeypatch):
    monkeypatch.chdir(ROOT)
    for language, body in FENCED.findall((ROOT / "README.md").read_text()):
        if language == "python":
            namespace: dict[str, object] = {}
            exec(compile(body, "README.md", "exec"), namespace)
            assert namespace["terminated"] or namespace["truncated"]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder as a user's, with what a clone has. Trainings take one core, because the others may be busy."""
    for folder in ("configs", "datasets", "results"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    yield
    os.sched_setaffinity(0, cores)


@pytest.mark.parametrize("page", [page for page in DOCS if RUNNABLE.search(page.read_text())], ids=name)
def test_the_blocks_that_a_page_marks_with_run_run_in_order(page, workplace):
    namespace: dict[str, object] = {"__name__": "a_page"}
    for body in RUNNABLE.findall(page.read_text()):
        exec(compile(body, name(page), "exec"), namespace)


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/notebooks/*.ipynb")), ids=name)
def test_a_notebook_runs_from_top_to_bottom(path, workplace):
    namespace: dict[str, object] = {"__name__": "a_notebook"}
    cells = json.loads(path.read_text())["cells"]
    assert not any(cell.get("outputs") for cell in cells), "clear the outputs: they age, and they fill the repository"
    with own_entries():
        for cell in cells:
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), name(path), "exec"), namespace)


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/notebooks/*.ipynb")), ids=name)
def test_every_link_of_a_notebook_leads_to_a_file(path):
    text = "".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"])
    for link in re.findall(r"\]\(([^)\s:#]+)\)", text):
        assert (path.parent / link).exists(), f"{name(path)}: {link}"


def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    pip = "pip install -e '.[docs]'"
    for module in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(module, reason=f"{module} is not installed: {pip}")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", str(ROOT / "scripts" / "docs.sh"), str(tmp_path / "site")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PATH": path})
    assert done.returncode == 0, done.stdout + done.stderr
    for page in DOCS:
        if page.parent == ROOT / "docs":
            assert (tmp_path / "site" / f"{page.stem}.html").exists(), f"{page.name} is in no folder of the site"


def test_every_page_has_a_place_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text()
    for page in (page for page in DOCS if page.parent == ROOT / "docs"):
        assert re.search(rf"[ /]{re.escape(page.name)}$", text, re.MULTILINE), f"{page.name} is not in mkdocs.yml"


@pytest.mark.parametrize("page", DOCS, ids=name)
def test_the_words_of_a_page_are_those_of_the_field(page):
    text = page.read_text()
    if page.name == "glossary.md":
        text = text.partition("## Old names")[0]
    for pattern, better in DIALECT.items():
        found = re.search(rf".*(?:{pattern}).*", text)
        assert not found, f"{name(page)}: {found[0]!r}; write: {better}"
