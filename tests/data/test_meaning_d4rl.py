"""A D4RL file that does not mean what it seems to is refused in one line, or what is odd is said with numbers."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

import snn_dt
from snn_dt.cli.main import main
from snn_dt.task import action_space
from tests.data.test_d4rl_source import write
from tests.data.test_data_faults import refusal
from tests.data.test_meaning_minari import said

RNG = np.random.default_rng(0)


def flags(rows: int, ends: list[int], dtype: type = bool) -> np.ndarray:
    return np.isin(np.arange(rows), ends).astype(dtype)


@pytest.mark.parametrize("name", ["terminals", "timeouts"])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([b"False"] * 49 + [b"True"]), "of type |S5"),
        (flags(50, [49], float) * 0.3, "of 0.3 at step 49"),
        (flags(50, [9, 49], int) * 2, "of 2 at step 9 (2 such values)"),
        (np.full(50, np.nan), "of nan at step 0 (50 such values)"),
        (np.zeros(50, complex), "of type complex128"),
    ],
)
def test_flags_that_are_none_are_refused(tmp_path, name, values, expected):
    write(tmp_path / "mine.hdf5", 50, ends={19: "terminals"}, **{name: values})
    message = refusal(f"d4rl:{tmp_path}/mine.hdf5")
    assert name in message
    assert expected in message


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64])
def test_flags_of_zeros_and_ones_are_flags(tmp_path, caplog, dtype):
    write(tmp_path / "mine.hdf5", 50, terminals=flags(50, [49], dtype), timeouts=flags(50, [9], dtype))
    assert said(f"d4rl:{tmp_path}/mine.hdf5", caplog) == ""
    assert snn_dt.load_dataset(f"d4rl:{tmp_path}/mine.hdf5").episode_lengths.tolist() == [10, 40]


def test_timeouts_that_are_not_marked_are_cut_at_the_limit_and_said(tmp_path, caplog):
    path = tmp_path / "hopper_medium_replay-v1.hdf5"
    write(path, 5301, ends={1299: "terminals", 2299: "timeouts", 2300: "terminals"})
    message = said(f"d4rl:{path}", caplog)
    assert "4 ends are not marked in the file: stretches of more than 1000 steps, the limit of hopper" in message
    assert "the last 1,000 of 5,301" not in message
    t = snn_dt.load_dataset(f"d4rl:{path}")
    assert t.episode_lengths.tolist() == [1000, 300, 1000, 1, 1000, 1000, 1000]
    assert t.terminated.tolist() == [False, True, False, True, False, False, False]


@pytest.mark.parametrize(("name", "obs_dim", "action_dim"), [("door_human", 39, 28), ("maze2d-umaze-sparse-v1", 4, 2)])
def test_recordings_that_go_on_beyond_the_limit_are_kept_whole_and_said(tmp_path, caplog, name, obs_dim, action_dim):
    path = tmp_path / f"{name}.hdf5"
    write(path, 700, obs_dim, action_dim, ends={299: "timeouts", 699: "timeouts"})
    assert "episodes are longer than the step limit of" in said(f"d4rl:{path}", caplog)
    assert snn_dt.load_dataset(f"d4rl:{path}").episode_lengths.tolist() == [300, 400]


@pytest.mark.parametrize(
    ("end", "expected"), [(0, "399 of 400 rows (99.75%)"), (397, "2 of 400 rows (0.50%)"), (399, "")]
)
def test_rows_that_nothing_ends_are_counted(tmp_path, caplog, end, expected):
    write(tmp_path / "mine.hdf5", 400, ends={end: "terminals"})
    message = said(f"d4rl:{tmp_path}/mine.hdf5", caplog)
    assert expected in message
    assert bool(message) == bool(expected)


@pytest.mark.parametrize(
    ("name", "shape"), [("observations", (50, 0)), ("actions", (50, 0)), ("observations", (50, 4, 0))]
)
def test_columns_without_a_number_are_refused(tmp_path, name, shape):
    write(tmp_path / "mine.hdf5", 50, ends={9: "terminals"}, **{name: np.zeros(shape)})
    assert "expected vectors of at least one number" in refusal(f"d4rl:{tmp_path}/mine.hdf5")


@pytest.mark.parametrize(
    ("shape", "dtype"), [((4, 84, 84), np.uint8), ((84, 84, 3), np.uint8), ((3, 64, 64), np.float32)]
)
def test_images_are_refused(tmp_path, shape, dtype):
    write(tmp_path / "mine.hdf5", 3, ends={2: "terminals"}, observations=np.zeros((3, *shape), dtype))
    assert "no images" in refusal(f"d4rl:{tmp_path}/mine.hdf5")


def test_small_grids_are_read_as_numbers_which_is_said(tmp_path, caplog):
    write(tmp_path / "mine.hdf5", 3, ends={2: "terminals"}, observations=np.zeros((3, 7, 7, 3), np.uint8))
    assert "shape (7, 7, 3) are read as 147 plain numbers" in said(f"d4rl:{tmp_path}/mine.hdf5", caplog)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool])
@pytest.mark.parametrize("shape", [(50,), (50, 1), (50, 2)])
def test_whole_numbers_as_actions_are_refused_unless_the_environment_is_named(tmp_path, dtype, shape):
    path = tmp_path / "mine.hdf5"
    write(path, 50, obs_dim=4, ends={49: "terminals"}, actions=RNG.integers(0, 2, shape).astype(dtype))
    assert f"actions of type {np.dtype(dtype)}" in refusal(f"d4rl:{path}")
    if shape != (50, 2):
        t = snn_dt.load_dataset(f"d4rl:{path}", action_space=action_space(f"d4rl:{path}", "CartPole-v1"))
        assert (t.discrete, t.action_dim) == (True, 2)


def test_decimal_actions_that_are_all_whole_numbers_are_said(tmp_path, caplog):
    write(tmp_path / "mine.hdf5", 50, ends={49: "terminals"}, actions=RNG.integers(0, 2, (50, 1)).astype(np.float32))
    assert "all actions are whole numbers (float32)" in said(f"d4rl:{tmp_path}/mine.hdf5", caplog)


def test_actions_beyond_one_have_the_bounds_of_the_data_or_of_the_named_environment(tmp_path, caplog):
    path = tmp_path / "pendulum.hdf5"
    write(
        path, 50, obs_dim=3, ends={49: "terminals"}, actions=np.linspace(-1.5, 2, 50, dtype=np.float32).reshape(-1, 1)
    )
    assert "actions go from -1.5 to 2, beyond D4RL's -1 to 1" in said(f"d4rl:{path}", caplog)
    of_data = snn_dt.load_dataset(f"d4rl:{path}")
    assert (of_data.action_low, of_data.action_high) == (-1.5, 2)
    torques = action_space(f"d4rl:{path}", "Pendulum-v1")
    assert said(f"d4rl:{path}", caplog, action_space=torques) == ""
    assert snn_dt.load_dataset(f"d4rl:{path}", action_space=torques).action_space == torques
    assert main(["data", "info", f"d4rl:{path}", "--env-id", "Pendulum-v1"]) == 0
    assert main(["data", "info", f"d4rl:{path}", "--env-id", "NoSuchEnv-v1"]) == 2


def test_actions_beyond_the_named_bounds_are_clipped_and_counted(tmp_path, caplog):
    path = tmp_path / "hopper-medium-v2.hdf5"
    actions = np.full((50, 3), 0.5, np.float32)
    actions[[3, 7], 1] = 1.05, -1.25
    write(path, 50, ends={49: "terminals"}, actions=actions)
    assert "2 of 50 actions are outside the bounds Box(-1.0, 1.0" in said(f"d4rl:{path}", caplog)
    t = snn_dt.load_dataset(f"d4rl:{path}")
    assert np.abs(t.actions).max() == pytest.approx(1, abs=1e-2)
    actions[3, 1] = np.nan
    write(path, 50, ends={49: "terminals"}, actions=actions)
    assert "action nan at step 3" in refusal(f"d4rl:{path}")


def test_named_actions_of_another_size_are_refused(tmp_path):
    path = tmp_path / "mine.hdf5"
    write(path, 50, ends={49: "terminals"})
    with pytest.raises(snn_dt.errors.DataError, match="actions of 3 numbers: expected 1"):
        snn_dt.load_dataset(f"d4rl:{path}", action_space=spaces.Box(-2, 2, (1,)))
