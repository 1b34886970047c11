"""The errors a user can meet. Each message says what was expected, what was found and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SnnDtError(Exception):
    """A mistake that the user can correct. The command line prints it in one line and exits with status 2."""


class ConfigError(SnnDtError):
    """A config file or flag that cannot be used."""


class TargetError(ConfigError, ValueError):
    """A target return that a policy cannot be asked for."""


class DataError(SnnDtError):
    """A dataset that is missing, damaged or of a kind that cannot be used."""


class CheckpointError(SnnDtError):
    """A checkpoint or run folder that cannot be read, written or used here."""


class EnvironmentMismatchError(SnnDtError):
    """An environment that cannot be made, fails or does not fit the policy."""


class DeviceError(SnnDtError):
    """A device that this machine does not have."""


class ExportError(SnnDtError):
    """A policy that a format or a chip cannot hold, or a compiled one that cannot be run."""


class TrainingError(SnnDtError):
    """A training run that cannot continue."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the known name nearest to `name`, or else the list of known names."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        # A transposition is the likeliest mistake: `trian` is nearer to train than to trial.
        best = min(near, key=lambda other: sorted(other) != sorted(name))
        return f"; did you mean {best!r}?"
    return f"; known: {', '.join(known)}" if known else ""
