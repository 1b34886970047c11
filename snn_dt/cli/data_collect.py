"""`snn-dt data collect`: roll out a policy or random actions and write a Minari dataset."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

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
    with progress_bar(f"collecting {arguments.id}") as progress:
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


@contextmanager
def progress_bar(title: str) -> Iterator[Any]:
    """Yield a `progress(done, total)` that draws a bar on stderr. Nothing is drawn until the first call."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    title_column = TextColumn("{task.description}", markup=False)
    columns = (title_column, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = plain_console(stderr=True)
    bar = Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal)
    task = bar.add_task(title)

    def update(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield update
    finally:
        if bar.live.is_started:
            bar.stop()
