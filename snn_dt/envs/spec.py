"""The environment that a file names: a dataset, a checkpoint. A file is not trusted.

From a file only an id that is in Gymnasium's registry is made, with arguments that are plain values, in wrappers of
`gymnasium.wrappers`: nothing that the file names is imported, called or opened. Who trusts the file passes `trust=True`
(`--trust-env-spec` on the command line), and gets whatever environment it describes.
"""

from __future__ import annotations

import difflib
import importlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from snn_dt.errors import EnvironmentMismatchError

TRUST = "if you trust the file, --trust-env-spec (in Python: trust=True) makes what it describes"
NO_LIMIT = -1
"""How `gymnasium.make` is told of an environment without a step limit."""
MOST_WRAPPERS = 100  # one calls the next: thousands are beyond what Python's stack holds
LARGEST_LIMIT = 10_000_000
LARGEST_COUNT = 10_000
_LARGEST_TEXT = 1_000_000

_ONLY_SHOWN = ("HumanRendering", "RenderCollection", "RecordVideo")
"""Wrappers that show or film an episode and change nothing in it: left out, as the render mode is."""
_CONVERTERS = ("ArrayConversion", "JaxToNumpy", "JaxToTorch", "NumpyToTorch")
"""Wrappers that import another framework; none of them is part of a recorded task."""
_FORGETFUL = ("NormalizeObservation", "NormalizeReward")
"""Wrappers whose running statistics no file holds."""
_COUNTS = ("stack_size", "num_repeats", "skip", "delay", "frame_skip", "frameskip", "noop_max")
_PATH_WORD = re.compile(r".*(file|filename|path|dir|directory|folder|xml|urdf|mjcf|url|uri|module|script|plugin)s?")
_PATH_OR_MODULE = re.compile(r"[/\\:~\x00-\x1f]|\.[^\W\d]|\.\.|^\.")


@dataclass(frozen=True)
class RecordedWrapper:
    """One wrapper of a recorded environment, from the inside out."""

    entry_point: str
    kwargs: dict[str, Any] | None

    @property
    def name(self) -> str:
        """The class alone."""
        return self.entry_point.rpartition(":")[2]


@dataclass(frozen=True)
class RecordedSpec:
    """What a file says of an environment, of the right types and nothing more."""

    id: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    limit: int | None = None
    """Steps of an episode; `NO_LIMIT`, or None for that of the registry."""
    wrappers: tuple[RecordedWrapper, ...] = ()
    entry_point: str | None = None


