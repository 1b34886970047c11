"""Write a policy as freestanding C99: `NAME.h`, `NAME.c`, and `NAME.json`, with which `compiled_policy.py` runs it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from snn_dt import __version__, io
from snn_dt.data.encoding import is_composite
from snn_dt.errors import ExportError
from snn_dt.evaluation.policy import Policy
from snn_dt.export.c_stream import stream_parts
from snn_dt.export.c_window import window_parts
from snn_dt.export.constants import AFTER_SPIKE, TOGETHER, Constants, Weights
from snn_dt.export.parts import CParts, declaration, refuse_images
from snn_dt.models.decision_transformer import DecisionTransformer
from snn_dt.models.goals import goal_norms, takes_goal
from snn_dt.models.layers import ActionHead
from snn_dt.models.stream import StreamTransformer

FOLDER = Path(__file__).with_name("c")
GOAL_NORMS = "EMBEDDING_NORM|norm_in|norm_mlp"
"""Norms in the fragments that depend on the goal of an episode if `model.goal` is bins."""
LARGEST_FLOAT = float(np.finfo(np.float32).max)


WRITERS: dict[type, Callable[[Any, Constants], CParts]] = {
    StreamTransformer: stream_parts,
    DecisionTransformer: window_parts,
}
"""For each type of model the function that returns its parts of the C."""


def register_c(model: type, parts: Callable[[Any, Constants], CParts]) -> None:
    """Register the function that returns the parts of the C of a type of model."""
    WRITERS[model] = parts


def write_c(policy: Policy, folder: Path, weights: Weights = "float32", name: str = "policy") -> list[Path]:
    """Write the C of a policy and return the paths.

    Args:
        policy: of the kind snn_dt_stream, or of dense or snn_dt with an attention span.
        folder: made if it is missing.
        weights: `float32`; or `int8` with one scale per row, integer sums and membranes in fixed point.
        name: prefix of files and functions.

    Raises:
        ExportError: C cannot hold the policy, or `name` is no C identifier.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ExportError(f"expected a name of small letters, digits and _ for C, found {name!r}; give another --name")
    constants = Constants(weights)
    parts = _with_goal(policy, constants, _network(policy)(policy.model, constants))
    files = {"h": _header(policy, parts, constants), "c": _source(policy, parts, constants)}
    io.writable_folder(folder)
    paths = []
    for suffix, text in files.items():
        text = text.replace("policy_", f"{name}_").replace("POLICY_", f"{name.upper()}_").replace("@NAME@", name)
        paths.append(folder / f"{name}.{suffix}")
        io.write_atomically(paths[-1], text)
    paths.append(folder / f"{name}.json")
    io.write_atomically(paths[-1], json.dumps(_description(policy, name, constants), indent=2) + "\n")
    return paths


def _network(policy: Policy) -> Callable[[Any, Constants], CParts]:
    """Return the function that writes this model."""
    refuse_images(policy, "C")
    condition = getattr(getattr(policy.model, "config", None), "condition", "return")
    if condition != "return":
        raise ExportError(f"expected model.condition: return for C, found {condition}; export to pt2 or onnx")
    head: Any = getattr(policy.model, "head", None)
    if isinstance(head, nn.Module) and (type(head) is not ActionHead or head.out_features != policy.model.action_dim):
        raise ExportError(f"expected model.head: linear for C, found {type(head).__name__}; export to pt2 or onnx")
    if type(policy.model) in WRITERS:
        return WRITERS[type(policy.model)]
    kind = getattr(getattr(policy.model, "config", None), "kind", type(policy.model).__name__)
    raise ExportError(
        f"expected a policy of kind dense, snn_dt or snn_dt_stream for C, found {kind}; export to pt2 or onnx"
    )


