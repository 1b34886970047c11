"""Compare an environment with the spaces that a policy was trained on."""

from __future__ import annotations

import logging
import re
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from snn_dt.data.encoding import parts
from snn_dt.errors import EnvironmentMismatchError
from snn_dt.evaluation.policy import Policy

_log = logging.getLogger("snn_dt")


def check_spaces(policy: Policy, env: Any, name: str) -> None:
    """Close `env` and raise `EnvironmentMismatchError` if the policy cannot act in it."""
    pairs: tuple[tuple[str, Any, Any], ...] = (
        ("observations", policy.observation_space, getattr(env, "observation_space", None)),
        ("actions", policy.action_space, getattr(env, "action_space", None)),
    )
    for kind, expected, found in pairs:
        same = _known_size(found) and _layout(expected) == _layout(found)
        if not same:
            env.close()
            raise EnvironmentMismatchError(
                f"expected {kind} {expected} (the policy was trained on {policy.spec.dataset_id}), found {found} in "
                f"{name}; evaluate in {policy.spec.env_id or 'the environment of that dataset'}"
            )


def _layout(space: Any) -> tuple[Any, ...]:
    """Return what a row of numbers means: the parts, the first choices and whether actions are indices."""
    from gymnasium import spaces

    def starts(sub: Any) -> list[int]:
        if isinstance(sub, spaces.Dict | spaces.Tuple):
            inner = sub.spaces.values() if isinstance(sub, spaces.Dict) else sub.spaces
            return [start for part in inner for start in starts(part)]
        return np.ravel(sub.start).tolist() if isinstance(sub, spaces.Discrete | spaces.MultiDiscrete) else []

    return parts(space), starts(space), isinstance(space, spaces.Discrete)


def _known_size(space: Any) -> bool:
    """Return whether a space has a fixed flattened size, unlike text, graphs and a missing space."""
    from gymnasium import spaces

    try:
        # Some spaces raise, others have size 0.
        return spaces.flatdim(space) > 0
    except (NotImplementedError, ValueError, TypeError, AttributeError):
        return False


def warn_differences(policy: Policy, env: Any, name: str, restarted: list[str]) -> None:
    """Warn if an environment that fits the policy differs from the recorded one.

    `restarted`: wrappers whose running statistics restart.
    """
    for kind, expected, found in (
        ("actions", policy.action_space, env.action_space),
        ("observations", policy.observation_space, env.observation_space),
    ):
        # The bounds of actions are always recorded. D4RL does not record those of observations.
        if difference := _difference(expected, found, both_finite=kind == "observations"):
            _log.warning(
                "%s of %s are %s, those of %s, which the policy was trained on, %s: expected the same; results are "
                "those of another environment than the data's",
                *(kind, name, difference[1], policy.spec.dataset_id, difference[0]),
            )
    if _rewards_changed(name):
        _log.warning(
            "the rewards of %s changed in gymnasium-robotics 1.2.1, this is %s: expected those of %s; compare returns "
            "and scores with others of this version only (1.2.0 has the data's rewards, 1.4.3 names the new ones v2)",
            *(name, version("gymnasium-robotics"), policy.spec.dataset_id),
        )
    if restarted:
        _log.warning(
            "%s begins with the statistics of %s anew, which %s does not hold: observations or rewards are scaled "
            "otherwise than in the data at first",
            *(name, " and ".join(restarted), policy.spec.dataset_id),
        )


def _rewards_changed(name: str) -> bool:
    """Return whether this is an environment whose name is older than its rewards."""
    changed = re.fullmatch(r"AdroitHand(Door|Hammer|Relocate)(Dense)?-v1", name.rpartition(":")[2])
    try:
        numbers = re.findall(r"\d+", version("gymnasium-robotics"))[:3]
    except PackageNotFoundError:
        return False
    return changed is not None and tuple(map(int, numbers)) >= (1, 2, 1)


def _difference(expected: Any, found: Any, both_finite: bool) -> tuple[str, str] | None:
    """Return two Boxes as text if their bounds differ by more than rounding, else None.

    `both_finite`: compare only bounds that are finite in both. D4RL files have none for observations.
    """
    from gymnasium import spaces

    if not (isinstance(expected, spaces.Box) and isinstance(found, spaces.Box)):
        return None
    if expected.shape != found.shape:
        return str(expected), str(found)
    # Bounds are compared with a tolerance, since a dataset may store them as float32.
    for name in ("low", "high"):
        ours, theirs = (np.asarray(getattr(s, name), dtype=np.float64) for s in (expected, found))
        compared = np.isfinite(ours) & np.isfinite(theirs) if both_finite else np.full(ours.shape, True)
        if not np.allclose(ours[compared], theirs[compared], rtol=1e-5, atol=1e-8):
            return str(expected), str(found)
    return None
