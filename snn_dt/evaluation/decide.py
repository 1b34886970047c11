"""The way a decision is made: by the modules of a model, by one C++ call, or by a CUDA graph.

`Policy.reset` picks the way once. The fast ways compute what the modules do, to rounding. Before each decision they
check that the model is still the one they were prepared for. The modules decide where it is not, and where a module has
forward hooks, which a fast way would not call.
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
from snn_dt.models.interface import is_streaming
from snn_dt.models.last_token import FusedWindow, knows_window
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
    """Return the fastest way to decide with a model in evaluation mode, on the device it is on."""
    if knows_step(model) or knows_window(model):
        return "cpp"
    return "cuda_graph" if _can_be_captured(model) else "modules"


def make_decider(model: nn.Module, way: Way | Literal["auto"] = "auto") -> Decider:
    """Return what decides with `model`, in evaluation mode; `auto` picks the fastest way.

    Raises:
        ValueError: the model cannot be used in this way.
    """
    best = pick_way(model)
    if way not in ("auto", "modules", best):
        raise ValueError(f"way: expected auto, modules or {best} for this {type(model).__name__}, found {way!r}")
    return Decider(model, best if way == "auto" else way)


class Decider:
    """Decides with a model in one way. A copy decides with the copy of the model.

    Called with the window `(rtg, states, actions, timesteps, attention_mask)`, it returns predictions `[B, A]` of the
    last step. For a streaming model it is called with `(rtg [B, 1], states [B, S], state)` and returns predictions and
    the next state. No gradient is recorded by the fast ways.

    Attributes:
        model, way: what it was made of.
    """

    def __init__(self, model: nn.Module, way: Way) -> None:
        self.model, self.way = model, way
        self._snapshot: Snapshot | None = None
        self._fast: Decide | None = None

    def __reduce__(self) -> tuple[type[Decider], tuple[nn.Module, Way]]:
        return Decider, (self.model, self.way)  # graphs and pointers belong to one process and one model

    def __call__(self, *inputs: Any) -> Any:
        """Decide; see the class for inputs and results."""
        if self.way == "modules":
            return self.by_modules(*inputs)
        snapshot = self._snapshot
        if snapshot is None or snapshot.changed():
            self._snapshot = snapshot = Snapshot(self.model)
            self._fast = self._prepare()
        if self._fast is None or any(snapshot.hooks):
            return self.by_modules(*inputs)
        return self._fast(*inputs)

    def by_modules(self, *inputs: Any) -> Any:
        """Decide by calling the modules, as metering, firing rates and plasticity require."""
        if is_streaming(self.model):
            return self.model.step(*inputs)
        return _last_prediction(self.model, *inputs)

    def _prepare(self) -> Decide | None:
        """Return the fast way for the model as it is now; None if it knows the model no longer."""
        if pick_way(self.model) != self.way:
            return None
        if self.way == "cuda_graph":
            graph = CudaGraph(partial(_last_prediction, self.model), DECISIONS_BEFORE_GRAPH)
            return lambda *window: graph(*window).clone()  # the next decision overwrites the result of the graph
        if isinstance(self.model, StreamTransformer):
            return FusedStep(self.model)
        assert isinstance(self.model, DecisionTransformer)
        return FusedWindow(self.model)


class Snapshot:
    """The modules, parameters, buffers and attributes of a model at one time, and where its tensors lie.

    `changed` sees a replaced module, parameter, buffer or attribute (such as the constants of a neuron), an added
    module, and a parameter whose `.data` lies elsewhere. It does not see numbers that are written in place: the fast
    ways read these anew at every decision, or compare a checksum of them.

    Attributes:
        hooks: the tables of forward hooks of all modules; one holds something while a hook is registered.
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
        # A `forward` of a user's own is an additional attribute, a further block an additional module.
        self._growing: list[Mapping[str, Any]] = [*map(vars, modules), *(m._modules for m in modules if m._modules)]
        self._lengths = list(map(len, self._growing))
        self._tensors = [*model.parameters(), *model.buffers()]
        self._addresses = list(map(Tensor.data_ptr, self._tensors))
        self._contiguous = list(map(Tensor.is_contiguous, self._tensors))
        everywhere = (torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks)
        own = chain.from_iterable((m._forward_hooks, m._forward_pre_hooks) for m in modules)
        self.hooks: list[Mapping[int, Any]] = [*everywhere, *own]

    def changed(self) -> bool:
        """Tell whether the model is another one than at the time of the snapshot."""
        try:
            # Identical objects compare equal without a look inside, which makes this as fast as a test of identity.
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


def _last_prediction(model: nn.Module, *window: Tensor) -> Tensor:
    predictions: Tensor = model(*window, last_only=True)
    return predictions[:, -1]  # [B, 1, A] -> [B, A]


def _can_be_captured(model: nn.Module) -> bool:
    """Tell whether the forward of a model on a GPU is one sequence of kernels.

    A module of a user's own may look at values, which cannot be captured.
    """
    if type(model) is not DecisionTransformer or model.training or not next(model.parameters()).is_cuda:
        return False
    known = all(type(m).__module__.partition(".")[0] in ("snn_dt", "torch") for m in model.modules())
    return known and not any("forward" in vars(m) for m in model.modules())
