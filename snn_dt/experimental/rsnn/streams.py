"""Random numbers that are a function of (seed, step): a resumed run draws what it would have drawn."""

from __future__ import annotations

import torch


def stream(seed: int, step: int) -> torch.Generator:
    """Return the generator of one update: the same however often, and in whatever order, it is asked for.

    torch's generator looks at 32 bits of its seed, so the two are mixed rather than put side by side.
    """
    return torch.Generator().manual_seed((step + 0x9E3779B1 * seed) % 2**32)
