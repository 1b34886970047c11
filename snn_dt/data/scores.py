"""Reference scores and the normalised score in percent."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snn_dt.errors import DataError

D4RL_SOURCE = "D4RL infos.py"

# (random, expert) returns of D4RL's tasks: Farama-Foundation/D4RL, `d4rl/infos.py` (maze2d v0, eval: `d4rl/pointmaze`).
# One pair holds for every kind (random, medium, expert, ...) and, maze2d apart, every version of a task.
D4RL_SCORES: dict[str, tuple[float, float]] = {
    "hopper": (-20.272305, 3234.3),
    "halfcheetah": (-280.178953, 12135.0),
    "walker2d": (1.629008, 4592.3),
    "ant": (-325.6, 3879.7),
    "pen": (96.262799, 3076.8331017826877),
    "hammer": (-274.856578, 12794.134825156867),
    "door": (-56.512833, 2880.5693087298737),
    "relocate": (-6.425911, 4233.877797728884),
    "kitchen": (0.0, 4.0),
    "antmaze": (0.0, 1.0),
    "minigrid-fourrooms": (0.01442, 2.89685),
    "maze2d-open-v0": (0.01, 20.66),
    "maze2d-umaze-v0": (0.94, 62.6),
    "maze2d-medium-v0": (5.77, 85.14),
    "maze2d-large-v0": (4.83, 191.99),
    "maze2d-open-dense-v0": (11.17817, 27.166538620695782),
    "maze2d-umaze-dense-v0": (23.249793, 81.78995240126592),
    "maze2d-medium-dense-v0": (19.47762, 96.03474232952358),
    "maze2d-large-dense-v0": (27.38831, 215.09965671563742),
    "maze2d-umaze-v1": (23.85, 161.86),
    "maze2d-medium-v1": (13.13, 277.39),
    "maze2d-large-v1": (6.7, 273.99),
    "maze2d-umaze-dense-v1": (68.537689, 193.66285642381482),
    "maze2d-medium-dense-v1": (44.264742, 297.4552547777125),
    "maze2d-large-dense-v1": (30.569041, 303.4857382709002),
    "maze2d-eval-umaze-v1": (36.63, 141.4),
    "maze2d-eval-medium-v1": (13.07, 204.93),
    "maze2d-eval-large-v1": (16.4, 302.22),
    "maze2d-eval-umaze-dense-v1": (56.95455, 178.21373133248397),
    "maze2d-eval-medium-dense-v1": (42.28578, 235.5658957482388),
    "maze2d-eval-large-dense-v1": (56.95455, 326.09647655082637),
}

# Gymnasium environments of a D4RL task, without their version.
_TASK_OF_ENV = {
    "Hopper": "hopper",
    "HalfCheetah": "halfcheetah",
    "Walker2d": "walker2d",
    "Ant": "ant",
    "AdroitHandPen": "pen",
    "AdroitHandHammer": "hammer",
    "AdroitHandDoor": "door",
    "AdroitHandRelocate": "relocate",
}


@dataclass(frozen=True)
class ReferenceScores:
    """The returns that count as 0 (`min`, a random policy) and 100 (`max`, an expert), and their `source`.

    Raises `DataError` unless both are finite and `min` is below `max`.
    """

    min: float
    max: float
    source: str

    def __post_init__(self) -> None:
        """Check the two returns."""
        if not -math.inf < self.min < self.max < math.inf:
            raise DataError(
                f"expected finite reference returns, the one for 0 below the one for 100, found {self.min} and "
                f"{self.max} ({self.source}); correct them or leave them out"
            )


def normalized_score(returns: float | NDArray[np.floating], reference: ReferenceScores) -> float | NDArray[np.floating]:
    """Return `100 (R - min) / (max - min)`, element by element. D4RL's own function has no factor 100.

    Source: Fu et al. 2020, arXiv:2004.07219, section 4.
    """
    return 100.0 * (returns - reference.min) / (reference.max - reference.min)


def d4rl_reference(task: str, source: str = D4RL_SOURCE) -> ReferenceScores | None:
    """Return D4RL's pair for a key of `D4RL_SCORES`, or None."""
    pair = D4RL_SCORES.get(task)
    return ReferenceScores(*pair, source=f"{source}, {task}") if pair else None


def environment_reference(env_id: str | None) -> ReferenceScores | None:
    """Return an Atari game's pair, or D4RL's for a Gymnasium environment of the same task (`Hopper-v5`), or None.

    D4RL measured in mujoco-py `v2`. Using its numbers for another version is a convention, which `source` states. Of
    AdroitHand only v1 counts: v2 has other rewards for the same task.
    """
    # `Hopper-v5` -> `Hopper`
    name, _, version = (env_id or "").partition("-v")
    if name.startswith(("ALE/", "snn_dt/Atari")):
        from snn_dt.data.atari_scores import atari_reference

        return atari_reference(re.split("[/-]", name)[-1])
    task = _TASK_OF_ENV.get(name)
    if name.startswith("AdroitHand") and version != "1":
        return None  # the rewards of v2 are others
    return d4rl_reference(task, f"{D4RL_SOURCE} applied to {env_id} by convention") if task else None
