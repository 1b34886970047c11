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
    """Preformatted text, such as a command or a YAML file. `folded` is the line that opens it; if empty it is open."""

    text: str
    folded: str = ""

    def html(self) -> str:
        """Return the element."""
        block = f"<pre>{escape(self.text)}</pre>"
        return f"<details><summary>{escape(self.folded)}</summary>{block}</details>" if self.folded else block


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
    """A table. Numbers are shortened and right-aligned. So is the head of a column that starts with a number."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def html(self) -> str:
        """Return the element."""
        # The first row decides on the alignment of a column.
        right = [_is_number(value) for value in self.rows[0]] if self.rows else []
        head = "".join(
            f"<th{_NUMBER if numeric else ''}>{escape(str(name))}</th>"
            for name, numeric in zip_longest(self.columns, right, fillvalue=False)
        )
        body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in self.rows)
        return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


@dataclass(frozen=True)
class Facts:
    """Names and values, one pair per line. Nested values take one line."""

    values: Mapping[str, Any]

    def html(self) -> str:
        """Return the element."""
        rows = "".join(f"<dt>{escape(str(k))}</dt><dd>{escape(_short(v))}</dd>" for k, v in self.values.items())
        return f"<dl>{rows}</dl>"


Part = Text | Code | Picture | Table | Facts


def write_report(path: Path, title: str, sections: Sequence[tuple[str, Sequence[Part]]]) -> None:
    """Write a page atomically. All text is escaped.

    Args:
        path: the .html file.
        title: title of the page.
        sections: (heading, parts) from top to bottom.

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
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main><h1>{escape(title)}</h1>{body}</main></body></html>\n"
    )
    write_atomically(path, page.encode(errors="replace"))  # JSON may hold a lone surrogate, which UTF-8 cannot


def number(value: float) -> str:
    """Return a number with four significant digits and separated thousands."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _cell(value: Any) -> str:
    if _is_number(value):
        return f"<td{_NUMBER}>{number(value)}</td>"
    return f"<td>{escape('' if value is None else str(value))}</td>"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    return "–" if value is None else str(value)


_NUMBER = ' class="number"'
_STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #f4f5f7; color: #222; font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.7rem; margin: .5rem 0 1.2rem; } h2 { font-size: 1.15rem; margin: 0 0 .8rem; }
section { background: #fff; border: 1px solid #e3e6ea; border-radius: 8px; padding: 1.2rem; margin-bottom: 1.2rem; }
p { margin: .6rem 0; max-width: 46rem; } figure { margin: 0 0 1rem; text-align: center; }
img { max-width: 100%; height: auto; } figcaption { color: #6e6e6e; font-size: .88rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .88rem; width: 100%; }
th, td { padding: .35rem .5rem; border-bottom: 1px solid #e3e6ea; text-align: left; vertical-align: bottom; }
th { color: #6e6e6e; font-weight: 600; } td { white-space: nowrap; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: #f4f5f7; border-radius: 6px; padding: .8rem; font-size: .85rem; margin: .5rem 0;
  white-space: pre-wrap; overflow-wrap: anywhere; }
summary { cursor: pointer; color: #0072b2; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; }
dt { color: #6e6e6e; } dd { margin: 0; overflow-wrap: anywhere; }
@media print { body { background: #fff; } section { border: 0; padding: 0; break-inside: avoid; } }
"""
