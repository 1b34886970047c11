"""`snn-dt data`: show, cache, list and collect datasets."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NoReturn

from snn_dt.cli.data_collect import run_collect
from snn_dt.cli.progress_bar import progress_bar
from snn_dt.command import plain_console
from snn_dt.data.trajectories import Trajectories
from snn_dt.errors import ConfigError, DataError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def data_main(argv: list[str]) -> int:
    """Run `snn-dt data ...`; returns the exit status, raises `SnnDtError` for the user's mistakes."""
    arguments = _parser().parse_args(argv)
    for name in ("plot", "root"):
        if getattr(arguments, name, None) == "":
            raise ConfigError(f"expected a path after --{name}, found none; name one or leave it out")
    command = {"info": _info, "cache": _cache, "collect": run_collect, "list": _list}[arguments.command]
    command(arguments)
    return 0


def _parser() -> _Parser:
    parser = _Parser(prog="snn-dt data", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    info = commands.add_parser("info", help="show episodes, steps, spaces, returns and reference scores")
    info.add_argument("--plot", metavar="FILE.png", help="write a histogram of the returns")
    info.add_argument("--json", action="store_true", help="print one JSON object")
    cache = commands.add_parser("cache", help="read a dataset once, so that it opens without delay later")
    for command in (info, cache):
        command.add_argument("dataset", help="minari:<id>, d4rl:<id>, d4rl:<path>.hdf5, or a Minari dataset's folder")
        command.add_argument("--reward-mode", choices=["dense", "delayed"], default="dense")
        command.add_argument("--download", action="store_true", help="download the dataset if it is missing")
        command.add_argument("--env-id", help="environment whose action space a D4RL file has but does not name")
        command.add_argument(
            "--trust-env-spec",
            action="store_true",
            help="trust the dataset: if it has no spaces, import and run the environment that it describes",
        )
    listed = commands.add_parser("list", help="list the datasets found on this machine, or the public ones")
    listed.add_argument(
        "--public",
        nargs="?",
        const="",
        metavar="WORD",
        help="list public datasets of known names; with a part of a name, such as pen, only these, with their commands",
    )
    collect = commands.add_parser("collect", help="roll out a policy or random actions and write a Minari dataset")
    collect.add_argument("env", help="Gymnasium id, such as CartPole-v1")
    collect.add_argument("--id", required=True, help="id of the new dataset, such as mine/cartpole/random-v0")
    collect.add_argument("--episodes", type=int, default=100)
    collect.add_argument("--seed", type=int, default=0, help="episode i is reset with seed + i")
    collect.add_argument(
        "--max-steps",
        type=int,
        help="cut an episode after this many steps (default: the environment's own limit, else 100,000)",
    )
    collect.add_argument(
        "--policy",
        metavar="MODULE:NAME",
        help="function (episodes, seed) -> policy, where policy(observation) -> action; the default acts at random",
    )
    collect.add_argument(
        "--reference", type=float, nargs=2, metavar=("MIN", "MAX"), help="returns that count as 0 and as 100"
    )
    collect.add_argument("--root", help="Minari root to write to (default: $MINARI_DATASETS_PATH, ~/.minari/datasets)")
    return parser


def _info(arguments: argparse.Namespace) -> None:
    trajectories = _load(arguments)
    facts = trajectories.describe()
    if arguments.json:
        print(json.dumps(facts, indent=2))
    else:
        _print_facts(facts)
    if arguments.plot:
        from snn_dt.data.plot import plot_returns

        plot_returns(trajectories, arguments.plot)
        plain_console().print(f"histogram: {arguments.plot}")


def _print_facts(facts: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    reference, length, quantiles = facts["reference"], facts["episode_length"], facts["return_quantiles"]
    scores = (
        f"0 at {reference['min']:.1f}, 100 at {reference['max']:.1f} ({reference['source']})" if reference else None
    )
    rows = {
        "dataset": facts["dataset_id"],
        "environment": facts["env_id"] or "not named by the dataset",
        "episodes": f"{facts['episodes']:,} ({facts['terminated']:.0%} terminated)",
        "steps": f"{facts['steps']:,}",
        "episode length": f"mean {length['mean']:.1f}, longest {length['max']}, time limit {facts['time_limit']}",
        "observations": f"{facts['observation_space']} -> {facts['obs_dim']} numbers",
        "actions": facts["action_space"],
        "returns": ", ".join(f"{name} {value:.1f}" for name, value in quantiles.items())
        + f", mean {facts['return_mean']:.1f}",
        "reward mode": facts["reward_mode"],
        "score": scores or "none: neither the dataset nor D4RL's table has reference scores",
        "checksum": facts["checksum"],
    }
    for name, value in rows.items():
        table.add_row(name, " ".join(str(value).split()))
    plain_console().print(table)


def _cache(arguments: argparse.Namespace) -> None:
    trajectories = _load(arguments)
    file = getattr(trajectories.observations, "filename", None)
    if file is None:
        raise DataError(f"could not cache {trajectories.dataset_id!r}: set SNN_DT_CACHE to a folder with room")
    plain_console().print(
        f"{trajectories.dataset_id}: {trajectories.n_steps:,} steps in {Path(file).parent}", highlight=False
    )


def _list(arguments: argparse.Namespace) -> None:
    if arguments.public is not None:
        from snn_dt.cli.data_public import print_public

        print_public(arguments.public)
        return
    from rich.table import Table

    from snn_dt.data import d4rl_source, minari_source
    from snn_dt.data.spaces import clean_env_spec

    table = Table("dataset", "environment", "episodes", "steps", box=None, pad_edge=False)
    damaged = []
    for dataset_id, folder in minari_source.local_datasets().items():
        try:
            metadata = minari_source.metadata(folder)
            env_id, _, _ = clean_env_spec(metadata.get("env_spec"))
        except DataError as error:
            damaged.append(f"minari:{dataset_id}: {error}")
            continue
        counts = (str(metadata.get(key, "?")) for key in ("total_episodes", "total_steps"))
        table.add_row(f"minari:{dataset_id}", env_id or "-", *counts)
    for dataset_id in d4rl_source.local_datasets():
        table.add_row(f"d4rl:{dataset_id}", "-", "?", "?")
    plain_console().print(table)
    for line in damaged:
        print(f"snn-dt: {line}", file=sys.stderr)


def _load(arguments: argparse.Namespace) -> Trajectories:
    from snn_dt.data import load_dataset

    with progress_bar(f"reading {arguments.dataset}", stderr=True) as progress:
        return load_dataset(
            arguments.dataset,
            reward_mode=arguments.reward_mode,
            download=arguments.download,
            progress=progress,
            action_space=_action_space(arguments),
            trust=arguments.trust_env_spec,
        )


def _action_space(arguments: argparse.Namespace) -> Any:
    if arguments.env_id is None:
        return None
    from snn_dt.task import action_space

    return action_space(arguments.dataset, arguments.env_id)
