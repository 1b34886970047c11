"""Record videos of a policy."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from snn_dt import io
from snn_dt.errors import CheckpointError, EnvironmentMismatchError, SnnDtError
from snn_dt.evaluation.environments import make_environment
from snn_dt.evaluation.policy import Policy


def check_renders(policy: Policy, env_id: str | None = None) -> None:
    """Render one frame, so that a missing renderer is reported before a long evaluation.

    Raises:
        EnvironmentMismatchError: moviepy or the environment's renderer is missing.
    """
    with _explained(policy, env_id):
        if find_spec("moviepy") is None:
            raise ModuleNotFoundError("MoviePy is not installed")
        # The same rendering path as of a recording, for one frame.
        env = make_environment(policy, env_id, render_mode="rgb_array", quiet=True)
        try:
            env.reset(seed=0)
            env.render()
        finally:
            env.close()


def record_videos(
    policy: Policy,
    target_returns: Sequence[float | str],
    folder: Path,
    seed: int = 10_000,
    env_id: str | None = None,
    max_steps: int | None = None,
) -> list[Path]:
    """Record one episode per target return as MP4 and return the paths. Step limits are those of `evaluate`.

    Raises:
        EnvironmentMismatchError: moviepy or the environment's renderer is missing.
        CheckpointError: the disk is full or the folder cannot be written.
    """
    with _explained(policy, env_id):
        targets = [policy.spec.target(asked) for asked in target_returns] or [policy.spec.target_return]
        return [_record(policy, target, folder, seed, env_id, max_steps) for target in targets]


@contextmanager
def _explained(policy: Policy, env_id: str | None) -> Iterator[None]:
    """Turn exceptions of rendering and writing into errors with a remedy."""
    os.environ.setdefault("MUJOCO_GL", "egl")  # the renderer that works without a screen
    try:
        yield
    except SnnDtError:
        raise
    except Exception as error:  # each renderer raises its own types
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS):
            raise CheckpointError(
                f"expected to write a video, found: {error}; free space or choose another --video"
            ) from error
        raise EnvironmentMismatchError(
            f"expected to render {env_id or policy.spec.env_id}, found: {error}; pip install "
            "'snn-dt[video]'; for MuJoCo set MUJOCO_GL=egl (no screen) or MUJOCO_GL=glfw (screen)"
        ) from error


def _record(policy: Policy, target: float, folder: Path, seed: int, env_id: str | None, max_steps: int | None) -> Path:
    """Record an episode in a hidden folder and move the complete video to `folder`."""
    # An interrupted recording leaves no damaged video.
    with io.unfinished_folder(folder, ".recording-") as unfinished:
        video = _roll_out(policy, target, unfinished, seed, env_id, max_steps)
        return video.replace(folder / video.name)


def _roll_out(
    policy: Policy, target: float, folder: Path, seed: int, env_id: str | None, max_steps: int | None
) -> Path:
    from gymnasium.wrappers import RecordVideo

    name = f"{(env_id or policy.spec.env_id or 'episode').replace('/', '-')}-target{target:g}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the folder may hold videos already
        env: Any = RecordVideo(
            make_environment(policy, env_id, render_mode="rgb_array", max_steps=max_steps, quiet=True),
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
        env.close()  # writes the file, if the end of the episode has not
    return folder / f"{name}-episode-0.mp4"
