"""What the C of one kind of network is made of, so that `c_policy.py` can put a source together for any of them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class CParts:
    """The parts of a source that belong to a network."""

    sizes: str
    """Definition of the sizes."""
    fragment: str
    """File of `c/` with the function `decide`."""
    replaced: dict[str, str]
    """Marks in the fragment and their texts."""
    block_state: dict[str, int]
    """Numbers that a block keeps between decisions: name and length."""
    layers: int
    widest: int
    """Length of the longest vector of a decision."""
    width: int
    block_floats: dict[str, int] = field(default_factory=dict)
    """As `block_state`, in float for int8 weights too."""
    state: str = ""
    """More members of the state."""
    rest: str = ""
    """Statements that begin an episode; the state is 0 before them."""
