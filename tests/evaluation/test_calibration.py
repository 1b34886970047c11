"""Calibration by hand: what is asked against what is achieved."""

from __future__ import annotations

import numpy as np
import pytest

from snn_dt.evaluation.calibration import calibration, data_quantiles, rank_correlation, spread_targets


def row(target, *returns):
    mean = float(np.mean(returns))
    return {"target_return": target, "returns": list(returns), "return_mean": mean, "return_interval": [mean, mean]}


def test_error_spread_and_rank_correlation_are_those_worked_out_by_hand():
    # Means 90, 60 and 10 where 100, 50 and 0 were asked: errors 10, 10 and 10 of a spread of 200.
    found = calibration([row(100.0, 80, 100), row(50.0, 60, 60), row(0.0, 0, 20)], data_returns=[-50.0, 20.0, 150.0])
    assert found.targets == (0.0, 50.0, 100.0)
    assert found.returns == (10.0, 60.0, 90.0)
    assert (found.spread, found.spread_of) == (200.0, "data")
    assert found.error == pytest.approx(0.05)
    assert found.rank_correlation == 1.0
    low, high = found.error_interval
    assert low <= found.error <= high
    assert high <= (20 + 10 + 20) / 3 / 200  # the worst draw of each target


def test_without_the_datas_returns_the_spread_is_that_of_the_targets_and_says_so():
    found = calibration([row(3.0, 3), row(1.0, 1), row(2.0, 4)])
    assert (found.spread, found.spread_of) == (2.0, "targets")
    assert found.error == pytest.approx(2 / 3 / 2)
    # Targets 1 2 3, returns 1 4 3: ranks 1 3 2, so 1 - 6 (0 + 1 + 1) / (3 * 8).
    assert found.rank_correlation == pytest.approx(0.5)


def test_a_policy_that_does_the_same_whatever_is_asked_has_an_error_and_no_rank_correlation():
    found = calibration([row(t, 5) for t in (0.0, 5.0, 10.0)])
    assert found.error == pytest.approx(10 / 3 / 10)
    assert found.rank_correlation is None


@pytest.mark.parametrize("targets", [(), (1.0,), (1.0, 2.0), (1.0, 2.0, 2.0)])
def test_fewer_than_three_distinct_targets_have_no_calibration(targets):
    assert calibration([row(t, 1) for t in targets]) is None


def test_of_several_rows_with_one_target_the_last_counts():
    rows = [row(1.0, 9), row(2.0, 2), row(3.0, 3), row(1.0, 1)]
    assert calibration(rows).returns == (1.0, 2.0, 3.0)


def test_equal_values_share_the_mean_of_their_ranks():
    assert rank_correlation([1, 2, 3], [10, 20, 30]) == 1.0
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == -1.0
    # Ranks 1 2 3 4 against 1.5 1.5 3 4: covariance 4.5 / 4, variances 5 / 4 and 4.5 / 4.
    assert rank_correlation([1, 2, 3, 4], [7, 7, 8, 9]) == pytest.approx(4.5 / (5 * 4.5) ** 0.5)


def test_targets_begin_with_the_best_return_end_with_the_worst_and_none_is_asked_twice():
    assert spread_targets(np.arange(101.0), 5) == [100.0, 75.0, 50.0, 25.0, 0.0]
    assert spread_targets(np.arange(101.0), 1) == [100.0]
    assert spread_targets([0.0, 10.0, 10.0, 10.0, 10.0], 5) == [10.0, 0.0]
    assert spread_targets([0.0, 0.0, 0.0, 0.0, 8.0], 5, even=True) == [8.0, 6.0, 4.0, 2.0, 0.0]


@pytest.mark.parametrize("wrong", [None, "x", [1.0], ["a", "b"], [[1.0, 2.0]], [2.0, 1.0], [0.0, float("nan")], {}])
def test_what_is_no_list_of_rising_numbers_counts_as_unknown(wrong):
    assert data_quantiles({"dataset_return_quantiles": wrong}) is None
    assert data_quantiles({"dataset_return_quantiles": [1, 1, 2.5]}).tolist() == [1.0, 1.0, 2.5]
