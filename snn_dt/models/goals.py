"""The goal of an episode: the bin of its return modulates every block (`model.goal: bins`).

A return-to-go does not say whose episode this is: many behaviours pass through the same value, and at the start of an
episode it is one of many inputs. The return of the whole episode does say it. The bins are quantiles over the steps of
the training data, so they resolve the returns that the data hold.

B rows, D width, n bins.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from snn_dt.model_config import ModelConfig
from snn_dt.models.interface import TaskShape
from snn_dt.snn import GoalNorm


def add_goals(model: nn.Module, config: ModelConfig, task: TaskShape) -> None:
    """Replace the norm of the embedding and the norms before both branches of each block by `GoalNorm`.

    The blocks of dsformer have no such norms: there the embedding alone hears the goal. `model.goal: none` and a model
    without return conditioning stay as they are.
    """
    model.register_buffer("goal_edges", None, persistent=False)
    if config.goal == "none" or not config.reads_return:
        return
    edges = task.goal_edges or ()
    for owner, name in _places(model):
        norm = getattr(owner, name, None)
        if type(norm) is nn.LayerNorm:
            setattr(owner, name, GoalNorm(norm.normalized_shape[0], len(edges) + 1))
    model.goal_edges = torch.tensor(edges)  # a buffer that is in no checkpoint
    set_goal(model, len(edges))


def _places(model: Any) -> list[tuple[Any, str]]:
    """Return the owners and names of the norms that may depend on the goal."""
    places = [(model.embedding, "norm")]
    for block in model.blocks:
        attention, mlp = getattr(block, "attention", None), getattr(block, "mlp", None)
        before = [getattr(attention, "lif_in", None), getattr(block, "lif_in", None), getattr(block, "lif_mlp", None)]
        first = mlp[0] if isinstance(mlp, nn.Sequential) else None
        places += [(layer, "norm") for layer in (attention, *before, first) if layer is not None]
        places += [(mlp, "0")] if isinstance(first, nn.LayerNorm) else []
    return [(owner, name) for owner, name in places if not isinstance(owner, nn.LayerNorm)]


def takes_goal(model: nn.Module) -> bool:
    """Return whether a model is conditioned on the return of the whole episode."""
    return getattr(model, "goal_edges", None) is not None


def goal_bins(model: nn.Module, goal: Tensor) -> Tensor:
    """Return the bins `[...]` int64 of scaled returns of whole episodes `[...]`."""
    edges: Any = model.goal_edges
    return (goal.to(edges.dtype).unsqueeze(-1) >= edges).sum(-1)  # a search in sorted numbers has no ONNX


def give_goals(model: nn.Module, goal: Tensor | None, tokens_first: bool = False) -> None:
    """Set the goal of each row `[B, 1]` (scaled returns) for one forward pass; None gives all rows that of `set_goal`.

    Raises:
        ValueError: there is no goal in training, where the goals of the rows differ.
    """
    codes = None
    if goal is None:
        if model.training:
            raise ValueError("goal: expected the scaled return of each row's episode [B, 1] in training, found None")
    else:
        edges: Any = model.goal_edges
        codes = torch.nn.functional.one_hot(goal_bins(model, goal), len(edges) + 1).to(edges.dtype)  # [B, 1, n]
        codes = codes[:, 0] if tokens_first else codes
    for norm in goal_norms(model):
        norm.goals = codes


def end_goals(model: nn.Module) -> None:
    """Forget the goals of a forward pass."""
    for norm in goal_norms(model):
        norm.goals = None


def set_goal(model: nn.Module, goal: int) -> None:
    """Make bin `goal` the goal of all rows, with the weights as they are now."""
    for norm in goal_norms(model):
        norm.set_goal(goal)


def aim(model: nn.Module, goals: Tensor) -> bool:
    """Make the bin of `goals [N]` (scaled returns) the goal of all rows; return whether they are in several bins."""
    bins = goal_bins(model, goals).unique().tolist() if takes_goal(model) else []
    if len(bins) == 1:
        set_goal(model, bins[0])
    return len(bins) > 1


def goal_norms(model: nn.Module) -> list[GoalNorm]:
    """Return the norms of a model that depend on the goal."""
    return [m for m in model.modules() if isinstance(m, GoalNorm)]
