"""Making the environment a policy is evaluated in, and checking that the two fit."""

from __future__ import annotations

import importlib
import logging
import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from snn_dt.data.checked_env import LONGEST, Checked
from snn_dt.data.env_spec import RecordedSpec, forgetful_wrappers, make_recorded, parse_spec
from snn_dt.errors import EnvironmentMismatchError
from snn_dt.evaluation.policy import Policy

_log = logging.getLogger("snn_dt")

_CHECK = "check the name, or install and import the package that registers it"
ROBOTICS = ("PointMaze", "AntMaze", "AdroitHand", "FrankaKitchen", "Fetch", "HandManipulate", "HandReach")


def make_environment(
    policy: Policy,
    env_id: str | None = None,
    render_mode: str | None = None,
    *,
    max_steps: int | None = None,
    quiet: bool = False,
) -> Checked:
    """Make the environment that the policy's data were recorded in, or `env_id`, and check that it fits the policy.

    What a checkpoint or a dataset says of its environment is a file's word (`data/env_spec.py`). It is trusted where
    `policy.trust` is set. `env_id` is the caller's word, and may be `module:Env`; where it names the policy's own
    environment, arguments, wrappers and step limit are the recorded ones.

    Args:
        policy: whose environment it is.
        env_id: another one.
        render_mode: as Gymnasium's; a recorded one is never used.
        max_steps: an episode is cut after so many steps, or earlier, by the environment's own limit; None takes that
            limit, where there is none `default_cap`.
        quiet: leave out warnings; for copies.

    Raises:
        EnvironmentMismatchError: no environment named, unknown, not installed, not to be made from a file, or with
            other spaces.
    """
    spec, name = policy.spec, env_id or policy.spec.env_id
    if name is None:
        raise EnvironmentMismatchError(
            f"expected an environment to evaluate in, but {spec.dataset_id} names none; give one with "
            "--env-id (evaluate, finetune) or --eval.env_id (train)"
        )
    own = spec.env_id is not None and spec.env_id in (name, name.rpartition(":")[2])
    env = _make(name, env_id is not None, _recorded(policy) if own else None, policy, render_mode)
    limit = None if env.spec is None else env.spec.max_episode_steps
    caps = [steps for steps in (max_steps, limit) if steps]
    checked = Checked(env, min(caps) if caps else default_cap(policy))
    _check_spaces(policy, checked, name)
    if not quiet:
        _warn(policy, checked, name, own)
    return checked


def default_cap(policy: Policy) -> int:
    """Return the steps after which an episode is cut in an environment without a step limit.

    Ten times the longest episode that the policy's model was made for, 1,000 at least; 100,000 where that is not known.
    """
    task = getattr(policy.model, "task", None)
    return LONGEST if task is None else min(max(1_000, 10 * task.n_timesteps), LONGEST)


def _recorded(policy: Policy) -> RecordedSpec:
    """Return what the policy's file says of its environment."""
    spec = policy.spec
    assert spec.env_id is not None
    if spec.env_spec is None:
        return RecordedSpec(spec.env_id)
    try:
        found = parse_spec(spec.env_spec, spec.env_id)
    except ValueError as error:
        raise EnvironmentMismatchError(f"{error}, in {spec.dataset_id}; name an environment with --env-id") from error
    if found.id != spec.env_id:
        raise EnvironmentMismatchError(
            f"expected one environment in the policy of {spec.dataset_id}, found env_id {spec.env_id!r} and an "
            f"env_spec of {found.id!r}; copy or train it again"
        )
    return found


