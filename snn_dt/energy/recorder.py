"""Record the calls that energy rules count, and check that blocks are spike-driven."""

from __future__ import annotations

from types import TracebackType

import torch
from torch import Tensor, nn

from snn_dt.energy.costs import declared, role_of
from snn_dt.energy.memory import parameter_bytes
from snn_dt.models.layers import SpikeLinear
from snn_dt.snn.record import Recorded, record


class Recorder:
    """Records the calls of all modules with an energy rule while the context is open.

    Attributes:
        parameter_bytes: bytes of each such module. If two nested modules count the same weights, the outer has them.
        unknown: modules of undeclared types. The model itself is one only if it has weights of its own.
    """

    def __init__(self, model: nn.Module) -> None:
        self.parameter_bytes: dict[str, float] = {}
        self.unknown: list[str] = []
        known: dict[str, nn.Module] = {}
        covered: set[nn.Module] = set()  # by the rule of an enclosing module
        for name, module in model.named_modules():
            if module in covered:
                continue
            found = declared(module)
            if found is None:
                weights = next(module.parameters(recurse=False), None) is not None
                if weights or module is not model:
                    self.unknown.append(name)
                continue
            if found.rule is None:
                continue
            if not found.inside:
                # Its rule covers the modules inside it, so these are not counted again.
                covered.update(module.modules())
            self.parameter_bytes[name] = parameter_bytes(module, whole=not found.inside)
            known[name] = module
        self._record = record(model, known)

    @property
    def calls(self) -> list[Recorded]:
        """The calls of the model's last forward."""
        return self._record.calls

    def __enter__(self) -> Recorder:
        self._record.__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._record.__exit__(kind, error, trace)
        self._record.calls.clear()


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
