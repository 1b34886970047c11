"""Ways to make a decision: the modules of a model, one C++ call, or a CUDA graph.

`Policy.reset` picks the way once. The fast ways agree with the modules up to rounding. Before each decision they check
that the model has not changed since they were prepared, and are prepared again if it has. The modules decide if a
module has forward hooks, which a fast way would not call.

A way with a `watch` reads copies of the weights. It notices a write through torch at the next decision, a write past
torch (`weight.data`, numpy) that changes a small part of a tensor within 64 decisions or at the next reset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from snn_dt.cuda_graph import CudaGraph
from snn_dt.models.decision_transformer import DecisionTransformer
from snn_dt.models.interface import decides_from_state
from snn_dt.models.kept_keys_fused import FusedDecision
from snn_dt.models.last_token import FusedWindow, knows_blocks
from snn_dt.models.stream import StreamTransformer
from snn_dt.models.stream_fused import FusedStep, knows_step

Way = Literal["modules", "cpp", "cuda_graph"]
Decide = Callable[..., Any]
"""`(rtg, states, actions, timesteps, attention_mask) -> [B, A]`; streaming `(rtg, states, state) -> [B, A], state`."""
DECISIONS_BEFORE_GRAPH = 20
"""Decisions of a shape before their CUDA graph is captured, which takes as long as some fifty of them."""
MODULE_ATTRIBUTES = frozenset(vars(nn.Module())) - {"training"}
DISPLAY_ATTRIBUTES = frozenset(
    ("in_features", "out_features", "num_embeddings", "embedding_dim", "normalized_shape", "elementwise_affine")
)
"""Attributes of every module, and those by which torch's layers describe themselves. No forward depends on them."""
MODE_FREE_TYPES = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.ModuleList, nn.Sequential)
"""Types whose own forward does not depend on `training`."""


def pick_way(model: nn.Module) -> Way:
    """Return the fastest way to decide with a model in evaluation mode on its device."""
    if knows_step(model) or knows_blocks(model):
        return "cpp"
    return "cuda_graph" if _can_be_captured(model) else "modules"


def make_decider(model: nn.Module, way: Way | Literal["auto"] = "auto") -> Decider:
    """Return a decider for `model` in evaluation mode. `auto` picks the fastest way.

    Raises:
        ValueError: the model does not support this way.
    """
    best = pick_way(model)
    if way not in ("auto", "modules", best):
        raise ValueError(f"way: expected auto, modules or {best} for this {type(model).__name__}, found {way!r}")
    return Decider(model, best if way == "auto" else way)


class Decider:
    """Decides with a model in one way. A copy uses the copy of the model.

    It maps a window `(rtg, states, actions, timesteps, attention_mask)` to predictions `[B, A]` of the last step. For a
    streaming model it maps `(rtg [B, 1], states [B, S], state)` to predictions and the next state. The fast ways record
    no gradient.

    Attributes:
        model, way: the constructor arguments.
    """

    def __init__(self, model: nn.Module, way: Way) -> None:
        self.model, self.way = model, way
        self._snapshot: Snapshot | None = None
        self._fast: Decide | None = None

    def __reduce__(self) -> tuple[type[Decider], tuple[nn.Module, Way]]:
        return Decider, (self.model, self.way)  # graphs and pointers belong to one process and one model

    def __call__(self, *inputs: Any) -> Any:
        """Decide; see the class for inputs and outputs."""
        if self.way == "modules":
            return self.by_modules(*inputs)
        snapshot = self._snapshot
        watch = getattr(self._fast, "watch", None)
        if snapshot is None or snapshot.changed() or (watch is not None and watch.changed()):
            self._snapshot = snapshot = Snapshot(self.model)
            self._fast = self._prepare()
        if self._fast is None or any(snapshot.hooks):
            return self.by_modules(*inputs)
        return self._fast(*inputs)

    def begin(self) -> None:
        """Begin episodes. Weights that were written past torch since the last decision are used from here on."""
        watch = getattr(self._fast, "watch", None)
        if watch is not None and watch.anything():
            self._snapshot = None

    def by_modules(self, *inputs: Any, **goal: Any) -> Any:
        """Decide by calling the modules, as metering, firing rates, plasticity and rows of several goals require."""
        if decides_from_state(self.model):
            return self.model.step(*inputs, **goal)
        return _last_prediction(self.model, *inputs, **goal)

    def _prepare(self) -> Decide | None:
        """Return the fast way for the model as it is now; None if it no longer supports the model."""
        if pick_way(self.model) != self.way:
            return None
        if self.way == "cuda_graph":
            graph = CudaGraph(partial(_last_prediction, self.model), DECISIONS_BEFORE_GRAPH)
            return lambda *window: graph(*window).clone()  # the next decision overwrites the result of the graph
        if isinstance(self.model, StreamTransformer):
            return FusedStep(self.model)
        assert isinstance(self.model, DecisionTransformer)
        return FusedWindow(self.model) if self.model.attention_span is None else FusedDecision(self.model)


