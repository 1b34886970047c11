"""Check that the blocks of a model are spike-driven."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snn_dt.energy import role_of
from snn_dt.models.layers import SpikeLinear
from snn_dt.snn.record import record


@torch.no_grad()
def assert_spike_driven(model: nn.Module, *batch: Tensor) -> None:
    """Raise `AssertionError` unless every computation in the blocks of `model` is driven by spikes.

    A block may hold linear layers, neurons and spiking attention. During a prediction of `batch` (rtg, states, actions,
    timesteps, attention_mask) each linear layer must receive binary spikes.
    """
    blocks: nn.ModuleList = model.blocks  # type: ignore[assignment]  # torch types attributes as Tensor or Module
    linears: dict[str, nn.Module] = {}
    for i, block in enumerate(blocks):
        for name, module in block.named_modules():
            # The block and its attention only combine their parts; their own rules count residual additions.
            composed, role = module is block or module is block.attention, role_of(module)
            driven = composed or role in ("synapses", "neurons", "wire")
            assert driven, f"{name}: {type(module).__name__} is analogue"
            if isinstance(module, SpikeLinear):
                linears[f"blocks.{i}.{name}"] = module
    with record(model, linears) as recording:
        model(*batch)
    for call in recording.calls:
        s = call.inputs[0]
        binary = bool(((s == 0) | (s == 1)).all())
        assert binary, f"{call.name}: expected binary spikes, found values up to {s.max():g}"
