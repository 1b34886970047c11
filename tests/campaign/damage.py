"""Files that were cut or of which bits are wrong: a cut is always told; a bit, wherever the format can tell."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.campaign.case import Case, Command, Expect, Result, refused, sound
from tests.campaign.inputs import checkpoint, d4rl, evaluate, hdf5, info, tables

CUTS, FLIPS = 12, 14
Write = Callable[[Path], tuple[Path, Command]]


def cases(seed: int) -> Iterator[Case]:
    draw = random.Random(f"damage {seed}")
    for name, write in _files().items():
        shares = [0.0, 0.999999, *(draw.random() for _ in range(CUTS - 2))]
        for share in shares:
            yield _case(f"{name}-cut-{share:.6f}", write, _cut(share), _of_cut(name))
        for count in (1, 1, 1, 1, 1, 1, 1, 1, 8, 8, 8, 64, 64, 1000)[:FLIPS]:
            at = draw.randrange(2**32)
            yield _case(f"{name}-flip-{count}-{at}", write, _flip(count, at), sound(_something))
        yield _case(f"{name}-zeros", write, _zero, sound(_something))
        yield _case(f"{name}-tail", write, lambda data: data + bytes(64), sound(_something))


def _of_cut(name: str) -> Expect:
    # A JSON text cut in its last blanks, or provenance that says nothing of weights, may still be whole.
    return sound(_something) if name.endswith(("metadata", "config", "provenance")) else refused()


def _something(result: Result) -> str | None:
    return None if result.stdout.strip() else "accepted, and nothing printed"


def _files() -> dict[str, Write]:
    """Return a name for each file, and what writes the whole input and tells which file it is and what reads it."""

    def dataset(path: Path, file: str) -> tuple[Path, Command]:
        return path / "data" / file, info(path)

    def d4rl_file(folder: Path) -> tuple[Path, Command]:
        name = d4rl(folder)
        return Path(name.removeprefix("d4rl:")), info(name)

    def part(name: str) -> Write:
        def write(folder: Path) -> tuple[Path, Command]:
            path = checkpoint(folder)
            return path / name, evaluate(path)

        return write

    return {
        "hdf5": lambda folder: dataset(hdf5(folder), "main_data.hdf5"),
        "hdf5-metadata": lambda folder: dataset(hdf5(folder), "metadata.json"),
        "d4rl": d4rl_file,
        "arrow": lambda folder: dataset(tables(folder, "arrow"), "2/part-0.arrow"),
        "parquet": lambda folder: dataset(tables(folder, "parquet"), "2/part-0.parquet"),
        "parquet-metadata": lambda folder: dataset(tables(folder, "parquet"), "2/metadata.json"),
        "checkpoint-config": part("config.json"),
        "checkpoint-provenance": part("provenance.json"),
        "checkpoint-model": part("model.safetensors"),
        "checkpoint-stats": part("stats.safetensors"),
    }


def _case(name: str, write: Write, damage: Callable[[bytes], bytes], expect: Expect) -> Case:
    def make(folder: Path) -> Command:
        file, command = write(folder)
        file.write_bytes(damage(file.read_bytes()))
        return command

    return Case(name, make, expect)


def _cut(share: float) -> Callable[[bytes], bytes]:
    return lambda data: data[: min(len(data) - 1, int(share * len(data)))]


def _flip(count: int, seed: int) -> Callable[[bytes], bytes]:
    def flip(data: bytes) -> bytes:
        draw, changed = random.Random(seed), bytearray(data)
        for _ in range(count):
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        return bytes(changed)

    return flip


def _zero(data: bytes) -> bytes:
    return data[: len(data) // 3] + bytes(len(data) // 3) + data[2 * (len(data) // 3) :]
