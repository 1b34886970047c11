"""Presets on the command line: `snn-dt train hopper --variant dense` means the config files of these names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile

from snn_dt import release
from snn_dt.errors import ConfigError
from snn_dt.named import preset


def spell_out(command: str, words: Sequence[str]) -> list[str]:
    """Return a command line with config files in place of presets and variants.

    Presets stand before all flags, and the files of `--config` are laid over them; variants come last.

    Raises:
        ConfigError: an unknown name.
    """
    names = _plain(words)
    variants, rest = _take_variants(words[len(names) :])
    folder = "" if command == "train" else command
    first = [str(preset(name, folder)) for name in names]
    last = [str(preset(name, "variant")) for name in variants]
    return [*(["--config", *first] if first else []), *rest, *(["--config", *last] if last else [])]


@contextmanager
def named_release(words: Sequence[str]) -> Iterator[list[str]]:
    """Take `--release PLACE` out of a command line; in the block it is the release that names are fetched from."""
    import os

    before, left, place = os.environ.get(release.VARIABLE), list[str](), None
    remaining = iter(words)
    for word in remaining:
        flag, equals, value = word.partition("=")
        if flag == "--release":
            place = value if equals else next(remaining, "")
        else:
            left.append(word)
    if place == "" or (place or "").startswith("--"):
        raise ConfigError("expected a folder or an address after --release, found none; name one or leave it out")
    try:
        if place is not None:
            os.environ[release.VARIABLE] = place
        yield left
    finally:
        if place is not None:
            os.environ.pop(release.VARIABLE)
            if before is not None:
                os.environ[release.VARIABLE] = before


def _take_variants(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return (names after `--variant`, other words)."""
    variants, rest = list[str](), list[str]()
    i = 0
    while i < len(words):
        flag, equals, value = words[i].partition("=")
        if flag != "--variant":
            rest.append(words[i])
            i += 1
            continue
        found = ([value] if equals else []) + _plain(words[i + 1 :])
        if not found:
            raise ConfigError("expected a name after --variant, found none; see snn-dt list")
        variants += found
        i += 1 + len(found) - bool(equals)
    return variants, rest


def _plain(words: Sequence[str]) -> list[str]:
    return list(takewhile(lambda word: not word.startswith("-"), words))
