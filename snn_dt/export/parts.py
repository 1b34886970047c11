"""What the C of one kind of network is made of, so that `c_policy.py` can put a source together for any of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from snn_dt.errors import ExportError


@dataclass(frozen=True)
class CParts:
    """The parts of a source that belong to a network."""

    sizes: str
    """Definition of the sizes."""
    fragments: tuple[str, ...]
    """Files of `c/`; the last one has the function `decide`."""
    replaced: dict[str, str]
    """Marks in the fragments and their texts."""
    block_state: dict[str, tuple[str, int]]
    """Arrays that a block keeps between decisions: type and length by name."""
    layers: int
    widest: int
    """Length of the longest vector of a decision."""
    width: int
    """Length of a token."""
    fired: int
    """Length of the longest list of spikes."""
    state: dict[str, tuple[str, int]] = field(default_factory=dict)
    """More arrays of the state, as `block_state`; of length 0: one number."""
    types: str = ""
    """More types, before those of numbers."""
    types_of_values: str = ""
    """More types, after those of numbers."""
    code: str = ""
    """Code after the fragments; with no fragments it has the function `decide`."""
    rest: str = ""
    """Statements that begin an episode; the state is 0 before them."""

    def members(self) -> str:
        """Return the members of the state of a block."""
        return "".join(f"    {declaration(*x)};\n" for x in self.block_state.items())


def refuse_images(policy: Any, to: str) -> None:
    """Raise `ExportError` for a policy whose observations hold an image."""
    if getattr(getattr(policy.model, "task", None), "image", None) is not None:
        raise ExportError(
            f"expected observations without an image for {to}, found one of {policy.model.task.image}; images are for "
            "Python only"
        )


def declaration(name: str, of: tuple[str, int]) -> str:
    """Return `type name[length]`, or without a length if it is 0."""
    return f"{of[0]} {name}[{of[1]}]" if of[1] else f"{of[0]} {name}"


def initialiser(members: list[str]) -> str:
    """Return the text of a struct with these members."""
    return "    {\n        " + ",\n        ".join(members) + ",\n    }"
