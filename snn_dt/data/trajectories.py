"""Offline trajectories as flat arrays.

Shapes: `N` steps of all episodes one after another; `E` episodes. Episode `e` is rows `episode_offsets[e]` to
`episode_offsets[e + 1]` of every `[N, ...]` array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from snn_dt.data.checks import absurd
from snn_dt.data.encoding import flat_box, is_composite, number_columns, parts
from snn_dt.data.images import NUMBER_BYTES, Image, find_image
from snn_dt.data.scores import ReferenceScores

if TYPE_CHECKING:
    import gymnasium as gym

RewardMode = Literal["dense", "delayed", "clipped"]


@dataclass(frozen=True, eq=False, repr=False)
class Trajectories:
    """A dataset as flat arrays plus episode offsets.

    `snn_dt.load_dataset` returns memory-mapped, read-only arrays. `from_arrays` and `from_episodes` take numpy arrays.

    | field | shape, type | |
    |---|---|---|
    | `observations` | [N, obs_dim] float32 | as the environment emits them, flattened in the order of the space; |
    | | or float64 | where float32 cannot hold the variation of a column (5,000,000 plus or minus 0.2) |
    | | or uint8 | with an image, as rows of `snn_dt.data.images` |
    | `actions` | [N, action_dim] float32 or [N] int64 | environment units; a Discrete with a start keeps its start; |
    | | | MultiDiscrete, MultiBinary, Dict and Tuple as rows of `snn_dt.data.encoding` |
    | `rewards` | [N] float32 | after `reward_mode` |
    | `returns_to_go` | [N] float32 | undiscounted sum of this and the later rewards of the episode |
    | `episode_offsets` | [E + 1] int64 | |
    | `terminated`, `truncated` | [E] bool | flags of each episode's last step |
    | `state_mean`, `state_std` | [obs_dim], same type | over all N; std is 1 for a column that is constant; with an |
    | | | image [d] float32, of the numbers beside it |

    `frame_stack` is the number of frames n that a state holds; `observations` hold single ones.
    `checksum` is the SHA-256 of the flat content, the same for every file format. `reference` is None if neither the
    dataset nor D4RL's table has reference scores. `env_spec` describes the environment to evaluate in, as JSON for
    Gymnasium's `EnvSpec.from_json`. `time_limit` is the step limit of that environment. `notes` are warnings about the
    data, which are also logged on loading.
    """

    observations: NDArray[Any]
    actions: NDArray[Any]
    rewards: NDArray[np.float32]
    returns_to_go: NDArray[np.float32]
    episode_offsets: NDArray[np.int64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    state_mean: NDArray[np.floating[Any]]
    state_std: NDArray[np.floating[Any]]
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    env_id: str | None
    env_spec: str | None
    dataset_id: str
    reward_mode: RewardMode
    checksum: str
    reference: ReferenceScores | None
    time_limit: int | None = None
    notes: tuple[str, ...] = ()
    frame_stack: int = 1

    @classmethod
    def from_arrays(
        cls,
        observations: Any,
        actions: Any,
        rewards: Any,
        terminations: Any,
        truncations: Any,
        *,
        env_id: str | None = None,
        observation_space: gym.Space[Any] | None = None,
        action_space: gym.Space[Any] | None = None,
        reference: ReferenceScores | tuple[float, float] | None = None,
        dataset_id: str = "arrays",
        reward_mode: RewardMode = "dense",
    ) -> Trajectories:
        """Build trajectories from flat arrays in memory, with the checks and notes of `load_dataset`.

        Args:
            observations: [N, ...] numbers, the observation before each action. For Dict and Tuple spaces a dictionary
                or tuple of such arrays.
            actions: [N] or [N, 1] integers (choices), or [N, ...] floats. With an `action_space` values of it, nested
                as the space is.
            rewards: [N].
            terminations, truncations: [N] flags. Either one ends an episode. If the last step has neither, its episode
                is taken as truncated there.
            env_id: Gymnasium id of the environment to evaluate in.
            observation_space: default: an unbounded Box, for nested arrays a Dict or Tuple of them.
            action_space: default: Discrete for integers, a Box with the bounds of the data for floats.
            reference: returns that count as score 0 and 100; default: D4RL's, if `env_id` is one of its tasks.
            dataset_id: name in messages, checkpoints and records.
            reward_mode: as in `load_dataset`.

        Raises:
            DataError: an array has another type, shape or length, or holds a number that cannot be learned from.
        """
        from snn_dt.data import arrays

        # `arrays` imports this module, so it is imported late.
        facts = arrays.Facts(dataset_id, env_id, observation_space, action_space, reference, reward_mode)
        return arrays.from_arrays((observations, actions, rewards), (terminations, truncations), facts)

    @classmethod
    def from_episodes(
        cls,
        episodes: Sequence[Mapping[str, Any]],
        *,
        env_id: str | None = None,
        observation_space: gym.Space[Any] | None = None,
        action_space: gym.Space[Any] | None = None,
        reference: ReferenceScores | tuple[float, float] | None = None,
        dataset_id: str = "arrays",
        reward_mode: RewardMode = "dense",
    ) -> Trajectories:
        """Build trajectories from a list with one dictionary for each episode of T steps.

        Keys: `observations` ([T, ...] or [T + 1, ...]; the one after the last action is dropped), `actions`, `rewards`.
        Optional keys: `terminations` and `truncations`, which are flags [T] or one flag of the last step.

        The other arguments and the errors are those of `from_arrays`.
        """
        from snn_dt.data import arrays

        facts = arrays.Facts(dataset_id, env_id, observation_space, action_space, reference, reward_mode)
        return arrays.from_episodes(episodes, facts)

    def __repr__(self) -> str:
        """Name the dataset, its environment and its size; arrays are left out."""
        returns = self.episode_returns
        return (
            f"Trajectories(dataset_id={self.dataset_id!r}, env_id={self.env_id!r}, episodes={self.n_episodes}, "
            f"steps={self.n_steps}, obs_dim={self.obs_dim}, action_space={self.action_space}, "
            f"returns={returns.min():.6g} to {returns.max():.6g})"
        )

    @property
    def n_episodes(self) -> int:
        """Number of episodes, E."""
        return len(self.episode_offsets) - 1

    @property
    def n_steps(self) -> int:
        """Number of steps of all episodes, N."""
        return int(self.episode_offsets[-1])

    @property
    def obs_dim(self) -> int:
        """Length of a flattened observation; with an image the number of bytes, `frame_stack` included."""
        pixels = 0 if self.image is None else self.image.pixels
        return int(self.observations.shape[1]) + (self.frame_stack - 1) * pixels

    @cached_property
    def image(self) -> Image | None:
        """The image of an observation; None without one."""
        return find_image(self.observation_space)

    @property
    def numbers(self) -> int:
        """Columns of an observation that are numbers: all, or d of those beside an image."""
        columns = int(self.observations.shape[1])
        return columns if self.image is None else (columns - self.image.pixels) // NUMBER_BYTES

    @property
    def discrete(self) -> bool:
        """Whether an action is one of `action_dim` choices."""
        return self.actions.ndim == 1

    @property
    def action_dim(self) -> int:
        """Length of an action row, or the number of choices of a Discrete space."""
        space: Any = self.action_space
        return int(space.n) if self.discrete else int(self.actions.shape[1])

    @property
    def action_parts(self) -> tuple[int, ...] | None:
        """The parts of a composite action, one code for each, see `snn_dt.data.encoding`; None for Box and Discrete."""
        return parts(self.action_space) if is_composite(self.action_space) else None

    @property
    def action_low(self) -> NDArray[np.float32] | None:
        """Lower bounds [action_dim] of an action row; None if discrete."""
        return None if self.discrete else flat_box(self.action_space).low.astype(np.float32)

    @property
    def action_high(self) -> NDArray[np.float32] | None:
        """Upper bounds [action_dim] of an action row; None if discrete."""
        return None if self.discrete else flat_box(self.action_space).high.astype(np.float32)

    @cached_property
    def action_bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Bounds that scale a model's output. None if discrete, infinite or far wider than the actions.

        Choices and bits of a composite action have the bounds 0 and 1. None if it has no numbers.
        """
        low, high = self.action_low, self.action_high
        if low is None or high is None or not (np.isfinite(low).all() and np.isfinite(high).all()):
            return None
        if not number_columns(parts(self.action_space)).any():
            return None
        # At most a million actions are enough to compare with the bounds.
        size = np.abs(self.actions[:: max(1, self.n_steps // 1_000_000)]).max(axis=0)
        return None if absurd(low, high, size).any() else (low, high)

    @cached_property
    def episode_lengths(self) -> NDArray[np.int64]:
        """Steps of each episode [E]."""
        return np.diff(self.episode_offsets)

    @property
    def max_episode_length(self) -> int:
        """Steps of the longest episode in the data; `time_limit` is the limit of the environment."""
        return int(self.episode_lengths.max())

    @cached_property
    def episode_returns(self) -> NDArray[np.float64]:
        """Undiscounted return of each episode [E]."""
        # The return-to-go of the first step is the return of the episode. [N] -> [E]
        return self.returns_to_go[self.episode_offsets[:-1]].astype(np.float64)

    def split(self, validation_fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return ascending (training, validation) episode indices, drawn without replacement by `seed`.

        Episodes are shuffled first because replay datasets are ordered from weak to strong. A fraction above 0 gives at
        least one validation episode if one is left to train on.
        """
        if not 0.0 <= validation_fraction < 1.0:
            raise ValueError(f"expected 0 <= validation_fraction < 1, found {validation_fraction}")
        n = round(validation_fraction * self.n_episodes)
        if validation_fraction > 0:
            # At least one episode for validation, and at least one for training.
            n = min(max(n, 1), self.n_episodes - 1)
        # The first n of the permutation are for validation.
        order = np.random.default_rng(seed).permutation(self.n_episodes)
        return np.sort(order[n:]), np.sort(order[:n])

    def best(self, episodes: NDArray[np.int64], fraction: float) -> NDArray[np.int64]:
        """Return the `episodes` with the highest returns that together hold `fraction` of the steps.

        "10 % behaviour cloning" trains on them (Chen et al. 2021). At least one index is returned, in ascending order.
        """
        if not 0.0 < fraction <= 1.0:
            raise ValueError(f"expected 0 < fraction <= 1, found {fraction}")
        # Stable: equal returns keep their order, so the choice is reproducible.
        order = episodes[np.argsort(-self.episode_returns[episodes], kind="stable")]
        held = np.cumsum(self.episode_lengths[order])
        # The episode with which the fraction is reached belongs to it.
        return np.sort(order[: int(np.searchsorted(held, fraction * held[-1])) + 1])

    def describe(self) -> dict[str, Any]:
        """Return the facts about the dataset as a dictionary for JSON. `snn-dt data info` prints them."""
        quantiles = np.quantile(self.episode_returns, [0.0, 0.1, 0.5, 0.9, 1.0])
        return {
            "dataset_id": self.dataset_id,
            "env_id": self.env_id,
            "episodes": self.n_episodes,
            "steps": self.n_steps,
            "episode_length": {"mean": self.n_steps / self.n_episodes, "max": self.max_episode_length},
            "time_limit": self.time_limit,
            "observation_space": str(self.observation_space),
            "obs_dim": self.obs_dim,
            "action_space": str(self.action_space),
            "action_dim": self.action_dim,
            "terminated": float(self.terminated.mean()),
            "reward_mode": self.reward_mode,
            "return_mean": float(self.episode_returns.mean()),
            "return_quantiles": dict(zip(["min", "p10", "p50", "p90", "max"], map(float, quantiles), strict=True)),
            "reference": vars(self.reference) if self.reference else None,
            "checksum": self.checksum,
            "notes": list(self.notes),
        }
