"""Making the environment that a file describes, see `env_spec`."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterable
from typing import Any

from snn_dt.data.env_spec import TRUST, RecordedSpec, RecordedWrapper, check_plain, short
from snn_dt.data.registration import ensure_registered
from snn_dt.errors import EnvironmentMismatchError

_RENDERING_ONLY = ("HumanRendering", "RenderCollection", "RecordVideo")
"""Wrappers that show or film an episode and change nothing in it. They are left out, as the render mode is."""
_CONVERTERS = ("ArrayConversion", "JaxToNumpy", "JaxToTorch", "NumpyToTorch")
"""Wrappers that import another framework; none of them is part of a recorded task."""
_RUNNING_STATISTICS = ("NormalizeObservation", "NormalizeReward")
"""Wrappers whose running statistics are in no file."""


def make_recorded(spec: RecordedSpec, source: str, *, trust: bool = False, render_mode: str | None = None) -> Any:
    """Make the environment that the file `source` describes, without its render mode.

    Raises:
        EnvironmentMismatchError: it can be made only if the file is trusted. Other packages raise their own kinds.
    """
    import gymnasium

    name = spec.id
    # With trust `module:Id` imports the module, as `gymnasium.make` does.
    if trust:
        module, _, name = spec.id.rpartition(":")
        if module:
            importlib.import_module(module)
    if ":" not in name:
        ensure_registered(name)
    registered = gymnasium.registry.get(name)
    if registered is None and not (trust and spec.entry_point):
        raise EnvironmentMismatchError(
            f"expected an environment that is registered with Gymnasium, found {short(name)} in {source}"
            f"{_near(name, gymnasium.registry)}; install and import the package that "
            f"registers it, or type --env-id module:Env (train: --eval.env_id); {TRUST}"
        )
    if not trust:
        check_plain(spec.kwargs, f"the arguments of {name} in {source}", registered.kwargs if registered else {})
    # The recorded render mode may open a window.
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
    except BaseException:  # a wrapper failed: do not leak the environment
        env.close()
        raise
    return env


def running_statistics(spec: RecordedSpec) -> list[str]:
    """Return the recorded wrappers whose running statistics restart, which the recorded environment did not."""
    return [w.name for w in spec.wrappers if w.name in _RUNNING_STATISTICS]


def _near(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name[:80], list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def _remaining(spec: RecordedSpec, env: Any, source: str) -> list[RecordedWrapper]:
    """Return the recorded wrappers that `gymnasium.make` has not applied already."""
    # Some environments are registered with wrappers, which `gymnasium.make` applies.
    own = [] if env.spec is None else [w.entry_point for w in env.spec.additional_wrappers]
    if own and own != [w.entry_point for w in spec.wrappers[: len(own)]]:
        raise EnvironmentMismatchError(
            f"expected {spec.id} to come in the wrappers that {source} names, "
            f"{[w.name for w in spec.wrappers]}, found {own}; use the versions that the data were recorded with"
        )
    return [w for w in spec.wrappers[len(own) :] if w.name not in _RENDERING_ONLY]


def _wrapped(env: Any, wrapper: RecordedWrapper, source: str, trust: bool) -> Any:
    import gymnasium

    if trust:
        module, _, attribute = wrapper.entry_point.partition(":")
        return getattr(importlib.import_module(module), attribute)(env, **(wrapper.kwargs or {}))
    kind: Any = None
    # The recorded module is not imported, and moves between versions of Gymnasium: the class name must be public.
    known = wrapper.name in gymnasium.wrappers.__all__ and wrapper.name not in _CONVERTERS
    if known and re.fullmatch(r"gymnasium\.(experimental\.)?wrappers(\.[a-z0-9_]+)*:\w+", wrapper.entry_point):
        kind = getattr(gymnasium.wrappers, wrapper.name)
    if not (isinstance(kind, type) and issubclass(kind, gymnasium.Wrapper)) or wrapper.kwargs is None:
        raise EnvironmentMismatchError(
            f"expected an environment in wrappers of gymnasium.wrappers, with their arguments, found "
            f"{short(wrapper.entry_point)} in {source}; evaluate in an environment of the same meaning (--env-id); "
            f"{TRUST}"
        )
    check_plain(wrapper.kwargs, f"the arguments of the wrapper {wrapper.name} in {source}")
    try:
        return kind(env, **wrapper.kwargs)
    except Exception as error:  # each wrapper raises its own kind
        raise EnvironmentMismatchError(
            f"expected to put the environment into the wrapper {wrapper.name} that {source} names, found: {error}; use "
            "the version of gymnasium that the data were recorded with"
        ) from error
