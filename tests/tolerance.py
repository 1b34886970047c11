"""How equal is equal: what the same sums in another order, shape or instruction set may differ by, and no more.

A processor promises the same bits for the same computation: the same operation on tensors of the same shapes and
strides, with the same threads and kernels. A product of another batch size, one step instead of many, a fused kernel
instead of modules, are other computations. Their results differ by a few units in the last place, and a membrane that
lies so near to its threshold may fire in one and not in the other.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def assert_same_to_rounding(found: Tensor, expected: Tensor, factor: float = 256.0) -> None:
    """Equal within `factor` units in the last place of the largest number there is (of 1, if all are smaller)."""
    size = max(1.0, expected.detach().abs().max().item()) if expected.numel() else 1.0
    tolerance = factor * torch.finfo(expected.dtype).eps * size
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def is_far_from_threshold(neurons: torch.nn.Module, current: Tensor, by: float = 1e-9) -> bool:
    """Whether no spike of `neurons` changes when every current is larger, or smaller, by `by`."""
    with torch.no_grad():
        spikes = neurons(current, None)[0]
        return all(torch.equal(neurons(current + change, None)[0], spikes) for change in (by, -by))


def assert_mostly_equal(found, expected, *, share: float = 0.9, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """In a `share` of their entries equal to rounding; the rest may be spikes that single precision has flipped.

    Two policies that do not decide alike differ nearly everywhere.
    """
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    same = np.isclose(found, expected, rtol=rtol, atol=atol).mean()
    assert same >= share, f"only {same:.1%} of the entries are the same"


def assert_equal_but_for_flips(runs, rtol: float, atol: float) -> None:
    """Pairs (found, expected) of alike inputs, in single precision: each entry differs in one pair at most.

    A spike that rounding has flipped moves an entry for one input in a thousand; a mistake moves it for all.
    """
    wrong = [~torch.isclose(found, expected, rtol=rtol, atol=atol) for found, expected in runs]
    assert len(wrong) >= 3
    assert int(torch.stack(wrong).sum(0).max()) <= 1, [int(x.sum()) for x in wrong]
