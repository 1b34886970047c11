"""Who watches a model: kernels that compute several modules in one call must not run while anybody does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn


def hook_tables(model: nn.Module) -> list[Mapping[int, Any]]:
    """Return the tables of forward hooks of all modules; they stay the same, and one holds something while watched."""
    return [table for m in model.modules() for table in (m._forward_hooks, m._forward_pre_hooks)]
