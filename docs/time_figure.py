"""Draws docs/time.png, the picture of docs/time.md, with the package's own neuron: python docs/time_figure.py"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

from snn_dt.snn import LIF
from snn_dt.snn.parameters import LIFState

STEPS, SIM_STEPS = 6, 4
DRIVE = torch.tensor([0.35, 0.75, 1.1, 0.55, 0.9, 0.6])  # the current that each of six environment steps brings
NEURON = LIF(tau_mem=3.0, reset="hard")


def integrate(current: torch.Tensor, state: LIFState | None) -> tuple[list[float], list[float], LIFState]:
    """Membrane before each reset, spikes, and the state after `current [T]`."""
    charged, spikes = [], []
    for x in current:
        v = torch.zeros(()) if state is None else state.v_mem
        charged.append(float(v + NEURON.constants.leak * -v + x))
        s, state = NEURON(x[None], state)
        spikes.append(float(s))
    return charged, spikes, state


def panel(ax, title: str, current: torch.Tensor, per_step: int, carried: bool, notes: list[str] | None) -> None:
    """One neuron over six environment steps of `per_step` steps of its own."""
    membranes, spikes, state = [], [], None
    for part in current.split(per_step):
        v, s, state = integrate(part, state if carried else None)
        membranes += v
        spikes += s
    x = (np.arange(len(current)) + 0.5) / per_step
    edges = np.arange(len(current) + 1) / per_step
    ax.stairs(current, edges, color="0.75", fill=True, label="current")
    groups = [slice(0, None)] if carried else [slice(i, i + per_step) for i in range(0, len(x), per_step)]
    for i, group in enumerate(groups):
        ax.plot(x[group], np.array(membranes)[group], "o-", ms=3, color="C0", label=None if i else "membrane")
    fired = x[np.array(spikes) > 0]
    ax.vlines(fired, 1.75, 2.05, color="C3", lw=2, label="spike")
    ax.axhline(1.0, color="0.4", lw=0.8, ls=":")
    for i in range(1, STEPS):
        ax.axvline(i, color="0.85", lw=0.8, zorder=0)
    for i, note in enumerate(notes or []):
        ax.text(i + 0.5, 2.2, note, ha="center", va="bottom", fontsize=8)
    ax.set(title=title, ylim=(0, 2.5), xlim=(0, STEPS), yticks=[0, 1], yticklabels=["rest", "$V_{th}$"])
    ax.title.set_fontsize(10)


def main() -> None:
    """Draw the three panels."""
    constant = DRIVE.repeat_interleave(SIM_STEPS)
    rates = [f"{np.mean(integrate(part, None)[1]):.2g}" for part in constant.split(SIM_STEPS)]
    train = (
        torch.rand(STEPS * SIM_STEPS, 3, generator=torch.Generator().manual_seed(2)) < constant[:, None] / 1.6
    ).float()
    fig, axes = plt.subplots(3, 1, figsize=(7, 6.4), sharex=True, layout="constrained")
    panel(axes[0], "rate: one constant current per token, T steps from rest; its mean rate goes on", constant, SIM_STEPS,
          False, rates)  # fmt: skip
    panel(axes[1], "spikes: a current of its own in each of T steps, from rest; the train goes on",
          train @ torch.tensor([0.7, 0.5, 0.3]), SIM_STEPS, False, None)  # fmt: skip
    panel(axes[2], "stream: one step per token, the membrane goes on; a spike or none", DRIVE, 1, True, None)
    axes[2].legend(loc="upper left", fontsize=8, ncols=3, frameon=False)
    axes[2].set(xlabel="environment step (one token each)")
    fig.savefig(Path(__file__).with_name("time.png"), dpi=110)


if __name__ == "__main__":
    main()
