"""Episodes of random numbers, as Minari's buffers want them."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

BOX = spaces.Box(-10.0, 10.0, (3,), np.float32)
ACTION_BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)


def random_episodes(lengths: list[int], seed: int = 0, action_space: Any = ACTION_BOX) -> list[dict[str, Any]]:
    """Return episodes of BOX observations (T + 1 of them) as Minari's buffers want them."""
    rng = np.random.default_rng(seed)
    discrete = isinstance(action_space, spaces.Discrete)
    return [
        {
            "observations": rng.uniform(-5, 5, (length + 1, 3)).astype(np.float32),
            "actions": rng.integers(action_space.start, action_space.start + action_space.n, length)
            if discrete
            else rng.uniform(-1, 1, (length, 2)).astype(np.float32),
            "rewards": rng.normal(size=length),
            "terminations": np.arange(length) == (length - 1 if index % 2 == 0 else -1),
            "truncations": np.arange(length) == (length - 1 if index % 2 == 1 else -1),
        }
        for index, length in enumerate(lengths)
    ]
