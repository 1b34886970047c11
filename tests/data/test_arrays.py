"""Arrays in memory become the trajectories that a file with the same content gives, or are refused in one line."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

import snn_dt
from snn_dt import Trajectories
from snn_dt.errors import DataError
from tests.data.toy_episodes import ACTION_BOX, BOX, random_episodes

LENGTHS = [5, 1, 7]
NAMES = ("observations", "actions", "rewards", "terminations", "truncations")


def flat(episodes: list[dict[str, Any]]) -> dict[str, Any]:
    """The episodes one after another, without their last observation."""
    return {name: np.concatenate([e[name][: len(e["rewards"])] for e in episodes]) for name in NAMES}


def arrays(**changes: Any) -> dict[str, Any]:
    return flat(random_episodes(LENGTHS)) | changes


def refusal(make: Any, *values: Any, **options: Any) -> str:
    with pytest.raises(DataError) as error:
        make(*values, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("action_space", [ACTION_BOX, spaces.Discrete(4), spaces.Discrete(4, start=2)])
@pytest.mark.parametrize("reward_mode", ["dense", "delayed"])
def test_arrays_and_episodes_give_what_a_file_gives(minari_set, action_space, reward_mode):
    episodes = random_episodes(LENGTHS, action_space=action_space)
    stored = snn_dt.load_dataset(minari_set(episodes, action_space=action_space), reward_mode=reward_mode)
    options = {"observation_space": BOX, "action_space": action_space, "reward_mode": reward_mode}
    for found in (
        Trajectories.from_arrays(**flat(episodes), **options),
        Trajectories.from_episodes(episodes, **options),
    ):
        assert found.checksum == stored.checksum
        for name in ("returns_to_go", "state_mean", "state_std", "terminated", "truncated"):
            np.testing.assert_array_equal(getattr(found, name), getattr(stored, name))
        assert (found.action_space, found.observation_space) == (stored.action_space, stored.observation_space)
        assert (found.notes, found.dataset_id, found.env_id) == ((), "arrays", None)


def test_integer_actions_become_choices_and_floats_a_box_of_the_data():
    choices = Trajectories.from_arrays(**arrays(actions=np.arange(13)[:, None] % 3))
    assert choices.action_space == spaces.Discrete(3)
    assert (choices.actions.dtype, choices.actions.shape, choices.notes) == (np.int64, (13,), ())
    gap = Trajectories.from_arrays(**arrays(actions=np.arange(13) % 2 * 3))
    assert gap.action_space == spaces.Discrete(4)
    assert "choices from 0 to 3, 2 of them never taken" in gap.notes[0]
    given = arrays()
    vectors = Trajectories.from_arrays(**given)
    np.testing.assert_array_equal(vectors.action_low, given["actions"].min(axis=0))
    np.testing.assert_array_equal(vectors.action_high, given["actions"].max(axis=0))
    assert "the action bounds are those of the data" in vectors.notes[0]


def test_a_last_step_without_a_mark_is_truncated_and_noted(caplog):
    whole = Trajectories.from_arrays(**arrays(terminations=np.zeros(13, int), truncations=np.zeros((13, 1))))
    assert (whole.n_episodes, whole.truncated.tolist()) == (1, [True])
    assert any("1 of 1 episodes end without a termination or truncation" in note for note in whole.notes)
    assert "1 of 1 episodes end without" in caplog.text
    ends = arrays()
    ends["terminations"][-1] = ends["truncations"][-1] = False
    assert Trajectories.from_arrays(**ends).truncated.tolist() == [False, True, True]


def test_episodes_may_say_their_end_in_one_flag_and_need_no_last_observation():
    rows = {"observations": [[1.0], [2.0]], "actions": [[0.5], [0.1]], "rewards": [1, 2]}
    found = Trajectories.from_episodes([rows | {"terminations": True}, rows | {"truncations": np.True_}, rows])
    assert found.terminated.tolist() == [True, False, False]
    assert found.truncated.tolist() == [False, True, True]
    assert found.episode_returns.tolist() == [3, 3, 3]


def test_numbers_around_the_arrays_are_those_of_the_environment():
    found = Trajectories.from_arrays(**arrays(), env_id="Hopper-v5", dataset_id="mine")
    assert (found.env_id, found.dataset_id, found.time_limit) == ("Hopper-v5", "mine", 1000)
    assert found.reference is not None
    assert "hopper" in found.reference.source
    assert Trajectories.from_arrays(**arrays(), env_id="My-v0").time_limit is None
    assert vars(Trajectories.from_arrays(**arrays(), reference=(0, 5.0)).reference)["max"] == 5.0


def test_lists_scalars_and_columns_are_arrays_too():
    rows = arrays(observations=np.arange(13.0), rewards=np.ones((13, 1)))
    found = Trajectories.from_arrays(**{name: values.tolist() for name, values in rows.items()})
    assert (found.obs_dim, found.rewards.shape) == (1, (13,))
    grid = Trajectories.from_arrays(**arrays(observations=np.zeros((13, 7, 7, 3), np.uint8) + np.arange(3, dtype="u1")))
    assert grid.obs_dim == 147
    assert "147 plain numbers" in " ".join(grid.notes)


NAN = np.full((13, 2), 0.5)
NAN[3, 1] = np.nan


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"rewards": np.ones(12)}, "13 observations, 13 actions, 12 rewards, 13 terminations, 13 truncations"),
        ({"observations": np.ones((16, 3))}, "16 observations, 13 actions"),
        ({"truncations": np.zeros(3, bool)}, "13 terminations, 3 truncations: expected one of each for every step"),
        ({name: np.zeros((0, 1)) for name in NAMES}, "0 rewards"),
        ({"truncations": None}, "truncations of type NoneType"),
        ({"terminations": np.full(13, 2)}, "terminations of 2 at step 0 (13 such values): expected a boolean"),
        ({"terminations": np.zeros((13, 2), bool)}, "terminations of type bool and shape [13, 2]"),
        ({"terminations": np.full(13, np.nan)}, "terminations of nan at step 0"),
        ({"observations": [[1.0], [1.0, 2.0]]}, "expected observations as one array"),
        ({"terminations": [[True], [True, False]]}, "expected terminations as one array"),
        ({"observations": np.full((13, 3), "x")}, "observations of type ndarray, <U1, and shape [13, 3]"),
        ({"observations": np.full((13, 3), None)}, "observations of type ndarray, object"),
        ({"observations": {"x": np.ones((13, 3)), "y": np.ones(14)}}, "13 or 14 observations, 13 actions"),
        ({"observations": np.ma.masked_less(np.ones((13, 3)), 2)}, "observations with masked values"),
        ({"actions": np.ones((13, 2), complex)}, "actions of type ndarray, complex128"),
        ({"rewards": np.ones((13, 2))}, "rewards of type float64 and shape [5, 2]"),
        ({"rewards": 3.0}, "rewards of type float, float64, and shape []"),
        (
            {"rewards": np.where(np.arange(13) == 6, np.inf, 0)},
            "episode 2 of dataset 'arrays' has NaN or infinite rewards",
        ),
        ({"observations": np.where(np.arange(39).reshape(13, 3) == 3, np.nan, 0)}, "observations at step 1"),
        ({"actions": NAN}, "episode 0 of dataset 'arrays' has action nan at step 3"),
        ({"actions": np.full((13, 2), 1e300)}, "has action 1e+300 at step 0"),
        ({"actions": np.ones((13, 2), int)}, "integer actions of 2 numbers from 1 to 1: expected one choice"),
        ({"actions": np.arange(13) - 3}, "from -3 to 9"),
        ({"actions": np.arange(13) * 1000}, "from 0 to 12000"),
        ({"actions": np.ones((13, 0))}, "of 0 numbers"),
        ({"observations": np.zeros((13, 64, 64, 3), np.float32)}, "image (64, 64, 3) observations of float32"),
        ({"observations": np.zeros((13, 0))}, "empty (0,) observations"),
        ({"action_space": spaces.Discrete(2)}, "actions of 2 numbers: expected 1 for Discrete(2)"),
        ({"action_space": spaces.MultiBinary(2)}, "at step 0 where MultiBinary(2) was expected"),
        ({"action_space": 2}, "expected action_space to be a gymnasium.Space, found 2"),
        ({"observation_space": spaces.Box(0, 1, (4,))}, "observations of 3 numbers: expected 4"),
        ({"reward_mode": "sparse"}, "unknown reward_mode 'sparse'"),
        ({"reference": 3}, "expected reference as (return for score 0, return for score 100), found 3"),
        ({"reference": (3, 1)}, "expected finite reference returns"),
        ({"env_id": 3}, "expected env_id as text"),
        ({"dataset_id": ""}, "expected dataset_id as text"),
    ],
)
def test_a_mistake_in_arrays_is_one_line(changes, expected):
    assert expected in refusal(Trajectories.from_arrays, **arrays(**changes))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"rewards": np.ones(9)}, "for 9 rewards"),
        ({"terminal": True}, "unknown key 'terminal'; did you mean 'terminations'?"),
        ({"terminations": np.arange(5) < 2}, "terminations set at step 0 of 0 to 4"),
        ({"terminations": "yes"}, "terminations of type str"),
        ({"actions": np.zeros((5, 3))}, "float32 and float64 and of 2 and 3 numbers"),
        ({"actions": np.zeros((5, 2), int)}, "actions of float32 and int64"),
    ],
)
def test_a_mistake_in_an_episode_names_it(change, expected):
    episodes = random_episodes(LENGTHS)
    assert expected in refusal(Trajectories.from_episodes, [episodes[0] | change, *episodes[1:]])


def test_what_is_no_list_of_episodes_is_one_line():
    episodes = random_episodes(LENGTHS)
    without = {key: value for key, value in episodes[0].items() if key != "actions"}
    for value, expected in (
        ([], "has no episode"),
        (arrays(), "found dict; for flat arrays of all steps use from_arrays"),
        ([3], "episode 0 of dataset 'arrays' is of type int"),
        ([episodes[1], without], "episode 1 of dataset 'arrays' lacks actions"),
    ):
        assert expected in refusal(Trajectories.from_episodes, value)


def test_load_dataset_says_what_to_use_for_what_is_loaded_already():
    given = arrays()
    for value, expected in (
        (given, "use snn_dt.Trajectories.from_arrays(observations, actions, rewards, terminations, truncations)"),
        (Trajectories.from_arrays(**given), "found Trajectories, which are loaded already; use them as they are"),
        (random_episodes([2]), "snn_dt.Trajectories.from_episodes"),
        (given["observations"], "found ndarray"),
        (None, "found NoneType"),
    ):
        message = refusal(snn_dt.load_dataset, value)
        assert re.search(r"^expected the name of a dataset", message)
        assert expected in message
        assert len(message) < 300