def parse_spec(text: Any, env_id: str | None = None) -> RecordedSpec:
    """Read the JSON of a Gymnasium `EnvSpec`; no step limit in it means that there is none.

    One without an id is of `env_id`, if that is given, and leaves what it does not say to the registry.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(text, str) or len(text) > _LARGEST_TEXT:
        raise ValueError(f"expected the JSON of an environment's specification as text, found {_short(text)}")
    try:
        spec = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected the JSON of an environment's specification, found {_short(text)}") from error
    whole = isinstance(spec, dict) and "id" in spec
    if isinstance(spec, dict) and env_id is not None:
        spec = {"id": env_id, **spec}
    if not isinstance(spec, dict) or not isinstance(spec.get("id"), str) or not 0 < len(spec["id"]) <= 200:
        raise ValueError(f"expected an environment's specification to be an object with an id, found {_short(text)}")
    kwargs, limit, wrappers = spec.get("kwargs") or {}, spec.get("max_episode_steps"), spec.get("additional_wrappers")
    if not isinstance(kwargs, dict):
        raise ValueError(f"kwargs of {spec['id']!r}: expected an object, found {_short(kwargs)}")
    if limit is not None and (type(limit) is not int or not 1 <= limit <= LARGEST_LIMIT):
        raise ValueError(
            f"max_episode_steps of {spec['id']!r}: expected null or 1 to {LARGEST_LIMIT:,}, found {_short(limit)}"
        )
    entry = spec.get("entry_point")
    return RecordedSpec(
        spec["id"],
        kwargs,
        NO_LIMIT if limit is None and (whole or "max_episode_steps" in spec) else limit,
        tuple(_wrapper(spec["id"], w) for w in _list(spec["id"], wrappers)),
        entry if isinstance(entry, str) else None,
    )


def _list(env_id: str, wrappers: Any) -> list[Any]:
    if wrappers is not None and not isinstance(wrappers, list):
        raise ValueError(f"additional_wrappers of {env_id!r}: expected a list, found {_short(wrappers)}")
    if len(wrappers or []) > MOST_WRAPPERS:
        raise ValueError(
            f"additional_wrappers of {env_id!r}: expected {MOST_WRAPPERS} at most, found {len(wrappers or [])}"
        )
    return wrappers or []


def _wrapper(env_id: str, values: Any) -> RecordedWrapper:
    entry, kwargs = (values.get("entry_point"), values.get("kwargs")) if isinstance(values, dict) else (None, None)
    if not isinstance(entry, str) or not isinstance(kwargs, dict | None):
        raise ValueError(
            f"additional_wrappers of {env_id!r}: expected objects with entry_point and kwargs, found {_short(values)}"
        )
    return RecordedWrapper(entry, kwargs)


def make_recorded(spec: RecordedSpec, source: str, *, trust: bool = False, render_mode: str | None = None) -> Any:
    """Make the environment that `source`, a file, describes; its own render mode is left out.

    Raises:
        EnvironmentMismatchError: the file would have to be trusted. What else the making raises is of other packages.
    """
    import gymnasium

    from snn_dt.envs import ensure_registered

    name = spec.id
    if trust:
        module, _, name = spec.id.rpartition(":")
        if module:
            importlib.import_module(module)
    if ":" not in name:
        ensure_registered(name)
    registered = gymnasium.registry.get(name)
    if registered is None and not (trust and spec.entry_point):
        raise EnvironmentMismatchError(
            f"expected an environment that is registered with Gymnasium, found {_short(name)} in {source}"
            f"{_near(name, gymnasium.registry)}; install and import the package that "
            f"registers it, or type --env-id module:Env (train: --eval.env_id); {TRUST}"
        )
    if not trust:
        _check_plain(spec.kwargs, f"the arguments of {name} in {source}", registered.kwargs if registered else {})
    kwargs = {key: value for key, value in spec.kwargs.items() if key != "render_mode"}
    if render_mode is not None:
        kwargs["render_mode"] = render_mode
    made: Any = name
    if registered is None:
        made = gymnasium.envs.registration.EnvSpec(id=name, entry_point=spec.entry_point)
    env = gymnasium.make(made, max_episode_steps=spec.limit, disable_env_checker=True, **kwargs)
    try:
        for wrapper in _remaining(spec, env, source):
            env = _wrapped(env, wrapper, source, trust)
    except BaseException:
        env.close()
        raise
    return env


def forgetful_wrappers(spec: RecordedSpec) -> list[str]:
    """Return the recorded wrappers whose statistics begin anew, so that the environment is not quite the recorded."""
    return [w.name for w in spec.wrappers if w.name in _FORGETFUL]


def _near(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name[:80], list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def _remaining(spec: RecordedSpec, env: Any, source: str) -> list[RecordedWrapper]:
    """Return the recorded wrappers that registering or making the environment has not applied already."""
    own = [] if env.spec is None else [w.entry_point for w in env.spec.additional_wrappers]
    if own and own != [w.entry_point for w in spec.wrappers[: len(own)]]:
        raise EnvironmentMismatchError(
            f"expected {spec.id} to come in the wrappers that {source} names, "
            f"{[w.name for w in spec.wrappers]}, found {own}; use the versions that the data were recorded with"
        )
    return [w for w in spec.wrappers[len(own) :] if w.name not in _ONLY_SHOWN]


def _wrapped(env: Any, wrapper: RecordedWrapper, source: str, trust: bool) -> Any:
    import gymnasium

    if trust:
        module, _, attribute = wrapper.entry_point.partition(":")
        return getattr(importlib.import_module(module), attribute)(env, **(wrapper.kwargs or {}))
    kind: Any = None
    # The module of a wrapper moves between versions of Gymnasium and is never imported: its name must be public.
    known = wrapper.name in gymnasium.wrappers.__all__ and wrapper.name not in _CONVERTERS
    if known and re.fullmatch(r"gymnasium\.(experimental\.)?wrappers(\.[a-z0-9_]+)*:\w+", wrapper.entry_point):
        kind = getattr(gymnasium.wrappers, wrapper.name)
    if not (isinstance(kind, type) and issubclass(kind, gymnasium.Wrapper)) or wrapper.kwargs is None:
        raise EnvironmentMismatchError(
            f"expected an environment in wrappers of gymnasium.wrappers, with their arguments, found "
            f"{_short(wrapper.entry_point)} in {source}; evaluate in an environment of the same meaning (--env-id); "
            f"{TRUST}"
        )
    _check_plain(wrapper.kwargs, f"the arguments of the wrapper {wrapper.name} in {source}")
    try:
        return kind(env, **wrapper.kwargs)
    except Exception as error:  # a wrapper that does not fit fails in ways of its own
        raise EnvironmentMismatchError(
            f"expected to put the environment into the wrapper {wrapper.name} that {source} names, found: {error}; use "
            "the version of gymnasium that the data were recorded with"
        ) from error


def _check_plain(kwargs: dict[str, Any], where: str, registered: dict[str, Any] | None = None) -> None:
    """Refuse arguments that are not plain values or name a path or a module; those of the registry are known."""
    known = registered or {}
    asked = {key: value for key, value in kwargs.items() if not (key in known and known[key] == value)}
    asked.pop("render_mode", None)
    for fault in _faults(asked, where):
        raise EnvironmentMismatchError(f"{fault}; {TRUST}")


def _faults(value: Any, where: str, name: str = "", depth: int = 0) -> Iterator[str]:
    """Yield what is wrong in a value of an argument, found at `name`."""
    at = f"{where}: {_short(name)}: " if name else f"{where}: "
    if depth > 8:
        yield f"{at}expected at most 8 levels of lists and objects, found more"
    elif isinstance(value, dict):
        for key, item in value.items():
            words = re.split(r"[^a-z0-9]+", str(key).lower())
            if item is not None and not isinstance(item, bool | float) and any(map(_PATH_WORD.fullmatch, words)):
                yield f"{where}: expected no argument that names a path, found {_short(key)}: {_short(item)}"
            yield from _faults(key, where, f"{name}.{key}".strip("."), depth + 1)
            yield from _faults(item, where, f"{name}.{key}".strip("."), depth + 1)
    elif isinstance(value, list):
        for item in value[:LARGEST_COUNT]:
            yield from _faults(item, where, name, depth + 1)
    elif isinstance(value, str) and (len(value) > 100 or _PATH_OR_MODULE.search(value)):
        yield f"{at}expected short text that names no path and no module, found {_short(value)}"
    elif isinstance(value, int) and not isinstance(value, bool):
        largest = LARGEST_COUNT if name.rpartition(".")[2] in _COUNTS else 2**63
        if not -largest <= value <= largest:
            yield f"{at}expected at most {largest:,}, found {_short(value)}"


def _short(value: Any) -> str:
    """Write a value of a file in a message: on one line, and not all of it."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # an integer of more digits than Python writes
        text = "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:77]}..."
