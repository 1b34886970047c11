"""A Minari dataset that does not mean what it seems to is refused in one line, or what is odd is said with numbers."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import gymnasium as gym
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from gymnasium import spaces

import snn_dt
from snn_dt.cli.main import main
from tests.data.test_data_faults import refusal
from tests.data.test_minari_source import edit_metadata
from tests.data.toy_episodes import ACTION_BOX, BOX, random_episodes

INF = float("inf")
NESTED = spaces.Dict({"a": BOX, "b": spaces.Tuple((spaces.Box(-1.0, 1.0, (2,)), spaces.Box(-1.0, 1.0, (1,))))})


def said(spec: str | Path, caplog, **options) -> str:
    """Return the warnings with which a dataset is loaded, the same the second time; each must be one line."""
    texts = []
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            snn_dt.load_dataset(spec, **options)
        texts.append([record.getMessage() for record in caplog.records])
    assert texts[0] == texts[1]
    assert not any("\n" in line for line in texts[0])
    return "\n".join(texts[0])


@pytest.mark.parametrize("data_format", ["hdf5", "arrow", "parquet"])
def test_a_good_dataset_has_nothing_said_of_it(minari_set, caplog, data_format):
    assert said(minari_set(random_episodes([5, 4]), data_format=data_format), caplog) == ""


@pytest.mark.parametrize("key", ["total_episodes", "total_steps"])
@pytest.mark.parametrize("value", [4.7, 2.0, INF, -INF, float("nan"), -1, True, "2", "many", [], {}])
def test_a_count_that_is_no_whole_number_is_refused(minari_set, key, value):
    folder = minari_set(random_episodes([5, 4]))
    edit_metadata(folder, **{key: value})
    assert f"expected {key} to be a whole number" in refusal(folder)


@pytest.mark.parametrize("data_format", ["hdf5", "arrow", "parquet"])
@pytest.mark.parametrize("count", [0, 1, 2, 4, 10**30])
def test_more_or_fewer_episodes_than_the_metadata_say_are_refused(minari_set, data_format, count):
    folder = minari_set(random_episodes([5, 4, 3]), data_format=data_format)
    edit_metadata(folder, total_episodes=count)
    assert f"says total_episodes {count}, the file holds 3" in refusal(folder)


@pytest.mark.parametrize("steps", [0, 8, 10])
def test_other_steps_than_the_metadata_say_are_said(minari_set, caplog, steps):
    folder = minari_set(random_episodes([5, 4]))
    edit_metadata(folder, total_steps=steps)
    assert f"total_steps {steps}, the episodes have 9" in said(folder, caplog)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda f: f.move("episode_1", "episode_7"), "without an episode is episode_1"),
        (lambda f: f.copy("episode_1", "episode_3"), "says total_episodes 3, the file holds 4"),
        (lambda f: f["episode_1"].attrs.__setitem__("id", 2), "says id 2, found it as number 1"),
        (lambda f: f["episode_1"].attrs.__setitem__("id", 0), "says id 0, found it as number 1"),
        (lambda f: f["episode_1"].attrs.__setitem__("total_steps", 9), "says total_steps 9"),
        (lambda f: f["episode_1"].attrs.__setitem__("total_steps", 4.5), "total_steps to be a whole number"),
        (lambda f: (f.move("episode_0", "x"), f.move("episode_1", "episode_0"), f.move("x", "episode_1")), "says id 1"),
    ],
)
def test_episodes_that_are_missing_twice_there_or_out_of_order_are_refused(minari_set, edit, expected):
    folder = minari_set(random_episodes([5, 4, 3]))
    with h5py.File(folder / "data" / "main_data.hdf5", "r+") as file:
        edit(file)
    assert expected in refusal(folder)


FLAGS = {
    "text": (["no", "no", "no", "no", "yes"], "of type"),
    "fraction": ([0.0, 0.0, 0.0, 0.0, 0.3], "of 0.3 at step 4"),
    "two": ([0, 0, 0, 0, 2], "of 2 at step 4"),
    "negative": ([0, 0, 0, 0, -1], "of -1 at step 4"),
    "not a number": ([0, 0, 0, 0, float("nan")], "of nan at step 4"),
    "short": ([False, False, False, True], "4 {} for 5 rewards"),
    "long": ([False] * 5 + [True], "6 {} for 5 rewards"),
    "none": (np.zeros(0, bool), "0 {} for 5 rewards"),
    "wide": (np.zeros((5, 2), bool), "shape [5, 2]"),
    "complex": (np.zeros(5, complex), "of type complex128"),
    "inside": ([False, False, True, False, True], "{} set at step 2 of 0 to 4"),
    "inside only": ([True, False, False, False, False], "{} set at step 0 of 0 to 4"),
}


@pytest.mark.parametrize("name", ["terminations", "truncations"])
@pytest.mark.parametrize("case", FLAGS)
def test_flags_of_hdf5_that_are_none_are_refused(minari_set, name, case):
    values, expected = FLAGS[case]
    folder = minari_set(random_episodes([5]))
    with h5py.File(folder / "data" / "main_data.hdf5", "r+") as file:
        del file[f"episode_0/{name}"]
        file[f"episode_0/{name}"] = np.array(values, dtype="S3") if case == "text" else values
    assert expected.format(name) in refusal(folder)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_flags_of_zeros_and_ones_are_flags(minari_set, caplog, dtype):
    folder = minari_set(random_episodes([5, 4]))
    with h5py.File(folder / "data" / "main_data.hdf5", "r+") as file:
        for name in ("episode_0/terminations", "episode_1/truncations"):
            values = file[name][()].astype(dtype)
            del file[name]
            file[name] = values
    assert said(folder, caplog) == ""
    assert snn_dt.load_dataset(folder).terminated.tolist() == [True, False]


@pytest.mark.parametrize("data_format", ["hdf5", "arrow", "parquet"])
def test_an_episode_that_nothing_ends_is_said(minari_set, caplog, data_format):
    episodes = random_episodes([5, 4, 3])
    episodes[0]["terminations"][:] = episodes[1]["truncations"][:] = False
    assert "2 of 3 episodes end without" in said(minari_set(episodes, data_format=data_format), caplog)


def test_an_episode_longer_than_its_step_limit_is_said(minari_set, caplog):
    folder = minari_set(random_episodes([5, 13, 12]))
    spec = json.loads(gym.spec("CartPole-v1").to_json()) | {"max_episode_steps": 10}
    edit_metadata(folder, env_spec=json.dumps(spec))
    message = said(folder, caplog)
    assert "2 of 3 episodes are longer than the step limit of 10" in message
    assert "the longest 13" in message


def _edit_table(folder: Path, column: str, change) -> None:
    """Rewrite a column (`observations/a`, `actions`, ...) of episode 0 of an Arrow or Parquet set as a Python list."""
    (part,) = (folder / "data" / "0").glob("part-*")
    arrow = part.suffix == ".arrow"
    table = pa.ipc.open_file(part.read_bytes()).read_all() if arrow else pa.parquet.read_table(part)
    name, *path = column.split("/")
    rows = table[name].to_pylist()
    if path:
        for row in rows:
            *above, last = path
            for key in above:
                row = row[key]
            row[last] = [float(x) for x in row[last]]
        holders = [row if len(path) == 1 else row[path[0]] for row in rows]
        values = change([holder[path[-1]] for holder in holders])
        for holder, value in zip(holders, values, strict=True):
            holder[path[-1]] = value
    else:
        rows = change(rows)
    table = table.set_column(table.column_names.index(name), name, pa.array(rows))
    if arrow:
        with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    else:
        pa.parquet.write_table(table, part)


def _ragged(rows):
    return [row[:-1] if i == 1 else [*row, row[0]] if i == 2 else row for i, row in enumerate(rows)]


def _null_row(rows):
    return [None if i == 1 else row for i, row in enumerate(rows)]


def _null_inside(rows):
    return [[None, *row[1:]] if i == 1 else row for i, row in enumerate(rows)]


@pytest.mark.parametrize("data_format", ["arrow", "parquet"])
@pytest.mark.parametrize(
    ("column", "change", "expected"),
    [
        *((name, _ragged, "different lengths") for name in ("observations", "actions")),
        *((name, _null_row, "missing values") for name in ("observations", "actions", "rewards")),
        *((name, _null_row, "missing values") for name in ("terminations", "truncations")),
        *((name, _null_inside, "missing values") for name in ("observations", "actions")),
        ("terminations", lambda rows: [0.3] * len(rows), "of 0.3 at step 0"),
        ("terminations", lambda rows: [str(row) for row in rows], "of type string"),
        ("truncations", lambda rows: [i == 1 for i, _ in enumerate(rows)], "truncations set at step 1"),
        ("rewards", lambda rows: [str(row) for row in rows], "of type string"),
        ("rewards", lambda rows: [[row] * (1 + i % 2) for i, row in enumerate(rows)], "different lengths"),
        ("observations", lambda rows: [[str(x) for x in row] for row in rows], "string>"),
        ("observations", lambda rows: [[[x], [x]] if i else [[x, x]] for i, (x, *_) in enumerate(rows)], "lengths"),
        ("actions", lambda rows: [{"x": row} for row in rows], "lists of numbers were expected"),
    ],
)
def test_lists_and_values_that_are_none_are_refused(minari_set, data_format, column, change, expected):
    folder = minari_set(random_episodes([5]), data_format=data_format)
    _edit_table(folder, column, change)
    assert expected in refusal(folder)


@pytest.mark.parametrize("data_format", ["arrow", "parquet"])
@pytest.mark.parametrize("column", ["observations/a", "observations/b/0", "observations/b/1"])
@pytest.mark.parametrize("change", [_ragged, _null_row, _null_inside])
def test_nested_columns_are_looked_at_as_closely(minari_set, data_format, column, change):
    (episode,) = random_episodes([5])
    pair = (np.zeros((6, 2), np.float32), np.zeros((6, 1), np.float32))
    episode["observations"] = {"a": episode["observations"], "b": pair}
    folder = minari_set([episode], observation_space=NESTED, data_format=data_format)
    assert snn_dt.load_dataset(folder).obs_dim == 6
    _edit_table(folder, column, change)
    assert refusal(folder)


@pytest.mark.parametrize("data_format", ["arrow", "parquet"])
@pytest.mark.parametrize("steps", [0, 3, 7, 100])
def test_other_rows_than_an_episode_says_are_refused(minari_set, data_format, steps):
    folder = minari_set(random_episodes([5]), data_format=data_format)
    (folder / "data" / "0" / "metadata.json").write_text(json.dumps({"id": 0, "total_steps": steps}))
    assert f"says total_steps {steps}, the table has 6 rows" in refusal(folder)


@pytest.mark.parametrize(
    ("shape", "dtype", "image"),
    [
        ((4, 84, 84), np.uint8, True),
        ((84, 84), np.uint8, True),
        ((1, 84, 84, 3), np.uint8, True),
        ((10, 10, 4), np.uint8, True),
        ((3, 64, 64), np.float32, None),
        ((7, 7, 3), np.uint8, False),
        ((28, 28), np.uint8, False),
        ((128,), np.uint8, False),
        ((40, 40), np.float32, False),
    ],
)
def test_images_are_told_wherever_their_channels_are(minari_set, caplog, shape, dtype, image):
    space = spaces.Box(0, 255, shape, dtype)
    (episode,) = random_episodes([2])
    vectors = spaces.Box(0, 255, (int(np.prod(shape)),), dtype)
    rows = np.arange(3 * vectors.shape[0]).reshape(3, -1) % 200
    folder = minari_set([episode | {"observations": rows.astype(dtype)}], observation_space=vectors)
    edit_metadata(folder, observation_space=_json(space))
    if image is None:
        assert f"image {shape} observations of float32" in refusal(folder)
    elif image:
        said(folder, caplog)
        data = snn_dt.load_dataset(str(folder))
        assert (data.image.shape, data.observations.dtype, data.state_mean.shape) == (shape, np.uint8, (0,))
        assert (data.observations == rows[:2]).all()
    else:
        assert ("plain numbers" in said(folder, caplog)) == (len(shape) > 1)


@pytest.mark.parametrize("shape", [(0,), (2, 0)])
@pytest.mark.parametrize("which", ["observation_space", "action_space"])
def test_spaces_without_a_number_are_refused(minari_set, shape, which):
    folder = minari_set(random_episodes([5]))
    edit_metadata(
        folder, **{which: json.dumps({"type": "Box", "dtype": "float32", "shape": shape, "low": [], "high": []})}
    )
    refusal(folder)


def _json(space: gym.Space) -> str:
    from minari.serialization import serialize_space

    return serialize_space(space)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        ([-1, 0.5], [1, 0.5], "action column 1 has bounds of zero width"),
        ([-1, -1e30], [1, 1e30], "action column 1 has bounds of -1e+30 to 1e+30"),
        ([-3.4e38, -1], [3.4e38, 1], "action column 0 has bounds of -3.4e+38"),
    ],
)
def test_bounds_of_no_width_or_too_much_are_said_and_do_not_swallow_the_loss(minari_set, caplog, low, high, expected):
    space = spaces.Box(np.array(low, np.float32), np.array(high, np.float32))
    episodes = random_episodes([5, 4])
    for episode in episodes:
        episode["actions"] = np.clip(episode["actions"], space.low, space.high)
    folder = minari_set(episodes, action_space=space)
    assert expected in said(folder, caplog)
    assert (snn_dt.load_dataset(folder).action_bounds is None) == ("zero" not in expected)


@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_whole_numbers_that_are_learned_as_continuous_actions_are_said(minari_set, caplog, dtype):
    space = spaces.Box(0, 3, (1,), dtype)
    episodes = random_episodes([5, 4])
    for episode in episodes:
        episode["actions"] = (np.arange(len(episode["actions"])) % 4).reshape(-1, 1).astype(dtype)
    assert "all actions are whole numbers" in said(minari_set(episodes, action_space=space), caplog)


def test_actions_that_float32_cannot_tell_apart_are_said(minari_set, caplog):
    space = spaces.Box(5e6, 5e6 + 1, (1,), np.float64)
    episodes = random_episodes([5])
    episodes[0]["actions"] = 5e6 + np.linspace(0, 0.4, 5).reshape(-1, 1)
    assert "actions are learned in float32" in said(minari_set(episodes, action_space=space), caplog)


@pytest.mark.parametrize(
    "metadata",
    [
        "[" * 100_000,
        '{"total_episodes": ' + "[" * 100_000,
        '{"total_episodes": Infinity}',
        "[]",
        "5",
        "null",
        '"x"',
        "",
    ],
)
def test_one_damaged_dataset_hides_no_other(minari_set, capsys, metadata):
    good, bad = minari_set(random_episodes([5]), "toy/good-v0"), minari_set(random_episodes([5]), "toy/bad-v0")
    assert good.exists()
    (bad / "data" / "metadata.json").write_text(metadata)
    assert main(["data", "list"]) == 0
    captured = capsys.readouterr()
    assert "minari:toy/good-v0" in captured.out
    assert captured.err.count("\n") == 1
    assert "toy/bad-v0" in captured.err
    refusal(bad)


def test_notes_are_in_what_data_info_prints(minari_set, capsys):
    folder = minari_set(random_episodes([5, 4]), action_space=ACTION_BOX)
    edit_metadata(folder, total_steps=8)
    assert main(["data", "info", str(folder), "--json"]) == 0
    assert "total_steps 8" in json.loads(capsys.readouterr().out)["notes"][0]


def test_a_name_that_would_control_the_terminal_is_refused(minari_set):
    folder = minari_set(random_episodes([5, 4]))
    edit_metadata(folder, dataset_id="a\x1b[31mb")
    assert "expected a dataset_id that can be printed, found 'a\\x1b[31mb'" in refusal(folder)
