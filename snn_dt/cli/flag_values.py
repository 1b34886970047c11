"""The value of a flag is written as in a config file: `1e3` for an integer, `true`, `null`, `-1 500` or `[-1, 500]`."""

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
    """Return tyro's rules for numbers, booleans, optional values and lists; text and choices keep tyro's own."""
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec

    rules = ConstructorRegistry()

    @rules.primitive_rule
    def as_in_a_file(info: Any) -> Any:
        hint, several = info.type, get_origin(info.type) is tuple
        if not (hint in (bool, int, float) or several or NoneType in get_args(hint)):
            return None
        return PrimitiveConstructorSpec(
            nargs="*" if several else 1,
            metavar=_metavar(hint),
            instance_from_str=lambda words: _read(words, hint),
            is_instance=lambda value: True,
            str_from_instance=lambda value: [_word(item) for item in value] if several and value else [_word(value)],
        )

    return rules


def _read(words: Sequence[str], hint: Any) -> Any:
    """Turn words into a value of type `hint`; ValueError, which tyro reports with the flag's name, if they are none."""
    several, optional = get_origin(hint) is tuple, NoneType in get_args(hint)
    inner = next((a for a in get_args(hint) if a is not NoneType), hint)
    if optional and words[0] in ("null", "None"):
        return None
    if inner is Path:
        return tuple(map(Path, words)) if several else Path(words[0])
    text = inner is str or get_origin(inner) is Literal
    try:
        values = [word if text else parse_yaml(word) for word in words]
        if several and len(words) == 1 and words[0].startswith("["):
            values = parse_yaml(words[0])
        return strict.cast(values if several else values[0], hint, "", "")
    except (ConfigError, ValueError):
        raise ValueError(f"expected {strict.describe(hint)}, found {strict.short(' '.join(words))}") from None


def _metavar(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if origin is tuple:
        return f"[{_metavar(args[0])} ...]"
    if origin is Literal:
        return "{" + ",".join(map(str, args)) + "}"
    return "|".join(map(_metavar, args)) if args else _NAMES.get(hint, "VALUE")


def _word(value: Any) -> str:
    """Write a default as one would write it in a file."""
    if isinstance(value, bool):
        return str(value).lower()
    return {(): "[]", None: "null"}.get(value) or str(value)
