"""A FIFO, a device, a socket, a folder or a dangling link in the place of every file that is read."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.campaign.case import Case, Command, Expect, refused, sound
from tests.campaign.inputs import checkpoint, d4rl, evaluate, hdf5, info, tables, train


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    short = path.parent / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        before = os.getcwd()
        os.chdir(path.parent)  # a socket's name is short
        try:
            listener.bind(short.name)
        finally:
            os.chdir(before)
    short.rename(path)


KINDS: dict[str, Callable[[Path], None]] = {
    "fifo": _fifo,
    "link-to-fifo": lambda path: (os.mkfifo(path.with_name("pipe")), path.symlink_to("pipe"))[1],
    "zero": lambda path: path.symlink_to("/dev/zero"),
    "null": lambda path: path.symlink_to("/dev/null"),
    "random": lambda path: path.symlink_to("/dev/urandom"),
    "terminal": lambda path: path.symlink_to("/dev/tty"),
    "stdin": lambda path: path.symlink_to("/dev/stdin"),
    "socket": _socket,
    "folder": lambda path: path.mkdir(),
    "dangling": lambda path: path.symlink_to("nowhere"),
    "circle": lambda path: path.symlink_to(path.name),
    "sparse": lambda path: (path.touch(), os.truncate(path, 1 << 40))[1],
}
Make = Callable[[Path], tuple[Path, Command]]


def cases(seed: int) -> Iterator[Case]:
    for label, (write, expect) in _files().items():
        for kind, place in KINDS.items():
            if kind == "sparse" and label.endswith(("safetensors", "metrics")):
                continue  # ends at the memory that a case may take, with status 1
            yield Case(f"{label}-{kind}", _make(write, place), expect)


def _make(write: Make, place: Callable[[Path], None]) -> Callable[[Path], Command]:
    def make(folder: Path) -> Command:
        file, command = write(folder)
        if file.is_dir():
            shutil.rmtree(file)
        file.unlink(missing_ok=True)
        place(file)
        return command

    return make


def _files() -> dict[str, tuple[Make, Expect]]:
    def dataset(path: Path, file: str) -> tuple[Path, Command]:
        return path / "data" / file, info(path)

    def d4rl_file(folder: Path) -> tuple[Path, Command]:
        name = d4rl(folder)
        return Path(name.removeprefix("d4rl:")), info(name)

    def of_checkpoint(name: str) -> Make:
        def write(folder: Path) -> tuple[Path, Command]:
            path = checkpoint(folder)
            return path / name, evaluate(path)

        return write

    def of_run(name: str) -> Make:
        def write(folder: Path) -> tuple[Path, Command]:
            hdf5(folder)
            arguments = (str(folder / "run" / name),)
            return folder / "placed", Command(function="tests.campaign.irregular:train_and_resume", arguments=arguments)

        return write

    def config(folder: Path) -> tuple[Path, Command]:
        hdf5(folder)
        return folder / "config.yaml", train(folder)

    def base(folder: Path) -> tuple[Path, Command]:
        hdf5(folder)
        return folder / "base.yaml", train(folder, values="base: base.yaml\n")

    def cached(name: str) -> Make:
        def write(folder: Path) -> tuple[Path, Command]:
            hdf5(folder)
            return folder / "placed", Command(function="tests.campaign.irregular:cache_and_open", arguments=(name,))

        return write

    files: dict[str, tuple[Make, Expect]] = {
        "hdf5": (lambda folder: dataset(hdf5(folder), "main_data.hdf5"), refused()),
        "hdf5-metadata": (lambda folder: dataset(hdf5(folder), "metadata.json"), refused()),
        "d4rl": (d4rl_file, refused()),
        "arrow": (lambda folder: dataset(tables(folder, "arrow"), "2/part-0.arrow"), refused()),
        "parquet": (lambda folder: dataset(tables(folder, "parquet"), "2/part-0.parquet"), refused()),
        "episode-metadata": (lambda folder: dataset(tables(folder, "arrow"), "2/metadata.json"), refused()),
        "config": (config, refused()),
        "base": (base, refused()),
    }
    for name in ("config.json", "model.safetensors", "stats.safetensors", "provenance.json"):
        files[f"checkpoint-{name}"] = of_checkpoint(name), sound() if name.startswith("prov") else refused()
    for name in ("config.yaml", "checkpoints/last/training_state.pt", "checkpoints/last/model.safetensors",
                 "checkpoints/last/provenance.json"):  # fmt: skip
        files[f"resume-{Path(name).name}"] = of_run(name), refused()
    files["resume-metrics"] = of_run("metrics.jsonl"), sound()
    for name in ("meta.json", "observations.npy", "rewards.npy", "episode_offsets.npy"):
        files[f"cache-{name}"] = cached(name), sound()
    return files


def _place(folder: Path, target: Path) -> None:
    """Move what the case has made, a thing of a kind, to where it belongs."""
    if target.is_dir():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    for name in ("pipe", "nowhere"):
        if (folder / name).exists():
            (folder / name).rename(target.with_name(name))
    if (folder / "placed").is_symlink() and os.readlink(folder / "placed") == "placed":
        target.symlink_to(target.name)
    else:
        os.rename(folder / "placed", target)


def _quiet(words: tuple[str, ...]) -> int:
    import contextlib
    import io

    from snn_dt.cli.main import main

    with contextlib.redirect_stdout(io.StringIO()):
        return main(list(words))


def train_and_resume(folder: Path, target: str) -> int:
    """Make a run, put something in the place of one of its files, go on with it."""
    status = _quiet(train(folder).words)
    assert status == 0, status
    _place(folder, Path(target))
    return _quiet(("train", "--resume", "run"))


def cache_and_open(folder: Path, name: str) -> int:
    """Build a cache, put something in the place of one of its files, open it again."""
    status = _quiet(info("set").words)
    assert status == 0, status
    built = [path for path in (folder / "cache" / "datasets").iterdir() if not path.name.startswith(".")]
    _place(folder, built[0] / name)
    return _quiet(info("set").words)
