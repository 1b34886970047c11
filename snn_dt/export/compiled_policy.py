"""Run the C of a policy in Python: `reset`, `act` and `observe` through ctypes, and episodes in Gymnasium."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from snn_dt import io, strict
from snn_dt.errors import ExportError
from snn_dt.evaluation.policy_spec import PolicySpec, Specified

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")


def c_compiler() -> str | None:
    """Return the path of the first C compiler found among `$CC`, cc, gcc and clang."""
    return next((path for n in (os.environ.get("CC"), "cc", "gcc", "clang") if n and (path := shutil.which(n))), None)


def compile_c(source: Path, library: Path, flags: Sequence[str] = ("-O2",)) -> Path:
    """Compile a source of `write_c` to a shared library, with all warnings as errors.

    Raises:
        ExportError: there is no compiler, or it fails.
    """
    compiler = c_compiler()
    if compiler is None:
        raise ExportError("expected a C compiler, found none; install gcc or set CC")
    # A fused product would round otherwise than torch does.
    command = [compiler, *WARNINGS, "-ffp-contract=off", "-shared", "-fPIC", *flags, str(source), "-o", str(library)]
    done = subprocess.run([*command, "-lm"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ExportError(f"expected {source} to compile, found: {done.stderr[:600]}; export it again")
    return library


class CompiledPolicy(Specified):
    """The C of a policy, with the methods of `snn_dt.evaluation.policy.Policy` for one episode at a time.

    Args:
        path: the folder that `write_c` made, whose source is compiled if it is newer than its library; or a library
            `NAME.so` beside its `NAME.json`.

    Attributes:
        spec: spaces, scales and names.
        trust: as in `Policy`.

    Raises:
        ExportError: files are missing or damaged, or there is no compiler.
    """

    trust = False

    def __init__(self, path: Path) -> None:
        library, description = _find(path)
        try:
            facts = io.read_json(description)
            self.spec = strict.build(PolicySpec, facts["policy"], "policy")
            self.name, self.discrete = str(facts["name"]), bool(facts["discrete"])
            self.state_dim, self.action_dim = int(facts["state_dim"]), int(facts["action_dim"])
            self.model = SimpleNamespace(task=SimpleNamespace(n_timesteps=int(facts["n_timesteps"])))
            self._number: Any = np.float64 if facts["double"] else np.float32
            self._library = ctypes.CDLL(str(library.resolve()))
            self._functions = {n: self._library[f"{self.name}_{n}"] for n in ("reset", "act", "observe")}
            size = ctypes.c_uint32.in_dll(self._library, f"{self.name}_state_bytes").value
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ExportError(f"{path}: expected the C of a policy, found: {error}; export it again") from error
        for name in ("reset", "observe"):
            self._functions[name].argtypes = [ctypes.c_void_p, ctypes.c_double]
        self.memory = (ctypes.c_uint64 * (size // 8 + 1))()  # aligned as a struct must be
        self._action = np.zeros(self.action_dim, dtype=np.float32)
        self._functions["act"].restype = ctypes.c_int32 if self.discrete else None

    def reset(self, target_return: float | None = None) -> None:
        """Begin an episode with a target return in environment units. None is the default."""
        target = self.spec.target_return if target_return is None else target_return
        self._functions["reset"](self.memory, float(target))

    def act(self, observation: Any) -> Any:
        """Return the action for an observation in environment units."""
        flat = self.flatten(observation)
        arguments = [self.memory, flat.ctypes.data_as(ctypes.c_void_p)]
        if self.discrete:
            return int(self._functions["act"](*arguments))
        self._functions["act"](*arguments, self._action.ctypes.data_as(ctypes.c_void_p))
        return self._action.astype(self.action_space.dtype).reshape(self.action_space.shape)

    def observe(self, reward: float) -> None:
        """Subtract the reward of the last action from the return-to-go."""
        self._functions["observe"](self.memory, float(reward))

    @property
    def spikes(self) -> int:
        """Spikes of the last decision."""
        function = self._library[f"{self.name}_spikes"]
        function.restype = ctypes.c_uint32
        return int(function(self.memory))

    def flatten(self, observation: Any) -> Any:
        """Return one observation of the environment as a flat array `[state_dim]`."""
        from gymnasium import spaces

        if isinstance(observation, dict | tuple):
            observation = spaces.flatten(self.observation_space, observation)
        flat = np.ascontiguousarray(observation, dtype=self._number).reshape(-1)
        if len(flat) != self.state_dim:
            raise ExportError(f"expected an observation of size {self.state_dim}, found {len(flat)}")
        return flat


def evaluate_compiled(
    policy: CompiledPolicy,
    target_returns: Sequence[float] = (),
    *,
    episodes: int = 20,
    seed: int = 10_000,
    env_id: str | None = None,
    max_steps: int | None = None,
    finished: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Run episodes one after another with the compiled policy. Episode i is reset with `seed + i`.

    Returns:
        One object per target with the fields of `snn-dt evaluate --json` that need no count of operations.

    Raises:
        EnvironmentMismatchError: the environment is missing, does not fit the policy or fails.
    """
    from snn_dt.evaluation.environments import make_environment
    from snn_dt.evaluation.rollout import returns_row

    anything: Any = policy
    env = make_environment(anything, env_id, max_steps=max_steps)
    rows = []
    try:
        for target in target_returns or (policy.spec.target_return,):
            parts = [_episode(policy, env, target, seed + i) for i in range(episodes)]
            returns, lengths, spikes = (np.array(column) for column in zip(*parts, strict=True))
            row = returns_row(policy.spec, env.name, target, returns, lengths, seed)
            rows.append(row | {"spikes_per_decision": float(spikes.sum() / lengths.sum()), "decided_by": "c"})
            if finished is not None:
                finished(rows[-1])
    finally:
        env.close()
    return rows


def _episode(policy: CompiledPolicy, env: Any, target: float, seed: int) -> tuple[float, int, int]:
    """Run one episode and return its return, its steps and its spikes."""
    observation, _ = env.reset(seed=seed)
    policy.reset(target)
    total, steps, spikes, over = 0.0, 0, 0, False
    while not over:
        action = policy.act(observation)
        spikes += policy.spikes
        observation, reward, terminated, truncated, _ = env.step(action)
        policy.observe(float(reward))
        total, steps, over = total + float(reward), steps + 1, bool(terminated or truncated)
    return total, steps, spikes


def _find(path: Path) -> tuple[Path, Path]:
    """Return the library and the description at a path; compile the source of a folder if needed."""
    if io.is_folder(path):
        names = sorted(p.stem for p in path.glob("*.json") if io.is_file(p.with_suffix(".c")))
        if len(names) != 1:
            raise ExportError(
                f"expected one policy in {path}, NAME.c with NAME.json, found {', '.join(names) or 'none'}; make it "
                "with snn-dt export --to c, or name a library NAME.so"
            )
        source = path / f"{names[0]}.c"
        library = source.with_suffix(".so")
        if not io.is_file(library) or library.stat().st_mtime < source.stat().st_mtime:
            compile_c(source, library)
        return library, source.with_suffix(".json")
    if not io.is_file(path) or not io.is_file(path.with_suffix(".json")):
        raise ExportError(f"expected a library NAME.so with its NAME.json, or a folder, found neither at {path}")
    return path, path.with_suffix(".json")
