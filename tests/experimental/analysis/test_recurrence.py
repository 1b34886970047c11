"""e-prop against BPTT over the strength of recurrence: the published shape, from few draws."""

from __future__ import annotations

import pytest

from snn_dt.experimental.analysis.recurrence import recurrence_rows


@pytest.fixture(scope="module")
def rows():
    return {(row["neuron"], row["gain"]): row for row in recurrence_rows(draws=4, gains=(0.0, 0.5, 2.0))}


@pytest.mark.parametrize("neuron", ["LIF", "ALIF"])
def test_without_recurrence_exact_traces_are_bptt_and_plain_ones_nearly(rows, neuron):
    row = rows[neuron, 0.0]
    assert row["exact"] == pytest.approx(1, abs=1e-12)
    assert row["detached"] == pytest.approx(1, abs=1e-12)
    assert 0.9 < row["plain"] < 0.9999


@pytest.mark.parametrize("neuron", ["LIF", "ALIF"])
@pytest.mark.parametrize("column", ["exact", "detached"])
def test_the_stronger_the_recurrence_the_further_apart_but_never_opposed(rows, neuron, column):
    cosines = [rows[neuron, gain][column] for gain in (0.0, 0.5, 2.0)]
    assert cosines[0] > cosines[1] > cosines[2] > 0.3


def test_random_feedback_of_an_untrained_network_points_nowhere(rows):
    assert all(abs(row["random"]) < 0.35 for row in rows.values())


def test_networks_fire(rows):
    assert all(0.01 < row["firing_rate"] < 0.5 for row in rows.values())
