"""The loop of fine-tuning: gather episodes, update; between two iterations it can be saved and taken up again.

All that is random in iteration i comes from generators seeded with (seed, i): none has to be saved.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from snn_dt.data.trajectories import Trajectories
from snn_dt.data.windows import Batch, join
from snn_dt.evaluation.policy import Policy
from snn_dt.experimental.finetune.config import FinetuneConfig
from snn_dt.experimental.finetune.explore import Explorer, gather, scale_is_known
from snn_dt.experimental.finetune.replay import Replay, Source, Transitions
from snn_dt.experimental.finetune.update import FineTuner

_log = logging.getLogger("snn_dt")
FIRST_SEED = 2_000_000
"""Reset seed of the first new episode, far from those of evaluations."""


class Loop:
    """Fine-tunes `policy.model` in place.

    Args:
        policy: to begin with.
        config: the whole run.
        envs: environments to gather episodes in, side by side.
        dataset: mixed in, or None.
    """

    def __init__(
        self, policy: Policy, config: FinetuneConfig, envs: Sequence[Any], dataset: Trajectories | None
    ) -> None:
        self.policy, self.config, self.envs = policy, config, envs
        u = config.update
        self.tuner = FineTuner(policy.model, u)
        self.replay = Replay(policy, u.capacity)
        self.dataset = None if dataset is None else Source(dataset, policy, u.gamma, u.filter_top)
        self.deviation = self._deviation(dataset)
        self.iteration, self.env_steps, self.best_own = 0, 0, -np.inf

    def _deviation(self, dataset: Trajectories | None) -> NDArray[np.float64] | None:
        """Return how far the data's actions spread, [A], of the dataset that is mixed in or of the policy's own."""
        if self.policy.model.discrete:
            return None
        known = self.policy.spec.action_deviation
        found = None if known is None else np.asarray(known)
        if dataset is not None:
            found = np.std(dataset.actions, axis=0, dtype=np.float64)
        if self.config.explore.noise and not scale_is_known(self.policy.action_space, found):
            _log.warning(
                "actions without bounds, and no word of how far those of the data spread: the noise has the deviation "
                "explore.noise, %g, in units of an action; name the data (--update.dataset), or train the model again",
                self.config.explore.noise,
            )
        return found

    @property
    def asked(self) -> float:
        """The return asked of the learner, environment units."""
        if self.config.explore.target_return is not None:
            return self.config.explore.target_return
        return max(self.policy.spec.target_return, float(self.best_own))

    def iterate(self) -> dict[str, float]:
        """Gather and update once; returns the iteration's metrics."""
        u = self.config.update
        rng = np.random.default_rng([u.seed, self.iteration])
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        metrics = self._gather(rng)
        new, sums = self.replay.source(u.gamma, u.filter_top), dict[str, list[float]]()
        self.tuner.widen_returns(*new.rtg_range)
        asked = self.asked / self.policy.spec.rtg_scale
        warm_up = u.critic_warm_up if self.iteration == 0 and self.tuner.critic is not None else 0
        for _ in range(warm_up):
            self.tuner.begin_critic(self._transitions(new, rng))
        for _ in range(u.updates):
            parts = {}
            if self.tuner.critic is not None:
                parts |= self.tuner.update_critic(self._transitions(new, rng), asked, generator)
            windows, returns = self._windows(new, rng)
            parts |= self.tuner.update_model(windows, returns, asked)
            for name, value in parts.items():
                sums.setdefault(name, []).append(float(value))
        self.iteration += 1
        return metrics | {name: float(np.mean(values)) for name, values in sums.items()}

    def _gather(self, rng: np.random.Generator) -> dict[str, float]:
        x = self.config.explore
        explorer = Explorer(self.policy, x.noise, x.epsilon, rng, self.deviation)
        seed = FIRST_SEED + 10_000_000 * (self.config.update.seed % 100) + self.iteration * x.episodes
        asked = self.asked
        episodes = gather(explorer, self.envs, asked, x.episodes, seed)
        self.replay.add(episodes)
        returns = [float(np.sum(e.rewards)) for e in episodes]
        self.env_steps += sum(len(e.rewards) for e in episodes)
        self.best_own = max(self.best_own, *returns)
        return {
            "env_steps": float(self.env_steps),
            "asked": asked,
            "new_return": float(np.mean(returns)),
            "new_return_best": max(returns),
        }

    def _shares(self) -> tuple[int, int]:
        """Return how many windows of a batch are of the dataset and how many new."""
        u = self.config.update
        old = 0 if self.dataset is None else round(u.dataset_share * u.batch_size)
        return old, u.batch_size - old

    def _windows(self, new: Source, rng: np.random.Generator) -> tuple[Batch, torch.Tensor]:
        old, own = self._shares()
        windows, returns = new.batch(own, rng)
        if self.dataset is not None and old:
            others, theirs = self.dataset.batch(old, rng)
            windows, returns = join([windows, others]), torch.cat([returns, theirs])
        device = self.policy.device
        return windows.to(device), returns.to(device)

    def _transitions(self, new: Source, rng: np.random.Generator) -> Transitions:
        old, own = self._shares()
        steps = new.transitions(own, rng)
        if self.dataset is not None and old:
            others = self.dataset.transitions(old, rng)
            pairs = zip(steps, others, strict=True)
            steps = Transitions(*(join([a, b]) if isinstance(a, Batch) else torch.cat([a, b]) for a, b in pairs))
        return Transitions(*(part.to(self.policy.device) for part in steps))

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next iteration depends on."""
        return {
            "tuner": self.tuner.state_dict(),
            "replay": self.replay.state_dict(),
            "iteration": self.iteration,
            "env_steps": self.env_steps,
            "best_own": float(self.best_own),
            "rtg_range": list(self.policy.model.task.rtg_range or ()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.tuner.load_state_dict(state["tuner"])
        self.replay.load_state_dict(state["replay"])
        if state.get("rtg_range"):  # of an older version: the next iteration looks at the episodes it has
            self.tuner.widen_returns(*state["rtg_range"])
        self.iteration, self.env_steps, self.best_own = state["iteration"], state["env_steps"], state["best_own"]