def _with_goal(policy: Policy, constants: Constants, parts: CParts) -> CParts:
    """Return the parts with the goal of an episode, the bin nearest to its target, which picks rows of some norms."""
    model: Any = policy.model
    if not takes_goal(model):
        return parts
    if len(goal_norms(model)) != 1 + 2 * parts.layers:
        raise ExportError("expected a goal in the embedding and before both branches of each block for C, found others")
    rest = parts.rest
    edges = model.goal_edges.cpu()
    if policy.spec.bin_returns is not None:  # the same bins as `PolicySpec.goals`
        edges = torch.from_numpy(policy.spec.midpoints / policy.spec.rtg_scale).float()
    if len(edges):
        constants.array("GOAL_EDGES", edges, "float")
        rest += (
            "\n    const float goal = (float)(target_return / RTG_SCALE);\n"
            f"    while (s->goal < {len(edges)} && goal >= GOAL_EDGES[s->goal]) ++s->goal;"
        )
    return replace(parts, state=parts.state | {"goal": ("uint16_t", 0)}, rest=rest)


def _action(policy: Policy) -> tuple[str, str]:
    """Return the signature of `act` and the statements that turn predictions into an action."""
    from gymnasium import spaces

    model: Any = policy.model
    space = policy.action_space
    if is_composite(space):
        raise ExportError(f"expected Box or Discrete actions for C, found {space}; they are for Python only")
    if model.discrete:
        signature = "int32_t policy_act(policy_state *s, const policy_observation *observation)"
        read = (
            "int best = 0;\n    for (int i = 1; i < POLICY_ACTIONS; ++i)\n"
            "        if (predictions[i] > predictions[best]) best = i;\n"
            f"    s->action = (uint16_t)best;\n    return {int(space.start)} + best;"
        )
        return signature, read
    if not isinstance(space, spaces.Box) or space.dtype not in (np.float32, np.float64):
        raise ExportError(f"expected actions of float32 or float64 for C, found {space}; export to pt2 or onnx")
    bounded = "ACTION_LOW[i] + (ACTION_HIGH[i] - ACTION_LOW[i]) * (tanhf(y) + 1.0f) / 2.0f"
    read = (
        "for (int i = 0; i < POLICY_ACTIONS; ++i) {\n        float y = to_float(predictions[i]);\n"
        f"{f'        y = {bounded};' + chr(10) if model.head.bounded else ''}"
        "        if (y < SPACE_LOW[i]) y = SPACE_LOW[i];\n        if (y > SPACE_HIGH[i]) y = SPACE_HIGH[i];\n"
        "        action[i] = y;\n        s->action[i] = from_float(y);\n    }"
    )
    return "void policy_act(policy_state *s, const policy_observation *observation, float *action)", read


