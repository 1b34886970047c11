"""Commands of `snn-dt` in processes that end, or find the disk full, at a chosen file operation.

```python
with Commands() as commands:
    whole = commands.run(["online", "--run-dir", str(run)], under=run)
    for n in range(whole.operations):
        cut = commands.run(words, under=run, at=n)          # killed, as by kill -9, right before operation n
        full = commands.run(words, under=run, at=n, fault="full")   # from operation n on every write finds a full disk
```

One process imports the package once and forks a child for every command, so that a hundred kills take seconds each way.
An operation is what changes a file or a folder below `under`: opening for writing, writing (half of the text is there
when the process ends), fsync, renaming, removing, making a folder. What native code writes (torch.save to a path, HDF5)
counts as one operation where Python announces it, else as none.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

ROOT = Path(__file__).parents[1]
CHANGES = {
    "os.rename": ((0, 2), (1, 3)),
    "os.link": ((0, 2), (1, 3)),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.mkdir": ((0, 2),),
    "os.truncate": ((0, None),),
}
"""Audit events that change something: where their arguments hold a path and the folder that it is relative to."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit status (-n after signal n, None after the time limit), operations, what it printed."""

    status: int | None
    operations: int
    out: str
    err: str

    @property
    def traceback(self) -> bool:
        """Whether it ended in an error that nobody caught."""
        return "Traceback (most recent call last)" in self.err


