"""Baselines: dense models, counted by the same rules at the same context lengths."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import Any

import torch

from snn_dt.energy.counts import Count
from snn_dt.model_config import ModelConfig
from snn_dt.models import TaskShape, build_model
from snn_dt.models.encoders import encoded


def same_tokens(config: ModelConfig) -> ModelConfig:
    """Return the dense model of the same width, depth and tokens, which recomputes its window at each decision.

    Phase positions become a learned table and a code of the return-to-go the number itself. The window of a model with
    an attention span is its span.
    """
    config = config.resolved()
    positions = "learned" if config.positions == "phase" else config.positions
    plain: dict[str, Any] = {"attention": "softmax", "routing": False, "phase_input": "current", "head": "linear"}
    plain |= {"condition": "return", "goal": "none", "return_code": "linear", "loss": "action", "attention_span": None}
    plain |= {"encoder": "impala-small" if config.encoder == "spiking" else config.encoder}  # its convolutions
    plain |= {"context_length": config.attention_span or config.context_length}
    return dataclasses.replace(config, kind="dense", positions=positions, **plain)


def decision_transformer(config: ModelConfig) -> ModelConfig:
    """Return the standard Decision Transformer of the same width and depth: three tokens a step, learned positions."""
    return dataclasses.replace(same_tokens(config), tokens="interleaved", positions="learned")


def cached_decision_transformer(config: ModelConfig) -> ModelConfig:
    """Return the standard Decision Transformer that keeps keys and values, with an attention span of the same context.

    It computes three tokens a decision instead of all tokens of the window. This is the cheapest dense model that is in
    common use, so spiking models are compared with it first.
    """
    standard = decision_transformer(config)
    span = standard.context_length
    return dataclasses.replace(standard, attention_span=span, context_length=2 * span)


def cached_count(config: ModelConfig, task: TaskShape, steps: float, first: float, beyond: float) -> Count:
    r"""Return the mean cost of decisions of a dense model with kept keys and values of `attention_span` S steps.

    Decision n of an episode computes the tokens `(a_(n-1), R_n, s_n)`. The action attends to the tokens of
    min(n - 1, S) steps, the others to those of min(n - 1, S - 1) steps and to the new ones. With the cost F1 of the
    first decision, which has no action, and constants B, G and H of the model, the mean cost is

    ```
    first F1 + (1 - first) B + G mean(min(n - 1, S - 1)) + H mean(min(n - 1, S))
    ```

    Four decisions of a model with a span of 3 determine F1, B, G and H.

    Args:
        config: of `cached_decision_transformer`.
        task: shape of the task.
        steps: mean of min(n, S) over the decisions.
        first: share of decisions that begin an episode.
        beyond: share of decisions with n > S.
    """
    one, two, three, four = _first_cached_decisions(config, task)
    by_action = four + three * -1  # H: only the action attends to a step more
    by_step = three + two * -1 + by_action * -1  # G
    rest = two + by_step * -1 + by_action * -1  # B
    return one * first + rest * (1 - first) + by_step * (steps - 1) + by_action * (steps - 1 + beyond)


@lru_cache(maxsize=64)
def _first_cached_decisions(config: ModelConfig, task: TaskShape) -> tuple[Count, ...]:
    """Count the first four decisions with a span of 3, with their memory traffic."""
    from snn_dt.energy.meter import DecisionMeter

    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        model: Any = build_model(dataclasses.replace(config, attention_span=3, context_length=6), task).eval()
        state, counts = model.rest(1), []
        for n in range(1, 5):
            with DecisionMeter(model) as meter:
                model.step(torch.zeros(1, 1), _state(model, task), state)
                meter.count(torch.ones(1, 1, dtype=torch.bool), torch.tensor([n]))
            counts.append(meter.total_with_memory())
    return tuple(counts)


def dense_count(config: ModelConfig, task: TaskShape, steps: float, steps_squared: float) -> Count:
    """Return the mean cost of decisions of a dense model.

    A decision on a context of n steps processes each token once and each pair of tokens once. Its cost is therefore a
    polynomial of degree two in n. Three forwards determine the polynomial. The first two moments of n give the mean.

    Args:
        config: a dense model.
        task: shape of the task.
        steps: mean of n over the decisions.
        steps_squared: mean of n^2.
    """
    one, two, three = _first_decisions(config, task)
    n, n2 = steps, steps_squared
    # Lagrange interpolation through n = 1, 2, 3; linear in n and n^2, so means may be inserted.
    return one * ((n2 - 5 * n + 6) / 2) + two * (-n2 + 4 * n - 3) + three * ((n2 - 3 * n + 2) / 2)


@lru_cache(maxsize=64)
def _first_decisions(config: ModelConfig, task: TaskShape) -> tuple[Count, ...]:
    """Count a decision on 1, 2 and 3 steps. The count of a dense model does not depend on weights or inputs."""
    from snn_dt.energy.meter import DecisionMeter

    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        model = build_model(config, task).eval()
        counts = []
        # Three points determine a polynomial of degree two.
        for n in (1, 2, 3):
            # Actions are [1, n] if discrete, else [1, n, A].
            actions = torch.zeros((1, n) if task.discrete else (1, n, task.action_dim))
            mask = torch.ones(1, n, dtype=torch.bool)
            with DecisionMeter(model) as meter:
                model(
                    torch.zeros(1, n, 1),
                    _state(model, task).expand(1, n, -1),  # [1, d] -> [1, n, d]
                    actions.long() if task.discrete else actions,
                    torch.zeros(1, n, dtype=torch.int64),
                    mask,
                    last_only=True,
                )
                meter.count(mask)
            counts.append(meter.total_with_memory())
    return tuple(counts)


def _state(model: Any, task: TaskShape) -> torch.Tensor:
    """Return a state `[1, d]` of zeros. An image is encoded here: once in a decision, whatever its context."""
    kind = torch.float32 if task.image is None else torch.uint8
    return encoded(model, torch.zeros(1, task.state_dim, dtype=kind))


def recurrent_baseline(config: ModelConfig, task: TaskShape) -> Count:
    """Return the cost of a decision of the dense recurrent twin of a streaming model.

    The twin has the same layers, norms and state. Each spike is a real number and each neuron a tanh. The saving of the
    streaming model over its twin is due to spikes. The saving of the twin over a Decision Transformer is due to
    streaming.

    Args:
        config: of kind `snn_dt_stream`.
        task: shape of the task.
    """
    from snn_dt.energy.rules import NORM_ACS, NORM_MACS, TRANSCENDENTAL_MACS

    d, hidden = config.d_model, config.mlp_ratio * config.d_model
    # Weights of q, k and v, of the output projection, and of both layers of the MLP.
    synapses = d * (3 * d) + d * d + 2 * d * hidden
    attention = 3 * d * (d // config.n_heads) + d  # decay, k^T v, q S; and the gain
    neurons, normed, added = d + 3 * d + d + d + hidden, 3 * d, 2 * d
    macs = synapses + attention + TRANSCENDENTAL_MACS * neurons + NORM_MACS * normed
    block = Count(macs=macs, acs=NORM_ACS * normed + added)
    return _around_the_blocks(config, task) + block * config.n_layers


@lru_cache(maxsize=64)
def _around_the_blocks(config: ModelConfig, task: TaskShape) -> Count:
    """Count the embedding, the last norm and the head of a streaming model. None of them spikes."""
    from snn_dt.energy.meter import DecisionMeter

    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        model: Any = build_model(config, task).eval()
        state = model.rest(1)
        # As in the middle of an episode, where the previous action is known.
        state["begun"].fill_(True)
        with DecisionMeter(model) as meter:
            model.step(torch.zeros(1, 1), _state(model, task), state)
            meter.count(torch.ones(1, 1, dtype=torch.bool))
    return sum((count for name, count in meter.by_module.items() if not name.startswith("blocks.")), Count())
