from __future__ import annotations

import math

import numpy as np
import pytest

from snn_dt.data.d4rl_files import URLS
from snn_dt.data.d4rl_tasks import reference, task_name, time_limit
from snn_dt.data.scores import ReferenceScores, environment_reference, normalized_score
from snn_dt.errors import DataError


def test_random_scores_zero_and_expert_one_hundred():
    hopper = environment_reference("Hopper-v5")
    assert normalized_score(hopper.min, hopper) == 0.0
    assert normalized_score(hopper.max, hopper) == 100.0
    np.testing.assert_allclose(normalized_score(np.array([10.0, 30.0]), ReferenceScores(10, 50, "here")), [0, 50])


def test_a_hopper_return_of_1630_is_the_published_50_7_points():
    assert normalized_score(1630.0, environment_reference("Hopper-v4")) == pytest.approx(50.7, abs=0.05)


def test_the_source_says_when_d4rl_scores_are_applied_to_another_environment_version():
    assert "Hopper-v5 by convention" in environment_reference("Hopper-v5").source
    assert environment_reference("CartPole-v1") is None
    assert environment_reference(None) is None


@pytest.mark.parametrize(("low", "high"), [(5, 5), (9, 1), (math.nan, 1), (0, math.nan), (-math.inf, 1), (0, math.inf)])
def test_returns_that_no_score_can_be_told_from_are_refused(low, high):
    with pytest.raises(DataError, match=f"found {low} and {high} .here.; correct them"):
        ReferenceScores(low, high, "here")


@pytest.mark.parametrize("dataset_id", URLS)
def test_every_d4rl_dataset_has_a_task_a_time_limit_and_a_reference(dataset_id):
    assert task_name(dataset_id)
    assert time_limit(dataset_id)
    assert reference(dataset_id, known=True).source.startswith("D4RL infos.py, ")


@pytest.mark.parametrize(
    ("dataset_id", "low", "high", "limit"),
    [
        ("walker2d-medium-replay-v2", 1.629008, 4592.3, 1000),
        ("pen-human-v1", 96.262799, 3076.8331017826877, 100),
        ("kitchen-mixed-v0", 0.0, 4.0, 280),
        ("antmaze-large-play-v2", 0.0, 1.0, 1000),
        ("antmaze-umaze-v2", 0.0, 1.0, 700),
        ("maze2d-umaze-v1", 23.85, 161.86, 300),
        ("maze2d-umaze-v0", 0.94, 62.6, 150),
        ("maze2d-large-dense-v1", 30.569041, 303.4857382709002, 800),
        ("minigrid-fourrooms-random-v0", 0.01442, 2.89685, 51),
    ],
)
def test_reference_scores_and_limits_are_those_of_d4rl(dataset_id, low, high, limit):
    found = reference(dataset_id, known=True)
    assert (found.min, found.max, time_limit(dataset_id)) == (low, high, limit)
