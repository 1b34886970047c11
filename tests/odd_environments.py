"""Environments that fail, never end, or return what Gymnasium does not allow, and what is to become of each."""

from __future__ import annotations

import gymnasium as gym
import numpy as np

OBSERVATIONS = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)
ACTIONS = gym.spaces.Discrete(2)


def fail(kind, *values):
    raise kind(*values)


# What `step` returns instead of (zeros, 1.0, third step, False, {}): by position, or the whole of it.
STEPS = {
    "fine": {},
    "reward-of-one": {1: lambda env: np.array([1.0])},
    "reward-scalar-array": {1: lambda env: np.array(1.0)},
    "reward-integer": {1: lambda env: 1},
    "reward-half": {1: lambda env: np.float16(1)},
    "reward-bool": {1: lambda env: np.bool_(True)},
    "flag-numpy": {2: lambda env: np.bool_(env.n >= 3)},
    "flag-array": {2: lambda env: np.array([env.n >= 3])},
    "flag-integer": {2: lambda env: int(env.n >= 3)},
    "observation-list": {0: lambda env: [0.0] * 4},
    "observation-column": {0: lambda env: np.zeros((4, 1))},
    "observation-last-nan": {0: lambda env: np.full(4, np.nan if env.n >= 3 else 0.0)},
    "info-none": {4: lambda env: None},
    "raises": {0: lambda env: fail(RuntimeError, "motor\nburnt")},
    "raises-os": {0: lambda env: fail(OSError, 5, "bus")},
    "raises-assertion": {0: lambda env: fail(AssertionError)},
    "leaves": {0: lambda env: fail(SystemExit, 0)},
    "reward-none": {1: lambda env: None},
    "reward-text": {1: lambda env: "1.0"},
    "reward-numpy-text": {1: lambda env: np.str_("1.0")},
    "reward-list": {1: lambda env: [1.0]},
    "reward-of-two": {1: lambda env: np.array([1.0, 2.0])},
    "reward-matrix": {1: lambda env: np.array([[1.0]])},
    "reward-empty": {1: lambda env: np.zeros(0)},
    "reward-complex": {1: lambda env: 1j},
    "reward-dict": {1: lambda env: {"total": 1.0}},
    "reward-nan": {1: lambda env: float("nan")},
    "reward-last-infinite": {1: lambda env: float("inf") if env.n >= 3 else 1.0},
    "reward-huge": {1: lambda env: 10**400},
    "flag-none": {3: lambda env: None},
    "flag-text": {3: lambda env: "False"},
    "flag-half": {2: lambda env: 0.5},
    "flag-nan": {2: lambda env: float("nan")},
    "flag-two": {3: lambda env: np.array([False, True])},
    "flag-list": {2: lambda env: []},
    "observation-none": {0: lambda env: None},
    "observation-text": {0: lambda env: ["a"] * 4},
    "observation-ragged": {0: lambda env: [[0.0], [0.0, 1.0]]},
    "observation-larger": {0: lambda env: np.zeros(5, np.float32)},
    "observation-last-larger": {0: lambda env: np.zeros(5 if env.n >= 3 else 4)},
    "observation-nan": {0: lambda env: np.full(4, np.nan)},
    "observation-infinite": {0: lambda env: np.full(4, np.inf)},
    "old-api": lambda env: (np.zeros(4), 1.0, env.n >= 3, {}),
    "nothing": lambda env: None,
    "six": lambda env: (np.zeros(4), 1.0, False, False, {}, {}),
}
RESETS = {
    "reset-raises": lambda: fail(RuntimeError, "sensor offline"),
    "reset-alone": lambda: np.zeros(4, np.float32),
    "reset-pair-array": lambda: np.zeros((2, 4), np.float32),
    "reset-none": lambda: None,
    "reset-nan": lambda: (np.full(4, np.nan), {}),
    "reset-larger": lambda: (np.zeros(5), {}),
}
FINE = [name for name in STEPS if name not in list(STEPS)[list(STEPS).index("raises") :]]
REFUSED = [*list(STEPS)[len(FINE) :], *RESETS]


class Odd(gym.Env):
    """Ends after its third step, unless it is odd in that."""

    observation_space, action_space = OBSERVATIONS, ACTIONS

    def __init__(self, kind: str = "fine") -> None:
        self.kind, self.n = kind, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.n = 0
        return RESETS[self.kind]() if self.kind in RESETS else (np.zeros(4, np.float32), {})

    def step(self, action):
        self.n += 1
        changed = STEPS.get(self.kind, {})
        if callable(changed):
            return changed(self)
        usual = [np.zeros(4, np.float32), 1.0, self.n >= 3, False, {}]
        return tuple(changed[i](self) if i in changed else value for i, value in enumerate(usual))


class Forever(Odd):
    """Never ends."""

    def step(self, action):
        return np.zeros(4, np.float32), 1.0, False, False, {}


def register_odd() -> None:
    """Register `Odd-<kind>-v0` for every kind, and `Forever-v0`."""
    for kind in [*STEPS, *RESETS]:
        if f"Odd-{kind}-v0" not in gym.registry:
            gym.register(f"Odd-{kind}-v0", entry_point=Odd, kwargs={"kind": kind})
    if "Forever-v0" not in gym.registry:
        gym.register("Forever-v0", entry_point=Forever)
