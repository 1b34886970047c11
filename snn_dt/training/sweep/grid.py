"""Trials of a sweep file: each config with each combination of grid values and each seed."""

from __future__ import annotations

import functools
import itertools
import re
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from snn_dt import strict
from snn_dt.config import Config, check_env_id, config_from_dict, config_to_dict, load_config
from snn_dt.errors import ConfigError
from snn_dt.renamed import current_name
from snn_dt.training.sweep.entry import Entry, read_entries

SEED = "train.seed"


@dataclass(frozen=True)
class SweepConfig:
    """A grid of training runs, as in configs/sweep/*.yaml."""

    configs: tuple[Any, ...] = ()
    """Config files, relative to the sweep file, or entries `{name: ..., config: FILE, section.field: value}`."""
    variants: tuple[Any, ...] = ()
    """Files or entries that override each of `configs`, one at a time; empty runs `configs` unchanged."""
    seeds: tuple[int, ...] = ()
    """Values of `train.seed`; empty keeps the seed of each config."""
    grid: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Values of config fields: `model.surrogate_slope: [3, 10]`, `train.budget.mean_firing_rate: [0.05]`. A field with
    a single value does not appear in the names of trials."""
    episodes: int = 0
    """Episodes of a final evaluation of the last and the best checkpoint; 0 uses the last evaluation in training."""
    threads: int = 0
    """CPU threads per trial; 0 divides this machine's cores among the parallel trials (on a cluster: 1)."""
    gpus: float = 0.0
    """GPUs per trial; a fraction lets several trials share a GPU. Needs Ray."""
    retries: int = 2
    """How often a trial that crashed or was killed is resumed from its run folder before it counts as failed."""


@dataclass(frozen=True)
class Trial:
    """One run of a sweep. `name` is the name of its folder. `command` makes the same run without a sweep."""

    name: str
    config: Config
    overrides: dict[str, Any]
    command: str
    variant: str = ""
    episodes: int = 0


def read_sweep(path: Path, trust: bool = False) -> tuple[SweepConfig, list[Trial]]:
    """Read a sweep file and return its trials in starting order: all trials of a seed before the next seed.

    Raises:
        ConfigError: a key or value is unknown, there is no config, a grid has an empty list, or two trials have the
            same name. Without `trust` also for an environment that imports a module.
    """
    sweep = strict.build(SweepConfig, strict.read_yaml(path), str(path))
    _validate(sweep, path)
    grid = {SEED: sweep.seeds, **sweep.grid} if sweep.seeds else sweep.grid
    trials: dict[str, Trial] = {}
    read_once = functools.cache(functools.partial(_read, trust=trust))  # every seed reads the same files
    tasks = read_entries(sweep.configs, "configs", path)
    variants = read_entries(sweep.variants, "variants", path) or [Entry("", (), {})]
    for values in itertools.product(*grid.values()):
        from_grid = dict(zip(grid, values, strict=True))
        # Only what distinguishes trials is in their names; the seed is added to all of them.
        named = {key: value for key, value in from_grid.items() if len(grid[key]) > 1 and key != SEED}
        for task, variant in itertools.product(tasks, variants):
            overrides = task.values | variant.values | from_grid
            trial = _trial(path, (task, variant), read_once(task.files + variant.files), overrides, named)
            trial = replace(trial, episodes=sweep.episodes)
            if not trust:
                check_env_id("eval.env_id", trial.config.eval.env_id)
            if trial.name in trials:
                raise ConfigError(f"{path}: two trials are named {trial.name}; rename one of the entries in `configs`")
            trials[trial.name] = trial
    return sweep, list(trials.values())


def _read(sources: tuple[Path, ...], trust: bool) -> dict[str, Any]:
    return config_to_dict(load_config(*sources, trust=trust))


def _trial(
    path: Path,
    entries: tuple[Entry, Entry],
    values: dict[str, Any],
    overrides: dict[str, Any],
    named: dict[str, Any],
) -> Trial:
    sources, names = (
        [file for entry in entries for file in entry.files],
        [entry.name for entry in entries if entry.name],
    )
    for key, value in overrides.items():
        values = strict.merge(values, _nested(key, value))
    built = config_from_dict(values, source=f"{path}: {' with '.join(map(str, sources))}")
    short = [key.rpartition(".")[2] for key in named]
    # The last part of a key, unless two keys share it.
    labels = [name if short.count(name) == 1 else key for key, name in zip(named, short, strict=True)]
    parts = [f"{label}={_slug(value)}" for label, value in zip(labels, named.values(), strict=True)]
    flags = [f"--{key} {' '.join(shlex.quote(str(v)) for v in _many(value))}" for key, value in overrides.items()]
    return Trial(
        name="-".join([*names, *parts, f"seed{built.train.seed}"]),
        config=built,
        overrides=overrides,
        command=" ".join(["snn-dt train --config", *(shlex.quote(str(source)) for source in sources), *flags]),
        variant="-".join([*names[1:], *parts]),
    )


def _validate(sweep: SweepConfig, path: Path) -> None:
    if not sweep.configs:
        raise ConfigError(f"{path}: configs: expected at least one config file, found none; add `configs: [...]`")
    if sweep.seeds and SEED in sweep.grid:
        raise ConfigError(f"{path}: expected `seeds` or {SEED} in the grid, found both; remove one")
    for key, values in sweep.grid.items():
        if "." not in key or not values:
            raise ConfigError(f"{path}: grid: expected section.field: [value, ...], found {key}: {list(values)}")
    for name, least in (("episodes", 0), ("threads", 0), ("gpus", 0), ("retries", 0)):
        if getattr(sweep, name) < least:
            raise ConfigError(f"{path}: {name}: expected at least {least}, found {getattr(sweep, name)}")


def _nested(key: str, value: Any) -> dict[str, Any]:
    """Return `{"train": {"budget": {"weight": value}}}` for train.budget.weight."""
    for name in reversed(current_name(key).split(".")):
        value = {name: value}
    return dict(value)


def _many(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _slug(value: Any) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", "_".join(map(str, _many(value)))).strip("_")
