"""Point estimates against rliable 1.2.0, intervals against their coverage on known distributions."""

import numpy as np
import pytest

from snn_dt.evaluation import statistics as st
from snn_dt.experimental.results.robust_mean import interquartile_mean, nested_interval

CELL = np.arange(45).reshape(5, 9)
SCORES = np.round(60 + 25 * np.sin(1.7 * CELL) + 0.8 * (CELL % 9), 3)  # 5 runs of 9 tasks, spread like real ones

# What rliable 1.2.0 gives for the matrices above (numpy 2.4.6, scipy 1.17.1; intervals of 20,000 resamples).
RLIABLE = {"iqm": 63.057956521739136, "mean": 63.08595555555556}
RLIABLE_IQM_INTERVAL = (55.25035217, 70.78905761)


def test_point_estimates_equal_rliable():
    assert interquartile_mean(SCORES) == pytest.approx(RLIABLE["iqm"], rel=1e-14)
    assert st.mean(SCORES) == pytest.approx(RLIABLE["mean"], rel=1e-14)


def test_stratified_intervals_equal_rliable_within_resampling_noise():
    low, high = st.stratified_interval(interquartile_mean, SCORES, rng=np.random.default_rng(3), samples=10_000)
    np.testing.assert_allclose([low, high], RLIABLE_IQM_INTERVAL, atol=0.4)


def test_interquartile_mean_on_hand_values():
    assert interquartile_mean([[0.0], [1.0], [3.0], [100.0]]) == 2.0  # one cut at either end
    assert interquartile_mean([[1.0], [2.0], [9.0]]) == 4.0  # too few to cut
    assert interquartile_mean([[-50.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 70.0, 80.0]]) == 4.0  # floor(9 / 4) = 2 cut


def test_interquartile_mean_of_a_uniform_grid_is_its_trimmed_mean_and_ignores_the_outer_quarters():
    grid = np.arange(40.0).reshape(8, 5)
    trimmed = (10 + 29) / 2  # 10 values cut at either end leave 10 .. 29
    assert interquartile_mean(grid) == trimmed
    outliers = grid.copy()
    outliers[grid < 10], outliers[grid >= 30] = -1e9, 1e9
    assert interquartile_mean(outliers) == trimmed


def test_statistics_keep_leading_axes():
    batch = np.stack([SCORES, SCORES[::-1] + 1.0])
    for statistic in (st.mean, interquartile_mean):
        np.testing.assert_allclose(statistic(batch), [statistic(batch[0]), statistic(batch[1])])


def test_stratified_resampling_never_moves_a_run_to_another_task():
    tasks = np.array([[1.0, 100.0, 10_000.0]] * 4)  # no spread within a task: any leak between tasks would widen
    low, high = st.stratified_interval(st.mean, tasks, rng=np.random.default_rng(0), samples=50)
    assert low == high == pytest.approx(tasks.mean())


def test_bootstrap_interval_covers_the_mean_of_a_gaussian_as_often_as_it_says():
    rng = np.random.default_rng(11)
    runs = rng.normal(3.0, 2.0, size=(600, 40))
    intervals = np.array([st.bootstrap_interval(row, 0.9, rng, samples=400) for row in runs])
    covered = ((intervals[:, 0] <= 3.0) & (intervals[:, 1] >= 3.0)).mean()
    assert 0.86 <= covered <= 0.93
    theory = 2 * 1.645 * 2.0 / np.sqrt(40)  # the normal interval's width
    assert (intervals[:, 1] - intervals[:, 0]).mean() == pytest.approx(theory, rel=0.05)


def test_bootstrap_interval_repeats_itself_and_shrinks_to_a_point_for_one_episode():
    returns = [1.0, 5.0, 2.0, 8.0]
    assert st.bootstrap_interval(returns) == st.bootstrap_interval(returns)
    assert st.bootstrap_interval([7.0]) == (7.0, 7.0)


@pytest.mark.parametrize("bad", [[], [[]], [[1.0, np.nan]], [[np.inf]], [1.0, 2.0]])
def test_unusable_scores_are_refused(bad):
    with pytest.raises(ValueError, match="expected"):
        interquartile_mean(bad)


def test_an_impossible_confidence_is_refused():
    with pytest.raises(ValueError, match="confidence"):
        st.bootstrap_interval([1.0, 2.0], confidence=95)


def test_the_nested_interval_has_the_variance_of_runs_and_of_their_episodes():
    rng = np.random.default_rng(0)
    returns = rng.normal(size=(40, 1, 30)) + 0.5 * rng.normal(size=(40, 1, 1))
    # Of the mean, closed form: between / R + within / (R E), the plug-in variances of what is resampled.
    between, within = returns.mean(-1).var(), returns.var(-1).mean()
    deviation = np.sqrt(between / 40 + within / (40 * 30))
    low, high = nested_interval(st.mean, returns, rng=rng, samples=20_000)
    assert (high - low) / (2 * 1.959964) == pytest.approx(deviation, rel=0.03)
    assert (high + low) / 2 == pytest.approx(returns.mean(), abs=0.1 * deviation)


def test_the_nested_interval_of_one_run_is_that_of_its_episodes_and_of_equal_episodes_that_of_runs():
    episodes = np.random.default_rng(1).gamma(2.0, size=50)
    one = nested_interval(st.mean, episodes[None, None], rng=np.random.default_rng(2), samples=20_000)
    np.testing.assert_allclose(one, st.bootstrap_interval(episodes, samples=20_000), atol=0.02)
    same = np.repeat(SCORES[..., None], 4, axis=-1)
    interval = nested_interval(interquartile_mean, same, rng=np.random.default_rng(3), samples=10_000)
    np.testing.assert_allclose(interval, RLIABLE_IQM_INTERVAL, atol=0.4)


def test_the_nested_interval_of_a_difference_resamples_both_sides():
    a, b = np.zeros((3, 1, 2)) + 5.0, np.zeros((2, 1, 4)) + 3.0
    assert nested_interval(lambda x, y: st.mean(x) - st.mean(y), a, b, rng=np.random.default_rng(0)) == (2.0, 2.0)
    a[0] = 8.0
    low, high = nested_interval(lambda x, y: st.mean(x) - st.mean(y), a, b, rng=np.random.default_rng(0))
    assert (low, high) == (2.0, 5.0)  # none of three runs, or all of them, drawn with a probability of 8/27 and 1/27


def test_returns_without_an_axis_of_episodes_are_refused():
    with pytest.raises(ValueError, match=r"\[runs, tasks, episodes\]"):
        nested_interval(st.mean, SCORES, rng=np.random.default_rng(0))
