"""Compare two implementations: a process for each, interleaved rounds, memory that stays mapped."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

# glibc's default clears fresh pages for every large tensor, which costs up to 3x and depends on the heap's history.
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "MALLOC_TOP_PAD_": str(1 << 28),
}


class Worker:
    """A process that answers each request (a JSON line) with a JSON line, by `serve` of the same script."""

    def __init__(self, python: str, script: str, threads: int, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [python, "-W", "ignore", script, "--serve", "--threads", str(threads), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **KEEP_MEMORY, "OMP_NUM_THREADS": str(threads)},
        )

    def ask(self, *request: Any) -> Any:
        """Send a request and wait for its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args[0]} stopped at {request!r}: are its packages installed?")  # type: ignore[index]
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def serve(answer: Callable[..., Any]) -> None:
    """Answer requests with `answer(*request)` until the input closes."""
    for line in sys.stdin:
        print(json.dumps(answer(*json.loads(line))), flush=True)


def interleave(jobs: Sequence[tuple[str, Worker, Sequence[Any]]], rounds: int) -> dict[str, list[float]]:
    """Ask every (name, worker, request) once a round, in alternating order; the first round only warms up."""
    times: dict[str, list[float]] = {name: [] for name, _, _ in jobs}
    for turn in range(rounds + 1):
        for name, worker, request in jobs if turn % 2 else list(jobs)[::-1]:
            milliseconds = worker.ask(*request)
            if turn:
                times[name].append(milliseconds)
    return times


def row(
    work: str,
    times: Sequence[float],
    peer: str | None,
    peer_times: Sequence[float] | None,
    most: float | None = None,
    least: float | None = None,
) -> dict[str, Any]:
    """Make a row of milliseconds; `ratio` is ours / peer (target: at most `most`) or peer / ours (at least `least`)."""
    value = statistics.median(times)
    peer_value = statistics.median(peer_times) if peer_times else None
    ratio = None if peer_value is None else value / peer_value if least is None else peer_value / value
    target = None if most is least else f"<= {most:g}x" if least is None else f">= {least:g}x faster"
    met = None if ratio is None or target is None else ratio <= most if least is None else ratio >= least  # type: ignore[operator]
    return {
        "work": work,
        "value": value,
        "spread": [min(times), max(times)],
        "unit": "ms",
        "peer": peer,
        "peer_value": peer_value,
        "ratio": ratio,
        "target": target,
        "met": met,
    }
