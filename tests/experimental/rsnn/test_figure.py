"""Curves of recurrent networks: what is drawn is what was recorded."""

from __future__ import annotations

from snn_dt.experimental.rsnn.figure import evaluations, rsnn_figure
from snn_dt.report.style import png

ROWS = [
    {"step": 10, "loss": 1.0, "connections": 50},
    {"step": 10, "test_loss": 0.9, "test_error": 0.5, "test_firing_rate": 0.02, "test_operations": 1000.0},
    {"step": 20, "loss": 0.5, "connections": 40},
    {"step": 20, "test_loss": 0.4, "test_error": 0.1, "test_firing_rate": 0.01, "test_operations": 400.0},
]


def test_an_evaluation_knows_its_connections():
    assert [(row["step"], row["test_error"], row["connections"]) for row in evaluations(ROWS)] == [
        (10, 0.5, 50),
        (20, 0.1, 40),
    ]


def test_the_figure_draws_error_and_accumulates_of_every_run():
    figure = rsnn_figure({"a": ROWS, "b": ROWS[:2]}, "title")
    left, right = figure.axes
    assert [list(line.get_ydata()) for line in left.lines] == [[0.5, 0.1], [0.5]]
    assert [list(line.get_ydata()) for line in right.lines] == [[1000.0, 400.0], [1000.0]]
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["a", "b"]
    assert png(figure).startswith(b"\x89PNG")
