"""The guide of the jump start: an MLP trained by TD3 or the scripted controller.

Shapes: N drones; 146 privileged observation columns; 4 action columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from snn_dt.checkpoint import read_tensors
from snn_dt.errors import CheckpointError
from snn_dt.experimental.online.actor_critic import MLPActor, TwinCritic
from snn_dt.experimental.online.buffer import SequenceBuffer
from snn_dt.experimental.online.config import LearnConfig, OnlineConfig
from snn_dt.experimental.online.crazyflie import ACTION_DIM, HISTORY, HOVER_ACTION, PLAIN_DIM, CrazyflieHoverVectorEnv
from snn_dt.experimental.online.crazyflie_controller import pilot_of_skill
from snn_dt.experimental.online.jump_start import Guide, fly
from snn_dt.experimental.online.score import score_flights
from snn_dt.experimental.online.td3 import Learner
from snn_dt.io import write_atomically

PRIVILEGED_DIM = PLAIN_DIM + HISTORY * ACTION_DIM
STEPS_PER_ROUND = 64
"""Steps that every drone flies between two rounds of updates."""
CRITIC_FIRST = 20 * STEPS_PER_ROUND
"""Critic updates before the first actor update."""


def as_guide(actor: MLPActor) -> Guide:
    """Return an actor as a function from observations [N, 146] to actions [N, 4]."""

    @torch.no_grad()
    def act(observations: NDArray[np.float32]) -> NDArray[np.float32]:
        actions: NDArray[np.float32] = actor(torch.from_numpy(observations))[0].numpy()
        return actions

    return act


def make_guide(
    config: OnlineConfig, path: Path, log: Callable[[str], None], resume: bool, begin: Callable[[], None]
) -> Guide:
    """Return the configured guide; a trained one is saved at `path`.

    Args:
        config: the whole configuration.
        path: file of this run's guide.
        log: prints a line.
        resume: load the guide at `path` if there is one; a new run ignores a file that another run left there.
        begin: called before a guide is trained, which takes long; it makes the run resumable.

    Raises:
        CheckpointError: the guide is missing, has another size or cannot be written.
    """
    if config.guide.kind == "pilot":
        return pilot_of_skill(config.guide.skill)
    if resume and path.exists():
        return as_guide(_load(path, config, "delete it and resume once more: it is made again"))
    if config.guide.load:
        cure = "name the guide.safetensors of a run, or leave it out"
        actor = _load(Path(config.guide.load), config, cure, "guide.load: ")
    else:
        begin()
        actor = train_guide(config, log)
    _save(actor, path)
    return as_guide(actor)


def _load(path: Path, config: OnlineConfig, cure: str, field: str = "") -> MLPActor:
    actor = MLPActor(PRIVILEGED_DIM, ACTION_DIM, config.guide.hidden)
    try:
        actor.load_state_dict(read_tensors(path))
    except Exception as error:  # a missing, damaged or mismatched file each raise their own type
        raise CheckpointError(
            f"{field}expected the weights of a guide {config.guide.hidden} at {path}, found: "
            f"{' '.join(str(error).split())}; {cure}"
        ) from error
    return actor


def _save(actor: MLPActor, path: Path) -> None:
    from safetensors.torch import save

    try:
        write_atomically(path, save(actor.state_dict()))
    except OSError as error:
        raise CheckpointError(
            f"expected to write {path}, found: {error.strerror}; free space or choose another --run-dir"
        ) from error


def train_guide(config: OnlineConfig, log: Callable[[str], None]) -> MLPActor:
    """Train an MLP by TD3 until its flights last `guide.until` steps; a sequence of one step is a transition."""
    rng = np.random.default_rng([config.train.seed, 1])
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    # Without the trim all first flights fall with slow rotors, and the data hold nothing to learn from.
    actor = MLPActor(PRIVILEGED_DIM, ACTION_DIM, config.guide.hidden, trim=HOVER_ACTION)
    critic = TwinCritic(PRIVILEGED_DIM, ACTION_DIM, config.learn.critic_hidden)
    # single transitions without cloning; slower targets and actor than the learner's
    settings = replace(
        LearnConfig(), bc_weight=0.0, warm_up=0, length=1, tau=0.005, actor_rate=3e-4, critic_first=CRITIC_FIRST
    )
    learner = Learner(actor, critic, settings)
    buffer = SequenceBuffer(100_000, 1, 1, PRIVILEGED_DIM, ACTION_DIM)
    drones = CrazyflieHoverVectorEnv(16, config.task.horizon, "privileged", 0.0, config.task.spread, autoreset=False)
    flown = 0
    while flown < config.guide.most_steps:
        # the learner flies alone with noise 0.3
        for flight in fly(drones, STEPS_PER_ROUND, actor, None, lambda _: 0, 0.3, 0.0, rng):
            buffer.add(flight)
        flown += STEPS_PER_ROUND * drones.num_envs
        for _ in range(STEPS_PER_ROUND * 4):
            learner.update(buffer.sample(128, rng), 0.0, generator)  # 0.0: no cloning
        if flown % (STEPS_PER_ROUND * drones.num_envs * 10) == 0:  # every tenth round
            score = score_flights(actor, config, flights=64, seed=20_000)
            log(f"guide: {flown} steps flown, in the air for {score['length']:.0f} steps, return {score['return']:.1f}")
            if score["length"] >= config.guide.until:
                break
    return actor
