"""A process that has imported the package once and forks for every command: a case costs milliseconds, not seconds.

Each child is its own process all the same: what it imports, leaks or breaks ends with it, a hang can be killed and its
memory measured. Requests and answers are JSON, one a line.
"""

from __future__ import annotations

import importlib
import io
import json
import logging
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

CPU_SECONDS = 60  # far beyond any case; a busy machine does not change it
ROOM = 3 << 30  # bytes of address space beyond what the server holds: an input that takes more would hurt the machine


def serve() -> None:
    """Answer requests until the input ends."""
    _import_all()
    requests, answers = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # nothing of the package's may end up among the answers
    print(json.dumps("ready"), file=answers, flush=True)
    for line in requests:
        print(json.dumps(_answer(json.loads(line))), file=answers, flush=True)


def _import_all() -> None:
    """Import what commands import late, so that a child does not have to."""
    import h5py
    import minari.serialization
    import pyarrow.dataset
    import rich.progress
    import rich.table
    import torch
    import tyro
    import wandb  # noqa: F401

    from snn_dt.cli import main
    from snn_dt.evaluation import rollout, video  # noqa: F401
    from snn_dt.experimental.online import crazyflie  # noqa: F401
    from tests.campaign import bad_envs

    for place, _ in main.COMMANDS.values():
        importlib.import_module(place.partition(":")[0])
    late = ("torch._refs", "torch._dynamo", "torch.profiler", "matplotlib.pyplot", "PIL.Image")
    for name in (*late, "snn_dt.run", "snn_dt.experimental.finetune.run", "snn_dt.experimental.online.run"):
        importlib.import_module(name)
    torch.set_num_threads(1)
    bad_envs.register()
    _ = (h5py, minari, pyarrow, rich, tyro)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    folder = Path(request["folder"])
    out, err = folder / ".stdout", folder / ".stderr"
    started = time.monotonic()
    before = _resident()
    pid = os.fork()
    if pid == 0:
        _child(request, out, err)
    hung, told = False, 0
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            break
        passed = time.monotonic() - started
        if request["signal_after"] and passed > request["signal_after"] * (told + 1):
            os.kill(pid, signal.SIGTERM)
            told += 1
        if passed > request["limit"]:
            hung = True
            os.kill(pid, signal.SIGKILL)
        time.sleep(min(0.02, 0.001 + passed / 20))
    code = os.waitstatus_to_exitcode(status)
    return {
        "status": code,
        "stdout": out.read_text(errors="replace") if out.exists() else "",
        "stderr": err.read_text(errors="replace") if err.exists() else "",
        "seconds": time.monotonic() - started,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "grown": max(0, usage.ru_maxrss * 1024 - before),
        "hung": hung or code == -signal.SIGXCPU,
    }


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _child(request: dict[str, Any], out: Path, err: Path) -> None:
    """Run one request and leave; nothing returns from here."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, size + ROOM))
        resource.setrlimit(resource.RLIMIT_CPU, (request["cpu"], request["cpu"] + 5))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.chdir(request["folder"])
        sys.path.insert(0, request["folder"])  # as `python -m` does
        for name, value in request["environment"].items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
        _streams(request["stdout"], out, err)
        if request["function"]:
            module, name = request["function"].split(":")
            status = int(getattr(importlib.import_module(module), name)(Path.cwd(), *request["arguments"]) or 0)
        else:
            from snn_dt.cli.main import main

            sys.argv = ["snn-dt", *request["words"]]
            status = main(request["words"])
        _flush()
    except SystemExit as leave:
        status = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
        _flush()
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        os._exit(status & 0xFF)


def _flush() -> None:
    """What Python does at the end of a program: an error there is one too, if the stream still stands."""
    if sys.stdout is not None:
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            return
    logging.shutdown()


def _streams(kind: str, out: Path, err: Path) -> None:
    """Put the streams of this process where they belong."""
    error = os.open(err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(error, 2)
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w"), errors="backslashreplace", write_through=True)
    if kind == "closed":
        os.close(1)
        sys.stdout = None  # type: ignore[assignment]
        return
    if kind == "broken":
        read, write = os.pipe()
        os.close(read)
        os.dup2(write, 1)
    else:
        os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(1, "w")), encoding="ascii" if kind == "ascii" else "utf-8"
    )


if __name__ == "__main__":
    serve()
