"""`snn-dt export`: write a policy for use outside Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from snn_dt import io
from snn_dt.cli.arguments import parse
from snn_dt.errors import ConfigError

ONLINE = "snn_dt.experimental.online.c_actor"
"""Module that reads the actors of `snn-dt online`. It is named as text, because core never imports experimental."""


@dataclass(frozen=True)
class ExportArguments:
    """Write a trained policy as C for a microcontroller, or one decision of it as a graph."""

    checkpoint: Path
    """Checkpoint folder, or a run folder with a last checkpoint."""
    to: Literal["c", "pt2", "onnx", "nir"] = "c"
    """`c`: freestanding C99, one header and one source. `pt2`, `onnx`: a graph of one decision for torch.export or
    onnxruntime, with normalisation, return-to-go and state inside. `nir`: the spiking parts of snn_dt_stream."""
    out: Path = Path("exported")
    """Folder for the files; made if it is missing."""
    weights: Literal["float32", "int8"] = "float32"
    """Weights of C: `float32`, or `int8` with one scale per row and numbers in fixed point."""
    name: str = "policy"
    """Stem of the files, and prefix of the functions of C."""


def export_main(arguments: Sequence[str]) -> int:
    """Run the command. The checkpoint may also be given as the first word, without its flag."""
    words = list(arguments)
    if words and not words[0].startswith("-"):
        words.insert(0, "--checkpoint")
    args = parse(ExportArguments, words, "snn-dt export")
    if args.weights != "float32" and args.to != "c":
        raise ConfigError(f"expected --weights float32 for {args.to}, found {args.weights}; int8 is for --to c")
    if Path(args.name).name != args.name:
        raise ConfigError(f"expected --name without folders, found {args.name!r}; name the folder with --out")
    policy = read_any(args.checkpoint)
    if args.to == "c":
        from snn_dt.export.c_policy import write_c

        paths = write_c(policy, args.out, args.weights, args.name)
    elif args.to == "nir":
        from snn_dt.export.nir_graph import write_nir

        paths = write_nir(policy, args.out, args.name)
    else:
        from snn_dt.export.graph import write_graph

        paths = write_graph(policy, args.out, args.to, args.name)
    for path in paths:
        print(f"{path}: {path.stat().st_size / 1e3:,.0f} kB")
    return 0


def read_any(path: Path) -> Any:
    """Return the policy of a checkpoint, or the actor of a run of `snn-dt online`."""
    for folder in (path, path / "actor"):
        if io.is_file(folder / "config.json") and "actor" in io.read_json(folder / "config.json"):
            return import_module(ONLINE).read_policy(path)
    from snn_dt.checkpoint import from_pretrained

    return from_pretrained(path)
