"""Hooks on the modules of a model that note what its last forward did."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from torch import nn

from snn_dt.energy.costs import rule_of
from snn_dt.energy.memory import parameter_bytes
from snn_dt.models.heads import RateHead
from snn_dt.models.layers import Chain

WIRING = (nn.Sequential, Chain, nn.ModuleList, nn.ModuleDict, nn.Identity, nn.Dropout, nn.Flatten, RateHead)
"""Types, not their subclasses, that compute nothing in a decision besides what their parts do."""


class Recorder:
    """Notes every call of a module that a rule of `costs.py` knows, while the context is open.

    Attributes:
        calls: `(name, module, inputs, output)` of the model's last forward.
        parameter_bytes: of each such module; the outer of two that count the same weights has them.
        unknown: modules that no rule knows, with weights or without, but for the model itself and for `WIRING`.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.calls: list[tuple[str, nn.Module, tuple[Any, ...], Any]] = []
        self.parameter_bytes: dict[str, float] = {}
        self.unknown: list[str] = []
        self._handles: list[Any] = []
        self._known: list[tuple[str, nn.Module]] = []
        covered: set[nn.Module] = set()  # by the rule of a module around them
        for name, module in model.named_modules():
            if module in covered:
                continue
            found = rule_of(module)
            if found is None:
                weights = next(module.parameters(recurse=False), None) is not None
                if weights or (module is not model and type(module) not in WIRING):
                    self.unknown.append(name)
                continue
            _, inside = found
            if not inside:
                covered.update(module.modules())
            self.parameter_bytes[name] = parameter_bytes(module, whole=not inside)
            self._known.append((name, module))

    def __enter__(self) -> Recorder:
        self._handles.append(self.model.register_forward_pre_hook(lambda *_: self.calls.clear()))
        self._handles += [module.register_forward_hook(self._hook(name)) for name, module in self._known]
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        while self._handles:
            self._handles.pop().remove()
        self.calls.clear()

    def _hook(self, name: str) -> Any:
        return lambda module, inputs, output: self.calls.append((name, module, inputs, output))
