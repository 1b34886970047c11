"""Every command that writes, killed right before its n-th file operation and gone on with: the end is the same.

Or the disk is full from the n-th operation on: one line, and with room again it goes on to the same end.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.campaign.case import Case, Command, accepted
from tests.campaign.inputs import checkpoint, evaluate, hdf5, train

PLACES = {"train": 24, "evaluate": 10, "cache": 16, "finetune": 20, "online": 24, "collect": 12}


def cases(seed: int) -> Iterator[Case]:
    draw = random.Random(f"kills {seed}")
    for command, number in PLACES.items():
        for fault in ("kill", "full"):
            shares = [0.0, 0.9999, *(draw.random() for _ in range(number - 2))]
            for share in shares if fault == "kill" else shares[: number // 2]:
                name = "tests.campaign.kills:cut_and_gone_on_with"
                run = Command(function=name, arguments=(command, fault, share))
                yield Case(
                    f"{command}-{fault}-{share:.4f}", lambda folder, c=command, r=run: _write(folder, c, r), accepted()
                )


def _write(folder: Path, command: str, run: Command) -> Command:
    hdf5(folder)
    if command in ("evaluate", "finetune"):
        checkpoint(folder)
    return run


def _words(command: str, folder: Path) -> list[str]:
    run = str(folder / "run")
    if command == "train":
        values = {"train.steps": 6, "train.save_every": 2, "train.log_every": 1, "train.eval_every": 3,
                  "eval.episodes": 1, "eval.num_envs": 1}  # fmt: skip
        return [*train(folder).words, *[f"--{name}={value}" for name, value in values.items()]]
    if command == "finetune":
        values = {
            "explore.episodes": 1, "update.iterations": 3, "update.updates": 1, "update.batch_size": 2,
            "update.critic_warm_up": 1, "update.critic_hidden": 4, "update.threads": 1, "update.device": "cpu",
            "update.eval_every": 2, "update.save_every": 1, "eval.episodes": 1, "track.wandb": "disabled",
        }  # fmt: skip
        return ["finetune", "--checkpoint", "mine", "--run-dir", run, *[f"--{k}={v}" for k, v in values.items()]]
    if command == "online":
        values = {
            "task.drones": 2, "task.horizon": 20, "actor.hidden": 4, "learn.warm_up": 2, "learn.critic_first": 1,
            "learn.length": 10, "learn.stride": 5, "learn.batch_size": 4, "learn.critic_hidden": 4,
            "jump_start.first": 5, "jump_start.growth": 5, "guide.kind": "ppo", "guide.load": "hover",
            "train.iterations": 3, "train.updates": 1, "train.eval_every": 2, "train.save_every": 1, "train.threads": 1,
            "eval.flights": 2, "track.wandb": "disabled",
        }  # fmt: skip
        flags = [word for name, value in values.items() for word in (f"--{name}", str(value))]
        return ["online", "--run-dir", run, *flags]
    if command == "evaluate":
        return [
            *evaluate("mine").words,
            "--target-return",
            "5",
            "6",
            "--json",
            f"{run}/results.json",
            "--report",
            f"{run}/report",
        ]
    if command == "collect":
        return ["data", "collect", "CartPole-v1", "--id", "toy/walk-v0", "--episodes", "3", "--root", run]
    return ["data", "cache", "set"]


def cut_and_gone_on_with(folder: Path, command: str, fault: str, share: float) -> int:
    """Run a command whole, once more with a fault at a share of its operations, and once more to the end; compare."""
    whole = Path(os.environ["CAMPAIGN_SHARED"]) / f"{command}.json"
    under = folder / ("cache" if command == "cache" else "run")
    if not whole.exists():
        status, operations, error = _forked(_words(command, folder), under, None, fault)
        assert status == 0, error
        whole.write_text(json.dumps({"operations": operations, "left": _left(command, folder)}))
        shutil.rmtree(under)
    expected = json.loads(whole.read_text())
    at = int(share * expected["operations"])
    status, _, error = _forked(_words(command, folder), under, at, fault)
    assert "Traceback" not in error, f"operation {at} of {expected['operations']}: {error[-600:]}"
    lines = [line for line in error.splitlines() if line.strip() and "warning" not in line]
    if fault == "full" and status != 0:
        assert status in (1, 2), f"operation {at}: status {status}, {lines}"
        assert 1 <= len(lines) <= 2, f"operation {at}: {lines}"
    done = command == "collect" and (folder / "run" / "toy" / "walk-v0").exists()  # complete, or it would not be there
    status, _, error = (0, 0, "") if done else _forked(_again(command, folder), under, None, fault)
    assert status == 0, f"after operation {at} of {expected['operations']}: status {status}, {error[-400:]}"
    _same(expected["left"], _left(command, folder), f"after operation {at} of {expected['operations']}")
    rubbish = [str(p.relative_to(under)) for p in under.rglob("*") if _is_rubbish(p)]
    assert not rubbish, f"after operation {at} of {expected['operations']} there stay {rubbish}"
    return 0


def _is_rubbish(path: Path) -> bool:
    if path.is_dir() and not any(path.iterdir()):
        return False  # killed before it was filled: another machine's may look so, and only age tells
    return path.name.startswith((".building-", ".collecting-", ".writable-")) or path.name.endswith(
        (".partial", ".old", ".tmp")
    )


def _again(command: str, folder: Path) -> list[str]:
    """Return how a run is gone on with: resumed where there is something to resume, else begun again."""
    run = folder / "run"
    if command in ("train", "finetune", "online") and (run / "config.yaml").exists():
        return [command, "--resume", str(run)]
    return _words(command, folder)


def _left(command: str, folder: Path) -> Any:
    """Return all that must not depend on whether the command was interrupted."""
    run = folder / "run"
    if command == "cache":
        built = [path for path in (folder / "cache" / "datasets").iterdir() if not path.name.startswith(".")]
        return {path.name: path.read_bytes().hex() for path in sorted(built[0].glob("*.npy"))}
    if command == "collect":
        import h5py

        left = {}
        with h5py.File(run / "toy/walk-v0/data/main_data.hdf5") as file:
            file.visititems(
                lambda name, item: left.update({name: item[()].tolist()}) if hasattr(item, "dtype") else None
            )
        return left
    if command == "evaluate":
        rows = json.loads((run / "results.json").read_text())
        return [[row["target_return"], row["returns"]] for row in rows] + [sorted(p.name for p in run.rglob("*.html"))]
    weights = {str(path.relative_to(run)): path.read_bytes().hex() for path in sorted(run.rglob("*.safetensors"))}
    return {"weights": weights, "lines": _lines(run / "metrics.jsonl")}


def _lines(path: Path) -> list[Any]:
    clocks = ("steps_per_second", "decisions_per_second", "seconds", "time")

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without(item) for key, item in value.items() if not any(clock in key for clock in clocks)}
        return [without(item) for item in value] if isinstance(value, list) else value

    return [without(json.loads(line)) for line in path.read_text().splitlines()]


def _same(expected: Any, found: Any, where: str) -> None:
    found = json.loads(json.dumps(found))
    if expected == found:
        return
    if isinstance(expected, dict):
        differs = [key for key in {**expected, **found} if expected.get(key) != found.get(key)]
        detail = {key: (str(expected.get(key))[:150], str(found.get(key))[:150]) for key in differs[:2]}
        raise AssertionError(f"{where}: {differs[:5]} differ: {detail}")
    raise AssertionError(f"{where}: {str(expected)[:200]} became {str(found)[:200]}")


def _forked(words: list[str], under: Path, at: int | None, fault: str) -> tuple[int, int, str]:
    """Run a command line in a fork, with a fault; returns (status, operations, what it said on stderr)."""
    count, error = under.parent / ".count", under.parent / ".error"
    for path in (count, error):
        path.write_bytes(b"")
    pid = os.fork()
    if pid == 0:
        _run(words, under, at, fault, count, error)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), count.stat().st_size, error.read_text(errors="replace")


def _run(words: list[str], under: Path, at: int | None, fault: str, count: Path, error: Path) -> None:
    import sys
    import traceback

    status = 1
    try:
        os.dup2(os.open(error, os.O_WRONLY | os.O_APPEND), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        from snn_dt.cli.main import main
        from tests.kills import Faults

        sys.argv = ["snn-dt", *words]
        Faults(under, at, fault, os.open(count, os.O_WRONLY | os.O_APPEND)).install()
        status = main(words)
    except SystemExit as leave:
        status = leave.code if isinstance(leave.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        if status < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(status)
