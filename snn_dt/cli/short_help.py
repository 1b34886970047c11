"""The short help of a command with many flags: those of a first run, by section, with a line each."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from typing import Any, get_type_hints

from snn_dt.cli import flag_values

SHORT = {
    "snn-dt train": (
        *("config", "variant", "run_dir", "resume", "data.dataset", "data.download"),
        *("model.kind", "model.d_model", "model.n_layers", "model.n_heads", "model.context_length", "model.sim_steps"),
        *("train.steps", "train.batch_size", "train.learning_rate", "train.seed", "train.device", "train.eval_every"),
        *("eval.episodes", "eval.target_return", "track.wandb", "track.tracker"),
    )
}
"""Flags that the short help of a program shows. Other programs have the full help only."""
WIDTH = 80


def short_help(cls: type, default: Any, program: str) -> str:
    """Return the short help of a program in `SHORT`; values in parentheses are the defaults of this command line."""
    about = inspect.cleandoc(cls.__doc__ or "").split("\n\n")
    lines = [f"usage: {program} [PRESET ...] [--flag value ...]", "", *textwrap.wrap(" ".join(about[0].split()), WIDTH)]
    section = None
    for flag in SHORT[program]:
        if (part := flag.rpartition(".")[0]) != section:
            section = part
            lines += ["", f"{section}:" if section else "run:"]
        owner, value = cls, default
        *outer, name = flag.split(".")
        for step in outer:
            owner, value = get_type_hints(owner)[step], getattr(value, step)
        text = " ".join(_texts(owner)[name].split()).split(". ")[0].rstrip(".")
        known = getattr(value, name)
        shown = " ".join(map(flag_values.word, known if isinstance(known, tuple) and known else [known]))
        lines += textwrap.wrap(f"--{flag}  {text} ({shown})", WIDTH, initial_indent="  ", subsequent_indent="      ")
    return "\n".join([*lines, "", f"{program} --help-all shows all {_count(cls)} flags with their whole text."])


def _texts(cls: type) -> dict[str, str]:
    """Return the text under each field of a dataclass and of its bases."""
    found: dict[str, str] = {}
    for kind in reversed([base for base in cls.__mro__ if dataclasses.is_dataclass(base)]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                found[field.target.id] = str(ast.literal_eval(text.value))
    return found


def _count(cls: Any) -> int:
    hints: list[Any] = list(get_type_hints(cls).values())
    return sum(_count(hint) if dataclasses.is_dataclass(hint) else 1 for hint in hints)