class Commands:
    """A warm process that runs commands in forks of itself; a context manager.

    Args:
        environment: variables on top of this process's.
        imports: modules that are imported before the first fork; commands find them loaded.
    """

    def __init__(self, environment: dict[str, str] | None = None, imports: tuple[str, ...] = ()) -> None:
        more = {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled", "PYTHONPATH": str(ROOT), **(environment or {})}
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.kills", *imports],
            cwd=ROOT,
            env={**os.environ, **more},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self,
        words: list[str],
        under: Path | None = None,
        at: int | None = None,
        fault: Literal["kill", "full"] = "kill",
        stdout: Literal["file", "closed", "broken"] = "file",
        stderr: Literal["file", "closed", "broken"] = "file",
        encoding: str = "utf-8",
        cwd: Path | None = None,
        timeout: float = 600.0,
    ) -> Ended:
        """Run `snn-dt WORDS`.

        Args:
            words: the command line after `snn-dt`.
            under: folder whose operations count; None counts none.
            at: number of the operation at which `fault` happens, from 0; None lets it run.
            fault: `kill` ends the process before the operation; `full` lets it and every later one that takes room
                raise "no space left on device".
            stdout: where it prints: kept, closed as by `>&-`, or a pipe whose reader has gone.
            stderr: likewise.
            encoding: of what it prints.
            cwd: where it runs.
            timeout: seconds until it is killed; its status is None then.
        """
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        job = {
            "words": words, "under": under and str(under), "at": at, "fault": fault, "stdout": stdout,
            "stderr": stderr, "encoding": encoding, "cwd": cwd and str(cwd), "timeout": timeout,
        }  # fmt: skip
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        return Ended(**json.loads(self._server.stdout.readline()))

    def close(self) -> None:
        """End the warm process."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Faults:
    """Counts the operations below a folder in this process, and lets one of them be the last.

    `install` cannot be undone: it is for a process that is to end.
    """

    def __init__(self, under: Path, at: int | None, fault: str, count: int) -> None:
        """`count` is a file descriptor that gets one byte per operation, which outlives the process."""
        self.under, self.at, self.fault, self.count = str(under.resolve()), at, fault, count
        self.operations, self.full = 0, False

    def install(self) -> None:
        """See every operation from here on."""
        sys.addaudithook(self._audit)
        opened = io.open

        def watched(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            made = opened(file, mode, *rest, **options)
            if self._counts(file) and set(mode) & set("wax+"):
                self._watch(made)
            return made

        builtins.open = io.open = watched  # type: ignore[assignment]
        synced = os.fsync

        def fsync(descriptor: Any) -> None:
            number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
            with contextlib.suppress(OSError):
                if self._counts(os.readlink(f"/proc/self/fd/{number}")):
                    self._operation(takes_room=True)
            synced(descriptor)

        os.fsync = fsync

    def _watch(self, file: Any) -> None:
        write = file.write

        def half(content: Any) -> Any:
            def cut() -> None:
                write(content[: len(content) // 2])
                file.flush()

            self._operation(takes_room=True, before=cut)
            return write(content)

        with contextlib.suppress(AttributeError):  # a file of a kind that takes no attribute: its opening counts
            file.write = half

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, wanted = arguments
            if isinstance(wanted, int) and wanted & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and self._counts(path):
                self._operation(takes_room=True)
        elif event in CHANGES and any(
            self._counts(arguments[path], -1 if base is None else arguments[base]) for path, base in CHANGES[event]
        ):
            self._operation(takes_room=event in ("os.mkdir", "os.link"))

    def _counts(self, path: Any, folder: int = -1) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        base = os.getcwd() if folder < 0 else os.readlink(f"/proc/self/fd/{folder}")
        name = os.path.abspath(os.path.join(base, os.fsdecode(path)))
        return name == self.under or name.startswith(self.under + os.sep)

    def _operation(self, takes_room: bool, before: Any = None) -> None:
        number, self.operations = self.operations, self.operations + 1
        os.write(self.count, b".")
        if self.at == number:
            if self.fault == "kill":
                if before is not None:
                    self.at = None
                    before()
                os.kill(os.getpid(), signal.SIGKILL)
            self.full = True
        if self.full and takes_room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _serve() -> None:
    """Read one job a line, fork, run it, write one result a line."""
    from importlib import import_module

    for name in ("snn_dt.cli.main", "snn_dt.run", "snn_dt.cli.evaluate", "snn_dt.training.console", *sys.argv[1:]):
        import_module(name)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        job = json.loads(line)
        with tempfile.TemporaryDirectory() as folder:
            files = {name: os.path.join(folder, name) for name in ("out", "err", "count")}
            for path in files.values():
                Path(path).touch()
            child = os.fork()
            if child == 0:
                _child(job, files)
            status = _wait(child, job["timeout"])
            read = {name: Path(path).read_bytes() for name, path in files.items()}
        words = {name: read[name].decode(errors="replace") for name in ("out", "err")}
        answers.write(json.dumps({"status": status, "operations": len(read["count"]), **words}) + "\n")
        answers.flush()


def _wait(child: int, timeout: float) -> int | None:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _child(job: dict[str, Any], files: dict[str, str]) -> None:
    """Be `snn-dt WORDS`, with the output and the faults that the job asks for; never returns."""
    status = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, name, file in ((1, "stdout", "out"), (2, "stderr", "err")):
            setattr(sys, name, _stream(number, job[name], files[file], job["encoding"]))
        if job["cwd"]:
            os.chdir(job["cwd"])
        count = os.open(files["count"], os.O_WRONLY | os.O_APPEND)
        from snn_dt.cli.main import main

        sys.argv = ["snn-dt", *job["words"]]
        if job["under"]:
            Faults(Path(job["under"]), job["at"], job["fault"], count).install()
        status = main(job["words"])
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except SystemExit as leave:
        status = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    except BaseException:
        with open(files["err"], "a") as error:
            traceback.print_exc(file=error)
    finally:
        os._exit(status)


def _stream(number: int, kind: str, path: str, encoding: str) -> Any:
    os.close(number)
    if kind == "closed":
        return None
    if kind == "broken":
        read, write = os.pipe()
        os.dup2(write, number)
        for end in {read, write} - {number}:
            os.close(end)
    else:
        assert os.open(path, os.O_WRONLY | os.O_APPEND) == number
    errors = "backslashreplace" if number == 2 else "strict"
    return open(number, "w", encoding=encoding, errors=errors, buffering=1 if number == 2 else -1, closefd=False)


if __name__ == "__main__":
    _serve()
