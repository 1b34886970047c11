"""`snn-dt data list --public`: the public datasets of known names, in 80 columns."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

from snn_dt.data.public_sets import FAMILIES, PublicSet
from snn_dt.errors import ConfigError

WIDTH = 80
UNKNOWN = "?"


def print_public(word: str = "") -> None:
    """Print the families of public datasets; with a part of a name the sets that have it, and their commands.

    Raises:
        ConfigError: no set has it.
    """
    for line in lines(word):
        print(line)


def lines(word: str = "") -> Iterator[str]:
    """Yield the lines that `print_public` prints, of at most 80 characters but for commands."""
    # At the beginning of a word: `pen` is no part of `open`.
    known = re.compile(rf"(?<![a-z0-9]){re.escape(word)}")
    chosen = ((f, [s for s in f.sets if known.search(s.dataset) or word == f.name]) for f in FAMILIES)
    found = [(family, sets) for family, sets in chosen if sets]
    if not found:
        names = ", ".join(family.name for family in FAMILIES)
        raise ConfigError(f"expected --public with a part of a dataset's name, or one of {names}; found {word!r}")
    for family, sets in found:
        yield f"{family.name}: {family.spaces}; evaluates here: {'yes' if family.evaluation() == 'yes' else 'no'}"
        if (can := family.evaluation()) != "yes":
            yield from _wrapped(can.removeprefix("no: "))
        if family.note:
            yield from _wrapped(family.note)
        yield from _rows(sets)
        if word and family.loads:
            yield from (f"  {family.command(public)}" for public in sets)
        elif family.loads:
            yield from _wrapped(family.command(sets[0]))
        yield ""
    if not word:
        yield from _wrapped("? is not known. Commands of all sets of a family: snn-dt data list --public NAME", "")


def _rows(sets: list[PublicSet]) -> Iterator[str]:
    """Yield the names, with steps and columns. Sets that share both are one paragraph."""
    groups: dict[str, list[str]] = {}
    for public in sets:
        steps = UNKNOWN if public.steps is None else f"{public.steps:,}"
        columns = f"{public.columns[0]} -> {public.columns[1]}" if public.columns else UNKNOWN
        groups.setdefault(f"steps {steps}, columns {columns}", []).append(public.dataset)
    for facts, names in groups.items():
        yield f"  {facts}:"
        yield from _wrapped(" ".join(names), "    ")


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ", break_on_hyphens=False)
