"""The streaming model as C: one step of every neuron per decision. `c/stream.c` is the code, here are its constants."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from snn_dt.errors import ExportError
from snn_dt.export.constants import Constants, bits_for, sizes
from snn_dt.export.parts import CParts, initialiser
from snn_dt.models.stream import StreamTransformer
from snn_dt.snn import LIF, GoalNorm

LEAST_SCALE = 1 / 16
"""The running sum of a head is decayed when its scale is below this number."""


def stream_parts(model: StreamTransformer, constants: Constants) -> CParts:
    """Return the parts of the source and of the state that belong to the network.

    Raises:
        ExportError: the model has modules that its configuration does not name.
    """
    c, task, embedding = model.config, model.task, model.embedding
    head_width, hidden = c.d_model // c.n_heads, c.mlp_ratio * c.d_model
    blocks: Any = model.blocks
    rows = [_block(f"BLOCK_{i}", block, constants) for i, block in enumerate(blocks)]
    listed = ",\n".join(rows)
    # 1 / (1 - g) bounds a sum of spikes; the head adds its rows; LEAST_SCALE leaves room for growth.
    longest = [float((1 / torch.sigmoid(-block.attend.raw.detach())).max()) for block in blocks]
    sum_bits = 30 - bits_for([1 / LEAST_SCALE]) - bits_for([head_width]) - bits_for(longest)
    code = embedding.code
    if task.discrete:
        action = constants.spike_linear("ACTION", embedding.action.weight.t(), None)
        add = "add_rows(&ACTION, &s->action, (int)s->begun, b);"
    else:
        action = constants.linear("ACTION", embedding.action.weight, None)
        add = "if (s->begun) affine(&ACTION, s->action, s->narrow, b);"
    loop = "for (int j = 0; j < WIDTH; ++j) a[j] += b[j];"
    add += f"\n    {loop}" if task.discrete else f"\n    if (s->begun)\n        {loop}"
    constants.values("CODE_SLOPE", code.slope.detach())
    constants.values("CODE_SHIFT", code.shift.detach())
    constants.lines += [
        f"static const float RTG_LOW = {code.low!r}f, RTG_HIGH = {code.high!r}f;",
        f"static const float LEAST_SCALE = {LEAST_SCALE!r}f;",
        f"static const spike_linear ACTION = {action};" if task.discrete else f"static const linear ACTION = {action};",
        f"static const linear STATE = {constants.linear('STATE', embedding.state.weight, embedding.state.bias)};",
        f"static const linear GATE = {constants.linear('GATE', embedding.gate.weight, embedding.gate.bias)};",
        f"static const layer_norm EMBEDDING_NORM = {constants.norm('EMBEDDING_NORM', embedding.norm)};",
        f"static const layer_norm HEAD_NORM = {constants.norm('HEAD_NORM', model.norm)};",
        f"static const linear HEAD = {constants.linear('HEAD', model.head.weight, model.head.bias)};",
    ]
    return CParts(
        sizes=sizes(
            width=c.d_model,
            hidden=hidden,
            heads=c.n_heads,
            head_width=head_width,
            layers=c.n_layers,
            units=len(code.slope),
            sum_bits=sum_bits,
        ),
        fragments=("stream.c",),
        replaced={"@BLOCKS@": f"static const block_weights BLOCKS[LAYERS] = {{\n{listed},\n}};\n", "@ADD_ACTION@": add},
        block_state={
            **dict.fromkeys(("v_in", "v_out", "v_mlp"), (constants.value, c.d_model)),
            "v_qkv": (constants.value, 3 * c.d_model),
            "v_hidden": (constants.value, hidden),
            "sum": (constants.value, c.n_heads * head_width**2),
            "scale": ("float", c.n_heads),
        },
        layers=c.n_layers,
        widest=max(3 * c.d_model, hidden),
        width=c.d_model,
        fired=max(3 * c.d_model, hidden),
        rest="for (int i = 0; i < LAYERS; ++i)\n        for (int h = 0; h < HEADS; ++h) s->blocks[i].scale[h] = 1.0f;",
    )


def _block(name: str, block: Any, constants: Constants) -> str:
    """Return the initialiser of `block_weights`."""
    neurons = [block.lif_in, block.lif_qkv, block.lif_out, block.lif_mlp, block.lif_hidden]
    norms = [n.norm for n in (block.lif_in, block.lif_out, block.lif_mlp)]
    layers = {"qkv": block.qkv, "out": block.out, "mlp_in": block.mlp_in, "mlp_out": block.mlp_out}
    if not all(type(n) in (nn.LayerNorm, GoalNorm) for n in norms) or not all(type(n.neuron) is LIF for n in neurons):
        raise ExportError(f"expected the modules of snn_dt_stream, found {name} with others; export to pt2 or onnx")
    decay, gain = (torch.sigmoid(x).detach() for x in (block.attend.raw, -block.attend.raw))
    parts = [
        *(constants.norm(f"{name}_NORM_{part}", n) for part, n in zip(("IN", "OUT", "MLP"), norms, strict=True)),
        *(constants.lif(n.neuron) for n in neurons),
        *(constants.spike_linear(f"{name}_{part.upper()}", m.weight, m.bias) for part, m in layers.items()),
        constants.array(f"{name}_DECAY", decay, "float"),
        constants.array(f"{name}_GAIN", gain, "float"),
    ]
    return initialiser(parts)
