"""Make the environment that a policy is evaluated in."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import replace
from typing import Any

from snn_dt.data.checked_env import MAX_EPISODE_STEPS, Checked
from snn_dt.data.env_spec import RecordedSpec, parse_spec
from snn_dt.data.recorded_env import make_recorded, running_statistics
from snn_dt.data.registration import make_by_id
from snn_dt.errors import EnvironmentMismatchError
from snn_dt.evaluation.environment_fit import check_spaces, warn_differences
from snn_dt.evaluation.policy import Policy

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
    """Make the environment of the policy's dataset, or `env_id`, and check that it fits the policy.

    The description in a checkpoint or a dataset is trusted only if `policy.trust` is set (`data/env_spec.py`). The
    caller's `env_id` may be `module:Env`. If it names the policy's own environment, the recorded arguments, wrappers
    and step limit are used.

    Args:
        policy: the policy to evaluate.
        env_id: another environment.
        render_mode: mode of Gymnasium. The recorded mode is never used.
        max_steps: truncate an episode after this number of steps, or earlier at the environment's own limit. Default:
            that limit, else `default_cap`.
        quiet: log no warnings. Use it for further copies of an environment.

    Raises:
        EnvironmentMismatchError: no environment is named. Or it is unknown, not installed, not trusted or has other
            spaces.
    """
    spec, name = policy.spec, env_id or policy.spec.env_id
    if name is None:
        raise EnvironmentMismatchError(
            f"expected an environment to evaluate in, but {spec.dataset_id} names none; give one with "
            "--env-id (evaluate, finetune) or --eval.env_id (train)"
        )
    # `own`: the policy's own environment, possibly with a module before its id.
    own = spec.env_id is not None and spec.env_id in (name, name.rpartition(":")[2])
    env = _make(name, env_id is not None, _recorded(policy) if own else None, policy, render_mode)
    limit = None if env.spec is None else env.spec.max_episode_steps
    # The smallest limit applies; 0 and None mean no limit.
    caps = [steps for steps in (max_steps, limit) if steps]
    checked = Checked(env, min(caps) if caps else default_cap(policy))
    check_spaces(policy, checked, name)
    if not quiet:
        warn_differences(policy, checked, name, running_statistics(_recorded(policy)) if own else [])
    return checked


def default_cap(policy: Policy) -> int:
    """Return the step limit for an environment without its own.

    It is ten times the longest episode that the model was made for, clamped to [1,000, 100,000].
    """
    task = getattr(policy.model, "task", None)
    return MAX_EPISODE_STEPS if task is None else min(max(1_000, 10 * task.n_timesteps), MAX_EPISODE_STEPS)


def _recorded(policy: Policy) -> RecordedSpec:
    """Return the environment that the file of the policy describes."""
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
    """Make the recorded environment, else the one that the user names."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Gymnasium warns of a newer version, but the data are of this one
            module = name.rpartition(":")[0]
            if recorded is not None:
                # The user typed the module, so importing it needs no trust in the file.
                if typed and module:
                    importlib.import_module(module)
                    recorded = replace(recorded, id=name.rpartition(":")[2])
                source = f"the policy of {policy.spec.dataset_id}"
                return make_recorded(recorded, source, trust=policy.trust, render_mode=render_mode)
            return make_by_id(name, **({} if render_mode is None else {"render_mode": render_mode}))
    except EnvironmentMismatchError as error:
        # The message names the file already; only a hint about a missing package is added.
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
        # Gymnasium no longer ships versions 2 and 3 of MuJoCo tasks.
        return "use its version 4 or 5"
    if "mujoco" in str(error).lower():
        return "pip install 'snn-dt[mujoco]'"
    return _CHECK
