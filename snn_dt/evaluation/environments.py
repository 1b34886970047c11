"""Making the environment a policy is evaluated in, and checking that the two fit."""

from __future__ import annotations

import json
import warnings
from typing import Any

from snn_dt.errors import EnvironmentMismatchError
from snn_dt.evaluation.policy import Policy

ROBOTICS = ("PointMaze", "AntMaze", "AdroitHand", "FrankaKitchen", "Fetch", "HandManipulate", "HandReach")


def make_environment(policy: Policy, env_id: str | None = None, render_mode: str | None = None) -> Any:
    """Make the policy's own environment, or `env_id`, and check that its spaces are the policy's.

    Raises:
        EnvironmentMismatchError: no environment named, unknown or not installed, or other spaces.
    """
    name = env_id or policy.spec.env_id
    if name is None:
        raise EnvironmentMismatchError(
            f"expected an environment to evaluate in, but {policy.spec.dataset_id} names none; give one with "
            "--env-id (evaluate, finetune) or --eval.env_id (train)"
        )
    own = name == policy.spec.env_id and policy.spec.env_spec is not None
    kwargs = json.loads(policy.spec.env_spec or "{}") if own else {}
    env = _make(name, kwargs.get("kwargs") or {}, kwargs.get("max_episode_steps") if own else None, render_mode)
    _check_spaces(policy, env, name)
    return env


def _make(name: str, kwargs: dict[str, Any], max_episode_steps: int | None, render_mode: str | None) -> Any:
    import gymnasium

    from snn_dt.envs import ensure_registered

    ensure_registered(name)
    options: dict[str, Any] = {**kwargs, "max_episode_steps": max_episode_steps, "disable_env_checker": True}
    if render_mode is not None:
        options["render_mode"] = render_mode
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is a newer version: the data was made in this one
            return gymnasium.make(name, **options)
    except Exception as error:  # making an environment runs code of other packages
        reason = " ".join(str(error).split()).rstrip(".")
        raise EnvironmentMismatchError(
            f"expected the environment {name!r}, found: {reason}; {_hint(name, error)}"
        ) from error


def _hint(name: str, error: Exception) -> str:
    if name.startswith(ROBOTICS):
        return "pip install 'snn-dt[robotics]'"
    if "v2 and v3" in str(error):
        return "use its version 4 or 5"
    if "mujoco" in str(error).lower():
        return "pip install 'snn-dt[mujoco]'"
    return "check the name, or install and import the package that registers it"


def _check_spaces(policy: Policy, env: Any, name: str) -> None:
    from gymnasium import spaces

    for kind, expected, found in (
        ("observations", policy.observation_space, env.observation_space),
        ("actions", policy.action_space, env.action_space),
    ):
        same = (
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
