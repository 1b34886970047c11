r"""Truncated backpropagation through time: gradients of a long sequence in the memory of one window.

T steps of a sequence, B rows in a batch. Time is axis `dim` of every input and output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from snn_dt.snn.states import detach, reset_rows


class TBPTT:
    """Runs a recurrent model over a sequence and yields one window after another, each for one update.

    ```
    tbptt = TBPTT(advance, window=50)               # advance(*inputs, state) -> (outputs, state)
    for steps, outputs in tbptt(inputs):            # steps: slice of the sequence
        loss = criterion(outputs, targets[steps])
        optimizer.zero_grad(); loss.backward(); optimizer.step()
    ```

    The state is carried from window to window and from call to call. The gradient stops at the start of a window. A
    window as long as the sequence equals backpropagation through time bit for bit. With constant weights the outputs
    depend on the window by rounding only: shorter products sum in another order, so membrane potentials differ by a few
    units in the last place. To sum the gradients of windows, omit `optimizer.step()` between them.

    With a `stride` S below the `window` K, windows overlap. A window ends every S steps and its gradient goes back K
    steps. It yields the outputs of its last S steps, so every step is yielded once. Steps in several windows are
    computed again in each.

    Args:
        advance: the model, for example a `LIF`. Its state is None at first, then tensors `[B, ...]` in tuples and
            dictionaries.
        window: K, the largest number of steps that a gradient goes back.
        stride: S, steps between the ends of two windows. None takes K.
        burn_in: steps at the start of a call that only update the state. They yield no outputs and no gradient.
        dim: the time axis: 0 for `[T, B, ...]`, 1 for `[B, T, ...]`.
        rest: state of a row at the start of an episode, see `reset_rows`. None is 0.

    Attributes:
        state: detached state after the last yielded step. Save it to continue later. Set it to None to start again.

    Raises:
        ValueError: window, stride or burn-in is out of range.

    Source: BPTT(h; h') of Williams and Peng 1990, h = K and h' = S; burn-in as in R2D2.
    """

    def __init__(
        self,
        advance: Callable[..., tuple[Tensor, Any]],
        window: int,
        stride: int | None = None,
        burn_in: int = 0,
        dim: int = 0,
        rest: Any = None,
    ) -> None:
        stride = window if stride is None else stride
        if not 1 <= stride <= window or burn_in < 0:
            raise ValueError(
                f"expected 1 <= stride <= window and burn_in >= 0, found stride {stride}, window {window}, burn_in "
                f"{burn_in}; a longer stride would leave steps out"
            )
        self.advance, self.window, self.stride, self.burn_in, self.dim = advance, window, stride, burn_in, dim
        self.rest, self.state = rest, None

    def __call__(self, *inputs: Tensor, starts: Tensor | None = None) -> Iterator[tuple[slice, Tensor]]:
        """Continue from `state` over `inputs` of T steps and yield `(slice of steps, outputs of these steps)`.

        `starts`, bool `[T, B]` (`[B, T]` if `dim` is 1), marks the first step of an episode in a row. The state of the
        row is reset before it, and no gradient crosses it.
        """
        if starts is not None:
            starts = starts.movedim(self.dim, 0)  # [T, B]
        length = inputs[0].shape[self.dim]
        handed = begin = min(self.burn_in, length)  # `state` is the one before step `begin`
        with torch.no_grad():
            self.state = self._run(inputs, starts, 0, begin, self.state)[1]
        while handed < length:
            end = min(handed + self.stride, length)
            # Where the next window begins: the state there must be kept.
            following = end if end == length else max(begin, min(end + self.stride, length) - self.window)
            # Two parts, so that the state where the next window begins is at hand.
            earlier, state = self._run(inputs, starts, begin, following, detach(self.state))
            later, last = self._run(inputs, starts, following, end, state)
            parts = earlier + later
            # The parts are slices of time, joined along the time axis.
            outputs = parts[0] if len(parts) == 1 else torch.cat(parts, self.dim)
            # Drop the outputs of steps that an earlier window yielded.
            outputs = outputs.narrow(self.dim, handed - begin, end - handed)
            self.state, state = detach(last), detach(state)
            del earlier, later, parts, last  # frees the graph of this window before the next forward
            yield slice(handed, end), outputs
            del outputs
            self.state = state
            begin, handed = following, end

    def _run(
        self, inputs: tuple[Tensor, ...], starts: Tensor | None, first: int, last: int, state: Any
    ) -> tuple[list[Tensor], Any]:
        """Advance over steps `first` to `last`, in parts that end where a row starts a new episode."""
        # starts [T, B, ...] -> steps at which any row starts, as indices of the sequence.
        begins = [] if starts is None else (starts[first:last].flatten(1).any(1).nonzero()[:, 0] + first).tolist()
        outputs = []
        for a, b in pairwise(sorted({first, *begins, last})):
            if starts is not None and a in begins and state is not None:
                state = reset_rows(state, starts[a], self.rest)
            y, state = self.advance(*(x.narrow(self.dim, a, b - a) for x in inputs), state)
            outputs.append(y)
        return outputs, state
