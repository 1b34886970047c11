"""A training run of a recurrent network in its folder."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from snn_dt import strict
from snn_dt.checkpoint import provenance, read_tensors
from snn_dt.config import save_config
from snn_dt.config_difference import check_same
from snn_dt.device import set_threads, tune_allocator
from snn_dt.errors import CheckpointError
from snn_dt.experimental.rsnn.build_network import build_network
from snn_dt.experimental.rsnn.config import RSNNConfig, load_rsnn_config
from snn_dt.experimental.rsnn.learning_rules import make_rule
from snn_dt.experimental.rsnn.spiking_network import RecurrentSNN
from snn_dt.experimental.rsnn.tasks import make_task
from snn_dt.experimental.rsnn.topology import Topology
from snn_dt.experimental.rsnn.trainer import Trained, make_optimizer, train
from snn_dt.io import write_atomically
from snn_dt.training.signals import StopSignal
from snn_dt.training.sinks import MetricSink
from snn_dt.training.state import TrainingState, load_training_state, restoring


class RSNNRun:
    """A training run of a recurrent network. With `resume` it is restored from `run_dir`.

    Raises:
        SnnDtError: the configuration cannot be run, or the folder not be resumed.
    """

    def __init__(self, config: RSNNConfig, run_dir: Path, resume: bool = False) -> None:
        self.config, self.run_dir, self.resume = config, run_dir, resume
        tune_allocator()
        set_threads(config.learn.threads)
        torch.manual_seed(config.learn.seed)
        task = make_task(config.task, config.learn)
        network = build_network(config.network, task.inputs, task.outputs)
        topology = Topology(network, config.topology, config.learn.seed)
        self.parts = Trained(network, task, make_rule(config, network, task), topology)
        self.state = TrainingState(make_optimizer(config.learn, network))
        if resume:
            self._restore()

    def train(self, sink: MetricSink, stop: StopSignal) -> bool:
        """Train to the end or to a requested stop; returns whether it is done."""
        if not self.resume:
            save_config(self.config, self.run_dir / "config.yaml")
        return train(self.config.learn, self.parts, sink, self._save, self.state, stop)

    def _save(self, state: TrainingState) -> None:
        """Write the state for resuming atomically as one file, and the weights for use."""
        parts, folder = self.parts, self.run_dir / "checkpoints" / "last"
        weights = {name: value.detach().contiguous() for name, value in parts.network.state_dict().items()}
        values = state.to_dict() | {
            "network": weights,
            "rule": parts.rule.state_dict(),
            "topology": parts.topology.state_dict(),
            "config": strict.to_dict(self.config),
        }
        facts = provenance(seed=self.config.learn.seed, step=state.step, config=values["config"])
        buffer = io.BytesIO()
        torch.save(values, buffer)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / "training_state.pt", buffer.getvalue())
            write_atomically(folder / "model.safetensors", save(weights))
            write_atomically(folder / "provenance.json", json.dumps(facts, indent=2) + "\n")
        except OSError as error:
            raise CheckpointError(
                f"expected to write a checkpoint to {folder}, found: {error}; free space or choose another --run-dir"
            ) from error

    def _restore(self) -> None:
        """Restore the last checkpoint if there is one."""
        folder = self.run_dir / "checkpoints" / "last"
        if not (folder / "training_state.pt").exists():
            return
        values: dict[str, Any] = load_training_state(folder, torch.device("cpu"))
        check_same(self.config, values.get("config"), self.run_dir)
        with restoring(folder):
            self.parts.network.load_state_dict(values["network"])
            self.parts.rule.load_state_dict(values["rule"])
            self.parts.topology.load_state_dict(values["topology"])
            self.state.restore(values)


def load_network(run_dir: str | Path) -> RecurrentSNN:
    """Return the trained network of a run folder.

    Raises:
        SnnDtError: there is none, or its weights are not finite or do not fit its configuration.
    """
    folder = Path(run_dir)
    config = load_rsnn_config(folder / "config.yaml")
    task = make_task(config.task, config.learn)
    network = build_network(config.network, task.inputs, task.outputs)
    path = folder / "checkpoints" / "last" / "model.safetensors"
    try:
        network.load_state_dict(read_tensors(path))
    except Exception as error:  # a missing file, a damaged one and weights of another shape raise different kinds
        reason = " ".join(str(error).split())
        raise CheckpointError(f"expected the weights of {folder} in {path}, found: {reason}; train it again") from error
    return network
