"""Configuration of the learning rules besides plain backpropagation, and its checks."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from snn_dt.model_config import Check, ModelConfig

LOCAL_LEARNING = "snn_dt.experimental.local_learning"
"""Package of the rules below. It is named as text, because core never imports experimental."""


@dataclass(frozen=True)
class PlasticityConfig:
    """Three-factor plasticity of the action head: `dW = eta delta E` with `E <- decay E + post pre^T`."""

    eta: float = 0.0
    """Learning rate eta_local of the rule; 0 switches it off."""
    decay: float = 0.95
    """Decay factor of the eligibility E per step, in [0, 1)."""
    post: Literal["output", "error"] = "output"
    """Postsynaptic activity in E. `output`: the head's output (softmax or tanh), a Hebbian rule as published. `error`:
    the action taken minus that output, a gradient weighted by delta."""
    modulator: Literal["advantage", "return"] = "advantage"
    """delta in training: return-to-go minus its running mean (`advantage`) or return-to-go (`return`). In a rollout it
    is always the observed return minus the target return. In units of rtg_scale, clipped to [-1, 1]."""
    baseline_rate: float = 0.01
    """Share of a batch in the running mean."""
    bound: float = 0.5
    """Largest norm of the sum of all changes, as a multiple of the norm of the weights."""


@dataclass(frozen=True)
class EpropConfig:
    """e-prop in the spiking Decision Transformer (`rule: eprop`)."""

    feedback: Literal["symmetric", "random"] = "symmetric"
    """Weights that carry errors back from the head: its own or fixed random ones."""
    below: Literal["bptt", "eprop", "frozen"] = "bptt"
    """Training of the embedding and of the blocks before the last: backpropagation through time from the point where
    e-prop ends, e-prop, or none."""


def local_rule(name: str) -> Any:
    """Return `use_eprop`, `TrainingPlasticity` or `OnlinePlasticity`. Their package is imported by the first call."""
    return getattr(import_module(LOCAL_LEARNING), name)


def plasticity_checks(name: str, p: PlasticityConfig) -> list[Check]:
    """Return the checks of a plasticity section called `name`; see `snn_dt.model_config.model_checks`."""
    return [
        (f"{name}.eta", p.eta >= 0, "at least 0", p.eta),
        (f"{name}.decay", 0 <= p.decay < 1, "in [0, 1)", p.decay),
        (f"{name}.baseline_rate", 0 < p.baseline_rate <= 1, "in (0, 1]", p.baseline_rate),
        (f"{name}.bound", p.bound > 0, "above 0", p.bound),
    ]


def rule_checks(
    model: ModelConfig, rule: str, plasticity: PlasticityConfig, compiled: bool, limited: bool
) -> list[Check]:
    """Return the checks of the learning rules in the `train` section."""
    eprop = rule == "eprop"
    return [
        *plasticity_checks("train.plasticity", plasticity),
        ("train.rule", not eprop or model.kind == "snn_dt", f"bptt for {model.kind}", rule),
        ("train.rule", not eprop or not limited, "bptt with a limit in train.budget", rule),
        ("train.compile", not compiled or not (eprop or plasticity.eta), "false for eprop and plasticity", compiled),
    ]
