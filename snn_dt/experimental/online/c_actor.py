"""The actor of `snn-dt online` as C, for `snn-dt export --to c`. It is a policy that ignores its target return."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from snn_dt.checkpoint import read_json
from snn_dt.evaluation.policy import Policy, PolicySpec
from snn_dt.experimental.online.actor_critic import SpikingActor
from snn_dt.experimental.online.saved import ACTOR, load_actor
from snn_dt.export.c_policy import register_c
from snn_dt.export.constants import Constants, sizes
from snn_dt.export.parts import CParts

TYPES = "typedef struct { const value *keep, *threshold; } own_lif;   /* of each neuron */"
FIRE = """
/* V = keep V + current - threshold where the neuron fired in the step before; it fires at V >= threshold. */
static int fire_own(const own_lif *l, const value *current, value *v, uint16_t *fired, int n) {
    int count = 0;
    for (int j = 0; j < n; ++j) {
        const value before = v[j];
        v[j] = multiply(l->keep[j], before) + current[j];
        if (before >= l->threshold[j]) v[j] -= l->threshold[j];
        if (v[j] >= l->threshold[j]) fired[count++] = (uint16_t)j;
    }
    ON_SPIKES(fired, count);
    return count;
}

/* One step of every neuron. The target return is not used. */
static void decide(policy_state *s, float rtg, const value *states, value *predictions) {
    int n;
    (void)rtg;
    affine(&LAYER_0, states, s->narrow, s->a);
"""


class ActorModel(nn.Module):
    """An actor with the attributes that an export reads from a model.

    Args:
        actor: observations [T, B, O] to actions [T, B, A] in [-1, 1].

    Attributes:
        chain: the layers in order.
    """

    def __init__(self, actor: SpikingActor) -> None:
        super().__init__()
        self.actor, self.discrete = actor, False
        self.state_dim, self.action_dim = actor.obs_dim, actor.decoder.out_features
        self.config = SimpleNamespace(kind="online actor", d_model=actor.decoder.in_features)
        self.task = SimpleNamespace(n_timesteps=1000)
        pairs = zip(actor.linears, actor.neurons, strict=True)
        self.chain = [*(layer for pair in pairs for layer in pair), actor.decoder]
        one = torch.ones(self.action_dim)
        self.head = SimpleNamespace(bounded=True, low=-one, high=one)


def read_policy(folder: Path) -> Policy:
    """Return the actor of a run folder of `snn-dt online`, or of its folder `actor` or `best_actor`, for an export.

    Raises:
        CheckpointError: the actor is missing or damaged.
    """
    actor = load_actor(folder)
    where = folder if (folder / "config.json").exists() else folder / ACTOR
    return actor_policy(actor, read_json(where / "config.json").get("env_id"))


def actor_policy(actor: SpikingActor, env_id: str | None) -> Policy:
    """Return an actor as a policy for `write_c`."""
    from minari.serialization import serialize_space

    model = ActorModel(actor)
    seen = gym.spaces.Box(-np.inf, np.inf, (model.state_dim,), np.float32)
    acts = gym.spaces.Box(-1, 1, (model.action_dim,), np.float32)
    spaces = {"observation_space": serialize_space(seen), "action_space": serialize_space(acts)}
    fixed: dict[str, Any] = {"rtg_scale": 1.0, "delayed": True, "target_return": 0.0, "env_id": env_id}
    spec = PolicySpec(dataset_id="snn-dt online", **spaces, **fixed)
    n = model.state_dim
    return Policy(model, spec, torch.zeros(n), torch.ones(n))


def actor_parts(model: ActorModel, constants: Constants) -> CParts:
    """Return the parts of the source and of the state that belong to an actor."""
    actor = model.actor
    linears: Any = actor.linears
    neurons: Any = actor.neurons
    widths = [linear.out_features for linear in linears]
    code = FIRE
    for i, (linear, layer) in enumerate(zip(linears, neurons, strict=True)):
        add = constants.linear if i == 0 else constants.spike_linear
        kind = "linear" if i == 0 else "spike_linear"
        constants.lines.append(f"static const {kind} LAYER_{i} = {add(f'LAYER_{i}', linear.weight, linear.bias)};")
        keep: Tensor = 1 - layer.leak
        threshold = constants.values(f"THRESHOLD_{i}", layer.v_threshold.detach())
        names = constants.values(f"KEEP_{i}", keep.detach()), threshold
        constants.lines.append(f"static const own_lif NEURONS_{i} = {{{', '.join(names)}}};")
        code += "" if i == 0 else f"    add_rows(&LAYER_{i}, s->fired, n, s->a);\n"
        code += f"    s->spikes += (uint32_t)(n = fire_own(&NEURONS_{i}, s->a, s->v_{i}, s->fired, {widths[i]}));\n"
    decoder = constants.spike_linear("DECODER", actor.decoder.weight, actor.decoder.bias)
    constants.lines.append(f"static const spike_linear DECODER = {decoder};")
    code += "    add_rows(&DECODER, s->fired, n, s->a);\n"
    code += "    for (int k = 0; k < POLICY_ACTIONS; ++k) predictions[k] = s->a[k];\n}\n"
    return CParts(
        sizes=sizes(layers=len(widths)),
        fragments=(),
        replaced={},
        block_state={},
        layers=0,
        widest=max(widths),
        width=model.state_dim,
        fired=max(widths),
        state={f"v_{i}": (constants.value, n) for i, n in enumerate(widths)},
        types_of_values=TYPES,
        code=code,
    )


register_c(ActorModel, actor_parts)
