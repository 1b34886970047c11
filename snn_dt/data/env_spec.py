"""The environment that a file describes, as data. A dataset or a checkpoint is not trusted.

Without trust, `recorded_env.make_recorded` makes only an id that Gymnasium has registered, with plain values as
arguments and with wrappers of `gymnasium.wrappers`. Nothing that the file names is imported, called or opened.
`trust=True` (`--trust-env-spec` on the command line) lifts this.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from snn_dt.errors import EnvironmentMismatchError

TRUST = "if you trust the file, --trust-env-spec (in Python: trust=True) makes what it describes"
MAX_WRAPPERS = 100
"""A wrapper calls the next: Python's stack does not hold thousands."""
NO_LIMIT = -1
"""Value of `max_episode_steps` with which `gymnasium.make` sets no step limit."""
MAX_LIMIT = 10_000_000
"""Largest step limit of a recorded environment."""
MAX_COUNT = 10_000
"""Largest list length and frame count in the arguments of a recorded environment."""
_MAX_TEXT = 1_000_000

_COUNTS = ("stack_size", "num_repeats", "skip", "delay", "frame_skip", "frameskip", "noop_max")
_PATH_WORD = re.compile(r".*(file|filename|path|dir|directory|folder|xml|urdf|mjcf|url|uri|module|script|plugin)s?")
_PATH_OR_MODULE = re.compile(r"[/\\:~\x00-\x1f]|\.[^\W\d]|\.\.|^\.")


@dataclass(frozen=True)
class RecordedWrapper:
    """One wrapper of a recorded environment."""

    entry_point: str
    kwargs: dict[str, Any] | None

    @property
    def name(self) -> str:
        """The class name without its module."""
        return self.entry_point.rpartition(":")[2]


@dataclass(frozen=True)
class RecordedSpec:
    """The description of an environment in a file, with checked types."""

    id: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    limit: int | None = None
    """Step limit of an episode; `NO_LIMIT` for none, None for the limit of the registry."""
    wrappers: tuple[RecordedWrapper, ...] = ()
    """From the innermost to the outermost."""
    entry_point: str | None = None


def parse_spec(text: Any, env_id: str | None = None) -> RecordedSpec:
    """Read the JSON of a Gymnasium `EnvSpec`. A whole one without a step limit has none.

    If `env_id` is given, the id may be missing; then missing fields are those of the registry.

    Raises:
        ValueError: the text is no such JSON.
    """
    if not isinstance(text, str) or len(text) > _MAX_TEXT:
        raise ValueError(f"expected the JSON of an environment's specification as text, found {short(text)}")
    try:
        spec = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected the JSON of an environment's specification, found {short(text)}") from error
    # A complete spec states that there is no limit by leaving it out; a partial one leaves it to the registry.
    complete = isinstance(spec, dict) and "id" in spec
    if isinstance(spec, dict) and env_id is not None:
        spec = {"id": env_id, **spec}
    if not isinstance(spec, dict) or not isinstance(spec.get("id"), str) or not 0 < len(spec["id"]) <= 200:
        raise ValueError(f"expected an environment's specification to be an object with an id, found {short(text)}")
    kwargs, limit, wrappers = spec.get("kwargs") or {}, spec.get("max_episode_steps"), spec.get("additional_wrappers")
    if not isinstance(kwargs, dict):
        raise ValueError(f"kwargs of {spec['id']!r}: expected an object, found {short(kwargs)}")
    if limit is not None and (type(limit) is not int or not 1 <= limit <= MAX_LIMIT):
        raise ValueError(
            f"max_episode_steps of {spec['id']!r}: expected null or 1 to {MAX_LIMIT:,}, found {short(limit)}"
        )
    entry = spec.get("entry_point")
    return RecordedSpec(
        spec["id"],
        kwargs,
        NO_LIMIT if limit is None and (complete or "max_episode_steps" in spec) else limit,
        tuple(_wrapper(spec["id"], w) for w in _list(spec["id"], wrappers)),
        entry if isinstance(entry, str) else None,
    )


def _list(env_id: str, wrappers: Any) -> list[Any]:
    if wrappers is not None and not isinstance(wrappers, list):
        raise ValueError(f"additional_wrappers of {env_id!r}: expected a list, found {short(wrappers)}")
    found = wrappers or []
    if len(found) > MAX_WRAPPERS:
        raise ValueError(f"additional_wrappers of {env_id!r}: expected {MAX_WRAPPERS} at most, found {len(found)}")
    return found


def _wrapper(env_id: str, values: Any) -> RecordedWrapper:
    entry, kwargs = (values.get("entry_point"), values.get("kwargs")) if isinstance(values, dict) else (None, None)
    if not isinstance(entry, str) or not isinstance(kwargs, dict | None):
        raise ValueError(
            f"additional_wrappers of {env_id!r}: expected objects with entry_point and kwargs, found {short(values)}"
        )
    return RecordedWrapper(entry, kwargs)


def check_plain(kwargs: dict[str, Any], where: str, registered: dict[str, Any] | None = None) -> None:
    """Refuse arguments that are not plain values or name a path or a module. Those of the registry are allowed."""
    known = registered or {}
    changed = {key: value for key, value in kwargs.items() if not (key in known and known[key] == value)}
    changed.pop("render_mode", None)
    for fault in _faults(changed, where):
        raise EnvironmentMismatchError(f"{fault}; {TRUST}")


def _faults(value: Any, where: str, name: str = "", depth: int = 0) -> Iterator[str]:
    """Yield a message for each fault in the value of the argument `name`."""
    at = f"{where}: {short(name)}: " if name else f"{where}: "
    # Deeper values could exhaust the recursion.
    if depth > 8:
        yield f"{at}expected at most 8 levels of lists and objects, found more"
    elif isinstance(value, dict):
        for key, item in value.items():
            # Names such as `model_path` or `xml-file` give away a path.
            words = re.split(r"[^a-z0-9]+", str(key).lower())
            if item is not None and not isinstance(item, bool | float) and any(map(_PATH_WORD.fullmatch, words)):
                yield f"{where}: expected no argument that names a path, found {short(key)}: {short(item)}"
            yield from _faults(key, where, f"{name}.{key}".strip("."), depth + 1)
            yield from _faults(item, where, f"{name}.{key}".strip("."), depth + 1)
    elif isinstance(value, list):
        for item in value[:MAX_COUNT]:
            yield from _faults(item, where, name, depth + 1)
    elif isinstance(value, str) and (len(value) > 100 or _PATH_OR_MODULE.search(value)):
        # A slash, a colon, or a dot before a letter: it could be a path or a module.
        yield f"{at}expected short text that names no path and no module, found {short(value)}"
    elif isinstance(value, int) and not isinstance(value, bool):
        # A frame count multiplies the cost of a step; other integers only have to fit 64 bits.
        largest = MAX_COUNT if name.rpartition(".")[2] in _COUNTS else 2**63
        if not -largest <= value <= largest:
            yield f"{at}expected at most {largest:,}, found {short(value)}"


def short(value: Any) -> str:
    """Return a value of a file for a message: one line, shortened."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python does not print integers with thousands of digits
        text = "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:77]}..."
