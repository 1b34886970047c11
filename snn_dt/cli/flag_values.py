"""Parsing of flag values, which are written as in a config file.

Examples: `1e3` for an integer, `true`, `null`. A list is `-1 500` or `[-1, 500]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from snn_dt import strict
from snn_dt.errors import ConfigError
from snn_dt.plain_yaml import parse_yaml

_NAMES = {bool: "{true,false}", int: "INT", float: "FLOAT", str: "STR", Path: "PATH", NoneType: "null"}


def registry() -> Any:
    """Return tyro's rules for numbers, booleans, paths, optional values and lists. Others keep tyro's own rules."""
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec

    rules = ConstructorRegistry()

    @rules.primitive_rule
    def as_in_a_file(info: Any) -> Any:
        hint, several = info.type, get_origin(info.type) is tuple
        if not (hint in (bool, int, float, Path) or several or NoneType in get_args(hint)):
            return None
        return PrimitiveConstructorSpec(
            nargs="*" if several else 1,
            metavar=_metavar(hint),
            instance_from_str=lambda words: _read(words, hint),
            is_instance=lambda value: True,
            str_from_instance=lambda value: [word(item) for item in value] if several and value else [word(value)],
        )

    return rules


def _read(words: Sequence[str], hint: Any) -> Any:
    """Convert words to a value of type `hint`. tyro reports a `ValueError` with the name of the flag."""
    several, optional = get_origin(hint) is tuple, NoneType in get_args(hint)
    # `X | None` and `tuple[X, ...]` -> X
    inner = next((a for a in get_args(hint) if a is not NoneType), hint)
    if optional and words[0] in ("null", "None"):
        return None
    if inner is Path:
        return tuple(map(path, words)) if several else path(words[0])
    text = inner is str or get_origin(inner) is Literal
    try:
        values = [word if text else parse_yaml(word) for word in words]
        # One word in brackets is a whole list; otherwise each word is an item.
        if several and len(words) == 1 and words[0].startswith("["):
            values = parse_yaml(words[0])
        return strict.cast(values if several else values[0], hint, "", "")
    except (ConfigError, ValueError):
        raise ValueError(f"expected {strict.describe(hint)}, found {strict.short(' '.join(words))}") from None


def path(word: str) -> Path:
    """Return a path, or raise `ValueError` if the operating system does not allow it.

    An empty path is refused too. It would mean the current folder, and an unset shell variable leaves one.
    """
    found = ""
    if not word.strip():
        found = "an empty one (an unset variable?)"
    elif "\0" in word:
        found = "one with the character NUL"
    elif any("\ud800" <= letter <= "\udfff" for letter in word):
        found = f"{word[:60]!r}, which is no valid Unicode"
    elif len(word.encode()) > 4095 or any(len(part.encode()) > 255 for part in Path(word).parts):
        found = f"{word[:60]}... of {len(word)} characters, where a name has at most 255 bytes"
    if found:
        raise ValueError(f"expected a path, found {found}")
    return Path(word)


def _metavar(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if origin is tuple:
        return f"[{_metavar(args[0])} ...]"
    if origin is Literal:
        return "{" + ",".join(map(str, args)) + "}"
    return "|".join(map(_metavar, args)) if args else _NAMES.get(hint, "VALUE")


def word(value: Any) -> str:
    """Return a default as it is written in a file."""
    if isinstance(value, bool):
        return str(value).lower()
    return {(): "[]", None: "null"}.get(value) or str(value)
