"""Record the calls that energy rules count."""

from __future__ import annotations

from types import TracebackType

from torch import nn

from snn_dt.energy.costs import declared
from snn_dt.energy.memory import parameter_bytes
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
