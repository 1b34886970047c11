"""Values of any supported space become rows of numbers and come back, in memory and through files."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given

import snn_dt
from snn_dt.data import encoding
from snn_dt.data.checked_env import Checked
from snn_dt.data.collect import collect
from snn_dt.data.spaces import check_supported
from snn_dt.data.trajectories import Trajectories
from snn_dt.errors import DataError, EnvironmentMismatchError
from tests.any_spaces import SPACES, quick, samples, stacked
from tests.data.test_arrays import refusal
from tests.echo import ACTIONS, OBSERVATIONS, register_echo
from tests.policies import make_policy


def equal(space: Any, left: Any, right: Any) -> bool:
    return bool(np.array_equal(spaces.flatten(space, left), spaces.flatten(space, right)))


@quick
@given(SPACES)
def test_rows_are_those_of_gymnasium_and_come_back_as_the_same_values(space):
    values = samples(space, 6)
    rows = encoding.rows(space, stacked(space, values))
    np.testing.assert_array_equal(rows, [spaces.flatten(space, value) for value in values])
    codes = encoding.parts(space)
    assert rows.shape[1] == sum(max(code, 1) for code in codes) == len(encoding.number_columns(codes))
    decoded = encoding.values(space, rows)
    for index, value in enumerate(values):
        np.testing.assert_array_equal(encoding.row(space, value), rows[index])
        np.testing.assert_array_equal(encoding.row(space, rows[index]), rows[index])
        again = encoding.take(decoded, index)
        assert space.contains(again)
        assert equal(space, again, value)


@pytest.mark.parametrize("file_format", ["hdf5", "arrow", "parquet"])
def test_minari_files_of_nested_spaces_are_read_in_every_format(minari_set, file_format):
    episodes = [
        {
            "observations": stacked(OBSERVATIONS, samples(OBSERVATIONS, n + 1, n)),
            "actions": stacked(ACTIONS, samples(ACTIONS, n, n)),
            "rewards": np.ones(n),
            "terminations": np.arange(n) == n - 1,
            "truncations": np.zeros(n, bool),
        }
        for n in (3, 1, 4)
    ]
    folder = minari_set(episodes, observation_space=OBSERVATIONS, action_space=ACTIONS, data_format=file_format)
    t = snn_dt.load_dataset(str(folder))
    expected = [spaces.flatten(ACTIONS, value) for n in (3, 1, 4) for value in samples(ACTIONS, n, n)]
    np.testing.assert_allclose(t.actions, expected, rtol=1e-6)
    expected = [spaces.flatten(OBSERVATIONS, value) for n in (3, 1, 4) for value in samples(OBSERVATIONS, n + 1, n)[:n]]
    np.testing.assert_allclose(t.observations, expected, rtol=1e-6)
    again = snn_dt.load_dataset(str(folder))  # from the cache
    assert again.action_space == ACTIONS
    assert again.action_parts == (3, -1, -1, 0, 2, 4)
    assert not any("whole numbers" in note for note in t.notes)


def test_a_collected_dataset_holds_what_was_played(tmp_path):
    played = []

    def policy(observation):
        played.append(ACTIONS.sample())
        return played[-1]

    ACTIONS.seed(3)
    env_id = register_echo(OBSERVATIONS, ACTIONS)
    folder = collect(env_id, policy, episodes=2, seed=1, dataset_id="toy/echo-v0", root=tmp_path)
    t = snn_dt.load_dataset(str(folder))
    np.testing.assert_allclose(t.actions, [spaces.flatten(ACTIONS, value) for value in played], rtol=1e-6)
    with pytest.raises(DataError, match="expected an action inside"):
        collect(env_id, lambda _: {"gear": 0}, episodes=1, seed=1, dataset_id="toy/other-v0", root=tmp_path)


CHOICES = spaces.Dict({"a": spaces.Discrete(3), "b": spaces.MultiBinary(2)})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"observations": {"a": np.full(4, 3), "b": np.zeros((4, 2))}},
            "observations of 3 at step 0 where Discrete(3)",
        ),
        ({"observations": {"a": np.zeros(4)}}, "observations of no part 'b'"),
        ({"observations": {"a": np.zeros(4), "b": np.zeros((4, 3))}}, "3 numbers where MultiBinary(2) has 2"),
        ({"observations": {"a": np.zeros(4), "b": np.full((4, 2), 0.5)}}, "0.5 at step 0 where MultiBinary(2)"),
        ({"actions": np.full((4, 2), 2)}, "actions of 2 at step 0 where MultiDiscrete([2 2])"),
        ({"actions": np.zeros((4, 3))}, "3 numbers where MultiDiscrete([2 2]) has 2"),
        ({"actions": {"x": np.zeros(4)}, "action_space": None}, "actions of several parts: expected their space"),
        ({"actions": np.full((4, 2), np.nan)}, "actions of nan at step 0"),
        ({"observations": np.tile([0.7, 0.3, 0.0, 1.0, 0.0], (4, 1))}, "at step 0 where choices as one-hot and bits"),
        ({"observations": np.tile([1.0, 0.0, 0.0, 2.0, 0.0], (4, 1))}, "at step 0 where choices as one-hot and bits"),
    ],
)
def test_a_value_that_is_no_choice_of_its_space_is_one_line(changes, expected):
    values = {
        "observations": {"a": np.zeros(4), "b": np.zeros((4, 2))},
        "actions": np.zeros((4, 2), int),
        "rewards": np.ones(4),
        "terminations": np.arange(4) == 3,
        "truncations": np.zeros(4, bool),
        "observation_space": CHOICES,
        "action_space": spaces.MultiDiscrete([2, 2]),
    }
    assert expected in refusal(Trajectories.from_arrays, **values | changes)


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (spaces.Text(4), "Text observations (letters are no numbers)"),
        (spaces.Dict({"a": spaces.Sequence(spaces.Discrete(2))}), "Sequence observations at 'a' (its length changes"),
        (spaces.Tuple((spaces.Graph(spaces.Discrete(2), None),)), "Graph observations at '0' (its size changes"),
        (spaces.OneOf((spaces.Discrete(2), spaces.Box(0, 1))), "OneOf observations (its kind changes"),
    ],
)
def test_spaces_without_a_fixed_row_are_refused_with_the_reason(space, expected):
    assert expected in refusal(check_supported, space, ACTIONS, "toy")


def test_an_observation_outside_its_space_is_refused_by_policy_and_environment(monkeypatch):
    policy = make_policy(OBSERVATIONS, ACTIONS)
    policy.reset(3.0)
    outside = OBSERVATIONS.sample() | {"kind": 5}
    with pytest.raises(EnvironmentMismatchError, match=r"found 5 at step 0 where Discrete\(3, start=-1\)"):
        policy.act(outside)
    with pytest.raises(EnvironmentMismatchError, match="no part 'kind'"):
        policy.act({"speed": np.zeros(1)})
    env = gym.make(register_echo(OBSERVATIONS, ACTIONS), disable_env_checker=True)
    monkeypatch.setattr(OBSERVATIONS, "sample", lambda: outside)
    with pytest.raises(EnvironmentMismatchError, match="expected an observation of Dict"):
        Checked(env).reset()
