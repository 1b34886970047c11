r"""Truncated backpropagation through time: gradients of a long sequence, window by window, in the memory of one window.

T steps of a sequence, B rows side by side. Time is axis `dim` of every input and output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from snn_dt.snn.states import detach, reset_rows


class TBPTT:
    """Runs a recurrent model over a sequence and hands out one window after the other, to be learned from at once.

    ```
    tbptt = TBPTT(advance, window=50)               # advance(*inputs, state) -> (outputs, state)
    for steps, outputs in tbptt(inputs):            # steps: the slice of the sequence that outputs are of
        loss = criterion(outputs, targets[steps])
        optimizer.zero_grad(); loss.backward(); optimizer.step()
    ```

    The state goes on from window to window and from call to call; the gradient ends where a window begins. A window
    as long as the sequence is backpropagation through time, bit for bit. As long as the weights stay, what the forward
    pass returns depends on the window by rounding only: products of shorter windows sum in another order, so membranes
    differ by a few units in the last place. Leave out `optimizer.step()` between windows to sum their gradients.

    With `stride` S below `window` K windows overlap: a new one ends every S steps, its gradient goes back K steps, and
    its outputs are those of its last S steps, so that every step is handed out once. Steps that lie in several windows
    are computed anew in each.

    Args:
        advance: the model; its state is anything made of tensors `[B, ...]`, tuples and dictionaries, None at first.
            A `LIF` is one as it stands.
        window: K, steps that a gradient goes back at most.
        stride: S, steps between the ends of two windows; None takes K.
        burn_in: steps at the beginning of a call that only move the state: nothing is handed out or learned from them.
        dim: which axis is time: 0 of `[T, B, ...]`, 1 of `[B, T, ...]`.
        rest: what the state of a row returns to, see `reset_rows`; None is 0.

    Attributes:
        state: after the last step handed out, cut off from the gradient. Save it to go on later; set it to None to
            begin anew.

    Raises:
        ValueError: window, stride or burn-in out of range.

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
        """Go on from `state` over `inputs`, T steps each, and yield `(slice of steps, outputs of these steps)`.

        `starts`, bool `[T, B]` (`[B, T]` if `dim` is 1), marks the steps at which a new episode begins in a row: the
        row's state is at rest before it, and no gradient crosses.
        """
        if starts is not None:
            starts = starts.movedim(self.dim, 0)
        length = inputs[0].shape[self.dim]
        handed = begin = min(self.burn_in, length)  # `state` is that before step `begin`
        with torch.no_grad():
            self.state = self._run(inputs, starts, 0, begin, self.state)[1]
        while handed < length:
            end = min(handed + self.stride, length)
            following = end if end == length else max(begin, min(end + self.stride, length) - self.window)
            earlier, state = self._run(inputs, starts, begin, following, detach(self.state))
            later, last = self._run(inputs, starts, following, end, state)
            parts = earlier + later
            outputs = parts[0] if len(parts) == 1 else torch.cat(parts, self.dim)
            outputs = outputs.narrow(self.dim, handed - begin, end - handed)
            self.state, state = detach(last), detach(state)
            del earlier, later, parts, last  # or the graph of this window would live through the next one's forward
            yield slice(handed, end), outputs
            del outputs
            self.state = state
            begin, handed = following, end

    def _run(
        self, inputs: tuple[Tensor, ...], starts: Tensor | None, first: int, last: int, state: Any
    ) -> tuple[list[Tensor], Any]:
        """Advance over steps `first` to `last`, with a stop wherever a row begins anew."""
        begins = [] if starts is None else (starts[first:last].flatten(1).any(1).nonzero()[:, 0] + first).tolist()
        outputs = []
        for a, b in pairwise(sorted({first, *begins, last})):
            if starts is not None and a in begins and state is not None:
                state = reset_rows(state, starts[a], self.rest)
            y, state = self.advance(*(x.narrow(self.dim, a, b - a) for x in inputs), state)
            outputs.append(y)
        return outputs, state
