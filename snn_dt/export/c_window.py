"""Dense and SNN-DT models with an attention span as C: a decision computes its new tokens against kept keys and values.

`c/window.c`, `c/dense_block.c` and `c/spiking_block.c` are the code, here are its constants.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from snn_dt.errors import ExportError
from snn_dt.export.constants import Constants, sizes
from snn_dt.export.parts import CParts, initialiser
from snn_dt.models.attention import DendriticRouting
from snn_dt.models.decision_transformer import DecisionTransformer
from snn_dt.models.phase_positions import PhasePositions
from snn_dt.models.positions import TrainedTimesteps
from snn_dt.snn import GoalNorm

ADD = "for (int j = 0; j < WIDTH; ++j) s->x[j] += s->{};"
MAX_COUNT = 255  # of spikes, which a byte holds
MAX_GENERATORS = 32
ROUTE = """
/* y = sum of alpha_h y_h, alpha = sigmoid(W [mean(y_1) .. mean(y_H)] + b) */
static void route(policy_state *s, const linear *gate, value *y) {
    value means[HEADS], alpha[HEADS];
    for (int h = 0; h < HEADS; ++h) {
        value sum = 0;
        for (int j = 0; j < HEAD_WIDTH; ++j) sum += y[h * HEAD_WIDTH + j];
        means[h] = sum / (value)HEAD_WIDTH;
    }
    affine(gate, means, s->narrow, alpha);
    for (int h = 0; h < HEADS; ++h) alpha[h] = from_float(1.0f / (1.0f + expf(-to_float(alpha[h]))));
    for (int j = 0; j < HEAD_WIDTH; ++j) {
        value sum = 0;
        for (int h = 0; h < HEADS; ++h) sum += multiply(alpha[h], y[h * HEAD_WIDTH + j]);
        y[j] = sum;
    }
}
"""


def window_parts(model: DecisionTransformer, constants: Constants) -> CParts:
    """Return the parts of the source and of the state that belong to the network.

    Raises:
        ExportError: the model has no attention span, or an option that C does not have.
    """
    c, task = model.config, model.task
    embedding: Any = model.embedding
    head: Any = model.head
    _check(model)
    spiking, head_width, hidden = c.kind == "snn_dt", c.d_model // c.n_heads, c.mlp_ratio * c.d_model
    blocks: Any = model.blocks
    write = _spiking_block if spiking else _dense_block
    listed = ",\n".join(write(f"BLOCK_{i}", block, constants) for i, block in enumerate(blocks))
    routed = spiking and c.routing
    low, high = embedding.rtg_range or (-3e38, 3e38)
    constants.lines += [
        f"static const float RTG_LOW = {float(low)!r}f, RTG_HIGH = {float(high)!r}f;",
        f"static const linear RTG = {constants.linear('RTG', embedding.rtg.weight, embedding.rtg.bias)};",
        f"static const linear STATE = {constants.linear('STATE', embedding.state.weight, embedding.state.bias)};",
        f"static const layer_norm EMBEDDING_NORM = {constants.norm('EMBEDDING_NORM', embedding.norm)};",
        f"static const layer_norm HEAD_NORM = {constants.norm('HEAD_NORM', model.norm)};",
        f"static const linear HEAD = {constants.linear('HEAD', head.weight, head.bias)};",
    ]
    ring, scale = model.ring, blocks[0].attention.attend.scale
    if spiking:
        scale /= c.sim_steps**2  # of rates, here of counts
    kept = "uint8_t" if spiking else "float" if constants.weights == "float32" else "int16_t"
    constants.values("SCORE_SCALES", [scale])
    value = constants.value
    state: dict[str, tuple[str, int]] = {"step": ("uint32_t", 0), "scores": (value, ring.capacity)}
    state |= {"fired_next": ("uint16_t", c.sim_steps * c.d_model)} if spiking else {"query": (kept, c.d_model)}
    return CParts(
        sizes=sizes(
            width=c.d_model,
            hidden=hidden,
            heads=c.n_heads,
            head_width=head_width,
            out_width=head_width if routed else c.d_model,
            layers=c.n_layers,
            span=ring.span,
            per_step=ring.per_step,
            capacity=ring.capacity,
            sim_steps=c.sim_steps if spiking else 1,
        ),
        fragments=("spiking_block.c" if spiking else "dense_block.c", "window.c"),
        replaced={
            "@BLOCKS@": f"static const block_weights BLOCKS[LAYERS] = {{\n{listed},\n}};\n",
            "@TOKENS@": _tokens(model, constants),
            "@ADD_POSITION@": _position(embedding.positions, task.n_timesteps, constants),
            "@ROUTE_MEMBER@": "    linear route;\n" if routed else "",
            "@ROUTE@": ROUTE if routed else "",
            "@CALL_ROUTE@": "route(s, &w->route, a);" if routed else "(void)0; /* no routing */",
        },
        block_state=dict.fromkeys(("keys", "values"), (kept, ring.capacity * c.d_model)),
        layers=c.n_layers,
        widest=max(2 * c.d_model, hidden),
        width=c.d_model,
        fired=max(c.sim_steps * hidden, MAX_GENERATORS) if spiking else MAX_GENERATORS,
        state=state,
        types=f"typedef {kept} kept;   /* an element of a key or a value */\n"
        f"#define SCORE_SCALE SCORE_SCALES[0]\n#define MIXED(sum) {'(sum) * 2' if spiking else '(sum) >> 9'}",
    )


def _check(model: DecisionTransformer) -> None:
    c = model.config
    wrong = {
        "model.attention_span: expected a number of steps, found null": model.attention_span is None,
        f"model.attention: expected softmax, found {c.attention}": c.attention != "softmax",
        f"model.return_code: expected linear, found {c.return_code}": type(model.embedding.rtg) is not nn.Linear,
        "model.phase_input: expected current, found gate": model.phase_gate is not None,
        "model.head: expected linear, found rate": c.head != "linear",
        f"model.coding: expected rate, found {c.coding}": c.coding == "spikes",
        f"model.sim_steps: expected at most {MAX_COUNT}, found {c.sim_steps}": c.sim_steps > MAX_COUNT,
    }
    if c.kind not in ("dense", "snn_dt"):
        raise ExportError(
            f"expected a policy of kind dense, snn_dt or snn_dt_stream for C, found {c.kind}; export to pt2 or onnx"
        )
    for message, holds in wrong.items():
        if holds:
            raise ExportError(f"{message}, for C; train with it, or export to pt2 or onnx")


def _tokens(model: DecisionTransformer, constants: Constants) -> str:
    """Return the statements that embed and run the new tokens of a decision."""
    embedding: Any = model.embedding
    if model.task.discrete:
        action = constants.spike_linear("ACTION", embedding.action.weight.t(), None)
        constants.lines.append(f"static const spike_linear ACTION = {action};")
        embed = "add_rows(&ACTION, &s->action, 1, s->{});"
    else:
        action = constants.linear("ACTION", embedding.action.weight, embedding.action.bias)
        constants.lines.append(f"static const linear ACTION = {action};")
        embed = "affine(&ACTION, s->action, s->narrow, s->{});"
    if embedding.merged:
        lines = [
            "affine(&RTG, &scaled, s->narrow, s->x);",
            "affine(&STATE, states, s->narrow, s->a);",
            ADD.format("a[j]"),
            f"if (s->begun) {{\n        {embed.format('a')}\n        {ADD.format('a[j]')}\n    }}",
            "run_token(s, step, 1);",
        ]
    else:
        lines = [
            f"if (s->begun) {{\n        {embed.format('x')}\n        run_token(s, 3 * step - 1, 0);\n    }}",
            "affine(&RTG, &scaled, s->narrow, s->x);",
            "run_token(s, 3 * step, 0);",
            "affine(&STATE, states, s->narrow, s->x);",
            "run_token(s, 3 * step + 1, 1);",
        ]
    return "\n    ".join(lines)


def _position(positions: Any, n_timesteps: int, constants: Constants) -> str:
    """Return the statements that add the code of `step` to a token. A code is a table over the trained steps."""
    if positions is None:
        return "(void)step;"
    if not isinstance(positions, TrainedTimesteps) or int(positions.last) > 1_000_000:
        raise ExportError(
            "expected a position code that states the last timestep of its training, for C, found "
            f"{type(positions).__name__}; train again with this version, or export to pt2 or onnx"
        )
    last = int(positions.last) if int(positions.last) >= 0 else n_timesteps - 1
    steps = torch.arange(last + 1)[None]  # [1, steps]
    at = f"step < {last} ? step : {last}"
    with torch.no_grad():
        if isinstance(positions, PhasePositions) and len(positions.cycles) <= MAX_GENERATORS:
            spikes = positions.spikes(steps)[0].long()  # [steps, G]
            words = (spikes << torch.arange(spikes.shape[1])).sum(-1)
            constants.array("PHASES", words, "uint32_t")
            rows = constants.spike_linear("POSITIONS", positions.projection.weight, positions.projection.bias)
            text = (
                f"int n = 0;\n    for (int i = 0; i < {spikes.shape[1]}; ++i)\n"
                f"        if (PHASES[{at}] >> i & 1u) s->fired[n++] = (uint16_t)i;\n"
                "    add_rows(&POSITIONS, s->fired, n, s->b);\n    "
            )
        else:
            rows = constants.spike_linear("POSITIONS", positions(steps)[0].t(), None)  # [D, steps]
            text = f"s->fired[0] = (uint16_t)({at});\n    add_rows(&POSITIONS, s->fired, 1, s->b);\n    "
    constants.lines.append(f"static const spike_linear POSITIONS = {rows};")
    return text + ADD.format("b[j]")


def _dense_block(name: str, block: Any, constants: Constants) -> str:
    """Return the initialiser of `block_weights` of a dense block."""
    attention, mlp = block.attention, list(block.mlp)
    layers = {"QUERY": attention.query, "KEY_VALUE": attention.key_value, "OUT": attention.out}
    layers |= {"MLP_IN": mlp[1], "MLP_OUT": mlp[3]}
    parts = [constants.norm(f"{name}_NORM_IN", attention.norm), constants.norm(f"{name}_NORM_MLP", mlp[0])]
    parts += [constants.linear(f"{name}_{part}", m.weight, m.bias) for part, m in layers.items()]
    return initialiser(parts)


def _spiking_block(name: str, block: Any, constants: Constants) -> str:
    """Return the initialiser of `block_weights` of an SNN-DT block."""
    a, mlp = block.attention, [m for m in block.mlp if hasattr(m, "weight") or hasattr(m, "neuron")]
    layers = {"IN": a.lif_in, "QUERY": a.query[1], "KEY": a.key[1], "VALUE": a.value[1], "OUT": a.lif_out}
    layers |= {"MLP": mlp[0], "HIDDEN": mlp[2]}
    weights = {"QUERY": a.query[0], "KEY": a.key[0], "VALUE": a.value[0], "OUT": a.out}
    weights |= {"MLP_IN": mlp[1], "MLP_OUT": mlp[3]}
    share = 1 / a.lif_in.sim_steps  # a rate is a count over the steps
    if not all(type(n.norm) in (nn.LayerNorm, GoalNorm) for n in layers.values()):
        raise ExportError(f"expected the modules of snn_dt, found {name} with others; export to pt2 or onnx")
    parts = [
        *(constants.norm(f"{name}_NORM_{part}", n.norm) for part, n in layers.items()),
        *(constants.lif(n.neuron) for n in layers.values()),
        *(constants.spike_linear(f"{name}_{part}", m.weight, m.bias, share) for part, m in weights.items()),
    ]
    if isinstance(a.route, DendriticRouting):
        gate: Any = a.route.gate[0]
        parts.append(constants.linear(f"{name}_ROUTE", gate.weight, gate.bias))
    return initialiser(parts)
