"""What is published: metadata, files and sizes, and every install hint names an extra that exists."""

from __future__ import annotations

import re
import sys
import tomllib
import zlib
from pathlib import Path

import pytest

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HATCH = PROJECT["tool"]["hatch"]
PAGES = [
    *ROOT.glob("snn_dt/**/*.py"), *ROOT.glob("docs/*.md"), *ROOT.glob("tests/**/*.py"), *ROOT.glob("scripts/*"),
    *ROOT.glob("*.md"), *ROOT.glob("results/**/*.md"),
]  # fmt: skip


def hints() -> dict[str, set[str]]:
    """Every extra that a text of the repository tells to install, with the files that do."""
    found: dict[str, set[str]] = {}
    for path in PAGES:
        if path.is_file() and path.suffix in (".py", ".md", ".sh"):
            for extras in re.findall(r"(?:snn-dt|-e \"?'?\.)\[([a-z0-9_, ]+)\]", path.read_text()):
                for extra in extras.split(","):
                    found.setdefault(extra.strip(), set()).add(path.relative_to(ROOT).as_posix())
    return found


def test_every_extra_that_a_hint_names_exists():
    named = hints()
    assert len(named) >= 5
    assert {"mujoco", "hub", "video", "ray"} <= set(named)
    assert {extra: files for extra, files in named.items() if extra not in extras()} == {}


def test_the_extra_all_is_made_of_extras():
    [line] = extras()["all"]
    assert set(re.search(r"\[(.*)\]", line)[1].split(",")) < set(extras())


def test_links_of_the_page_on_pypi_are_addresses_of_the_repository():
    address = PROJECT["project"]["urls"]["Homepage"]
    text = (ROOT / "README.md").read_text()
    for rule in HATCH["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 5
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    ours = address.removeprefix("https://github.com/")
    made = [link for link in links if "/main/" in link]
    assert made
    assert all(link.startswith((f"{address}/", f"https://raw.githubusercontent.com/{ours}/")) for link in made)
    assert all((ROOT / re.sub(r".*?/main/", "", link).partition("#")[0]).exists() for link in made)


def test_what_ships_besides_code_is_there_and_small():
    shipped = HATCH["build"]["targets"]["wheel"]["force-include"]
    assert "results/pretrained/cartpole-snn_dt" in shipped
    files = [
        file for name in [*shipped, "snn_dt"] for file in [ROOT / name, *(ROOT / name).rglob("*")] if file.is_file()
    ]
    files = [file for file in files if "__pycache__" not in file.parts]
    compressed = sum(len(zlib.compress(file.read_bytes(), 6)) for file in files)
    assert compressed < 2.6e6
    for name in shipped:
        assert (ROOT / name).exists(), name
        assert any(name.startswith(listed) for listed in HATCH["build"]["targets"]["sdist"]["only-include"]), name


def test_the_python_of_these_tests_is_one_that_the_metadata_name():
    version = f"Programming Language :: Python :: {sys.version_info[0]}.{sys.version_info[1]}"
    assert version in PROJECT["project"]["classifiers"]


def test_every_licence_file_is_there():
    for name in PROJECT["project"]["license-files"]:
        assert "MIT License" in (ROOT / name).read_text()


@pytest.mark.parametrize("path", ["scripts/new_user.sh", "scripts/release.py", "scripts/quickstart.sh"])
def test_the_scripts_of_the_install_page_exist(path):
    assert path in (ROOT / "docs/install.md").read_text()
    assert Path(ROOT / path).is_file()


def extras() -> dict[str, list[str]]:
    return PROJECT["project"]["optional-dependencies"]
