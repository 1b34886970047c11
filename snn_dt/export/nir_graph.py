"""The spiking parts of a policy as NIR graphs (Neuromorphic Intermediate Representation, Pedersen et al. 2024).

NIR 1.0 has linear layers and LIF neurons with a hard reset in continuous time. A step of ours is Euler's step of NIR's
neuron with `dt = 1e-4 s`, which snnTorch assumes:

```
V' = V + dt/tau ((v_leak - V) + r I)        tau = dt / leak,  r = gain / leak,  v_leak = v_reset = V_rest
```

NIR has no layer norm and no attention. Chains of layers between those become one graph each. A manifest says what stays
on the host. NIR's neuron fires above its threshold, ours at it too; this differs for a membrane exactly at it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from snn_dt import io
from snn_dt.errors import ExportError
from snn_dt.evaluation.policy import Policy
from snn_dt.export.parts import refuse_images
from snn_dt.models.stream import StreamTransformer
from snn_dt.snn.neurons import LIF

STEP = 1e-4
"""Seconds of one simulation step."""
HOST = (
    "embedding: normalisation of observations, return code, layer norm",
    "the layer norm before the first neurons of each graph",
    "attention: the decaying sum of k^T v and its product with q",
    "residual additions, the last layer norm, the head and the choice of an action",
)
"""What NIR does not hold of a streaming policy."""


def nir_chain(layers: Sequence[nn.Module]) -> Any:
    """Return the NIR graph of linear layers and LIF neurons in sequence.

    Args:
        layers: `torch.nn.Linear` and `snn_dt.snn.LIF` modules.

    Raises:
        ExportError: NIR cannot express a layer, or the package nir is missing.
    """
    nir = _nir()
    linears = [m for m in layers if isinstance(m, nn.Linear)]
    if not linears:
        raise ExportError("expected a linear layer in a NIR graph, found none: it gives the number of neurons")
    width = linears[0].in_features
    nodes: dict[str, Any] = {"input": nir.Input({"input": np.array([width])})}
    for i, layer in enumerate(layers):
        if isinstance(layer, nn.Linear):
            bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias
            nodes[f"{i}"] = nir.Affine(weight=_array(layer.weight), bias=_array(bias))
            width = layer.out_features
        else:
            nodes[f"{i}"] = _neurons(nir, layer, width)
    nodes["output"] = nir.Output({"output": np.array([width])})
    names = list(nodes)
    return nir.NIRGraph(nodes=nodes, edges=list(pairwise(names)))


def write_nir(policy: Policy, folder: Path, name: str = "policy") -> list[Path]:
    """Write the spiking parts of a streaming policy as `NAME.PART.nir`, and the manifest `NAME.json`.

    Each block has three parts. The input of each is a current from the host:

    ```
    blocks.I.attention    LIF, Affine, LIF           spikes of q, k and v
    blocks.I.out          LIF, Affine                current that is added to the token
    blocks.I.mlp          LIF, Affine, LIF, Affine   current that is added to the token
    ```

    Raises:
        ExportError: the policy is of another kind, or its neurons are not those of NIR; or nir is missing.
    """
    refuse_images(policy, "NIR")
    model: Any = policy.model
    if chain := getattr(model, "chain", None):
        nir_chain(chain)  # an actor of `snn-dt online`: raises, since its reset is soft and delayed
    if type(model) is not StreamTransformer:
        kind = getattr(getattr(model, "config", None), "kind", type(model).__name__)
        raise ExportError(
            f"expected a policy of kind snn_dt_stream for NIR, found {kind}, whose softmax attention over a window NIR "
            "lacks; export to pt2, onnx or c"
        )
    parts: dict[str, list[nn.Module]] = {}
    blocks: Any = model.blocks
    for i, block in enumerate(blocks):
        parts[f"blocks.{i}.attention"] = [block.lif_in.neuron, block.qkv, block.lif_qkv.neuron]
        parts[f"blocks.{i}.out"] = [block.lif_out.neuron, block.out]
        parts[f"blocks.{i}.mlp"] = [block.lif_mlp.neuron, block.mlp_in, block.lif_hidden.neuron, block.mlp_out]
    graphs = {part: nir_chain(layers) for part, layers in parts.items()}
    io.writable_folder(folder)
    paths = [folder / f"{name}.{part}.nir" for part in parts]
    for path, graph in zip(paths, graphs.values(), strict=True):
        _nir().write(path, graph)
    manifest = {
        "format": 1,
        "to": "nir",
        "step_seconds": STEP,
        "parts": {part: path.name for part, path in zip(parts, paths, strict=True)},
        "host": list(HOST),
    }
    io.write_atomically(folder / f"{name}.json", json.dumps(manifest, indent=2) + "\n")
    return [*paths, folder / f"{name}.json"]


def _neurons(nir: Any, layer: nn.Module, width: int) -> Any:
    """Return NIR's neurons for a layer.

    Raises:
        ExportError: the layer is not a plain `LIF` with a hard reset in the step of its spike.
    """
    if not isinstance(layer, LIF):
        raise ExportError(f"expected linear layers and LIF neurons for NIR, found {type(layer).__name__}")
    c = layer.constants
    wrong = {
        f"reset: hard, found {c.reset}": c.reset != "hard",
        f"reset_order: charge_fire_reset, found {c.reset_order}": c.reset_order != "charge_fire_reset",
        "neurons without adaptation, found some with it": layer.macs_per_update != 0,
    }
    for message, holds in wrong.items():
        if holds:
            raise ExportError(f"expected {message}, in {type(layer).__name__}: NIR's LIF has no other; export to c")
    leak, threshold = (torch.as_tensor(x).expand(width) for x in (layer.leak, layer.v_threshold))
    rest = torch.full((width,), c.v_rest)
    return nir.LIF(
        tau=_array(STEP / leak),
        r=_array(c.gain / leak),
        v_leak=_array(rest),
        v_threshold=_array(threshold),
        v_reset=_array(rest),
    )


def _array(x: Tensor) -> Any:
    return x.detach().cpu().float().numpy()


def _nir() -> Any:
    try:
        import nir
    except ImportError as error:
        raise ExportError("expected the package nir, found none; pip install 'snn-dt[nir]'") from error
    return nir
