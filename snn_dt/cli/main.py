"""`snn-dt COMMAND ...`: picks the command and turns a user's mistake into one line and exit status 2."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from types import FrameType
from typing import NoReturn

from snn_dt.cli.streams import steady_streams
from snn_dt.errors import SnnDtError, did_you_mean

COMMANDS = {
    "train": ("snn_dt.cli.train", "train_main", "train a model on a dataset, or resume a run"),
    "rsnn": (
        "snn_dt.experimental.rsnn.command",
        "rsnn_main",
        "train a recurrent spiking network with BPTT, e-prop or a reward",
    ),
    "evaluate": ("snn_dt.cli.evaluate", "evaluate_main", "roll a checkpoint out, conditioned on target returns"),
    "online": (
        "snn_dt.experimental.online.command",
        "online_main",
        "teach a spiking policy to hover, online, with a guide",
    ),
    "finetune": (
        "snn_dt.experimental.finetune.command",
        "finetune_main",
        "go on with a trained model in its environment",
    ),
    "sweep": ("snn_dt.cli.sweep", "sweep_main", "run a grid of trainings side by side, here or on a Ray cluster"),
    "trial": ("snn_dt.cli.trial", "trial_main", "run or go on with one training of a sweep"),
    "analyse": (
        "snn_dt.experimental.analysis.command",
        "analyse_main",
        "look at a network's gradients: over slopes, layers, time",
    ),
    "data": ("snn_dt.cli.data", "data_main", "show a dataset, build its cache, collect a new one"),
}

MOST_SAID = 2000  # characters of a message


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `snn-dt`; returns the exit status: 0 done, 1 out of memory, 2 the user's mistake, 128 + n after signal n."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    with steady_streams():
        return _main(arguments)


def _main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: snn-dt COMMAND ...\n")
        for name, (_, _, purpose) in COMMANDS.items():
            print(f"  {name:10} {purpose}")
        print("\nsnn-dt COMMAND --help shows its flags.")
        return 0
    if arguments[0] == "--version":
        from snn_dt import __version__

        print(__version__)
        return 0
    return run_command(arguments[0], arguments[1:])


def run_command(name: str, arguments: Sequence[str]) -> int:
    """Run one command by name; `scripts/*.py` are doors to this."""
    # Threads that spin for long at a barrier make a step several times slower beside other jobs; read when torch loads.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

    def command(words: list[str]) -> int:
        if name not in COMMANDS:
            raise SnnDtError(f"unknown command {name!r}{did_you_mean(name, COMMANDS)}; see snn-dt --help")
        module, function, _ = COMMANDS[name]
        status: int = getattr(import_module(module), function)(words)
        return status

    return guarded(command, list(arguments))


def guarded(command: Callable[[list[str]], int], arguments: list[str]) -> int:
    """Call `command(arguments)`; a user's mistake becomes one line and status 2, Ctrl-C 130 and SIGTERM 143.

    Memory that runs out is one line too, and status 1, as there may be enough the next time. All unwind the command, so
    that it removes what it has half written. A file or name that the system refuses, and that nobody has explained
    where it happened, is the user's to mend and no bug: one line as well.
    """
    with steady_streams():
        return _guarded(command, arguments)


def _guarded(command: Callable[[list[str]], int], arguments: list[str]) -> int:
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return command(arguments)
    except SnnDtError as error:
        return _say(str(error), 2)
    except KeyboardInterrupt as interrupt:
        return _say("interrupted", 128 + (interrupt.args[0] if interrupt.args else signal.SIGINT))
    except (MemoryError, RuntimeError, OSError, ValueError, OverflowError) as error:
        if found := _out_of_memory(error):
            return _say(
                f"expected enough memory, found: {found}; close what else uses it, or make less at once: a smaller "
                "batch (train.accumulate makes it in parts), fewer environments side by side, a smaller model",
                1,
            )
        if found := _refused_by_the_system(error):
            return _say(found, 2)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(message: str, status: int) -> int:
    """Print a message on one line of standard error, shortened where it quotes a long content; returns the status."""
    line = " ".join(message.split())
    if len(line) > MOST_SAID:
        line = f"{line[: MOST_SAID // 2]} ... {line[-MOST_SAID // 2 :]}"
    print(f"snn-dt: {line}", file=sys.stderr)
    return status


def _out_of_memory(error: Exception) -> str:
    """Return what Python, numpy or torch says of memory that has run out; empty for any other error."""
    said = " ".join(str(error).split())
    names = {kind.__name__ for kind in type(error).__mro__}  # torch, which knows its own, may not be loaded
    if names & {"MemoryError", "OutOfMemoryError"} or "can't allocate memory" in said:
        return said or "out of memory"
    too_many = ("Maximum allowed dimension exceeded", "array is too big", "Storage size calculation overflowed")
    return said if any(words in said for words in too_many) else ""


def _refused_by_the_system(error: Exception) -> str:
    """Return what to say of a file that cannot be used, or of a name that no file can have; empty for other errors."""
    if isinstance(error, UnicodeError) and "surrogates not allowed" in str(error):
        return f"expected names of valid Unicode, found {error.object[:60]!r}; rename it"  # type: ignore[attr-defined]
    if isinstance(error, ValueError) and "embedded null" in str(error):
        return "expected a name without the character NUL, found one with it; rename it"
    if isinstance(error, OSError) and error.errno is not None:
        name = str(error.filename or "")
        short = name if len(name) < 200 else f"{name[:100]}... of {len(name)} characters"
        what, cure = "files that can be used", "free space or choose another"
        if error.errno == errno.ENAMETOOLONG:
            what, cure = "names of at most 255 bytes", "choose a shorter one"
        return f"expected {what}, found: {error.strerror}{f' at {short}' if name else ''}; {cure}"
    return ""


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt(signum)


if __name__ == "__main__":
    sys.exit(main())
