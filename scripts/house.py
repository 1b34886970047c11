"""Print how large the project is, and how many files a newcomer reads; `tests/test_house.py` holds the limits.

python scripts/house.py             the measures, a minute
python scripts/house.py --mypy      with the errors of mypy, a few minutes
python scripts/house.py --losses    hashes of the losses of four short runs: equal before and after a refactoring
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PARTS = {"checkpoint": "evaluation", "run_checkpoint": "run"}
"""Modules of the root that belong to another: a policy and its file know each other, and so do a run and its files."""
LOSS_RUNS = ("dense", "snn_dt-full", "snn_dt_stream", "dsformer_pssa")


def tracked_files(root: Path = ROOT) -> list[Path]:
    """Return the files that git tracks and that exist."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    return [root / name for name in names.split("\0") if name and (root / name).is_file()]


# ---- imports


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Return the package's modules by dotted name."""
    paths = {".".join(path.relative_to(root).with_suffix("").parts): path for path in (root / "snn_dt").rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in paths.items()}


def imports(root: Path = ROOT) -> set[tuple[str, str]]:
    """Return (module, what it imports) for each import of the package in itself, also inside functions."""
    known = modules(root)
    edges = set()
    for name, path in known.items():
        here = name if path.stem == "__init__" else name.rpartition(".")[0]  # what `.` means
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                edges |= {(name, alias.name) for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                above = here.split(".")[: len(here.split(".")) - node.level + 1] if node.level else []
                base = ".".join([*above, *([node.module] if node.module else [])])
                # `from snn_dt.data import load` names a module, `from snn_dt.data import load_dataset` does not.
                edges |= {(name, f"{base}.{a.name}" if f"{base}.{a.name}" in known else base) for a in node.names}
    return {(name, target) for name, target in edges if target.split(".")[0] == "snn_dt"}


def package(module: str) -> str:
    """Return the name under `snn_dt` to which a module belongs: a package, or a module of the root."""
    name = module.split(".")[1] if "." in module else "snn_dt"
    return PARTS.get(name, name)


def crossings(root: Path = ROOT) -> dict[tuple[str, str], list[str]]:
    """Return the imports from one package into another; the root, which is always loaded, is left out."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, target in sorted(imports(root)):
        ends = package(name), package(target)
        if ends[0] != ends[1] and "snn_dt" not in ends:
            found.setdefault(ends, []).append(f"{name} -> {target}")
    return found


def cycles(edges: set[tuple[str, str]]) -> list[list[str]]:
    """Return the groups of names that lead to each other."""
    targets: dict[str, set[str]] = {}
    for user, used in edges:
        targets.setdefault(user, set()).add(used)

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            new = targets.get(todo.pop(), set()) - seen
            seen |= new
            todo += new
        return seen

    reach = {name: reachable(name) for name in targets}
    groups = {frozenset(b for b in reach if b in reach[a] and a in reach[b]) for a in reach if a in reach[a]}
    return sorted(sorted(group) for group in groups)


# ---- text


def line_count(path: Path) -> int:
    """Return the number of lines of a file."""
    return len(path.read_text().splitlines())


def code_lines(path: Path) -> int:
    """Return the number of lines that are neither empty nor comments nor docstrings."""
    text, prose = path.read_text(), set[int]()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            prose |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(map(str.strip, text.splitlines()), start=1)
    return sum(bool(line) and not line.startswith("#") and i not in prose for i, line in lines)


def comment_density(paths: list[Path]) -> float:
    """Return the lines with a `#` comment per 100 lines of Python."""
    comments = sum(
        token.type == tokenize.COMMENT
        for path in paths
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    )
    return 100 * comments / sum(map(line_count, paths))


def commas_per_sentence(paths: list[Path]) -> float:
    """Return commas per sentence of the docstrings, without code and shapes."""
    sentences: list[str] = []
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = re.sub(r"```.*?```|`[^`]*`", "x", ast.get_docstring(node) or "", flags=re.DOTALL)
                sentences += [s for s in re.split(r"(?<=[.:;!?])\s+|\n\n", text) if len(s.split()) > 2]
    return sum(s.count(",") for s in sentences) / max(1, len(sentences))


def static_measures(root: Path = ROOT) -> dict[str, Any]:
    """Return what can be measured without running anything."""
    files, inside = tracked_files(root), root / "snn_dt"
    python = [path for path in files if path.suffix == ".py" and inside in path.parents]
    core = [path for path in python if "experimental" not in path.relative_to(inside).parts]
    names = Counter(path.stem for path in core if path.stem != "__init__")
    short = [path for path in core if line_count(path) < 40 and path.stem != "__init__"]
    core_lines = sum(map(line_count, core))
    return {
        "core lines": core_lines,
        "core lines of code": sum(map(code_lines, core)),
        "experimental lines": sum(map(line_count, python)) - core_lines,
        "core packages": len({path.relative_to(inside).parts[0] for path in core if path.parent != inside}),
        "import cycles": cycles(set(crossings(root))),
        "core files under 40 lines": sorted(str(path.relative_to(inside)) for path in short),
        "names used twice in core": sorted(name for name, n in names.items() if n > 1),
        "YAML files": sum(path.suffix in (".yaml", ".yml") for path in files),
        "tree MB": round(sum(path.stat().st_size for path in files) / 1e6, 1),
        "README lines": line_count(root / "README.md"),
        "comments per 100 lines": round(comment_density(python), 1),
        "commas per docstring sentence": round(commas_per_sentence(python), 2),
    }


# ---- running


class Trace:
    """Collects the package's files in which a function runs."""

    def __init__(self, root: Path = ROOT) -> None:
        self.folder, self.names = f"{root / 'snn_dt'}{os.sep}", set[str]()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Trace what is called in the block."""
        sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(None)

    def _profile(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            self.names.add(frame.f_code.co_filename)

    @property
    def files(self) -> list[Path]:
        """The files, sorted."""
        return sorted(Path(name) for name in self.names if name.startswith(self.folder) and Path(name).is_file())


def reading_lists() -> dict[str, list[Path]]:
    """Return the files of one update and of one decision of `snn_dt` on CartPole.

    The update and the decision are not the first ones: these import, compile and allocate.
    """
    import torch

    from snn_dt.config import load_config
    from snn_dt.run import Run
    from snn_dt.training.loop import TrainingLoop

    config = load_config(ROOT / "configs/cartpole.yaml", ROOT / "configs/variant/snn_dt.yaml")
    config = replace(
        config,
        data=replace(config.data, dataset=str(ROOT / config.data.dataset)),
        train=replace(config.train, steps=3, threads=1, log_every=1),
        eval=replace(config.eval, episodes=0),
        track=replace(config.track, wandb="disabled"),
    )
    update, step, decision = TrainingLoop.one_update, Trace(), Trace()

    @wraps(update)
    def traced(loop: TrainingLoop) -> Any:
        with step.running() if loop.state.step == 1 else contextlib.nullcontext():
            return update(loop)

    TrainingLoop.one_update = traced  # type: ignore[method-assign]  # restored below
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            run = Run(config, Path(folder))
            run.train()
            policy = run.policy
    finally:
        TrainingLoop.one_update = update  # type: ignore[method-assign]
    observation = torch.zeros(policy.model.state_dim).numpy()
    policy.reset(target_return=100.0)
    for traced_call in (contextlib.nullcontext(), decision.running()):
        with traced_call:
            policy.act(observation)
            policy.observe(1.0)
    return {"training step": step.files, "decision": decision.files}


def mypy_errors() -> int:
    """Return the errors of mypy on the whole package."""
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.count(": error:")


def loss_hash(variant: str, updates: int = 40) -> str:
    """Train one variant on CartPole for a few updates on one thread; return a hash of its losses and gradient norms."""
    with tempfile.TemporaryDirectory() as folder:
        files = ["configs/cartpole.yaml", f"configs/variant/{variant}.yaml"]
        flags = {"train.steps": updates, "train.log_every": 1, "train.threads": 1, "eval.episodes": 0}
        command = [sys.executable, "-m", "snn_dt.cli.main", "train", "--config", *files, "--run-dir", folder]
        command += [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{variant}: {done.stderr.strip().splitlines()[-1]}")
        rows = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    losses = [(row["step"], row["loss"], row["grad_norm"]) for row in rows if "loss" in row]
    return f"{hashlib.sha256(repr(losses).encode()).hexdigest()[:12]}  loss {losses[-1][1]:.6f} after {updates} updates"


def measures(mypy: bool = False) -> dict[str, Any]:
    """Return all measures by name."""
    found = static_measures()
    for name, paths in reading_lists().items():
        found[f"{name}: files"] = len(paths)
        found[f"{name}: lines"] = sum(map(line_count, paths))
    if mypy:
        found["mypy errors"] = mypy_errors()
    return found


def main() -> None:
    """Print the measures, or the hashes of losses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mypy", action="store_true", help="count the errors of mypy")
    parser.add_argument("--losses", action="store_true", help="print hashes of the losses of four short runs instead")
    parser.add_argument(
        "--files", action="store_true", help="print the files of a training step and a decision instead"
    )
    parser.add_argument("--json", type=Path, help="also write the measures to this file")
    arguments = parser.parse_args()
    if arguments.losses:
        for variant in LOSS_RUNS:
            print(f"{variant:16} {loss_hash(variant)}", flush=True)
        return
    if arguments.files:
        for name, paths in reading_lists().items():
            print(f"{name}: " + " ".join(str(path.relative_to(ROOT / "snn_dt")) for path in paths))
        return
    found = measures(arguments.mypy)
    for name, value in found.items():
        print(f"{name:30} {value if not isinstance(value, list) else f'{len(value)} {value}'}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
