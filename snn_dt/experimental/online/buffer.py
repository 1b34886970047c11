"""Ring buffer of sequences of fixed length from flights.

Shapes: L steps of a flight; T steps of a sequence; B sequences of a batch; P observation columns; A action columns.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Flight(NamedTuple):
    """An episode or the first part of one: observations [L + 1, P], actions [L, A], rewards [L].

    `terminated` is true if the last step ended the task. It is false after a time-out and for a flight that the end of
    an iteration cuts. `guided` is the number of first steps flown by the guide.
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float32]
    terminated: bool
    guided: int = 0


class Sequences(NamedTuple):
    """A batch, time first: observations [T + 1, B, P], all others [T, B, ...]. `valid` is False for right padding.

    `begins` [B] is True for a sequence that begins with its flight.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    terminated: Tensor
    """1.0 if the step ended the task: there TD3 does not bootstrap. 0.0 for a time-out."""
    valid: Tensor
    begins: Tensor


def starts(steps: int, length: int, stride: int) -> list[int]:
    """Return the first steps of a flight's sequences: every `stride` steps. The last sequence ends with the flight.

    >>> starts(230, 100, 50)
    [0, 50, 100, 130]
    """
    last = max(steps - length, 0)  # start of the sequence that ends with the flight
    return sorted({*range(0, last + 1, stride), last})


class SequenceBuffer:
    """The last `capacity` sequences. The sequence of a flight shorter than `length` is padded at its end.

    It keeps the first `obs_dim` columns of the observations.
    """

    def __init__(self, capacity: int, length: int, stride: int, obs_dim: int, action_dim: int) -> None:
        self.length, self.stride, self.size, self.next = length, stride, 0, 0
        self.observations = np.zeros((capacity, length + 1, obs_dim), np.float32)
        self.actions = np.zeros((capacity, length, action_dim), np.float32)
        self.rewards = np.zeros((capacity, length), np.float32)
        self.terminated = np.zeros((capacity, length), np.float32)
        self.steps = np.zeros(capacity, np.int64)
        self.begins = np.zeros(capacity, np.bool_)

    def add(self, flight: Flight) -> None:
        """Cut a flight into sequences and store them in place of the oldest ones."""
        total, columns = len(flight.rewards), self.observations.shape[-1]
        for start in starts(total, self.length, self.stride):
            row, n = self.next, min(self.length, total - start)  # n real steps, the rest are pads
            for array, values in (
                (self.observations, flight.observations[start : start + n + 1, :columns]),
                (self.actions, flight.actions[start : start + n]),
                (self.rewards, flight.rewards[start : start + n]),
            ):
                array[row] = 0.0  # the older sequence may have been longer
                array[row, : len(values)] = values
            self.terminated[row] = 0.0
            # only the flight's last step can be terminal
            self.terminated[row, n - 1] = float(flight.terminated and start + n == total)
            self.steps[row], self.begins[row] = n, start == 0
            self.next = (row + 1) % len(self.steps)
            self.size = min(self.size + 1, len(self.steps))

    def sample(self, count: int, rng: np.random.Generator) -> Sequences:
        """Draw `count` sequences uniformly with replacement."""
        rows = rng.integers(self.size, size=count)
        valid = np.arange(self.length) < self.steps[rows][:, None]  # [B, T]
        observations, actions, rewards, terminated, ok = (
            torch.from_numpy(part).transpose(0, 1).contiguous()  # [B, T, ...] -> [T, B, ...]
            for part in (self.observations[rows], self.actions[rows], self.rewards[rows], self.terminated[rows], valid)
        )
        return Sequences(observations, actions, rewards, terminated, ok, torch.from_numpy(self.begins[rows]))

    def state_dict(self) -> dict[str, Any]:
        """Return the stored sequences as tensors for `torch.save`."""
        # only the rows in use, which keeps the file small
        arrays = {name: torch.from_numpy(getattr(self, name)[: self.size].copy()) for name in _ARRAYS}
        return arrays | {"size": self.size, "next": self.next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.size, self.next = state["size"], state["next"]
        for name in _ARRAYS:
            if name in state:  # `begins` is missing in states of earlier versions, which did not use it
                getattr(self, name)[: self.size] = state[name].numpy()


_ARRAYS = ("observations", "actions", "rewards", "terminated", "steps", "begins")
