"""`snn-dt COMMAND ...`: run a command; a user error becomes one line and exit status 2."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import FrameType
from typing import Any, NoReturn

from snn_dt.cli.preset_words import named_release
from snn_dt.cli.streams import short_warnings, steady_streams
from snn_dt.command import Command, RunCommand
from snn_dt.errors import ConfigError, SnnDtError, did_you_mean

COMMANDS = {
    "quickstart": ("snn_dt.cli.quickstart:quickstart_main", "train and evaluate a first policy, and write a report"),
    "train": ("snn_dt.cli.train:TRAIN", "train a model on a dataset, or resume a run"),
    "rsnn": (
        "snn_dt.experimental.rsnn.command:RSNN",
        "train a recurrent spiking network with BPTT, e-prop or a reward",
    ),
    "evaluate": ("snn_dt.cli.evaluate:evaluate_main", "roll out a checkpoint, conditioned on target returns"),
    "export": ("snn_dt.cli.export:export_main", "write a policy for use outside Python"),
    "online": ("snn_dt.experimental.online.command:ONLINE", "train a spiking policy to hover, online, with a guide"),
    "finetune": ("snn_dt.experimental.finetune.command:FINETUNE", "fine-tune a trained model in its environment"),
    "import": ("snn_dt.cli.import_weights:IMPORT", "turn Decision Transformer weights of other packages into a policy"),
    "hub": ("snn_dt.cli.hub_push:HUB", "publish a checkpoint on the Hugging Face hub"),
    "sweep": ("snn_dt.cli.sweep:sweep_main", "run a grid of trainings in parallel, here or on a Ray cluster"),
    "trial": ("snn_dt.cli.trial:trial_main", "run or resume one trial of a sweep"),
    "analyse": ("snn_dt.experimental.analysis.command:ANALYSE", "analyse gradients: over slopes, layers and time"),
    "list": ("snn_dt.cli.list:list_main", "show presets, variants, datasets and checkpoints that have a name"),
    "completion": ("snn_dt.cli.completion:completion_main", "print a script that completes commands and flags"),
    "data": ("snn_dt.cli.data:data_main", "show a dataset, build its cache, collect a new one"),
}
"""For each command `module:name` and a help text. The name is a function or a description (`snn_dt.command`).

The module is imported only when the command is run.
"""

MAX_MESSAGE = 2000
"""Characters of an error message; a longer one is cut in the middle."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `snn-dt` and return the exit status.

    0: done; 1: out of memory; 2: a user error; 128 + n: stopped by signal n.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    with steady_streams():
        if not arguments or arguments[0] in ("-h", "--help"):
            print("usage: snn-dt COMMAND ...\n")
            for name, (_, purpose) in COMMANDS.items():
                print(f"  {name:10} {purpose}")
            print("\nsnn-dt COMMAND --help shows its flags. Every command takes --release FOLDER or ADDRESS, from")
            print("where datasets and checkpoints that are not on this machine are fetched (or $SNN_DT_RELEASE).")
            return 0
        if arguments[0] == "--version":
            from snn_dt import __version__

            print(__version__)
            return 0
        return run_command(arguments[0], arguments[1:])


def run_command(name: str, arguments: Sequence[str]) -> int:
    """Run one command by its name and return the exit status."""

    def command(words: list[str]) -> int:
        if name not in COMMANDS:
            raise SnnDtError(f"unknown command {name!r}{did_you_mean(name, COMMANDS)}; see snn-dt --help")
        module, _, attribute = COMMANDS[name][0].partition(":")
        with named_release(words) as rest:
            return _execute(getattr(import_module(module), attribute), rest, f"snn-dt {name}")

    return handle_errors(command, list(arguments))


def _execute(command: Any, words: list[str], program: str) -> int:
    """Run a command, whichever of its four forms it has: run, dataclass, table of subcommands or function."""
    if isinstance(command, RunCommand):
        from snn_dt.cli.run_command import execute

        return execute(command, words)
    if isinstance(command, Command):
        from snn_dt.cli.arguments import parse

        command.run(parse(command.arguments, words, program))
        return 0
    if isinstance(command, Mapping):
        name, *rest = words or ["--help"]
        if name in ("-h", "--help"):
            names = "\n  ".join(command)
            print(f"usage: {program} COMMAND ...\n\n  {names}\n\nEach shows its flags with --help.")
            return 0
        if name not in command:
            raise ConfigError(f"expected one of {', '.join(command)}, found {name!r}{did_you_mean(name, command)}")
        return _execute(command[name], rest, f"{program} {name}")
    status: int = command(words)
    return status


def handle_errors(command: Callable[[list[str]], int], arguments: list[str]) -> int:
    """Return the status of `command(arguments)`; a user error becomes one line and status 2.

    Ctrl-C gives status 130 and SIGTERM 143. Running out of memory gives 1, because there may be enough the next time.
    All of them raise in the command, so that it removes half-written files. A file or name that the operating system
    refuses is a user error too.
    """
    with steady_streams(), short_warnings():
        before = signal.signal(signal.SIGTERM, _interrupt)
        try:
            return command(arguments)
        except SnnDtError as error:
            return _print_error(str(error), 2)
        except KeyboardInterrupt as interrupt:
            return _print_error("interrupted", 128 + (interrupt.args[0] if interrupt.args else signal.SIGINT))
        except (MemoryError, RuntimeError, OSError, ValueError, OverflowError) as error:
            if found := _out_of_memory(error):
                return _print_error(
                    f"expected enough memory, found: {found}; close other programs that use it, or make less at once: "
                    "a smaller batch (train.accumulate makes it in parts), fewer environments in parallel, a smaller "
                    "model",
                    1,
                )
            if found := _refused_by_the_system(error):
                return _print_error(found, 2)
            raise
        finally:
            signal.signal(signal.SIGTERM, before)


def _print_error(message: str, status: int) -> int:
    """Print a message on one line of standard error and return the status. A very long message is cut."""
    line = " ".join(message.split())
    if len(line) > MAX_MESSAGE:
        line = f"{line[: MAX_MESSAGE // 2]} ... {line[-MAX_MESSAGE // 2 :]}"
    print(f"snn-dt: {line}", file=sys.stderr)
    return status


def _out_of_memory(error: Exception) -> str:
    """Return the message of an out-of-memory error of Python, numpy or torch. It is empty for other errors."""
    said = " ".join(str(error).split())
    names = {kind.__name__ for kind in type(error).__mro__}  # by name, because torch may not be loaded
    if names & {"MemoryError", "OutOfMemoryError"} or "can't allocate memory" in said:
        return said or "out of memory"
    too_many = ("Maximum allowed dimension exceeded", "array is too big", "Storage size calculation overflowed")
    return said if any(words in said for words in too_many) else ""


def _refused_by_the_system(error: Exception) -> str:
    """Return the message for a file that cannot be used or a name that no file can have; empty for other errors."""
    if isinstance(error, UnicodeError) and "surrogates not allowed" in str(error):
        return f"expected names of valid Unicode, found {getattr(error, 'object', '')[:60]!r}; rename it"
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
