"""Self-contained HTML pages: inline pictures, no scripts, no network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import zip_longest
from pathlib import Path
from typing import Any

from snn_dt.io import write_atomically


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str

    def html(self) -> str:
        """Return the element."""
        return f"<p>{escape(self.text)}</p>"


@dataclass(frozen=True)
class Code:
    """Preformatted text, such as a command or a YAML file."""

    text: str

    def html(self) -> str:
        """Return the element."""
        return f"<pre>{escape(self.text)}</pre>"


@dataclass(frozen=True)
class Picture:
    """A PNG of at most `width` CSS pixels. The caption is also its alternative text."""

    png: bytes
    caption: str
    width: int = 720

    def html(self) -> str:
        """Return the element."""
        caption, data = escape(self.caption, quote=True), base64.b64encode(self.png).decode()
        image = f'<img alt="{caption}" src="data:image/png;base64,{data}" style="width: {self.width}px">'
        return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


@dataclass(frozen=True)
class Table:
    """A table. Numbers are shortened; they and percentages are right-aligned, and so is the head of their column.

    A table that is wider than the page scrolls in a box of its own; its first column stays in sight.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def html(self) -> str:
        """Return the element."""
        # The first row decides on the alignment of a column.
        right = [_is_number(value) or _is_share(value) for value in self.rows[0]] if self.rows else []
        head = "".join(
            f"<th{_NUMBER if numeric else ''}>{escape(str(name))}</th>"
            for name, numeric in zip_longest(self.columns, right, fillvalue=False)
        )
        body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in self.rows)
        return (
            f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        )


@dataclass(frozen=True)
class Facts:
    """Names and values, one pair per line. Nested values take one line."""

    values: Mapping[str, Any]

    def html(self) -> str:
        """Return the element."""
        rows = "".join(f"<dt>{escape(str(k))}</dt><dd>{escape(_short(v))}</dd>" for k, v in self.values.items())
        return f"<dl>{rows}</dl>"


@dataclass(frozen=True)
class Folded:
    """A part behind a line that opens it."""

    summary: str
    part: Text | Code | Picture | Table | Facts

    def html(self) -> str:
        """Return the element."""
        return f"<details><summary>{escape(self.summary)}</summary>{self.part.html()}</details>"


Part = Text | Code | Picture | Table | Facts | Folded


def write_report(path: Path, title: str, sections: Sequence[tuple[str, Sequence[Part]]], about: str = "") -> None:
    """Write a page atomically. All text is escaped.

    Args:
        path: the .html file.
        title: title of the page.
        sections: (heading, parts) from top to bottom.
        about: a line under the title, such as run, data and date. It is a part of the page's name in the browser.

    Raises:
        OSError: the file cannot be written.
    """
    body = "".join(
        f"<section><h2>{escape(heading)}</h2>{''.join(part.html() for part in parts)}</section>"
        for heading, parts in sections
    )
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(', '.join(part for part in (title, about) if part))}</title><style>{_STYLE}</style></head>\n"
        f"<body><main><header><h1>{escape(title)}</h1><p>{escape(about)}</p></header>{body}</main></body></html>\n"
    )
    write_atomically(path, page.encode(errors="replace"))  # JSON may hold a lone surrogate, which UTF-8 cannot


def number(value: float) -> str:
    """Return a number with four significant digits and separated thousands."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _cell(value: Any) -> str:
    if _is_number(value):
        return f"<td{_NUMBER}>{number(value)}</td>"
    return f"<td{_NUMBER if _is_share(value) else ''}>{escape('' if value is None else str(value))}</td>"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_share(value: Any) -> bool:
    return isinstance(value, str) and value.endswith(" %")


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    return "–" if value is None else str(value)


_NUMBER = ' class="number"'
_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f4f5f7; color: #222; font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem; }
header { margin: .5rem 0 1.2rem; overflow-wrap: anywhere; } header p { color: #555; margin: .2rem 0; max-width: none; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0; } h2 { font-size: 1.15rem; margin: 0 0 .8rem; }
section { background: #fff; border: 1px solid #e3e6ea; border-radius: 8px; padding: 1.2rem; margin-bottom: 1.2rem; }
p { margin: .6rem 0; max-width: 46rem; overflow-wrap: anywhere; }
figure { margin: 1rem 0; text-align: center; } img { max-width: 100%; height: auto; }
figcaption { color: #555; font-size: .88rem; }
.wide { overflow-x: auto; margin: .8rem 0; background: /* a shadow where the table goes on */
  linear-gradient(270deg, #fff 40%, transparent) right / 2.5rem 100% no-repeat local,
  linear-gradient(270deg, #aab4c2, transparent) right / 1rem 100% no-repeat scroll; }
table { border-collapse: collapse; font-size: .88rem; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid #e3e6ea; text-align: left; vertical-align: bottom; }
th:first-child, td:first-child { position: sticky; left: 0; background: #fff; padding-left: 0; }
th { color: #555; font-weight: 600; } td { white-space: nowrap; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: #f4f5f7; border-radius: 6px; padding: .8rem; font-size: .85rem; margin: .5rem 0;
  white-space: pre-wrap; overflow-wrap: anywhere; }
details { margin: .6rem 0; } summary { cursor: pointer; color: #0072b2; }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .25rem 1rem; font-size: .9rem; }
dt { color: #555; overflow-wrap: anywhere; } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  main { padding: .7rem; } section { padding: .8rem; border-radius: 6px; } h1 { font-size: 1.35rem; }
  table { font-size: .78rem; } th, td { padding: .3rem; } dl { grid-template-columns: 1fr; }
  dd { margin-bottom: .4rem; }
}
@media print { body { background: #fff; } section { border: 0; padding: 0; break-inside: avoid; } }
"""
