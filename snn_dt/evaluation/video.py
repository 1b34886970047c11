"""Videos of a policy."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snn_dt.errors import EnvironmentMismatchError
from snn_dt.evaluation.environments import make_environment
from snn_dt.evaluation.policy import Policy


def record_videos(
    policy: Policy, target_returns: Sequence[float], folder: Path, seed: int = 10_000, env_id: str | None = None
) -> list[Path]:
    """Record one episode per target return as MP4 and return the files.

    Raises:
        EnvironmentMismatchError: moviepy or the environment's renderer is missing.
    """
    os.environ.setdefault("MUJOCO_GL", "egl")  # the one renderer that works without a screen
    files = []
    for target in target_returns or [policy.spec.target_return]:
        try:
            files.append(_record(policy, target, folder, seed, env_id))
        except Exception as error:  # renderers raise kinds of their own
            if isinstance(error, EnvironmentMismatchError):
                raise
            raise EnvironmentMismatchError(
                f"expected to render {env_id or policy.spec.env_id}, found: {error}; pip install "
                "'snn-dt[video]'; for MuJoCo set MUJOCO_GL=egl (no screen) or MUJOCO_GL=glfw (screen)"
            ) from error
    return files


def _record(policy: Policy, target: float, folder: Path, seed: int, env_id: str | None) -> Path:
    from gymnasium.wrappers import RecordVideo

    name = f"{(env_id or policy.spec.env_id or 'episode').replace('/', '-')}-target{target:g}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the folder may hold videos
        env: Any = RecordVideo(
            make_environment(policy, env_id, render_mode="rgb_array"),
            str(folder),
            episode_trigger=lambda _: True,
            name_prefix=name,
            disable_logger=True,
        )
    try:
        observation, _ = env.reset(seed=seed)
        policy.reset(target)
        over = False
        while not over:
            observation, reward, terminated, truncated, _ = env.step(policy.act(observation))
            policy.observe(float(reward))
            over = terminated or truncated
    finally:
        env.close()
    return folder / f"{name}-episode-0.mp4"
