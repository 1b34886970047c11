"""The families of the campaign, and the sample that the quick form takes of each."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from importlib import import_module

from tests.campaign.case import Case

# Cases of the quick form, a minute of one core in all; those that train cost more, so fewer are drawn.
QUICK = {
    "minari_metadata": 80,
    "minari_hdf5": 60,
    "tables": 60,
    "d4rl": 50,
    "damage": 55,
    "caches": 20,
    "checkpoints": 60,
    "configs": 60,
    "command_lines": 40,
    "environments": 28,
    "irregular": 25,
    "surroundings": 25,
    "kills": 8,
}


def cases_of(family: str, seed: int) -> list[Case]:
    """Return all cases of a family; their names are unique."""
    make: Callable[[int], Iterator[Case]] = import_module(f"tests.campaign.{family}").cases
    cases = list(make(seed))
    names = [case.name for case in cases]
    assert len(set(names)) == len(names), f"{family}: names twice: {sorted({n for n in names if names.count(n) > 1})}"
    return cases


def sample(family: str, cases: list[Case], seed: int) -> list[Case]:
    """Return what the quick form takes of a family: drawn by the seed, in the order of the table."""
    chosen = random.Random(f"{seed} {family}").sample(range(len(cases)), min(QUICK[family], len(cases)))
    return [cases[index] for index in sorted(chosen)]
