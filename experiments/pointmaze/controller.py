"""Collect PointMaze episodes with a scripted controller, or measure the controller itself.

    pip install 'snn-dt[robotics]'
    python experiments/pointmaze/controller.py --root DATA     # both sets, half a minute
    python experiments/pointmaze/controller.py --measure       # its success rate with and without noise

The controller walks along the shortest path of cells with a proportional and derivative force plus noise. In half of
the episodes it walks to the desired goal, in the other half to a random cell, whatever the desired goal is, and stops
there. So half of the data show how to reach a goal that is not the desired one: a policy must be told so, by a return
of 0 or by hindsight relabelling.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

MAZES = {"umaze": "PointMaze_UMaze-v3", "medium": "PointMaze_Medium-v3"}
EPISODES = {"umaze": 400, "medium": 400}
NOISE = 0.5
"""Standard deviation of the noise on an action, whose bounds are -1 and 1."""
NEAR = 0.3
"""Distance at which the next cell of the path becomes the aim, in metres; a cell has 1."""


def make(maze: str) -> Any:
    """Make an environment whose episodes end at the goal: reward 1 there, 0 before."""
    import gymnasium_robotics

    gymnasium.register_envs(gymnasium_robotics)
    return gymnasium.make(MAZES[maze], continuing_task=False)


class Controller:
    """Walks to a place `aim [2]` of a maze; `rng` draws the noise."""

    def __init__(self, maze: Any, aim: np.ndarray, rng: np.random.Generator, noise: float) -> None:
        self._maze, self._aim, self._rng, self._noise = maze, aim, rng, noise
        self._path: list[np.ndarray] = []

    def __call__(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """Return the action [2]."""
        position, velocity = observation["achieved_goal"], observation["observation"][2:]
        if not self._path:
            cells = shortest_path(self._maze, position, self._aim)
            self._path = [self._maze.cell_rowcol_to_xy(np.array(cell)) for cell in cells[:-1]] + [self._aim]
        while len(self._path) > 1 and np.linalg.norm(self._path[0] - position) < NEAR:
            self._path.pop(0)
        force = 10 * (self._path[0] - position) - velocity + self._rng.normal(0, self._noise, 2)
        return np.clip(force, -1, 1).astype(np.float32)

    def arrived(self, observation: dict[str, np.ndarray]) -> bool:
        """Return whether the aim is reached, at the distance at which the environment counts a success."""
        return bool(np.linalg.norm(observation["achieved_goal"] - self._aim) <= 0.45)


def shortest_path(maze: Any, start: np.ndarray, aim: np.ndarray) -> list[tuple[int, int]]:
    """Return the cells (row, column) from `start` to `aim`, both included."""
    first, last = (tuple(int(i) for i in maze.cell_xy_to_rowcol(xy)) for xy in (start, aim))
    before, queue = {last: last}, [last]
    for cell in queue:
        for step in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            near = cell[0] + step[0], cell[1] + step[1]
            if maze.maze_map[near[0]][near[1]] != 1 and near not in before:
                before[near] = cell
                queue.append(near)
    path = [first]
    while path[-1] != last:
        path.append(before[path[-1]])
    return path


def free_cells(maze: Any) -> list[np.ndarray]:
    """Return the places [2] of the cells without a wall."""
    rows = enumerate(maze.maze_map)
    return [maze.cell_rowcol_to_xy(np.array((i, j))) for i, row in rows for j, x in enumerate(row) if x != 1]


def collect(maze: str, root: Path) -> None:
    """Write the dataset `mine/pointmaze/<maze>-v0` to a Minari root."""
    import os

    os.environ["MINARI_DATASETS_PATH"] = str(root)
    import minari
    from minari.data_collector.episode_buffer import EpisodeBuffer

    env, rng, buffers = make(maze), np.random.default_rng(0), []
    for episode in range(EPISODES[maze]):
        observation, _ = env.reset(seed=episode)
        layout = env.unwrapped.maze
        wanders = rng.random() < 0.5
        cells = free_cells(layout)
        aim = cells[rng.integers(len(cells))] + rng.uniform(-0.25, 0.25, 2) if wanders else observation["desired_goal"]
        act, rows, over = Controller(layout, aim, rng, NOISE), [], False
        seen = [observation]
        while not over:
            action = act(observation)
            observation, reward, terminated, truncated, _ = env.step(action)
            truncated = truncated or (act.arrived(observation) and not terminated)
            seen.append(observation)
            rows.append((action, reward, terminated, truncated))
            over = terminated or truncated
        actions, rewards, terminations, truncations = (np.array(column) for column in zip(*rows, strict=True))
        observations = {key: np.stack([part[key] for part in seen]) for key in observation}
        buffers.append(
            EpisodeBuffer(
                id=episode, seed=episode, observations=observations, actions=actions, rewards=rewards,
                terminations=terminations, truncations=truncations,
            )
        )  # fmt: skip
    minari.create_dataset_from_buffers(
        f"mine/pointmaze/{maze}-v0",
        buffers,
        env=env,
        algorithm_name="waypoint controller, half of the episodes to another place than the goal",
        description=f"{MAZES[maze]} that ends at the goal, action noise {NOISE}, reset seeds 0..{EPISODES[maze] - 1}",
        requirements=["gymnasium-robotics>=1.4"],
        author="snn_dt",
        author_email="none",
        code_permalink="experiments/pointmaze/controller.py",
    )
    env.close()


def measure(maze: str, noise: float, episodes: int, seed: int) -> float:
    """Return the share of episodes in which the controller reaches the desired goal."""
    env, rng, successes = make(maze), np.random.default_rng(1), 0
    for episode in range(episodes):
        observation, _ = env.reset(seed=seed + episode)
        act, over = Controller(env.unwrapped.maze, observation["desired_goal"], rng, noise), False
        while not over:
            observation, reward, terminated, truncated, _ = env.step(act(observation))
            over = terminated or truncated
        successes += reward > 0
    env.close()
    return successes / episodes


def main() -> None:
    """Collect or measure; see the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="Minari root to write to")
    parser.add_argument("--measure", action="store_true", help="print success rates over 100 episodes from seed 30000")
    arguments = parser.parse_args()
    for maze in MAZES:
        if arguments.root is not None:
            collect(maze, arguments.root)
        if arguments.measure:
            for noise in (NOISE, 0.0):
                print(f"{maze}: {measure(maze, noise, 100, 30_000):.0%} with action noise {noise}")


if __name__ == "__main__":
    main()
