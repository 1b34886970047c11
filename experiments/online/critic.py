"""Compare the gradient of a hover run's critic by the action with the gradient of real flights.

    python experiments/online/critic.py runs/online/td3bc_jsrl-seed0

The guide flies `--steps` steps with its noise; the learner gets the same observations. Then one action of the learner
is changed by +-0.1 for each rotor, and the learner continues without noise. Central differences of the discounted
return are the reference gradient. Printed are mean cosines over drones, of the whole gradient and of the differences
between rotors (which turn the drone; the common part lifts it), and mean norms. D drones, 9 versions of each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from snn_dt.experimental.online.actor_critic import TwinCritic
from snn_dt.experimental.online.config import load_online_config
from snn_dt.experimental.online.crazyflie import ACTION_DIM, CrazyflieHoverVectorEnv
from snn_dt.experimental.online.guide import make_guide
from snn_dt.experimental.online.saved import load_actor
from snn_dt.experimental.online.task import make_task
from snn_dt.snn.parameters import LIFState

CHANGE, HORIZON = 0.1, 150


def versions(array: np.ndarray) -> np.ndarray:
    """Repeat [D, ...] nine times, [9 D, ...]."""
    return np.tile(array, (9, *[1] * (array.ndim - 1)))


@torch.no_grad()
def compare(run: Path, steps: int, count: int, seed: int) -> str:
    """Return a line of results for the states after `steps` steps."""
    config, actor = load_online_config(run / "config.yaml"), load_actor(run)
    task = make_task(config.task)
    critic = TwinCritic(task.observation_dim, ACTION_DIM, config.learn.critic_hidden)
    critic.load_state_dict(torch.load(run / "state.pt", weights_only=True)["learner"]["critic"])
    guide = make_guide(config, task, run / "guide.safetensors", print, True, lambda: None)
    rng = np.random.default_rng(seed)
    one = CrazyflieHoverVectorEnv(count, None, "privileged", spread=config.task.spread, autoreset=False)
    seen, state = one.reset(seed=seed)[0], None
    for _ in range(steps):
        _, state = actor(torch.from_numpy(seen)[None], state)
        noise = config.jump_start.guide_noise * rng.standard_normal((count, ACTION_DIM))
        seen = one.step(np.clip(guide(seen) + noise, -1, 1).astype(np.float32))[0]
    flying = ~one.over
    proposed, state = actor(torch.from_numpy(seen)[None], state)
    seen, chosen = seen[flying], proposed[0].numpy()[flying]

    many = CrazyflieHoverVectorEnv(9 * len(seen), None, "privileged", autoreset=False)
    many.reset(seed=0)
    many.state, many.history = versions(one.state[flying]), versions(one.history[flying])
    state = tuple(LIFState(part.v_mem[torch.from_numpy(flying)].repeat(9, 1)) for part in state)
    # no change, + each rotor, - each rotor: [9, 4]
    changes = CHANGE * np.concatenate([np.zeros((1, ACTION_DIM)), np.eye(ACTION_DIM), -np.eye(ACTION_DIM)])
    actions = (np.repeat(changes, len(seen), 0) + versions(chosen)).astype(np.float32)
    returns, alive = np.zeros(len(actions)), np.ones(len(actions), np.bool_)
    for t in range(HORIZON):
        after, rewards, terminated, _, _ = many.step(actions)
        returns += config.learn.gamma**t * rewards * alive
        alive &= ~terminated
        proposed, state = actor(torch.from_numpy(after)[None], state)
        actions = proposed[0].numpy()
    up, down = returns.reshape(9, -1)[1:5], returns.reshape(9, -1)[5:]  # [4, D] each
    reference = torch.from_numpy((up - down).T / (2 * CHANGE)).float()  # [D, 4]

    with torch.enable_grad():
        a = torch.from_numpy(chosen).requires_grad_()
        (gradient,) = torch.autograd.grad(critic.first(torch.from_numpy(seen), a).sum(), a)
    differences = [g - g.mean(-1, keepdim=True) for g in (gradient, reference)]
    whole, between = (torch.cosine_similarity(*pair, dim=-1).mean() for pair in ((gradient, reference), differences))
    sizes = ", ".join(f"{g.norm(dim=-1).mean():.2f}" for g in (gradient, reference))
    return (
        f"{run.name} after {steps} steps, {len(seen)} drones: {whole:.2f}, between rotors {between:.2f}; norms {sizes}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--steps", nargs="+", type=int, default=[10, 60])
    parser.add_argument("--drones", type=int, default=250)
    parser.add_argument("--seed", type=int, default=30_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for folder in arguments.runs:
        for at in arguments.steps:
            print(compare(folder, at, arguments.drones, arguments.seed))
