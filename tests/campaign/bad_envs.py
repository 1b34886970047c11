"""Environments that misbehave, one way each, registered as `Bad-<mode>-v0`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

BOX = spaces.Box(-np.inf, np.inf, (4,), np.float32)
TWO = spaces.Discrete(2)
GOOD = ("ok", "done1", "npbool", "obslist", "arrayrew", "huge", "intrew", "obs64", "boolrew")
NAMED = (
    *("reset-nan", "reset-raise", "reset-shape", "reset-none", "reset-alone", "reset-three", "reset-oserr"),
    *("raise", "oserr", "zerodivision", "sysexit", "mem", "recursion", "stopiteration", "assertion"),
    *("nanobs", "nanobs-last", "nanrew", "infrew", "infrew-last", "nonerew", "strrew", "arrayrew2", "shape"),
    *("shape-last", "4tuple", "6tuple", "none", "textobs", "noneobs", "objobs", "complexrew", "raggedobs"),
)
ENDLESS = ("forever", "kbd", "hang")


class Bad(gym.Env):
    """Ends after three steps, if nothing goes wrong before."""

    observation_space = BOX
    action_space = TWO
    mode = "ok"

    def __init__(self, render_mode: str | None = None) -> None:
        self.n = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.n = 0
        good = np.zeros(4, np.float32)
        match self.mode:
            case "reset-nan":
                return np.full(4, np.nan, np.float32), {}
            case "reset-raise":
                raise RuntimeError("sensor offline")
            case "reset-oserr":
                raise OSError(5, "bus")
            case "reset-shape":
                return np.zeros(5, np.float32), {}
            case "reset-none":
                return None
            case "reset-alone":
                return good
            case "reset-three":
                return good, {}, {}
        return good, {}

    def step(self, action: Any) -> Any:
        self.n += 1
        second, last = self.n == 2, self.n >= 3
        o: Any = np.zeros(4, np.float32)
        r: Any = 1.0
        ends: Any = last
        match self.mode:
            case "raise" if second:
                raise RuntimeError("motor\nburnt")
            case "oserr":
                raise OSError(5, "bus")
            case "zerodivision":
                raise ZeroDivisionError
            case "sysexit":
                raise SystemExit(0)
            case "kbd":
                raise KeyboardInterrupt
            case "mem":
                raise MemoryError("env")
            case "recursion":
                raise RecursionError("env")
            case "stopiteration":
                raise StopIteration
            case "assertion":
                raise AssertionError
            case "nanobs" if second:
                o[0] = np.nan
            case "nanobs-last" if last:
                o[0] = np.nan
            case "nanrew" if second:
                r = float("nan")
            case "infrew" if second:
                r = float("-inf")
            case "infrew-last" if last:
                r = float("inf")
            case "nonerew":
                r = None
            case "strrew":
                r = "1.0"
            case "complexrew":
                r = 1j
            case "arrayrew":
                r = np.array([1.0])
            case "arrayrew2":
                r = np.array([1.0, 2.0])
            case "intrew":
                r = 1
            case "boolrew":
                r = True
            case "shape" if second:
                o = np.zeros(5, np.float32)
            case "shape-last" if last:
                o = np.zeros(5, np.float32)
            case "textobs":
                o = "0000"
            case "noneobs":
                o = None
            case "objobs":
                o = np.array([None] * 4, dtype=object)
            case "raggedobs":
                o = [[0.0], [0.0, 1.0], 0.0, 0.0]
            case "obslist":
                o = [0.0, 0.0, 0.0, 0.0]
            case "obs64":
                o = np.zeros(4, np.float64)
            case "4tuple":
                return o, r, ends, {}
            case "6tuple":
                return o, r, ends, False, {}, {}
            case "none":
                return None
            case "done1":
                ends = True
            case "npbool":
                ends = np.bool_(ends)
            case "huge":
                o[:] = 1e38
            case "forever":
                ends = False
            case "hang" if second:
                time.sleep(1e6)
        return o, r, ends, False, {}


class OpensPath(Bad):
    """Opens the file it is given, as MuJoCo's environments do: what a file of data must never bring about."""

    def __init__(self, xml_file: str | None = None, render_mode: str | None = None, length: int = 3) -> None:
        super().__init__()
        if xml_file is not None:
            (Path(os.environ["CAMPAIGN_FOLDER"]) / "CANARY").write_text(f"opened {xml_file}")
        if render_mode is not None:
            (Path(os.environ["CAMPAIGN_FOLDER"]) / "RENDERED").write_text(render_mode)


class Doubled(gym.ActionWrapper):
    """A wrapper of somebody's own: what it does to actions nobody else can know."""

    def action(self, action: Any) -> Any:
        return 1 - action


def register() -> None:
    """Register them all; they count as environments that the user has installed."""
    for mode in (*GOOD, *NAMED, *ENDLESS):
        gym.register(f"Bad-{mode}-v0", entry_point=type(f"Bad_{mode.replace('-', '_')}", (Bad,), {"mode": mode}))
    gym.register("OpensPath-v0", entry_point=OpensPath, max_episode_steps=50)
