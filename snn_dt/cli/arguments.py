"""Parsing of command lines into dataclasses. A mistake becomes an error of one line."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import re
from collections.abc import Sequence
from typing import Any, TypeVar, get_type_hints

from snn_dt.cli import flag_values
from snn_dt.cli.short_help import SHORT, short_help
from snn_dt.errors import ConfigError
from snn_dt.renamed import current_flags

T = TypeVar("T")

TRUST = ("--trust-env-spec", "--trust_env_spec")
HELP_ALL = ("--help-all", "--help_all")
SYNONYMS = {
    **dict.fromkeys(("updates", "iterations", "epochs", "max_steps", "num_steps", "max_iters", "n_steps"), "steps"),
    **{"lr": "learning_rate", "bs": "batch_size", "num_layers": "n_layers", "num_heads": "n_heads", "width": "d_model"},
    **{"K": "context_length", "T": "sim_steps", "hidden_size": "d_model", "embed_dim": "d_model"},
    **{"env": "env_id", "target": "target_return", "rtg": "target_return", "targets": "target_return"},
    **{"output": "json", "out": "run_dir", "output_dir": "run_dir", "model": "checkpoint", "ckpt": "checkpoint"},
    **{"num_episodes": "episodes", "n_episodes": "episodes", "quiet": "no_count", "data": "dataset"},
}
"""Words of other packages, and the field that is meant."""
TRAINING_SECTIONS = ("train", "learn", "update")
"""Names of the section of the optimisation in the different commands."""


def take_trust(arguments: Sequence[str]) -> tuple[bool, list[str]]:
    """Return whether `--trust-env-spec` is set (alone or with `true`) and the other arguments."""
    trust, others = False, list[str]()
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name not in TRUST:
            others.append(word)
            continue
        trust = value != "false" if equals else True
        if not equals and (following := next(words, None)) is not None:
            trust = following != "false"
            others += [] if following in ("true", "false") else [following]
    return trust, others


def parse(
    cls: type[T], arguments: Sequence[str], program: str, default: T | None = None, bare_flags: bool = False
) -> T:
    """Read a command line into the dataclass `cls`. `--help` prints its fields and exits with status 0.

    The programs in `short_help.SHORT` print a few fields with `--help` and all with `--help-all`.

    A boolean takes a value, which suits programs that build command lines, or none, which means true; `--no-NAME` means
    false. With `bare_flags` it takes none.

    Raises:
        ConfigError: an unknown flag or a value of a wrong type, in one line.
    """
    import tyro

    arguments = current_flags(arguments)
    if hasattr(cls, "trust_env_spec"):  # typed by hand, so its name is enough
        trust, arguments = take_trust(arguments)
        arguments += [] if not trust else [TRUST[1]] if bare_flags else [TRUST[1], "true"]
    arguments = list(arguments) if bare_flags else _with_values(cls, arguments)
    if program in SHORT and {"-h", "--help"} & set(arguments):
        print(short_help(cls, cls() if default is None else default, program))
        raise SystemExit(0)
    arguments = ["--help" if word in HELP_ALL else word for word in arguments]
    complaint = io.StringIO()
    read: Any = tyro.cli
    try:
        with contextlib.redirect_stderr(complaint):
            found: T = read(
                cls,
                args=arguments,
                default=default,
                prog=program,
                config=(tyro.conf.FlagCreatePairsOff if bare_flags else tyro.conf.FlagConversionOff,),
                use_underscores=True,
                registry=flag_values.registry(),
            )
            return found
    except SystemExit as leave:
        if not leave.code:
            raise
        raise ConfigError(_one_line(complaint.getvalue(), cls, program)) from None


def _with_values(cls: type, arguments: Sequence[str]) -> list[str]:
    """Return the words with a value after each boolean flag: `--reference`, `--no-count` -> `true`, `--count false`."""
    booleans, words = {name for name, hint in _flags(cls).items() if hint is bool}, list[str]()
    for i, word in enumerate(arguments):
        name = word.removeprefix("--").replace("-", "_") if word.startswith("--") else ""
        section, dot, field = name.rpartition(".")
        last = i + 1 == len(arguments) or arguments[i + 1].startswith("--")
        opposite = f"{section}{dot}{field.removeprefix('no_')}"
        if name in booleans:
            words += [word, "true"] if last else [word]
        elif opposite in booleans and last:
            words += [f"--{opposite}", "false"]
        else:
            words.append(word)
    return words


def _one_line(box: str, cls: type, program: str) -> str:
    """Return the message in the box that tyro draws around it: a title, and parts between rules."""
    lines = [line.strip(" │") for line in box.splitlines()[1:]]
    text = " ".join(line for line in lines if line.strip("-─╭╮╰╯"))
    for pattern, short in (
        (r" ?(Argument|For full) helptext.*", ""),
        (r"Missing from .*?(--\S+).*?\(required\) ?", r"expected \1; "),
        (r" Perhaps you meant:.*", ""),
        (r"^Error parsing |[; .]+$", ""),
    ):
        text = re.sub(pattern, short, text)
    if unknown := re.match(r"Unrecognized options: (--[\w.-]+)", text):
        text += _suggestion(unknown[1], list(_flags(cls)))
    return f"{text}; see {program} --help"


def _suggestion(unknown: str, flags: list[str]) -> str:
    """Return a hint with the flag that was probably meant.

    A flag of the same name in another section comes first: `--learn.steps` for `--train.steps`, because `learn` holds
    the optimisation there.
    """
    wanted = unknown.replace("-", "_").lstrip("_")
    section, _, field = wanted.rpartition(".")
    if not any(flag.rpartition(".")[2] == field for flag in flags):
        field = SYNONYMS.get(field, field)
        wanted = f"{section}.{field}" if section else field
    same = [flag for flag in flags if flag.rpartition(".")[2] == field]
    training = [flag for flag in same if flag.partition(".")[0] in TRAINING_SECTIONS]
    if same and section in ("", *TRAINING_SECTIONS):
        same = training or same
    near = difflib.get_close_matches(wanted, same, 1, 0.0) or difflib.get_close_matches(wanted, flags, 1, 0.5)
    return f"; did you mean --{near[0]}?" if near else ""


def _flags(cls: type, prefix: str = "") -> dict[str, Any]:
    """Return the names of all flags of a dataclass with their types, `train.steps` for a field of a section."""
    names: dict[str, Any] = {}
    for name, hint in get_type_hints(cls).items():
        names |= _flags(hint, f"{prefix}{name}.") if dataclasses.is_dataclass(hint) else {f"{prefix}{name}": hint}  # type: ignore[arg-type]
    return names
