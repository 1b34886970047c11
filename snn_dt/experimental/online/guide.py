"""The guide of a run: the scripted controller of the drone, or an MLP that is loaded or trained.

Shapes: N environments; P observation columns; A action columns.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from snn_dt.experimental.online.config import OnlineConfig
from snn_dt.experimental.online.crazyflie_controller import Pilot, PredictivePilot, pilot_of_skill
from snn_dt.experimental.online.jump_start import Guide
from snn_dt.experimental.online.mlp_guide import load_guide, save_guide, train_ppo_guide
from snn_dt.experimental.online.score import as_actor, score_flights
from snn_dt.experimental.online.task import Task

SHIPPED = {"hover": Path(__file__).parent / "guides" / "hover.safetensors"}
"""Guides that come with the package, by the name that `guide.load` takes."""


def make_guide(
    config: OnlineConfig, task: Task, path: Path, log: Callable[[str], None], resume: bool, begin: Callable[[], None]
) -> Guide:
    """Return the configured guide; a loaded or trained MLP is saved at `path`.

    Args:
        config: the whole configuration.
        task: what it flies.
        path: file of this run's guide.
        log: prints a line.
        resume: load the guide at `path` if there is one; a new run ignores a file that another run left there.
        begin: called before a guide is trained, which takes long; it makes the run resumable.

    Raises:
        CheckpointError: the guide is missing, has other columns or cannot be written.
        ConfigError: the package that trains it is missing.
    """
    if config.guide.kind == "pilot":
        return pilot_of_skill(config.guide.skill, PredictivePilot() if config.task.commands else Pilot())
    if resume and path.exists():
        return load_guide(path, task, "delete it and resume once more: it is made again")
    if name := config.guide.load:
        guide = load_guide(
            SHIPPED.get(name, Path(name)), task, "name a guide.safetensors, or leave it out", "guide.load: "
        )
    else:
        begin()
        guide = train_ppo_guide(config, task, log)
        score = score_flights(as_actor(guide), task, 128, 20_000)
        guide.about |= {"return": f"{score['return']:.1f}", "lasted": f"{score['lasted']:.3f}"}
        log(f"guide: return {score['return']:.1f} over 128 flights from seed 20000, {score['lasted']:.0%} to the end")
    save_guide(guide, path)
    return guide
