"""Why do critics have no direction? Fit Q of a guide that flies with noise, by several targets, and compare gradients.

    python experiments/online/critics.py [--updates 3000] [--noise 0.1] [--rounds 10] [--pairs 7200]

The shipped guide flies 64 drones with Gaussian noise. A critic on the privileged observation is fitted to its flights
in one of the ways below. The reference is the gradient of the discounted return of the guide by one action, by central
differences in simulated flights (as in critic.py). Printed per way: the mean cosine of the whole gradient and between
rotors, and the share of the variance of the return that the critic explains.

`--pairs` only compares two targets from the same flights, in pairs that differ by the noise of one action: the return,
and the difference of the pair. The second has no variance by the state.
"""

from __future__ import annotations

import argparse
import copy

import numpy as np
import torch
from torch import Tensor, nn

from snn_dt.experimental.online.config import TaskConfig
from snn_dt.experimental.online.crazyflie import ACTION_DIM, CrazyflieHoverVectorEnv
from snn_dt.experimental.online.guide import SHIPPED
from snn_dt.experimental.online.mlp_guide import load_guide
from snn_dt.experimental.online.task import make_task

GAMMA, CHANGE, HORIZON, DRONES, BATCH = 0.97, 0.1, 150, 64, 1024
AGES = (5, 10, 20, 40, 60, 90)
"""Steps after which pairs of flights part."""
WAYS = {
    "td0": {},
    "td0, inputs normalised": {"normalise": True},
    "td0, normalised, layer norm": {"normalise": True, "norm": True},
    "returns minus V, normalised": {"target": 1.0, "normalise": True, "baseline": True},
    "lambda 0.9 minus V, normalised": {"target": 0.9, "normalise": True, "baseline": True},
}


def fly(guide, noise: float, rounds: int, seed: int) -> dict[str, np.ndarray]:
    """Return [T, N, ...] of flights begun again where they end."""
    rng, env = np.random.default_rng(seed), CrazyflieHoverVectorEnv(DRONES, 500, "privileged", autoreset=False)
    rows, (seen, _) = [], env.reset(seed=seed)
    for _ in range(500 * rounds):
        action = np.clip(guide(seen) + noise * rng.standard_normal((DRONES, ACTION_DIM)), -1, 1).astype(np.float32)
        after, reward, terminated, truncated, _ = env.step(action)
        over = terminated | truncated
        rows.append((seen, action, reward.astype(np.float32), after, terminated, over))
        seen = env.reset(options={"reset_mask": over})[0] if over.any() else after
    names = ("seen", "action", "reward", "after", "terminated", "over")
    return {name: np.stack(part) for name, part in zip(names, zip(*rows, strict=True), strict=True)}


def network(inputs: int, norm: bool) -> nn.Sequential:
    """Return a dense network with two hidden layers."""
    parts: list[nn.Module] = []
    for a, b in ((inputs, 256), (256, 128)):
        parts += [nn.Linear(a, b), *([nn.LayerNorm(b)] if norm else []), nn.ReLU()]
    return nn.Sequential(*parts, nn.Linear(128, 1))


def returns(data: dict[str, np.ndarray], values_after: np.ndarray, decay: float) -> np.ndarray:
    """Return lambda returns [T, N]; 1 is the discounted return, bootstrapped where a flight is cut."""
    out, following = np.empty_like(data["reward"]), values_after[-1]
    for t in reversed(range(len(out))):
        mixed = np.where(data["over"][t], values_after[t], (1 - decay) * values_after[t] + decay * following)
        out[t] = following = data["reward"][t] + GAMMA * mixed * ~data["terminated"][t]
    return out


def fit(data, guide, updates: int, seed: int, target: float = 0.0, normalise=False, norm=False, baseline=False):
    """Return a function Q(observation, action) and the share of variance explained."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    flat = {name: torch.from_numpy(part.reshape(-1, *part.shape[2:])) for name, part in data.items()}  # [T N, ...]
    x = torch.cat([flat["seen"], flat["action"]], 1)
    mean, std = (x.mean(0), x.std(0) + 1e-3) if normalise else (torch.zeros(150), torch.ones(150))

    def q_of(net: nn.Module, seen: Tensor, action: Tensor) -> Tensor:
        return net((torch.cat([seen, action], -1) - mean) / std).squeeze(-1)

    critic, value = network(150, norm), network(146, norm)
    v_of = lambda seen: value((seen - mean[:146]) / std[:146]).squeeze(-1)  # noqa: E731
    slow = copy.deepcopy(critic)
    optimizer = torch.optim.Adam([*critic.parameters(), *value.parameters()], 1e-3)
    goals, base = None, 0.0
    for i in range(updates):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 - 0.9 * i / updates)
        if target > 0 and i % 500 == 0:  # new targets, from V
            with torch.no_grad():
                after = np.stack([v_of(torch.from_numpy(part)).numpy() for part in data["after"]])
            goals = torch.from_numpy(returns(data, after, target).reshape(-1))
        at = torch.from_numpy(rng.integers(len(x), size=BATCH))
        seen, action = flat["seen"][at], flat["action"][at]
        if target > 0:
            goal = goals[at]
            v = v_of(seen)
            base = v.detach() if baseline else 0.0
            loss = (q_of(critic, seen, action) + base - goal).square().mean() + (v - goal).square().mean()
        else:
            with torch.no_grad():
                after = flat["after"][at]
                step = q_of(slow, after, guide.forward(after))
                goal = flat["reward"][at] + GAMMA * step * ~flat["terminated"][at]
            loss = (q_of(critic, seen, action) - goal).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(slow.parameters()), list(critic.parameters()), 0.02)
    explained = 1 - (
        loss.item() if not target else (q_of(critic, seen, action) + base - goal).square().mean().item()
    ) / (goal.var().item())
    return lambda seen, action: q_of(critic, seen, action), explained


def flown(guide, count: int, steps: int, noise: float, seed: int):
    """Return D drones after `steps` noisy steps, their observations [D, 146] and the guide's actions [D, 4]."""
    rng = np.random.default_rng(seed)
    drones = CrazyflieHoverVectorEnv(count, None, "privileged", autoreset=False)
    seen, _ = drones.reset(seed=seed)
    for _ in range(steps):
        seen = drones.step(np.clip(guide(seen) + noise * rng.standard_normal((count, 4)), -1, 1).astype(np.float32))[0]
    return drones, seen, guide(seen)


