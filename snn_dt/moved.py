"""Old module names: importing one gives the module that has taken its place, with a warning.

`import snn_dt` installs the finder; it costs nothing until an old name is imported.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "analysis": "experimental.analysis",
    "analysis.eprop": "experimental.analysis.eprop_gradients",
    "analysis.recorder": "experimental.analysis.membrane_recorder",
    "cli.analyse": "experimental.analysis.command",
    "cli.analyse_eprop": "experimental.analysis.eprop_command",
    "cli.finetune": "experimental.finetune.command",
    "cli.finetune_run": "experimental.finetune.run",
    "cli.iterations": "experimental.iterations",
    "cli.online": "experimental.online.command",
    "cli.online_run": "experimental.online.run",
    "cli.record": "training.sinks",
    "cli.rsnn": "experimental.rsnn.command",
    "cli.run": "run",
    "cli.task": "task",
    "data.lanes": "data.episode_streams",
    "data.mapped": "data.mmap_advice",
    "data.mixture": "data.windows",
    "data.recorder": "data.episode_recorder",
    "data.unfinished": "folders",
    "energy.yardsticks": "energy.baselines",
    "envs": "experimental.online",
    "envs.checked": "data.checked_env",
    "envs.spec": "data.env_spec",
    "evaluation.adaptation": "experimental.local_learning.online_plasticity",
    "evaluation.rollout_result": "evaluation.episodes",
    "finetune": "experimental.finetune",
    "finetune.loop": "experimental.finetune.finetune_loop",
    "finetune.replay": "experimental.finetune.replay_buffer",
    "learning.eprop_blocks": "experimental.local_learning.eprop_blocks",
    "learning.hebbian": "experimental.rsnn.hebbian",
    "learning.likelihood": "learning.losses",
    "learning.penalties": "experimental.rsnn.penalties",
    "learning.plasticity": "experimental.local_learning.plasticity",
    "learning.rates": "experimental.rsnn.rates",
    "learning.topology": "experimental.rsnn.topology",
    "models.routing": "models.attention",
    "online": "experimental.online",
    "online.actors": "experimental.online.actor_critic",
    "online.checks": "experimental.online.config_checks",
    "online.critics": "experimental.online.actor_critic",
    "online.trainer": "experimental.online.hover_trainer",
    "replay": "cuda_graph",
    "report.analysis": "experimental.analysis.analysis_figures",
    "report.rsnn": "experimental.rsnn.figure",
    "report.cached_baseline": "experimental.results.cached_baseline",
    "report.results_activity": "experimental.results.activity",
    "report.results_csv": "experimental.results.runs_csv",
    "report.results_figures": "experimental.results.figures",
    "report.results_io": "experimental.results.files",
    "report.results_page": "experimental.results.page",
    "report.results_pretrained": "experimental.results.pretrained",
    "report.results_records": "experimental.results.records",
    "report.results_table": "experimental.results.table",
    "report.suite": "experimental.results.page",
    "report.suite_activity": "experimental.results.activity",
    "report.suite_cells": "experimental.results.table",
    "report.suite_figures": "experimental.results.figures",
    "report.suite_folder": "experimental.results.files",
    "rsnn": "experimental.rsnn",
    "rsnn.network": "experimental.rsnn.build_network",
    "rsnn.rules": "experimental.rsnn.learning_rules",
    "snn.filters": "snn.scan",
    "snn.jacobian": "experimental.analysis.jacobian",
    "snn.network": "experimental.rsnn.spiking_network",
    "snn.own_constants": "experimental.online.heterogeneous_lif",
    "snn.recurrent": "experimental.rsnn.recurrent",
    "sweep.backends": "training.sweep.executors",
    "snn.plasticity": "experimental.local_learning.three_factor",
    "snn.three_factor": "experimental.local_learning.three_factor",
    "sweep": "training.sweep",
    "training.carried": "training.gradient",
    "training.jsonl": "jsonl",
    "training.optimizer": "training.state",
    "training.prefetch": "training.batches",
    "user_cache": "paths",
}
"""Old name to new name of a module, without `snn_dt.`. The modules in a package move with it."""


def new_name(name: str) -> str | None:
    """Return the new name of a module `snn_dt.<old>`, or None for other modules."""
    parts = name.split(".")[1:]
    for n in range(len(parts), 0, -1):
        if new := MOVED.get(".".join(parts[:n])):
            return ".".join(["snn_dt", new, *parts[n:]])
    return None


class MovedFinder(MetaPathFinder, Loader):
    """Finds modules by their old names."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec that leads to the module's new name."""
        if not name.startswith("snn_dt.") or new_name(name) is None:
            return None
        return ModuleSpec(name, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Import the module under its new name."""
        new = new_name(spec.name)
        assert new is not None
        warnings.warn(f"{spec.name} has moved: import {new}", FutureWarning, stacklevel=2)
        module = import_module(new)
        self._specs = getattr(self, "_specs", {}) | {spec.name: module.__spec__}
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the module's own spec. The import system has replaced it by that of the old name."""
        assert module.__spec__ is not None
        module.__spec__ = self._specs.pop(module.__spec__.name)


def install() -> None:
    """Put the finder first, once. Behind the others, a package's own folder would load its modules a second time."""
    if not any(isinstance(finder, MovedFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, MovedFinder())
