"""Presets, datasets and checkpoints by name.

A dataset or a checkpoint is looked for in `SOURCES`, one after the other: what ships with the package, what was fetched
before, the release that the user has named (`snn_dt.release`), the Hugging Face hub (`snn_dt.hub`, checkpoints named
`user/name`). Callers look first for a folder of that name.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from snn_dt import hub, io, release
from snn_dt.errors import ConfigError, did_you_mean

Kind = Literal["datasets", "pretrained"]

PRESETS = Path(__file__).parent / "presets"
_CLONE = Path(__file__).parents[1]
_CLONED = {"datasets": _CLONE / "datasets", "pretrained": _CLONE / "results" / "pretrained"}
_PREFIXES = {"datasets": "datasets/", "pretrained": "results/pretrained/"}


def shipped(kind: Kind) -> Path:
    """Return the folder of what ships: `snn_dt/shipped/` of an installed package, else the folder of a clone."""
    installed = Path(__file__).parent / "shipped" / kind
    return installed if installed.is_dir() else _CLONED[kind]


def _find_shipped(kind: Kind, name: str) -> Path | None:
    return _inside(shipped(kind), kind, name)


def _find_fetched(kind: Kind, name: str) -> Path | None:
    found = _inside(release.cache(kind), kind, name)
    return None if found is not None and release.holds_others(kind, name, found) else found


def _fetch_from_release(kind: Kind, name: str) -> Path | None:
    return release.fetch(kind, name)


def _fetch_from_hub(kind: Kind, name: str) -> Path | None:
    repo = hub.repository(name) if kind == "pretrained" else None
    return None if repo is None else hub.fetch(repo)


SOURCES: list[Callable[[Kind, str], Path | None]] = [
    _find_shipped,
    _find_fetched,
    _fetch_from_release,
    _fetch_from_hub,
]
"""Functions `(kind, name) -> folder or None`, in the order in which they are asked. A function that finds the name but
cannot deliver it raises a `SnnDtError`."""


def find(kind: Kind, name: str) -> Path | None:
    """Return the folder of a dataset or checkpoint, or None if no source has it.

    `datasets/` and `results/pretrained/` at the start are left out: presets and pages that were written for a clone
    mean the same thing elsewhere.

    Raises:
        SnnDtError: a source has it and cannot deliver it.
    """
    short = name.replace(os.sep, "/").removeprefix("./").removeprefix(_PREFIXES[kind]).rstrip("/")
    for source in SOURCES:
        if short and (found := source(kind, short)) is not None:
            return found
    return None


def known(kind: Kind) -> dict[str, Path]:
    """Return the datasets or checkpoints on this machine that have a name, {name: folder}."""
    mark = _mark(kind)
    found = {
        path.relative_to(root).as_posix().removesuffix(f"/{mark}"): path.parents[mark.count("/")]
        for root in (release.cache(kind), shipped(kind))
        for path in root.rglob(mark)
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    }
    return dict(sorted(found.items()))


def suggestion(kind: Kind, name: str) -> str:
    """Return what to do about a name that nothing was found for: the nearest known one, and where others come from."""
    others = (
        "" if release.place() else f"; others come from a release: --release FOLDER or ADDRESS, or ${release.VARIABLE}"
    )
    names = {*known(kind), *release.entries(kind)}
    return f"{did_you_mean(name.removeprefix(_PREFIXES[kind]), names)}{others}"


def presets(folder: str = "") -> dict[str, Path]:
    """Return the presets of a folder (`variant`, `online`, ...; empty for those of `train`) by name."""
    return {path.stem: path for path in sorted((PRESETS / folder).glob("*.yaml"), key=lambda path: path.stem)}


def preset(name: str, folder: str = "") -> Path:
    """Return the file of a preset, or of a config file that is named by its path.

    Raises:
        ConfigError: there is none.
    """
    if name.endswith((".yaml", ".yml")):
        return config_file(Path(name), name)
    own, inside = presets(folder), PRESETS / folder / f"{name}.yaml"
    if name in own or (".." not in Path(name).parts and io.is_file(inside)):
        return own.get(name, inside)
    what = "variant" if folder == "variant" else "preset"
    raise ConfigError(f"expected a {what}, found {name!r}{did_you_mean(name, own)}; see snn-dt list")


def config_file(path: Path, typed: str) -> Path:
    """Return `path`; if no file is there and `typed` begins with `configs/`, the preset of that name.

    `configs/` is the folder of the presets in a clone.
    """
    first, *rest = Path(typed).parts or ("",)
    if first != "configs" or not rest or ".." in rest or os.path.lexists(path):
        return path
    packaged = PRESETS.joinpath(*rest)
    return packaged if io.is_file(packaged) else path


def _mark(kind: Kind) -> str:
    """Return the file that makes a folder a dataset or a checkpoint."""
    return "data/metadata.json" if kind == "datasets" else "config.json"


def _inside(root: Path, kind: Kind, name: str) -> Path | None:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return None
    return root / name if io.is_file(root / name / _mark(kind)) else None
