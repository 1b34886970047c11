"""Flights of trained hover actors: robustness, cost of a decision, and a picture.

    python experiments/online/flights.py runs/online/dagger-seed0 [runs/online/...]

writes `results/online/robust.csv` (128 flights from seed 20000 of each run for each difference from the model, also of
a guide that the run trained), `results/online/cost.csv`, and `results/online/flight.png` (three flights of the first
run). Rows of other runs in these files are kept.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from snn_dt.energy.counts import HOROWITZ, Count
from snn_dt.experimental.online.actor_critic import SpikingActor
from snn_dt.experimental.online.config import TaskConfig, load_online_config
from snn_dt.experimental.online.crazyflie import POSITION_LIMIT, CrazyflieHoverVectorEnv
from snn_dt.experimental.online.crazyflie_controller import PredictivePilot, pilot_of_skill
from snn_dt.experimental.online.flight_figure import flight_figure
from snn_dt.experimental.online.guide import SHIPPED
from snn_dt.experimental.online.mlp_guide import load_guide
from snn_dt.experimental.online.saved import load_actor
from snn_dt.experimental.online.score import as_actor, score_flights
from snn_dt.experimental.online.task import make_task
from snn_dt.report.style import png

OUT, FLIGHTS, SEED = Path(__file__).parents[2] / "results" / "online", 128, 20_000
ALONE = {
    "as modelled": {},
    "mass +-20 %": {"mass": 0.2},
    "thrust +-10 %": {"thrust": 0.1},
    "rotor lag +-30 %": {"rotor_lag": 0.3},
    "noise": {"noise": 1.0},
    "delay 10-20 ms": {"delay": (1, 2)},
}
DIFFERENCES = ALONE | {"all together": {name: value for part in ALONE.values() for name, value in part.items()}}


def robust(name: str, actor: Any, commands: int) -> list[dict[str, Any]]:
    """Return a row per difference."""
    rows = []
    for difference, fields in DIFFERENCES.items():
        task = make_task(replace(TaskConfig(commands=commands), **fields))
        score = score_flights(actor, task, FLIGHTS, SEED, perturbed=True)
        rows.append({"run": name, "difference": difference, "return": score["return"], "lasted": score["lasted"]})
    return rows


@torch.no_grad()
def cost(name: str, actor: SpikingActor, commands: int) -> dict[str, Any]:
    """Return the operations of a decision over flights of 500 steps, and of a dense network of the same sizes.

    The first layer multiplies numbers: MACs. The others add a weight per spike: ACs. A neuron costs an update, an
    output tanh 4 MACs. The dense network has a MAC per weight and 4 per tanh.
    """
    drones, state = CrazyflieHoverVectorEnv(FLIGHTS, 500, "plain", autoreset=False, commands=commands), None
    seen, _ = drones.reset(seed=SEED)
    sizes = [*(layer.in_features for layer in actor.linears), actor.decoder.in_features, actor.decoder.out_features]
    spikes = np.zeros(len(actor.linears))
    for _ in range(500):
        x, after = torch.from_numpy(seen)[None], []
        for i, (linear, neurons) in enumerate(zip(actor.linears, actor.neurons, strict=True)):
            x, membranes = neurons(linear(x), None if state is None else state[i])
            after.append(membranes)
            spikes[i] += float(x.sum()) / FLIGHTS / 500
        state = tuple(after)
        seen, *_ = drones.step(torch.tanh(actor.decoder(x))[0].numpy())
    neurons = sum(sizes[1:-1])
    accumulates = float(spikes @ np.array(sizes[2:]))
    own = Count(sizes[0] * sizes[1] + 4 * sizes[-1], accumulates, neurons, float(spikes.sum()))
    dense = sum(a * b for a, b in pairwise(sizes)) + 4 * (neurons + sizes[-1])
    return {
        **{"run": name, "spikes": float(spikes.sum()), "firing_rate": float(spikes.sum()) / neurons, "macs": own.macs},
        **{"acs": own.acs, "neuron_updates": neurons, "energy_nj": HOROWITZ.energy_pj(own) / 1000},
        **{"dense_macs": dense, "dense_energy_nj": HOROWITZ.energy_pj(Count(macs=dense)) / 1000},
    }


@torch.no_grad()
def picture(actor: SpikingActor, commands: int) -> bytes:
    """Return a PNG of three flights."""
    drones, state = CrazyflieHoverVectorEnv(3, 500, "plain", autoreset=False, commands=commands), None
    seen, _ = drones.reset(seed=SEED)
    states = [drones.state.copy()]
    for _ in range(300):
        actions, state = actor(torch.from_numpy(seen)[None], state)
        seen, *_ = drones.step(actions[0].numpy())
        states.append(drones.state.copy())
    flown = np.stack(states, axis=1)  # [3, T, 17]
    figure = flight_figure({f"seed {SEED + i}": flown[i] for i in range(3)}, POSITION_LIMIT)
    figure.set_dpi(80)
    return png(figure)


def table(name: str, rows: list[dict[str, Any]]) -> None:
    """Write and print rows with equal columns; rows of other runs in the file stay."""
    short = [
        {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()} for row in rows
    ]
    path, new = OUT / f"{name}.csv", {row["run"] for row in short}
    kept: list[dict[str, Any]] = []
    if path.exists():
        with path.open(newline="") as file:
            kept = [row for row in csv.DictReader(file) if row["run"] not in new]
    with path.open("w", newline="") as file:
        lines = csv.DictWriter(file, short[0].keys())
        lines.writeheader()
        lines.writerows(sorted(kept + short, key=lambda row: row["run"]))
    for row in short:
        print(row)


def main(runs: list[Path]) -> None:
    """Run the script."""
    torch.set_num_threads(1)
    actors = {run.name: load_actor(run) for run in runs}
    configs = {run.name: load_online_config(run / "config.yaml") for run in runs}
    kept = {name: config.task.commands for name, config in configs.items()}
    guides: dict[str, tuple[Any, int]] = {"guide": (load_guide(SHIPPED["hover"], make_task(TaskConfig()), ""), 0)}
    for run in runs:
        guide = configs[run.name].guide
        if guide.kind == "ppo" and guide.load is None:
            task = make_task(configs[run.name].task)
            guides[f"guide of {run.name}"] = (load_guide(run / "guide.safetensors", task, ""), kept[run.name])
        elif guide.kind == "pilot" and kept[run.name]:
            guides["predictive pilot"] = (pilot_of_skill(guide.skill, PredictivePilot()), kept[run.name])
    flyers = {name: (as_actor(guide), commands) for name, (guide, commands) in guides.items()}
    flyers |= {name: (actor, kept[name]) for name, actor in actors.items()}
    table("cost", [cost(name, actor, kept[name]) for name, actor in actors.items()])
    first = next(iter(actors))
    (OUT / "flight.png").write_bytes(picture(actors[first], kept[first]))
    table("robust", [row for name, (flyer, commands) in flyers.items() for row in robust(name, flyer, commands)])


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
