"""The specification of a policy (spaces, scales and names) and the checks of a stored one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from snn_dt import strict
from snn_dt.data.encoding import BIT, is_composite, parts
from snn_dt.data.env_spec import parse_spec
from snn_dt.data.images import find_image
from snn_dt.errors import TargetError
from snn_dt.models import TaskShape


@dataclass(frozen=True)
class PolicySpec:
    """The part of a policy besides its model. Checkpoints store it."""

    dataset_id: str
    observation_space: str
    """JSON of the Gymnasium space (Minari's serialisation)."""
    action_space: str
    """JSON of the Gymnasium space."""
    rtg_scale: float
    """Divisor of the return-to-go, environment units."""
    delayed: bool
    """Whether the rewards of the data are delayed. The return-to-go then stays at the target in an episode."""
    target_return: float
    """The default target: the first `eval.target_return` of the training, else the best return in its dataset."""
    env_id: str | None = None
    env_spec: str | None = None
    """JSON of the environment's specification, with its keyword arguments, wrappers and step limit."""
    reference: dict[str, Any] | None = None
    """`min`, `max`, `source` of the normalised score."""
    action_deviation: tuple[float, ...] | None = None
    """Standard deviation of each action column of the dataset; None for discrete actions and in older checkpoints."""
    bin_returns: tuple[float, ...] | None = None
    """Mean return of the episodes of each goal bin, ascending: the last one is what `most` asks for. None in older
    checkpoints."""
    return_range: tuple[float, ...] | None = None
    """Lowest and highest return of an episode of the data. None in older checkpoints."""
    context_length: int | None = None
    """Steps of the context in a decision; None takes those of the training."""

    def target(self, asked: float | str | None) -> float:
        """Return a target return in environment units: a number, the default for None, or what `most` stands for.

        Raises:
            TargetError: neither a finite number nor `most`, or the checkpoint does not say what the most is.
        """
        if asked is None:
            return self.target_return
        if asked == "most":
            if self.bin_returns is None:
                raise TargetError(
                    "target_return: expected a number, found 'most'; this checkpoint is older than it, name a number"
                )
            return self.bin_returns[-1]
        number = math.nan if isinstance(asked, str) else float(asked)
        if not math.isfinite(number):
            raise TargetError(f"expected a finite target_return or 'most', found {asked!r}; name one")
        return number

    def targets(self, asked: float | str | ArrayLike | None) -> NDArray[np.float64]:
        """Return one or several target returns; see `target`."""
        one = asked is None or isinstance(asked, str) or np.ndim(asked) == 0
        found = np.asarray(self.target(asked) if one else asked, np.float64)  # type: ignore[arg-type]
        if not np.isfinite(found).all():
            raise TargetError(f"expected finite target returns, found {asked!r}; name others")
        return found

    def goals(self, targets: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return for each target return the nearest of `bin_returns`, or the targets themselves without these.

        The bounds between two bins lie beside returns of the data. On Hopper the best ten episodes return 3611 to 3630
        and the next ones up to 3593: 3600 would select the second best behaviour.
        """
        if self.bin_returns is None:
            return targets
        nearest: NDArray[np.float64] = np.asarray(self.bin_returns)[self.midpoints.searchsorted(targets, "right")]
        return nearest

    @property
    def midpoints(self) -> NDArray[np.float64]:
        """Target returns from which on the next one of `bin_returns` is nearer."""
        known = np.asarray(self.bin_returns)
        return (known[:-1] + known[1:]) / 2

    def beyond(self, targets: NDArray[np.float64]) -> str | None:
        """Return a warning if a target return lies beyond those of the data, else None."""
        if self.return_range is None:
            return None
        low, high = self.return_range
        slack = 1e-6 * max(abs(low), abs(high))  # of single precision
        found = targets[(targets < low - slack) | (targets > high + slack)]
        if not len(found):
            return None
        return (
            f"expected a target return between {low:g} and {high:g}, as in the data, found {found[0]:g}: what the "
            'policy does then is not learned; "most" is the best that the data hold'
        )


def read_space(text: str) -> Any:
    """Return the Gymnasium space that a JSON text describes."""
    from minari.serialization import deserialize_space

    return deserialize_space(text)


class Specified:
    """Base of the policies: the spaces that their specification describes."""

    spec: PolicySpec

    @cached_property
    def observation_space(self) -> Any:
        """The Gymnasium space of an observation."""
        return read_space(self.spec.observation_space)

    @cached_property
    def action_space(self) -> Any:
        """The Gymnasium space of an action."""
        return read_space(self.spec.action_space)


def check_spec(spec: PolicySpec, task: TaskShape) -> None:
    """Check the fields of a specification that a policy reads only when it acts or is evaluated.

    Raises:
        ValueError: a field cannot be read or belongs to another task.
    """
    _check_task(task)
    kind = "Discrete" if task.discrete else "Box" if task.action_parts is None else f"parts {task.action_parts}"
    actions = f"a {kind} space of size {task.action_dim}, as JSON"
    checks: list[tuple[str, str, Callable[[], bool]]] = [
        ("observation_space", f"a space of size {task.state_dim}, as JSON", lambda: _observes(spec, task)),
        ("action_space", actions, lambda: _acts(spec, task)),
        ("dataset_id", "text that can be printed", lambda: spec.dataset_id.isprintable()),
        ("env_id", "text that can be printed, or null", lambda: spec.env_id is None or spec.env_id.isprintable()),
        ("rtg_scale", "a number above 0", lambda: spec.rtg_scale > 0),
        ("env_spec", "the JSON of an environment's specification, or null", lambda: _is_env_spec(spec)),
        ("action_deviation", f"{task.action_dim} finite numbers, or null", lambda: _deviates(spec, task)),
        ("bin_returns", "ascending finite numbers, or null", lambda: _ascends(spec.bin_returns, 1, 256)),
        ("return_range", "two ascending finite numbers, or null", lambda: _ascends(spec.return_range, 2, 2)),
        ("reference", "min, another max, and their source, or null", lambda: _is_reference(spec.reference)),
    ]
    for name, expected, good in checks:
        try:
            holds = good()
        except Exception:  # a text that is no JSON, or no space, raises errors of many types
            holds = False
        if not holds:
            raise ValueError(f"policy.{name}: expected {expected}, found {str(getattr(spec, name))[:80]!r}")


def _check_task(task: TaskShape) -> None:
    """Raise ValueError for invalid ranges that a model reads only when it acts."""
    n = task.action_dim
    if task.image is not None and (not 1 <= task.frames <= 256 or min(task.image) < 1 or len(task.image) < 2):
        raise ValueError(f"task.image, task.frames: expected sizes of frames, found {task.image}, {task.frames}")
    for name, least, most in (("rtg_range", 2, 2), ("rtg_quantiles", 2, 10_000), ("goal_edges", 0, 256)):
        values = getattr(task, name)
        if values is not None and not (least <= len(values) <= most and _ascend(values)):
            raise ValueError(f"task.{name}: expected ascending numbers, {least} at least, found {str(values)[:80]}")
    columns = task.goal_columns
    if columns is not None and not (len(columns) == 2 and 0 <= columns[0] < columns[1] <= task.state_dim):
        raise ValueError(f"task.goal_columns: expected a first column and the one after the last, found {columns}")
    if task.action_parts is not None:
        widths = [max(code, 1) for code in task.action_parts]
        if task.discrete or min(task.action_parts, default=-2) < BIT or sum(widths) != n:
            raise ValueError(f"task.action_parts: expected parts of {n} columns, found {str(task.action_parts)[:80]}")
    low, high = task.action_low, task.action_high
    if (low, high) == (None, None):
        return
    if not low or not high or not len(low) == len(high) == n or any(a > b for a, b in zip(low, high, strict=True)):
        found = f"{str(low)[:60]} and {str(high)[:60]}"
        raise ValueError(f"task.action_low, action_high: expected {n} bounds each, low below high, found {found}")


def _ascend(values: tuple[float, ...]) -> bool:
    return list(values) == sorted(values) and all(abs(x) <= 3.4e38 for x in values)  # float32


def _ascends(values: tuple[float, ...] | None, least: int, most: int) -> bool:
    return values is None or (least <= len(values) <= most and _ascend(values))


def _observes(spec: PolicySpec, task: TaskShape) -> bool:
    from gymnasium import spaces

    space = read_space(spec.observation_space)
    image = None if task.image is None else find_image(space)
    numbers = spaces.flatdim(space) - (0 if image is None else image.pixels)
    return numbers == task.numbers and (None if image is None else image.shape) == task.image


def _acts(spec: PolicySpec, task: TaskShape) -> bool:
    from gymnasium import spaces

    space = read_space(spec.action_space)
    expected = parts(space) if is_composite(space) else None
    return isinstance(space, spaces.Discrete) == task.discrete and (expected, spaces.flatdim(space)) == (
        *(task.action_parts, task.action_dim),
    )


def _is_env_spec(spec: PolicySpec) -> bool:
    return spec.env_spec is None or bool(parse_spec(spec.env_spec, spec.env_id or "none"))


def _deviates(spec: PolicySpec, task: TaskShape) -> bool:
    found = spec.action_deviation
    return found is None or (len(found) == task.action_dim and all(0 <= x < math.inf for x in found))


def _is_reference(values: dict[str, Any] | None) -> bool:
    from snn_dt.data.scores import ReferenceScores

    if values is not None:
        strict.build(ReferenceScores, values, "reference")  # raises unless a score can be computed
    return True
