"""Hook of mkdocs.yml: the site also shows what the pages link to outside docs/, and the notebooks.

A file of the repository that a page links to is copied to `project/PATH` of the site; a Markdown file becomes a page,
whose links are followed in turn. A folder stands for its README.md. A link to anything else outside docs/ becomes plain
text.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PROJECT = "project"
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\]\([^)]*\))*)\]\(([^)\s#]*)(#[^)\s]*)?\)")
CODE = re.compile(r"(^ *```.*?^ *```|`[^`\n]*`)", re.DOTALL | re.MULTILINE)
FIRST = (
    "results/README.md",
    "results/bench/README.md",
    "results/pretrained/README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
)


def on_files(files: Files, config: Any) -> Files:
    """Add the notebooks as pages, and what pages link to outside docs/."""
    for notebook in sorted((DOCS / "notebooks").glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=notebook_page(notebook)))
    waiting = [*DOCS.rglob("*.md"), *(ROOT / name for name in FIRST)]
    seen = set(waiting)
    while waiting:
        page = waiting.pop()
        if not page.is_relative_to(DOCS):
            add(files, config, page)
        for found in LINK.finditer(CODE.sub("", page.read_text())):
            target = target_of(page, found[3])
            if target is None or target in seen or target.is_relative_to(DOCS):
                continue
            seen.add(target)
            if target.suffix == ".md":
                waiting.append(target)
            else:
                add(files, config, target)
    return files


def add(files: Files, config: Any, path: Path) -> None:
    """Put a file of the repository on the site."""
    files.append(File.generated(config, place(path), abs_src_path=str(path)))


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point the links of a page to where their targets are on the site, and take `run` off code blocks."""
    uri = page.file.src_uri
    source = ROOT / uri.removeprefix(f"{PROJECT}/") if uri.startswith(f"{PROJECT}/") else DOCS / uri

    def link(found: re.Match[str]) -> str:
        mark, text, path, anchor = found[1], LINK.sub(link, found[2]), found[3], found[4] or ""
        if not path or re.match(r"\w+:", path):
            return f"{mark}[{text}]({path}{anchor})"
        target = target_of(source, path)
        if target is None:
            return text
        return f"{mark}[{text}]({os.path.relpath(place(target), os.path.dirname(uri) or '.')}{anchor})"

    parts = CODE.split(re.sub(r"^```python run$", "```python", markdown, flags=re.MULTILINE))
    return "".join(part if i % 2 else LINK.sub(link, part) for i, part in enumerate(parts))


def target_of(page: Path, link: str) -> Path | None:
    """Return the file that a relative link of a page names, or None if there is none."""
    if not link or re.match(r"\w+:", link):
        return None
    target = Path(os.path.normpath(page.parent / link))
    target = target / "README.md" if target.is_dir() else target
    return target if target.is_file() or target.parent == DOCS / "notebooks" else None


def place(path: Path) -> str:
    """Return where a file of the repository is on the site."""
    return (
        path.relative_to(DOCS).as_posix()
        if path.is_relative_to(DOCS)
        else f"{PROJECT}/{path.relative_to(ROOT).as_posix()}"
    )


def notebook_page(path: Path) -> str:
    """Return a notebook as Markdown: text, code, and the text that the code printed."""
    parts = []
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        printed = "".join("".join(output.get("text", [])) for output in cell.get("outputs", []))
        parts += [f"```text\n{printed.rstrip()}\n```"] if printed else []
    return "\n\n".join([*parts, f"[This page as a notebook]({path.name})\n"])