def _make(name: str, typed: bool, recorded: RecordedSpec | None, policy: Policy, render_mode: str | None) -> Any:
    """Make the recorded environment, or, where the user names another one, that."""
    import gymnasium

    from snn_dt.data.registration import ensure_registered

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is a newer version: the data was made in this one
            module = name.rpartition(":")[0]
            if recorded is not None:
                if typed and module:
                    importlib.import_module(module)
                    recorded = replace(recorded, id=name.rpartition(":")[2])
                source = f"the policy of {policy.spec.dataset_id}"
                return make_recorded(recorded, source, trust=policy.trust, render_mode=render_mode)
            if not module:
                ensure_registered(name)
            options: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
            return gymnasium.make(name, disable_env_checker=True, **options)
    except EnvironmentMismatchError as error:
        hint = f"; {text}" if (text := _hint(name, error)) != _CHECK else ""
        raise EnvironmentMismatchError(f"{error}{hint}") from error
    except (Exception, SystemExit) as error:  # making an environment runs code of other packages
        reason = " ".join(str(error).split()).rstrip(".")
        raise EnvironmentMismatchError(
            f"expected the environment {name!r}, found: {reason}; {_hint(name, error)}"
        ) from error


def _hint(name: str, error: BaseException) -> str:
    if name.startswith(ROBOTICS):
        return "pip install 'snn-dt[robotics]'"
    if "v2 and v3" in str(error):
        return "use its version 4 or 5"
    if "mujoco" in str(error).lower():
        return "pip install 'snn-dt[mujoco]'"
    return _CHECK


def _check_spaces(policy: Policy, env: Any, name: str) -> None:
    from gymnasium import spaces

    pairs: tuple[tuple[str, Any, Any], ...] = (
        ("observations", policy.observation_space, getattr(env, "observation_space", None)),
        ("actions", policy.action_space, getattr(env, "action_space", None)),
    )
    for kind, expected, found in pairs:
        same = _known_size(found) and (
            (expected.n, expected.start) == (found.n, found.start)
            if isinstance(expected, spaces.Discrete) and isinstance(found, spaces.Discrete)
            else spaces.flatdim(expected) == spaces.flatdim(found)
            and isinstance(expected, spaces.Discrete) == isinstance(found, spaces.Discrete)
        )
        if not same:
            env.close()
            raise EnvironmentMismatchError(
                f"expected {kind} {expected} (the policy was trained on {policy.spec.dataset_id}), found {found} in "
                f"{name}; evaluate in {policy.spec.env_id or 'the environment of that dataset'}"
            )


def _known_size(space: Any) -> bool:
    """Whether it is a space of so many numbers; texts and graphs, and what an environment lacks, are not."""
    from gymnasium import spaces

    try:
        return spaces.flatdim(space) > 0
    except (NotImplementedError, ValueError, TypeError, AttributeError):
        return False


def _warn(policy: Policy, env: Any, name: str, own: bool) -> None:
    """Say in what the environment differs from the one the data were recorded in, though the policy fits it."""
    for kind, expected, found in (
        ("actions", policy.action_space, env.action_space),
        ("observations", policy.observation_space, env.observation_space),
    ):
        if difference := _difference(expected, found, both_finite=kind == "observations"):
            _log.warning(
                "%s of %s are %s, those of %s, which the policy was trained on, %s: expected the same; results are "
                "those of another environment than the data's",
                *(kind, name, difference[1], policy.spec.dataset_id, difference[0]),
            )
    if own and (names := forgetful_wrappers(_recorded(policy))):
        _log.warning(
            "%s begins with the statistics of %s anew, which %s does not hold: observations or rewards are scaled "
            "otherwise than in the data at first",
            *(name, " and ".join(names), policy.spec.dataset_id),
        )


def _difference(expected: Any, found: Any, both_finite: bool) -> tuple[str, str] | None:
    """Return two Boxes, in words, whose bounds are not the same; None where they are, to rounding.

    `both_finite`: look only at bounds that both of them have, as D4RL's files have none for observations.
    """
    from gymnasium import spaces

    if not (isinstance(expected, spaces.Box) and isinstance(found, spaces.Box)):
        return None
    if expected.shape != found.shape:
        return str(expected), str(found)
    for name in ("low", "high"):
        ours, theirs = (np.asarray(getattr(s, name), dtype=np.float64) for s in (expected, found))
        looked_at = np.isfinite(ours) & np.isfinite(theirs) if both_finite else np.full(ours.shape, True)
        if not np.allclose(ours[looked_at], theirs[looked_at], rtol=1e-5, atol=1e-8):
            return str(expected), str(found)
    return None
