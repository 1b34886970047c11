"""Making a dataset of one's own: roll a policy out and write a Minari folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from snn_dt.data.builder import Progress
from snn_dt.data.minari_source import roots
from snn_dt.data.unfinished import unfinished_folder
from snn_dt.errors import DataError

if TYPE_CHECKING:
    import gymnasium as gym


def collect(
    env_id: str,
    policy: Callable[[Any], Any] | None = None,
    *,
    episodes: int,
    seed: int,
    dataset_id: str,
    root: str | Path | None = None,
    algorithm_name: str | None = None,
    reference: tuple[float, float] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Roll `policy(observation) -> action` out for whole episodes and write them as Minari dataset `dataset_id`.

    Random actions without a policy; one with a method `begin(episode)` is told of every new one. Episode i is reset
    with seed `seed + i`. `reference` are the returns that count as 0 and as 100. `root` is Minari's own root by
    default; the folder `<root>/<dataset_id>` appears when it is complete, and is returned. Raises `DataError` when it
    is already there, when the id is not Minari's `name-vN`, or when the environment cannot be made or recorded.
    """
    import gymnasium as gym
    import minari
    from minari.dataset.minari_dataset import parse_dataset_id
    from minari.dataset.minari_storage import MinariStorage

    from snn_dt.data.spaces import observation_leaves
    from snn_dt.envs import ensure_registered

    folder = Path(root or roots()[0]).expanduser().resolve() / dataset_id  # Minari joins a relative one twice
    if folder.exists():
        raise DataError(f"dataset {dataset_id!r} is already in {folder}: expected a new id; raise its version")
    try:
        parse_dataset_id(dataset_id)
        ensure_registered(env_id)
        env = gym.make(env_id)
    except (ValueError, gym.error.Error, ImportError) as error:
        raise DataError(f"cannot collect {dataset_id!r} from {env_id!r}: {' '.join(str(error).split())}") from error
    observation_leaves(env.observation_space, env.action_space, dataset_id)
    env.action_space.seed(seed)
    act = policy or (lambda observation: env.action_space.sample())

    with closing(env), unfinished_folder(folder.parent, ".collecting-") as unfinished:
        storage = MinariStorage.new(unfinished / "data", env.observation_space, env.action_space, env.spec)
        storage.update_metadata(
            {
                "dataset_id": dataset_id,
                "minari_version": minari.__version__,
                "algorithm_name": algorithm_name or ("random" if policy is None else getattr(policy, "__name__", "")),
                "description": f"{env_id}, {episodes} episodes, reset seeds {seed}..{seed + episodes - 1}",
                "requirements": ["gymnasium>=1.0"],
                **({"ref_min_score": reference[0], "ref_max_score": reference[1]} if reference else {}),
            }
        )
        begin = getattr(policy, "begin", None)
        for index in range(episodes):
            if begin:
                begin(index)
            storage.update_episodes([_rollout(env, act, seed + index, index)])
            if progress:
                progress(index + 1, episodes)
        _compress(unfinished / "data" / "main_data.hdf5")
        os.replace(unfinished, folder)
    return folder


def _compress(path: Path) -> None:
    """Write a file of Minari anew with gzip and shuffle: the same content in half the space."""
    import h5py

    smaller = path.with_name("smaller.hdf5")
    with h5py.File(path) as old, h5py.File(smaller, "w", libver="latest") as new:

        def copy(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                packed = {"compression": 9, "shuffle": True} if item.shape else {}
                made = new.create_dataset(name, data=item[()], **packed)
            else:
                made = new.require_group(name)
            made.attrs.update(item.attrs)

        new.attrs.update(old.attrs)
        old.visititems(copy)
    smaller.replace(path)


def _rollout(env: gym.Env[Any, Any], act: Callable[[Any], Any], seed: int, index: int) -> Any:
    """Return one episode as Minari's buffer."""
    from minari.data_collector.episode_buffer import EpisodeBuffer

    observation, _ = env.reset(seed=seed)
    observations, actions, rewards, terminations, truncations = [observation], [], [], [], []
    done = False
    while not done:
        action = act(observation)
        observation, reward, terminated, truncated, _ = env.step(action)
        observations.append(observation)
        actions.append(action)
        rewards.append(float(reward))
        terminations.append(bool(terminated))
        truncations.append(bool(truncated))
        done = terminations[-1] or truncations[-1]
    return EpisodeBuffer(
        id=index,
        seed=seed,
        observations=_stack(observations),
        actions=_stack(actions),
        rewards=rewards,
        terminations=terminations,
        truncations=truncations,
    )


def _stack(steps: list[Any]) -> Any:
    """Turn a list of (nested) values into (nested) arrays over time, as Minari stores them."""
    if isinstance(steps[0], dict):
        return {key: _stack([step[key] for step in steps]) for key in steps[0]}
    if isinstance(steps[0], tuple):
        return tuple(_stack([step[i] for step in steps]) for i in range(len(steps[0])))
    return np.stack([np.asarray(step) for step in steps])