def returns_of(guide, drones, actions: np.ndarray) -> np.ndarray:
    """Return the discounted returns [K, D] of K first actions [K, D, 4] in the present states of D drones."""
    k, count = actions.shape[:2]
    many = CrazyflieHoverVectorEnv(k * count, None, "privileged", autoreset=False)
    many.reset(seed=0)
    many.state, many.history = np.tile(drones.state, (k, 1)), np.tile(drones.history, (k, 1, 1))
    action, total, alive = actions.reshape(-1, 4), np.zeros(k * count), np.ones(k * count, bool)  # [K D, 4]
    for t in range(HORIZON):
        after, reward, terminated, _, _ = many.step(action)
        total += GAMMA**t * reward * alive
        alive &= ~terminated
        action = guide(after)
    return total.reshape(k, count)


def reference(guide, count: int, steps: int, noise: float, seed: int):
    """Return observations [D, 146], actions [D, 4], reference gradients [D, 4]."""
    drones, seen, chosen = flown(guide, count, steps, noise, seed)
    changes = CHANGE * np.concatenate([np.eye(4), -np.eye(4)])  # [8, 4]
    total = returns_of(guide, drones, (changes[:, None] + chosen).astype(np.float32))
    gradient = (total[:4] - total[4:]).T / (2 * CHANGE)
    return torch.from_numpy(seen), torch.from_numpy(chosen), torch.from_numpy(gradient).float()


def fit_pairs(guide, count: int, updates: int, noise: float, seed: int, of_difference: bool):
    """Return Q fitted to `count` pairs of flights, the share explained, and the action's share of the variance."""
    rng, parts = np.random.default_rng(seed), []
    for steps in AGES:
        drones, seen, chosen = flown(guide, count // len(AGES), steps, noise, 50_000 + 10_000 * seed + steps)
        noisy = np.clip(chosen + noise * rng.standard_normal(chosen.shape), -1, 1).astype(np.float32)
        parts.append((np.concatenate([seen, noisy], 1), *returns_of(guide, drones, np.stack([chosen, noisy]))))
    x, own, changed = (torch.from_numpy(np.concatenate(part)).float() for part in zip(*parts, strict=True))
    goal = changed - own if of_difference else changed
    share = ((changed - own).var() / changed.var()).item()
    mean, std, scaled = x.mean(0), x.std(0) + 1e-3, (goal - goal.mean()) / goal.std()
    torch.manual_seed(seed)
    net = network(150, norm=False)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for i in range(updates):
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 - 0.9 * i / updates)
        at = torch.from_numpy(rng.integers(len(x), size=BATCH))
        loss = (net((x[at] - mean) / std).squeeze(-1) - scaled[at]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (
        lambda seen, action: net((torch.cat([seen, action], -1) - mean) / std).squeeze(-1) * goal.std(),
        *(1 - loss.item(), share),
    )


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=3000)
    parser.add_argument("--noise", type=float, default=0.1)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=0, help="pairs of flights; 0 fits to single flights")
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    torch.set_num_threads(1)
    guide = load_guide(SHIPPED["hover"], make_task(TaskConfig()), "")
    guide.requires_grad_(False)
    goals = {steps: reference(guide, 250, steps, a.noise, 30_000) for steps in (10, 60)}
    if a.pairs:
        for name, difference in (("returns", False), ("differences of pairs", True)):
            q, explained, share = fit_pairs(guide, a.pairs, a.updates, a.noise, a.seed, difference)
            print(f"the action's share of the variance of returns: {share:.5f}")
            show(name, q, explained, goals)
        return
    data = fly(guide, a.noise, a.rounds, a.seed)
    print(f"{data['reward'].size} steps, noise {a.noise}, {a.updates} updates of {BATCH}")
    for name, way in WAYS.items():
        show(name, *fit(data, guide, a.updates, a.seed, **way), goals)


def show(name: str, q, explained: float, goals) -> None:
    """Print cosines and norms of gradients beside those of flights."""
    found = []
    for seen, chosen, gradient in goals.values():
        action = chosen.clone().requires_grad_()
        (own,) = torch.autograd.grad(q(seen, action).sum(), action)
        centred = [g - g.mean(-1, keepdim=True) for g in (own, gradient)]
        pairs = ((own, gradient), centred)
        found += [f"{torch.cosine_similarity(*pair, dim=-1).mean():.2f}" for pair in pairs]
        found.append(f"({own.norm(dim=-1).mean():.2f}, {gradient.norm(dim=-1).mean():.2f})")
    print(f"{name}: " + " ".join(found) + f"; explained {explained:.2f}", flush=True)


if __name__ == "__main__":
    main()