class Snapshot:
    """The modules, parameters, buffers and attributes of a model at one time, with the addresses of its tensors.

    `changed` detects replaced modules, parameters, buffers and attributes (such as the constants of a neuron). It also
    detects added modules and parameters with another `.data`. It does not detect values written in place. The fast ways
    read these values at every decision, compare a checksum, or have a `watch`.

    Attributes:
        hooks: the tables of forward hooks of all modules. A table is not empty while a hook is registered.
    """

    def __init__(self, model: nn.Module) -> None:
        modules = list(model.modules())
        self._readers: list[tuple[Callable[[Any], Any], Mapping[str, Any]]] = []
        for m in modules:
            ignored = MODULE_ATTRIBUTES | DISPLAY_ATTRIBUTES | ({"training"} if type(m) in MODE_FREE_TYPES else set())
            for table in (vars(m), m._parameters, m._buffers, m._modules):
                keys = [key for key in table if key not in ignored]
                if keys:
                    self._readers.append((itemgetter(*keys), table))
        self._values = self._read()
        # A patched `forward` is an additional attribute, an added block an additional module.
        self._growing: list[Mapping[str, Any]] = [*map(vars, modules), *(m._modules for m in modules if m._modules)]
        self._lengths = list(map(len, self._growing))
        self._tensors = [*model.parameters(), *model.buffers()]
        self._addresses = list(map(Tensor.data_ptr, self._tensors))
        self._contiguous = list(map(Tensor.is_contiguous, self._tensors))
        everywhere = (torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks)
        own = chain.from_iterable((m._forward_hooks, m._forward_pre_hooks) for m in modules)
        self.hooks: list[Mapping[int, Any]] = [*everywhere, *own]

    def changed(self) -> bool:
        """Return whether the model has changed since the snapshot."""
        try:
            # Lists compare identical elements without calling `__eq__`, so this is as fast as a test of identity.
            same = self._read() == self._values
        except (KeyError, RuntimeError, TypeError, ValueError):  # an attribute is gone, or tensors were compared
            return True
        return not (
            same
            and list(map(len, self._growing)) == self._lengths
            and list(map(Tensor.data_ptr, self._tensors)) == self._addresses
            and list(map(Tensor.is_contiguous, self._tensors)) == self._contiguous
        )

    def _read(self) -> list[Any]:
        return [read(table) for read, table in self._readers]


def _last_prediction(model: nn.Module, *window: Tensor, **goal: Tensor) -> Tensor:
    predictions: Tensor = model(*window, **goal, last_only=True)
    return predictions[:, -1]  # [B, 1, A] -> [B, A]


def _can_be_captured(model: nn.Module) -> bool:
    """Return whether the forward of a model on a GPU is a fixed sequence of kernels.

    A user's own module may branch on values, which cannot be captured.
    """
    if type(model) is not DecisionTransformer or model.training or not next(model.parameters()).is_cuda:
        return False
    if model.attention_span is not None:  # a graph reads fixed addresses, and rows come and go in a state
        return False
    known = all(type(m).__module__.partition(".")[0] in ("snn_dt", "torch") for m in model.modules())
    return known and not any("forward" in vars(m) for m in model.modules())
