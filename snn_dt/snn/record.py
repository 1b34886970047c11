"""Record the calls of modules with forward hooks.

The firing-rate probe, the energy meter, the activity budget, rasters and the plasticity of a head use it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple

from torch import nn
from torch.utils.hooks import RemovableHandle

Choice = type[nn.Module] | tuple[type[nn.Module], ...] | Callable[[nn.Module], bool] | Mapping[str, nn.Module]


class Recorded(NamedTuple):
    """One call of a module. `inputs` are its positional arguments. Tensors are neither detached nor copied."""

    name: str
    module: nn.Module
    inputs: tuple[Any, ...]
    output: Any


class Record:
    """Calls of selected modules in the last forward of a model while the context is open.

    Attributes:
        modules: recorded modules by name.
        calls: calls in the order in which they ended. A new forward of the model clears them. They stay after the
            context closes. Calls outside a forward, as of the encoder of a policy's images, go before those of the
            next one.
    """

    def __init__(self, model: nn.Module, modules: Mapping[str, nn.Module]) -> None:
        self.model, self.modules = model, modules
        self.calls: list[Recorded] = []
        self._before: list[Recorded] = []
        self._inside = False
        self._handles: list[RemovableHandle] = []

    def start(self) -> Record:
        """Register the hooks. The context calls this."""
        # Bound methods instead of closures: a copied or pickled model must record into the copy of this object.
        self._handles.append(self.model.register_forward_pre_hook(self._clear))
        self._handles.append(self.model.register_forward_hook(self._end, always_call=True))
        for name, module in self.modules.items():
            self._handles.append(module.register_forward_hook(functools.partial(self._note, name)))
        return self

    def stop(self) -> None:
        """Remove the hooks and keep the calls."""
        while self._handles:
            self._handles.pop().remove()
        self._before, self._inside = [], False

    def __enter__(self) -> Record:
        return self.start()

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _clear(self, model: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.calls[:], self._before, self._inside = self._before, [], True

    def _end(self, model: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self._inside = False

    def _note(self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        (self.calls if self._inside else self._before).append(Recorded(name, module, inputs, output))


def record(model: nn.Module, chosen: Choice) -> Record:
    """Return a context that records modules selected by type, by a function or by name.

    ```
    with record(model, nn.LayerNorm) as recording:
        model(...)
    recording.calls[0].output
    ```
    """
    if isinstance(chosen, Mapping):
        return Record(model, chosen)
    modules: dict[str, nn.Module] = dict(model.named_modules())
    if isinstance(chosen, type | tuple):
        return Record(model, {name: m for name, m in modules.items() if isinstance(m, chosen)})
    return Record(model, {name: m for name, m in modules.items() if chosen(m)})