def _header(policy: Policy, parts: CParts, constants: Constants) -> str:
    model: Any = policy.model
    value = constants.value
    action = "uint16_t action;" if model.discrete else f"{value} action[POLICY_ACTIONS];"
    more = "".join(f"    {declaration(*x)};\n" for x in parts.state.items())
    widest = -(parts.widest // -TOGETHER) * TOGETHER
    narrow = max(widest, model.state_dim + 3, model.action_dim + 3)
    token = -(parts.width // -TOGETHER) * TOGETHER
    blocks = f"    policy_block blocks[{parts.layers}];   /* what a layer keeps between decisions */\n"
    state = (
        f"{f'typedef struct {{{chr(10)}{parts.members()}}} policy_block;{chr(10)}{chr(10)}' if parts.layers else ''}"
        f"typedef struct {{\n{blocks if parts.layers else ''}"
        "    double return_to_go;\n"
        f"    {action}   /* the last one, which is an input of the next decision */\n"
        "    uint16_t begun;   /* 0 before the first decision of an episode */\n"
        "    uint32_t spikes;   /* of the last decision */\n"
        f"{more}"
        "    /* scratch of one decision */\n"
        f"    {value} x[{token}], a[{widest}], b[{widest}];\n"
        f"    uint16_t fired[{parts.fired}];\n    int16_t narrow[{narrow}];\n}} policy_state;"
    )
    call = (
        "int32_t action = policy_act(&state, observation);"
        if model.discrete
        else "policy_act(&state, observation, action);   float action[POLICY_ACTIONS]"
    )
    double = policy.state_mean.dtype.itemsize == 8
    return _fill(
        (FOLDER / "policy.h").read_text(),
        {
            "@ABOUT@": _about(policy, constants),
            "@CALL@": call,
            "@OBSERVATIONS@": str(model.state_dim),
            "@ACTIONS@": str(model.action_dim),
            "@TARGET@": repr(float(policy.spec.target_return)),
            "@OBSERVATION_TYPE@": "double" if double else "float",
            "@STATE@": state,
            "@ACT@": _action(policy)[0].replace("*s,", "*state,"),
        },
    )


def _source(policy: Policy, parts: CParts, constants: Constants) -> str:
    model: Any = policy.model
    signature, read = _action(policy)
    double = policy.state_mean.dtype.itemsize == 8
    number = "double" if double else "float"
    constants.array("STATE_MEAN", policy.state_mean.cpu(), number)
    constants.array("STATE_SCALE", 1 / policy.state_std.cpu().double(), number)
    if not model.discrete:
        for side in ("low", "high"):
            if model.head.bounded:
                constants.array(f"ACTION_{side.upper()}", getattr(model.head, side).cpu(), "float")
            bound = np.clip(getattr(policy.action_space, side), -LARGEST_FLOAT, LARGEST_FLOAT)
            constants.array(f"SPACE_{side.upper()}", bound, "float")
    network = _fill("".join((FOLDER / name).read_text() for name in parts.fragments) + parts.code, parts.replaced)
    if takes_goal(model):
        network = re.sub(rf"normalise\((&\S*({GOAL_NORMS}),)", r"normalise_for(s->goal, \1", network)
    api = _fill(
        (FOLDER / "policy.c").read_text(),
        {
            "@ACT@": signature,
            "@READ@": read,
            "@REST@": parts.rest,
            "@OBSERVE@": "(void)s, (void)reward;" if policy.spec.delayed else "s->return_to_go -= reward;",
        },
    )
    types, _, functions = (FOLDER / f"{constants.weights}.c").read_text().partition("/* functions */\n")
    functions += "\n" + (FOLDER / "neurons.c").read_text()
    constants.lines.append(f"static const double RTG_SCALE = {float(policy.spec.rtg_scale)!r};")
    reset = AFTER_SPIKE[constants.reset or "none"]
    pieces = [
        f"/* {_about(policy, constants)} */",
        '#include "@NAME@.h"\n\n#include <math.h>',
        parts.sizes,
        "/* Called with the list of neurons of a layer that fire. */\n"
        "#ifndef ON_SPIKES\n#define ON_SPIKES(fired, count) ((void)0)\n#endif\n"
        f"#define AFTER_SPIKE(h, threshold) {reset}",
        "\n".join((parts.types, types.rstrip(), parts.types_of_values)).strip(),
        "\n".join(constants.lines),
        _called(functions.strip(), network + api),
        network.strip(),
        api.strip(),
    ]
    return "\n\n".join(pieces) + "\n"


def _called(functions: str, code: str) -> str:
    """Return those of the functions that `code` or another one of them calls; compilers warn about the others."""
    chunks = functions.split("\n\n")
    names = [re.findall(r"^static (?:const )?\w+ (\w+)", chunk, re.MULTILINE) for chunk in chunks]
    kept: set[int] = set()
    while True:
        text = code + "".join(chunks[i] for i in kept)
        more = {i for i, found in enumerate(names) if any(re.search(rf"\b{n}\b", text) for n in found)} - kept
        if not more:
            return "\n\n".join(chunks[i] for i in sorted(kept))
        kept |= more


def _about(policy: Policy, constants: Constants) -> str:
    model: Any = policy.model
    return (
        f"A {model.config.kind} policy for {policy.spec.env_id or policy.spec.dataset_id} with {constants.weights} "
        f"weights. Written by snn-dt {__version__}."
    )


def _fill(text: str, marks: dict[str, str]) -> str:
    for mark, content in marks.items():
        text = text.replace(mark, content)
    return text


def _description(policy: Policy, name: str, constants: Constants) -> dict[str, Any]:
    """Return what `compiled_policy.py` needs besides the code."""
    model: Any = policy.model
    return {
        "format": 1,
        "name": name,
        "kind": model.config.kind,
        "weights": constants.weights,
        "constant_bytes": constants.flash_bytes,
        "state_dim": model.state_dim,
        "action_dim": model.action_dim,
        "discrete": model.discrete,
        "n_timesteps": model.task.n_timesteps,
        "double": policy.state_mean.dtype.itemsize == 8,
        "policy": asdict(policy.spec),
    }
