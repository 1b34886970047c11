"""Backends of a sweep: processes on this machine or tasks on a Ray cluster. Both start the same command."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Protocol

from snn_dt.errors import ConfigError, SnnDtError

POLL_SECONDS = 0.2
LOST_STATUS = 70
"""Exit status of a trial that returned nothing."""


class Backend(Protocol):
    """Interface of a backend, which starts trials and returns their exit status."""

    def free(self, running: int) -> bool:
        """Return whether another trial fits beside `running` trials."""

    def start(self, folder: Path) -> Any:
        """Start the trial in `folder` and return a handle."""

    def poll(self, handle: Any) -> int | None:
        """Return the exit status; -n after signal n; None while the trial runs."""

    def stop(self, handle: Any, force: bool = False) -> None:
        """Ask a trial to save and stop; with `force` kill it."""

    def close(self) -> None:
        """Release all resources."""


class LocalProcesses:
    """Runs `slots` parallel trials on this machine, each in a process of `threads` threads."""

    def __init__(self, slots: int, threads: int, trust: bool = False) -> None:
        self._slots, self._threads, self._trust = slots, threads, trust

    def free(self, running: int) -> bool:
        """See `Backend`."""
        return running < self._slots

    def start(self, folder: Path) -> subprocess.Popen[bytes]:
        """See `Backend`."""
        return launch(folder, self._threads, trust=self._trust)

    def poll(self, handle: subprocess.Popen[bytes]) -> int | None:
        """See `Backend`."""
        return handle.poll()

    def stop(self, handle: subprocess.Popen[bytes], force: bool = False) -> None:
        """See `Backend`."""
        # SIGTERM lets the trial save; SIGKILL does not.
        handle.kill() if force else handle.terminate()

    def close(self) -> None:
        """See `Backend`."""


class RayTasks:
    """Runs one trial per free slot of a Ray cluster. A slot has `threads` CPUs and `gpus` GPUs of one node.

    `address` is the address of a running cluster; `auto` finds the one of this machine. None starts Ray on this machine
    with `slots` slots. If a node dies, Ray starts its trial on another node. Like every trial it resumes from its run
    folder, which must have the same path on all nodes. `slots` 0 uses all that fit.

    Raises:
        SnnDtError: Ray is not installed or cannot be started or reached.
        ConfigError: no node is large enough for one trial.
    """

    def __init__(self, address: str | None, slots: int, threads: int, gpus: float, trust: bool = False) -> None:
        try:
            self._ray: Any = importlib.import_module("ray")
        except ModuleNotFoundError:
            raise SnnDtError(
                "a sweep needs Ray, which is not installed: pip install 'snn-dt[ray]', or add --local to use processes "
                "of this machine without it"
            ) from None
        self._slots, self._need, self._trust = slots, {"CPU": threads, "GPU": gpus}, trust
        size = {} if address else {"num_cpus": slots * threads, "include_dashboard": False}
        try:
            self._ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **size)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            raise SnnDtError(
                f"expected a Ray cluster at {address or 'this machine'}, found: {error}; start one with "
                "`ray start --head` and see docs/scale.md"
            ) from error
        # Without limit, since a lost node is no fault of the trial.
        options = {"num_cpus": threads, "num_gpus": gpus or None, "max_retries": -1}
        self._task = self._ray.remote(**options)(attend)
        if self._capacity() == 0:
            self.close()
            raise ConfigError(f"expected a node with {threads} CPUs and {gpus:g} GPUs for one trial, found none")

    def free(self, running: int) -> bool:
        """See `Backend`. Nodes may join and leave."""
        return running < min(self._capacity(), self._slots or running + 1)

    def start(self, folder: Path) -> tuple[Any, Path]:
        """See `Backend`."""
        return self._task.remote(str(folder), int(self._need["CPU"]), os.getcwd(), self._trust), folder

    def poll(self, handle: tuple[Any, Path]) -> int | None:
        """See `Backend`."""
        task, folder = handle
        if not self._ray.wait([task], timeout=0)[0]:
            return None
        try:
            status: int = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            with (folder / "log.txt").open("a") as log:
                log.write(f"Ray: {error}\n")
            return LOST_STATUS
        return status

    def stop(self, handle: tuple[Any, Path], force: bool = False) -> None:
        """See `Backend`."""
        self._ray.cancel(handle[0], force=force)

    def close(self) -> None:
        """See `Backend`."""
        self._ray.shutdown()

    def _capacity(self) -> int:
        """Count the trials that fit on the nodes that are alive."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        need = {kind: amount for kind, amount in self._need.items() if amount}
        # The small addend corrects rounding, as in 3 fractions of 1/3 GPU.
        return sum(min(int(node.get(kind, 0) / amount + 1e-6) for kind, amount in need.items()) for node in nodes)


def launch(folder: Path, threads: int, cwd: str | None = None, trust: bool = False) -> subprocess.Popen[bytes]:
    """Start the process of a trial with its output in `log.txt`. It does not receive Ctrl-C from the terminal."""
    command = [sys.executable, "-m", "snn_dt.cli.main", "trial", "--run_dir", str(folder)]
    command += ["--trust-env-spec"] if trust else []
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def attend(folder: str, threads: int, cwd: str, trust: bool = False) -> int:
    """Run a trial to its end, as the body of a Ray task. A cancelled task first stops its trial."""
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # Ray cancels with SIGINT, which nohup and background shells ignore
    process = launch(Path(folder), threads, cwd, trust)
    while process.poll() is None:
        try:
            time.sleep(POLL_SECONDS)  # not process.wait(), as Ray interrupts only between calls
        except KeyboardInterrupt:
            process.terminate()
    return process.returncode
