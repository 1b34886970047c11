"""Batches drawn ahead are the batches that would have been drawn."""

from __future__ import annotations

import threading

import pytest

from snn_dt.training.batches import Prefetch
from tests.patience import HANG


def test_every_step_gets_its_own_batch_in_any_order():
    prefetch = Prefetch(lambda step: step * 10)
    assert [prefetch(step) for step in (0, 1, 2, 7, 8, 3)] == [0, 10, 20, 70, 80, 30]


def test_a_batch_is_drawn_once_and_before_it_is_asked_for():
    drawn, asked = [], threading.Event()

    def draw(step):
        drawn.append(step)
        if step == 2:
            asked.set()
        return step

    prefetch = Prefetch(draw, ahead=2)
    assert prefetch(0) == 0
    assert asked.wait(HANG), "step 2 is drawn though nobody has asked for it"
    assert [prefetch(step) for step in (1, 2, 3)] == [1, 2, 3]
    assert sorted(drawn)[:4] == [0, 1, 2, 3]


def test_an_error_comes_with_its_own_step():
    def draw(step):
        if step == 2:
            raise OSError("the disk is gone")
        return step

    prefetch = Prefetch(draw, ahead=2)
    assert [prefetch(0), prefetch(1)] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        prefetch(2)
