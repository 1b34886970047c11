"""`snn-dt list`: what can be used by name, with one line about each."""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snn_dt import io, named, release
from snn_dt.cli.arguments import parse
from snn_dt.errors import SnnDtError
from snn_dt.strict import read_yaml

Entries = dict[str, dict[str, Any]]

TITLES = {
    "presets": "presets: snn-dt train NAME",
    "variants": "variants: snn-dt train PRESET --variant NAME",
    "datasets": "datasets: --data.dataset minari:NAME, snn_dt.load_dataset('minari:NAME')",
    "pretrained": "pretrained: --checkpoint NAME, snn_dt.from_pretrained('NAME')",
}
OTHER_COMMANDS = ("finetune", "online", "rsnn")
"""Commands with presets of their own, in the folder of that name."""


@dataclass(frozen=True)
class ListArguments:
    """Show presets, variants, datasets and pretrained checkpoints that are here or in the release of `--release`."""

    json: bool = False
    """Print one JSON object."""


def list_main(arguments: Sequence[str]) -> int:
    """Run the command."""
    args = parse(ListArguments, arguments, "snn-dt list", bare_flags=True)
    found = {
        "presets": _presets(),
        "variants": {
            name: {"about": _about(path), "file": str(path)} for name, path in named.presets("variant").items()
        },
        "datasets": datasets(),
        "pretrained": pretrained(),
    }
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    width = max(40, shutil.get_terminal_size().columns if sys.stdout.isatty() else 80)
    for section, entries in found.items():
        print(TITLES[section])
        for line in _lines(entries, width):
            print(line)
        print()
    for command in OTHER_COMMANDS:
        text = f"snn-dt {command} NAME: {', '.join(named.presets(command))}"
        print(textwrap.fill(text, width, subsequent_indent="  ", break_on_hyphens=False))
    if release.place() is None:
        print("More comes from a release: --release FOLDER or ADDRESS, or $SNN_DT_RELEASE.")
    return 0


def _lines(entries: Entries, width: int) -> list[str]:
    """Return one line per entry, cut to the width."""
    column = max((len(name) for name in entries), default=0)
    lines = []
    for name, facts in entries.items():
        missing = "" if facts.get("here", True) else "; in the release" if facts.get("release") else "; data not here"
        line = f"  {_printable(name):{column}}  {_printable(facts['about'])}{missing}"
        lines.append(line if len(line) <= width else f"{line[: width - 3].rstrip()}...")
    return lines or ["  none"]


def _presets() -> Entries:
    from snn_dt.data import minari_source

    found: Entries = {}
    here = minari_source.local_datasets()
    for name, path in named.presets().items():
        dataset = read_yaml(path).get("data", {}).get("dataset")
        if dataset is None:  # shared values, not a preset of their own
            continue
        short = dataset.removeprefix("datasets/").removeprefix("minari:")
        found[name] = {"about": _about(path), "file": str(path), "dataset": dataset, "here": short in here}
    return found


def datasets() -> Entries:
    """Return the datasets on this machine and in the release."""
    from snn_dt.data import d4rl_source, minari_source

    found: Entries = {}
    for name, folder in minari_source.local_datasets().items():
        try:
            facts = minari_source.metadata(folder)
        except SnnDtError as error:
            found[name] = {"about": f"damaged: {error}", "folder": str(folder)}
            continue
        spec = str(facts.get("eval_env_spec") or facts.get("env_spec"))
        environment = re.search(r'"id": *"([^"\\]{1,60})"', spec)
        counts = f"{facts.get('total_episodes', '?')} episodes, {facts.get('total_steps', '?')} steps"
        about = f"{environment[1] if environment else 'no environment'}, {counts}"
        found[name] = {"about": about, "folder": str(folder)}
    for name in d4rl_source.local_datasets():
        found[f"d4rl:{name}"] = {"about": "D4RL file"}
    return found | _from_release("datasets", found)


def pretrained() -> Entries:
    """Return the named checkpoints on this machine and in the release."""
    found: Entries = {}
    for name, folder in named.known("pretrained").items():
        try:
            facts = io.read_json(folder / "config.json")
            kind, policy = facts["model"]["kind"], facts["policy"]
            about = f"{kind} for {policy['env_id']}, target return {policy['target_return']:g}"
        except (OSError, ValueError, KeyError, TypeError) as error:
            about = f"damaged: {' '.join(str(error).split())}"
        found[name] = {"about": about, "folder": str(folder)}
    return found | _from_release("pretrained", found)


def _from_release(kind: named.Kind, here: Entries) -> Entries:
    """Return what the named release holds beyond what is here."""
    return {
        name: {"about": str(entry.get("about", "")), "here": False, "release": release.place()}
        for name, entry in sorted(release.entries(kind).items())
        if name not in here and isinstance(entry, dict)
    }


def _about(path: Path) -> str:
    """Return the first sentence of the comment that a preset begins with."""
    first = io.read_text(path).partition("\n")[0].lstrip("# ")
    return re.split(r"\.(?: |$)", first)[0]


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
