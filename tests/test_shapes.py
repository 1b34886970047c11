"""The shapes that public forwards state, as jaxtyping annotations, hold in every call of every kind of model.

The annotations need jaxtyping for this test and for mypy alone: the package does not import it.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing

import pytest
import torch
from torch import Tensor

from snn_dt.models import dsformer_attention, mixing, phase_positions, positions
from snn_dt.models.attention import DendriticRouting, DenseSelfAttention, SpikingSelfAttention
from snn_dt.snn import RateLIF, TimedLIF, TokenLIF
from snn_dt.snn.record import record
from tests.conftest import CONTINUOUS, TINY, VARIANTS, make_batch, make_model, run

jaxtyping = pytest.importorskip("jaxtyping")
NAMES = {"Float": jaxtyping.Float, "Int": jaxtyping.Int, "Bool": jaxtyping.Bool}
ANNOTATED = (
    DenseSelfAttention, SpikingSelfAttention, mixing.SoftmaxAttention, mixing.SpikeAttention,
    mixing.LinearSpikeAttention, dsformer_attention.TSSA, dsformer_attention.PSSA,
    positions.LearnedPositions, positions.SinusoidalPositions, phase_positions.PhasePositions,
    phase_positions.PhaseGate, DendriticRouting, RateLIF, TimedLIF, TokenLIF,
)  # fmt: skip


def mistakes(module, inputs, output) -> list[str]:
    """The arguments, and results, that are not what the annotations of `forward` say; a name is one size in a call."""
    hints = typing.get_type_hints(type(module).forward, localns=NAMES)
    values = inspect.signature(type(module).forward).bind(module, *inputs).arguments | {"return": output}
    with jaxtyping.jaxtyped("context"):
        return [
            f"{type(module).__name__} {name}: {hint}, found {tuple(getattr(part, 'shape', ()))}"
            for name, all_of in hints.items()
            for hint, part in parts(all_of, values[name])
            if isinstance(part, Tensor) and not isinstance(part, hint)
        ]


def parts(hint, value):
    """The pairs of an annotation and a tensor in a value, which may be a tuple, or None where that is allowed."""
    if typing.get_origin(hint) is tuple:
        return list(zip(typing.get_args(hint), value, strict=True))
    return [(next(iter(typing.get_args(hint)), hint), value)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_annotated_shape_holds(variant):
    model, batch = make_model(dataclasses.replace(TINY, **VARIANTS[variant]), CONTINUOUS), make_batch(CONTINUOUS)
    with record(model, ANNOTATED) as recording, torch.no_grad():
        for last_only in (False, True):
            run(model, batch, last_only=last_only)
            assert recording.calls
            assert [text for call in recording.calls for text in mistakes(*call[1:])] == []


def test_a_wrong_shape_is_found():
    layer = TimedLIF(3)
    assert mistakes(layer, (torch.zeros(2, 4, 5),), torch.zeros(3, 2, 4, 6)) != []
    assert mistakes(layer, (torch.zeros(2, 4, 5),), torch.zeros(3, 2, 4, 5)) == []
