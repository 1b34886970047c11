"""Strict reading of YAML into frozen dataclasses. Every key must be known and every value of its annotated type."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import math
import os
import types
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from snn_dt import io
from snn_dt.errors import ConfigError, did_you_mean
from snn_dt.io import MAX_DEPTH
from snn_dt.named import config_file
from snn_dt.plain_yaml import MAX_BYTES, NUMBER, parse_yaml
from snn_dt.renamed import current_keys

T = TypeVar("T")

_HINT = "; write a number in decimal digits, as 90 or 1.5e3"


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the nested dictionaries of a YAML file merged over those of the files in its `base` key."""
    return _read_chain(config_file(path, str(path)), (), {})


def load(cls: type[T], *paths: str | Path) -> T:
    """Read YAML files into `cls`. Each overrides those before it and the files that its `base` key names."""
    values: dict[str, Any] = {}
    for path in paths:
        values = merge(values, read_yaml(Path(path)))
    return build(cls, values, " with ".join(map(str, paths)) or "config")


def check_all(checks: Iterable[tuple[str, bool, str, object]]) -> None:
    """Raise a `ConfigError` for the first (field, whether the check holds, expected, found) that fails.

    Numbers that are not finite fail too: a dataclass built in Python may hold them. So do integers of more than 64
    bits, which cannot be the size of an array or a file.
    """
    for name, good, expected, found in checks:
        if isinstance(found, int) and abs(found) >= 2**63:
            good, expected = False, f"{expected}, in 64 bits"
        if not good or (isinstance(found, float) and not math.isfinite(found)):
            raise ConfigError(f"{name}: expected {expected}, found {found}; change it in the config or with --{name}")


def each(
    config: Any, expected: str, holds: Callable[[Any], bool], fields: dict[str, tuple[str, ...]]
) -> list[tuple[str, bool, str, object]]:
    """Return the same check for many fields, named by section, in the form of `check_all`."""
    found = {f"{part}.{name}": getattr(getattr(config, part), name) for part, names in fields.items() for name in names}
    return [(name, holds(value), expected, value) for name, value in found.items()]


def build(cls: type[T], values: dict[str, Any], source: str) -> T:
    """Build the dataclass `cls` from nested dictionaries; `source` names them in errors."""
    built: T = _build(cls, current_keys(values), source, "")
    return built


def to_dict(instance: Any) -> dict[str, Any]:
    """Return a dataclass instance as nested dictionaries of plain values; inverse of `build`."""
    return {
        f.name: to_dict(value) if dataclasses.is_dataclass(value) else _plain(value)
        for f in dataclasses.fields(instance)
        for value in [getattr(instance, f.name)]
    }


def _read_chain(path: Path, above: tuple[Path, ...], read: dict[Path, dict[str, Any]]) -> dict[str, Any]:
    """Return the values of a file and its bases; `above` are the files that led here, `read` those read so far."""
    path = Path(os.path.realpath(io.check_name(path, ConfigError, "a config file")))
    try:
        if path in above:
            raise ConfigError(f"{path}: its `base` chain comes back to itself; remove the `base` line of a file")
        if path not in read:
            read[path] = _merge_bases(path, parse_yaml(io.read_text(path, MAX_BYTES)), (*above, path), read)
    except OSError as error:
        found = f"none ({error.strerror})" if error.errno in (errno.ENOENT, errno.ENOTDIR) else error.strerror
        raise ConfigError(f"expected a config file at {path}, found {found}; see snn-dt list") from error
    except ValueError as error:
        raise ConfigError(f"{path}: expected YAML, found {' '.join(str(error).split())}") from error
    return read[path]


def _merge_bases(path: Path, values: Any, above: tuple[Path, ...], read: dict[Path, dict[str, Any]]) -> dict[str, Any]:
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected sections such as `model:`, found {type(values).__name__}")
    base = values.pop("base", None) or []
    below: dict[str, Any] = {}
    for name in base if isinstance(base, list) else [base]:
        if not isinstance(name, str):
            raise ConfigError(f"{path}: base: expected the name of a file, or a list of names, found {short(name)}")
        if len(above) > MAX_DEPTH:
            raise ConfigError(f"{path}: expected a `base` chain of at most {MAX_DEPTH} files; gather some of them")
        below = merge(below, _read_chain(config_file(path.parent / name, name), above, read))
    return merge(below, current_keys(values))


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return nested dictionaries `below` with the values of `above`, key by key."""
    both = dict(below)
    for key, value in above.items():
        old = both.get(key)
        if isinstance(old, dict) and (value is None or isinstance(value, dict)):
            value = merge(old, value or {})  # a section with all lines commented out is None
        both[key] = value
    return both


def _build(cls: type, values: Any, source: str, prefix: str) -> Any:
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: {prefix.rstrip('.')}: expected a section of fields, found {values!r}")
    hints = _hints(cls)
    for key in values:
        if key not in hints:
            raise ConfigError(f"{source}: unknown key {prefix}{key}{did_you_mean(str(key), hints)}")
    return cls(**{key: cast(value, hints[key], source, f"{prefix}{key}") for key, value in values.items()})


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def cast(value: Any, hint: Any, source: str, name: str) -> Any:
    """Turn a value of YAML or JSON into the annotated type. Numbers may be text, because YAML 1.1 reads `1e-4` so.

    Raises:
        ConfigError: the value is of another type; the message starts with `source` and `name`.
    """
    origin, args = get_origin(hint), get_args(hint)
    wrong = ConfigError(f"{source}: {name}: expected {describe(hint)}, found {short(value)}")
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, source, f"{name}.")  # type: ignore[arg-type]
    if origin in (Union, types.UnionType):
        kinds = [a for a in args if a is not type(None)]
        if value is None and len(kinds) < len(args):
            return None
        if len(kinds) == 1:
            return cast(value, kinds[0], source, name)
        for kind in kinds:
            with contextlib.suppress(ConfigError):
                return cast(value, kind, source, name)
        raise wrong
    if origin is Literal:
        if value not in args:
            near = did_you_mean(value, args) if isinstance(value, str) else ""
            raise ConfigError(f"{wrong}{near}")
        return value
    if hint is Any:
        return value
    if origin is dict and isinstance(value, dict):
        return {str(key): cast(item, args[1], source, f"{name}.{key}") for key, item in value.items()}
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(cast(item, args[0], source, name) for item in items)
    if hint is str and isinstance(value, str):
        return value
    if hint is bool and isinstance(value, bool):
        return value
    if hint in (int, float) and isinstance(value, int | float | str) and not isinstance(value, bool):
        if isinstance(value, str) and not NUMBER.fullmatch(value):
            raise ConfigError(f"{wrong}{_HINT}" if any(map(str.isdigit, value)) else str(wrong))
        with contextlib.suppress(OverflowError):  # an integer of more than 308 digits
            number = float(value)
            if hint is float and math.isfinite(number):
                return number
            if hint is int and abs(number) < 2**63 and (exact := Decimal(value)) == int(exact):
                return int(exact)
    raise wrong


def describe(hint: Any) -> str:
    """Return in words what `cast` expects."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join("null" if a is type(None) else describe(a) for a in args)
    if origin is Literal:
        return "one of " * (len(args) > 1) + ", ".join(map(str, args))
    if origin is tuple:
        return f"a list, each {describe(args[0])}"
    if origin is dict:
        return "keys with values"
    return {int: "an integer", float: "a number", str: "text", bool: "true or false"}.get(hint, str(hint))


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def short(value: Any) -> str:
    """Return the repr of a value, cut in the middle if it is long."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:80]}...{text[-10:]}"
