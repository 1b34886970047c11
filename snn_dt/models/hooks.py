"""Who watches a model, and what has changed in it: what kernels that compute several modules in one call must know."""

from __future__ import annotations

from collections.abc import Mapping
from operator import is_
from typing import Any

from torch import Tensor, nn

from snn_dt.snn import cpp

USUAL = frozenset(vars(nn.Module())) - {"training"}
SIZES = {"in_features", "out_features", "num_embeddings", "embedding_dim", "normalized_shape", "elementwise_affine"}
"""Attributes of every module, and those that torch's own layers only show: any other may say what is computed."""


def hook_tables(model: nn.Module) -> list[Mapping[int, Any]]:
    """Return the tables of forward hooks of all modules; they stay the same, and one holds something while watched."""
    return [table for m in model.modules() for table in (m._forward_hooks, m._forward_pre_hooks)]


class Watch:
    """Tells whether a model is still the one it was when this was made, however it may have been written to.

    `moved`: another object in the place of a module, parameter, buffer or attribute (a neuron's constants, say), a
    parameter whose numbers lie elsewhere, a module that was added. `written`: other numbers in a parameter. An
    optimizer, `load_state_dict`, `.data = new` and `.data.copy_`, of which torch itself keeps no trace, are all seen.
    """

    def __init__(self, model: nn.Module) -> None:
        modules = list(model.modules())
        tables = [t for m in modules for t in (m._parameters, m._buffers, m._modules, vars(m))]
        items = [(t, key, x) for t in tables for key, x in t.items() if key not in USUAL | SIZES]
        self._tables, self._sizes = tables, [len(t) for t in tables]
        self._dicts, self._keys, self._objects = ([item[i] for item in items] for i in range(3))
        self._hooks = hook_tables(model)
        self.parameters: list[Tensor] = list(
            {id(p): p for m in modules for p in m._parameters.values() if p is not None}.values()
        )
        self.tensors = self.parameters + [b for m in modules for b in m._buffers.values() if b is not None]
        self._places = self._where()
        self._checksum: cpp.Checksum | None = None
        self._numbers = b""

    @property
    def watched(self) -> bool:
        """Whether somebody listens to a module."""
        return any(self._hooks)

    def moved(self) -> bool:
        """Tell whether anything is not where it was; a value that was written in place does not count."""
        same = all(map(is_, map(dict.get, self._dicts, self._keys), self._objects))
        return not same or list(map(len, self._tables)) != self._sizes or self._where() != self._places

    def written(self) -> bool:
        """Tell whether the numbers of parameters are others than at the last call; so they are at the first."""
        if self._checksum is None:
            self._checksum = cpp.Checksum(self.parameters)
        before, self._numbers = self._numbers, self._checksum()
        return before != self._numbers

    def _where(self) -> list[tuple[int, bool]]:
        return [(x.data_ptr(), x.is_contiguous()) for x in self.tensors]


def only(model: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Tell whether all modules are of exactly these types, computing as their class says, none of them in training.

    A subclass may compute anything. Norms have weights and biases, which kernels read.
    """
    return all(
        type(m) in kinds
        and "forward" not in vars(m)
        and not m.training
        and not (isinstance(m, nn.LayerNorm) and (m.weight is None or m.bias is None))
        for m in model.modules()
    )


def biased(model: nn.Module) -> bool:
    """Tell whether all linear layers have a bias."""
    return all(m.bias is not None for m in model.modules() if isinstance(m, nn.Linear))


def alike(*tensors: Tensor) -> bool:
    """Tell whether all tensors have one type and lie in a row on the CPU, as kernels read them."""
    return len({x.dtype for x in tensors}) == 1 and all(x.device.type == "cpu" and x.is_contiguous() for x in tensors)
