"""Bytes of a decision: weights, state and traffic of a model small enough to count them by hand."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from snn_dt.energy.memory import kept_bytes
from tests.conftest import DISCRETE, TINY, VARIANTS, make_model
from tests.energy.tiny import HIDDEN, A, D, S, T, counted, model_of


@pytest.mark.parametrize("variant", [name for name in VARIANTS if not name.startswith("dsformer")])
def test_parameters_are_four_bytes_each_and_counted_once(variant):
    model = model_of(**VARIANTS[variant] | {"n_layers": 2, "phase_generators": 1})
    assert counted(model).summary()["parameter_bytes"] == 4 * sum(p.numel() for p in model.parameters())


def test_a_dense_decision_holds_its_window_and_a_spiking_one_its_membranes_too():
    window = 2 * 4 * (1 + S + 1 + 1)  # return-to-go, state, action, timestep
    assert counted(model_of(kind="dense")).summary()["state_bytes"] == window
    neurons = 3 * 5 * D + 3 * D + HIDDEN  # in, keys, values; queries, out, MLP; hidden
    for coding in ("rate", "spikes"):
        summary = counted(model_of(coding=coding)).summary()
        assert summary["state_bytes"] == window + 4 * neurons


def test_weights_move_once_values_twice_membranes_in_every_step():
    meter = counted(model_of(positions="learned"))
    steps, n = 2, 5
    tables = 9 * D + A * D  # positions, actions: only the rows of two steps are read
    weights = sum(meter.parameter_bytes.values()) / 4 - tables + 2 * steps * D
    embedded = 4 * steps * D + 2 * n * D  # rtg, state, action, position; tokens before and behind the norm
    attention = D + 2 * n * D + D + D + D  # query; keys, values; mix, out, residual
    values = embedded + attention + HIDDEN + D + D + D + A  # MLP, residual, norm, head
    updates = T * (3 * n * D + 3 * D + HIDDEN)
    expected = 4 * weights + 2 * 4 * values + 2 * 4 * updates + 2 * updates / 8
    assert meter.summary()["memory_bytes_per_decision"] == expected
    assert meter.summary()["memory_pj_per_decision"] == pytest.approx(24.96 * expected)


def test_a_decision_reads_the_kept_tokens_of_the_steps_it_attends_to_and_keeps_its_own():
    config = dataclasses.replace(TINY, kind="dense", attention_span=3, context_length=6)
    model = make_model(config, DISCRETE)
    of_token = 2 * 4 * config.d_model * config.n_layers  # a key and a value of float32 in each layer
    # Decision n attends to the actions, returns-to-go and states of three steps, and its action to those of one more.
    # R_1 s_1; a_1 R_2 s_2; ...: decision n has written 3 n - 1 tokens, of which the ring holds 11.
    for n, read, stored in ((1, 0, 2), (2, 2, 5), (3, 5, 8), (4, 8, 11), (9, 8, 11)):
        assert kept_bytes(model, torch.tensor([n])) == (stored * of_token, read * of_token), n
