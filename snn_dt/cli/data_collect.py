"""`snn-dt data collect`: roll out a policy or random actions and write a Minari dataset."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Any

from snn_dt.cli.progress_bar import progress_bar
from snn_dt.command import plain_console
from snn_dt.errors import ConfigError


def run_collect(arguments: argparse.Namespace) -> None:
    """Run `snn-dt data collect`. Raises `ConfigError` for a bad flag or policy and the errors of `collect`."""
    from snn_dt.data.collect import collect

    if not 1 <= arguments.episodes < 2**31 or not 0 <= arguments.seed < 2**32:
        raise ConfigError(
            f"expected --episodes in [1, 2^31), --seed in [0, 2^32), found {arguments.episodes}, {arguments.seed}"
        )
    policy = _policy(arguments.policy, arguments.episodes, arguments.seed) if arguments.policy else None
    with progress_bar(f"collecting {arguments.id}", stderr=True) as progress:
        folder = collect(
            arguments.env,
            policy,
            episodes=arguments.episodes,
            seed=arguments.seed,
            dataset_id=arguments.id,
            root=arguments.root,
            algorithm_name=arguments.policy,
            reference=arguments.reference,
            progress=progress,
            max_steps=arguments.max_steps,
        )
    plain_console().print(f"{arguments.id}: {arguments.episodes} episodes in {folder}")


def _policy(name: str, episodes: int, seed: int) -> Any:
    module, _, attribute = name.partition(":")
    try:
        policy = getattr(import_module(module), attribute)(episodes, seed)
    except Exception as error:  # the user's code may raise anything
        raise ConfigError(
            f"--policy {name}: expected MODULE:NAME of a function (episodes, seed) -> policy, found {error!r}; name one"
        ) from error
    if not callable(policy):
        raise ConfigError(
            f"--policy {name}: expected it to return a function observation -> action, found {policy!r}; return one"
        )
    return policy
