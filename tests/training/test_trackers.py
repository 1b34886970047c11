"""Names that trackers see, and TensorBoard and trackio, real where they are installed."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from snn_dt.config import TrackConfig
from snn_dt.errors import ConfigError
from snn_dt.report.media import policy_media
from snn_dt.report.style import new_figure, png
from snn_dt.strict import build
from snn_dt.training import trackers
from snn_dt.training.records import evaluation_record, metrics_record, target_name
from snn_dt.training.tracking import Tracker
from tests.conftest import read_jsonl
from tests.patience import HANG
from tests.policies import countdown_policy
from tests.runs import train

ROW = {"target_return": 500.0, "return_mean": 490.0, "return_interval": [480.0, 500.0], "firing_rates": {"a": 0.1}}


def needs(module, extra):
    with contextlib.suppress(ModuleNotFoundError):
        return importlib.import_module(module)
    pytest.skip(f"{module} is not installed: pip install 'snn-dt[{extra}]'")


def record_everything(folder, settings, resume_step=None):
    said = []
    tracker = Tracker(folder, settings, {"train": {"steps": 3}}, resume_step, said.append)
    first = 1 if resume_step is None else resume_step + 1
    for step in range(first, first + 2):
        tracker.log(step, {"loss": 1.0 / step, "firing_rate": 0.2, "firing_rate/a": 0.1, "firing_rate/b": 0.3})
    tracker.log_evaluation(first + 1, [ROW, ROW | {"target_return": 0.1}, ROW | {"target_return": 0.10000001}])
    tracker.log_media(first + 1, {"spike_raster": png(new_figure(1, 1))})
    tracker.finish()
    return said


NAMES = {500.0: "500", 0.1: "0.1", 0.10000001: "0.10000001", 1e22: "1e+22", -1 / 3: "-0.3333333333333333"}


@pytest.mark.parametrize(("target", "name"), NAMES.items())
def test_a_target_has_its_exact_name(target, name):
    assert target_name(target) == name
    assert float(name) == target
    assert target_name(np.nextafter(target, 1e30)) != name


def test_targets_that_print_alike_have_keys_of_their_own():
    close = [0.1, 0.10000001, float(np.nextafter(0.1, 1))]
    record = evaluation_record([ROW | {"target_return": target, "return_mean": target} for target in close], [])
    found = {name.rpartition("/")[2]: value for name, value in record.scalars.items() if "/return/" in name}
    assert list(found.values()) == close
    assert {float(name) for name in found} == set(close)


def test_metrics_are_sorted_into_sections_and_what_is_no_number_is_left_out():
    odd = {"flag": True, "text": "x", "list": [1], "nothing": None}
    record = metrics_record({"loss": 0.5, "validation_loss": 0.6, "firing_rate": 0.1, **odd})
    assert record.scalars == {"train/loss": 0.5, "eval/validation_loss": 0.6, "spikes/firing_rate": 0.1}


def test_curves_come_from_the_record_of_the_run_so_that_a_resumed_run_has_them_whole():
    lines = [{"step": 5, "loss": 1.0}, {"step": 5, "evaluation": [ROW]}]
    lines += [{"step": 9, "evaluation": [ROW | {"return_mean": 495.0, "return_interval": None}]}]
    assert evaluation_record([ROW], lines).curves == {"500": [(5, 490.0, 480.0, 500.0), (9, 495.0, 495.0, 495.0)]}


@pytest.mark.parametrize("value", ["tensorboard", ["tensorboard"], ["wandb", "trackio"], "none"])
def test_one_tracker_or_several_may_be_named(value):
    names = (value,) if isinstance(value, str) else tuple(value)
    assert build(TrackConfig, {"tracker": value}, "here").tracker == names
    with pytest.raises(ConfigError, match="mlflow"):
        build(TrackConfig, {"tracker": "mlflow"}, "here")


class Failing:
    """A tracker that fails in one of its methods."""

    def __init__(self, where, calls):
        self.where, self.calls = where, calls

    def _call(self, name):
        self.calls.append(name)
        if name == self.where:
            raise RuntimeError(f"{name} is broken\nsecond line")
        return True

    def start(self, run):
        return self._call("start")

    def log(self, step, record):
        self._call("log")

    def finish(self, exit_code):
        self._call("finish")


@pytest.mark.parametrize("where", ["start", "log", "finish"])
def test_a_tracker_that_fails_is_reported_once_and_the_others_go_on(tmp_path, monkeypatch, where):
    bad, good = [], []
    monkeypatch.setitem(trackers.TRACKERS, "trackio", lambda: Failing(where, bad))
    monkeypatch.setitem(trackers.TRACKERS, "tensorboard", lambda: Failing("", good))
    said = record_everything(tmp_path, TrackConfig(tracker=("trackio", "tensorboard")))
    assert len(said) == 1
    assert f"trackio failed in {'starting' if where == 'start' else where.replace('log', 'logging')}" in said[0]
    assert "\n" not in said[0]
    assert bad.count(where) == 1
    assert good == ["start", *["log"] * 4, "finish"]
    assert [row["step"] for row in read_jsonl(tmp_path / "metrics.jsonl")] == [1, 2, 2]


def test_a_package_that_is_missing_is_named_with_the_line_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    (line,) = record_everything(tmp_path, TrackConfig(tracker=("trackio", "none")))
    assert "pip install 'snn-dt[trackio]'" in line


def test_tensorboard_holds_scalars_intervals_layers_and_pictures_and_a_resumed_run_goes_on(tmp_path):
    needs("tensorboard", "tensorboard")
    settings = TrackConfig(tracker=("tensorboard",))
    assert record_everything(tmp_path, settings) == record_everything(tmp_path, settings, resume_step=1) == []
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3]
    assert {f"eval/return/{name}" for name in ("500", "0.1", "0.10000001")} <= set(tags["scalars"])
    assert events.Scalars("eval/return_low/500")[-1].value == 480.0
    assert tags["histograms"] == ["spikes/layers"]
    assert tags["images"] == ["media/spike_raster"]
    assert "custom_scalars__config__" in tags["tensors"]


TRACKIO = """
import sys
from pathlib import Path
from snn_dt.config import TrackConfig
from tests.training.test_trackers import record_everything
print(record_everything(Path(sys.argv[1]), TrackConfig(tracker=("trackio",), project="p", name="n")))
import json, trackio
print(json.dumps([run.name for run in trackio.Api().runs("p")]))
"""


def test_trackio_holds_the_run_and_prints_nothing(tmp_path):
    needs("trackio", "trackio")
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", TRACKIO, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, done.stderr
    said, runs = done.stdout.splitlines()
    assert said == "[]"
    assert json.loads(runs) == ["n"]
    assert list((tmp_path / "trackio").glob("*.db"))


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_the_trackers_of_a_training_get_its_figures(tmp_path, monkeypatch, name):
    records = []
    double = Failing("", [])
    double.log = lambda step, record: records.append(record)
    monkeypatch.setitem(trackers.TRACKERS, name, lambda: double)
    assert train(tmp_path / "run", track__tracker=name, track__wandb="offline", model__kind="snn_dt") == 0
    media = {key: value for record in records for key, value in record.media.items()}
    assert set(media) == {"return_vs_target", "spike_raster"}
    assert all(value.startswith(b"\x89PNG") for value in media.values())
    assert [record.checkpoint[1] for record in records if record.checkpoint] == [["last"], ["best"]]


def test_a_run_with_three_targets_records_its_calibration(tmp_path):
    assert train(tmp_path / "run", eval__target_return="[100, 50, 20]", eval__episodes=1) == 0
    (line,) = [row for row in read_jsonl(tmp_path / "run" / "metrics.jsonl") if "calibration" in row]
    assert line["step"] == 14
    assert 0 <= line["calibration"]["error"] <= 1
    assert set(metrics_record(line).scalars) >= {"eval/calibration/error"}


def test_a_picture_that_cannot_be_made_is_a_line_and_the_others_are_there():
    said = []
    found = policy_media(countdown_policy(kind="snn_dt"), [ROW], [1.0], "snn_dt", None, said.append, env_id="No-v0")
    assert list(found) == ["return_vs_target"]
    assert len(said) == 1
    assert "no spike raster for the trackers" in said[0]
