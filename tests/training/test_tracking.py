"""The record of a run: what is written, what happens on resume, and that neither wandb nor the disk can stop a run."""

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from snn_dt import io, jsonl
from snn_dt.config import TrackConfig
from snn_dt.report.style import new_figure, png
from snn_dt.training import wandb_run
from snn_dt.training.tracking import Tracker
from tests.patience import HANG

ROW = {
    "target_return": 500.0,
    "episodes": 2,
    "seed": 1,
    "returns": [490.0, 500.0],
    "return_mean": 495.0,
    "return_interval": [490.0, 500.0],
    "firing_rates": {"block.0": 0.1},
    "by_module": {"block.0": {"macs": 1.0}},
    "normalized_score": None,
    "env_id": "CartPole-v1",
}


class FakeRun:
    def __init__(self, module, options):
        self.module, self.id, self.step = module, options["id"], module.first_step
        self.dir = str(Path(options["dir"], "wandb", "offline-run-x", "files"))
        self.logged, self.artifacts, self.exit_code, self.defined = [], [], None, {}

    def define_metric(self, name, summary):
        self.defined[name] = summary

    def log(self, values, step):
        self.module.maybe_fail("log")
        self.logged.append((step, values))
        self.step = step

    def log_artifact(self, artifact, aliases):
        self.artifacts.append((artifact, aliases))

    def finish(self, exit_code):
        self.module.maybe_fail("finish")
        self.exit_code = exit_code


@pytest.fixture
def wandb(monkeypatch):
    """A local double of wandb, which records every call and fails where `fails` says so."""
    module = types.ModuleType("wandb")
    module.inits, module.runs, module.fails, module.first_step = [], [], set(), 0

    def maybe_fail(call):
        if call in module.fails:
            raise RuntimeError(f"{call} is broken\nwith a second line")

    def init(**options):
        module.inits.append(options)
        module.maybe_fail("init")
        module.runs.append(FakeRun(module, options))
        return module.runs[-1]

    class Artifact:
        def __init__(self, name, type):
            module.maybe_fail("artifact")
            self.files = {}

        def add_file(self, path, name):
            self.files[name] = path

    module.maybe_fail, module.init, module.Artifact = maybe_fail, init, Artifact
    module.Settings = type("Settings", (), {"__init__": lambda self, **options: self.__dict__.update(options)})
    module.Table = lambda columns, data, allow_mixed_types=False: (columns, data)
    module.Histogram = lambda values: ("histogram", values)
    module.Image = lambda picture: ("image", picture.size)
    module.Video = lambda path, format: ("video", path, format)
    module.plot = types.SimpleNamespace(line_series=lambda **chart: chart)
    monkeypatch.setitem(sys.modules, "wandb", module)
    for name in [*os.environ]:
        if name.startswith("WANDB_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", "/nowhere")
    monkeypatch.setenv("WANDB_CONFIG_DIR", "/nowhere")
    return module


@pytest.fixture
def listener():
    """A host that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def make(folder, mode="disabled", resume_step=None, **settings):
    said = []
    tracker = Tracker(folder, TrackConfig(wandb=mode, **settings), {"train": {"steps": 3}}, resume_step, said.append)
    return tracker, said


def test_a_step_is_one_line_of_valid_json_whatever_the_numbers(tmp_path):
    tracker, said = make(tmp_path)
    tracker.log(1, {"loss": float("nan"), "worst": float("-inf"), "rate": {"a": np.float32(0.5), "b": torch.tensor(2)}})
    tracker.log(2, {"loss": torch.tensor(0.25), "flag": True, "array": np.arange(2), "odd": Path("x")})
    assert rows(tmp_path) == [
        {"step": 1, "loss": None, "worst": None, "rate": {"a": 0.5, "b": 2}},
        {"step": 2, "loss": 0.25, "flag": True, "array": [0, 1], "odd": "x"},
    ]
    assert said == []


def test_an_evaluation_is_one_line_without_the_episodes(tmp_path):
    tracker, _ = make(tmp_path)
    tracker.log_evaluation(7, [ROW])
    (line,) = rows(tmp_path)
    assert line == {"step": 7, "evaluation": [{k: v for k, v in ROW.items() if k not in ("returns", "by_module")}]}


def test_resume_drops_later_and_torn_lines_and_a_new_run_sets_the_old_record_aside(tmp_path):
    text = '{"step": 1}\n{"step": 2, "x": 0.1}\n{"st\n{"step": 3}\n{"step": 4}\n{"step": 2, "evaluation": []}\n{"step"'
    (tmp_path / "metrics.jsonl").write_text(text)
    tracker, _ = make(tmp_path, resume_step=2)
    tracker.log(3, {"again": 1})
    assert rows(tmp_path) == [
        {"step": 1},
        {"step": 2, "x": 0.1},
        {"step": 2, "evaluation": []},
        {"step": 3, "again": 1},
    ]
    make(tmp_path)[0].log(1, {})
    assert rows(tmp_path) == [{"step": 1}]
    assert len(jsonl.read_rows(tmp_path / "metrics.previous.jsonl")) == 4


def test_a_full_disk_warns_once_and_tears_no_later_line(tmp_path, monkeypatch):
    tracker, said = make(tmp_path)
    tracker.log(1, {})

    def half(path, line):
        with path.open("a") as file:
            file.write(line[:5])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(jsonl, "append_line", half)
        tracker.log(2, {})
        tracker.log(3, {})
    tracker.log(4, {})
    assert [row["step"] for row in jsonl.read_rows(tmp_path / "metrics.jsonl")] == [1, 4]
    assert len(said) == 1
    assert "No space left" in said[0]


def test_a_run_folder_that_cannot_be_written_stops_nothing(tmp_path):
    tracker, said = make(tmp_path / "missing")
    tracker.log(1, {"loss": 1.0})
    tracker.finish()
    assert len(said) == 1


def test_a_file_replaced_on_a_full_disk_keeps_its_old_text(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_text("old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        io.write_atomically(path, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert path.read_text() == "old"


def test_wandb_gets_metrics_in_sections_evaluations_media_config_and_checkpoints(tmp_path, wandb):
    tracker, said = make(tmp_path, "online", project="p", group="g", tags=("a",))
    layers = {f"firing_rate/blocks.{i}": i / 100 for i in range(74)}
    tracker.log(1, {"loss": 0.5, "rate": {"a": 0.1}, "firing_rate": 0.2, "synaptic_operations": 9.0, **layers})
    costs = {"spikes_per_decision": 7.0, "energy_pj_per_decision": 9.0}
    tracker.log_evaluation(1, [ROW | costs, ROW | costs | {"target_return": 0.1, "return_mean": 1.0}])
    tracker.log_evaluation(2, [ROW | {"return_mean": 497.0}])
    tracker.log_media(2, {"spike_raster": png(new_figure()), "video": Path("a.mp4")})
    folder = tmp_path / "checkpoints"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "b.json").write_text("{}")
    tracker.log_checkpoint(folder, ["last"])
    tracker.finish(3)
    (options,), (run,) = wandb.inits, wandb.runs
    expected = {"mode": "online", "project": "p", "group": "g", "tags": ["a"], "dir": str(tmp_path), "resume": None}
    assert expected.items() <= options.items()
    assert options["name"] == tmp_path.name
    assert options["config"] == {"train": {"steps": 3}}
    assert options["settings"].init_timeout == 15
    assert run.logged[0] == (
        1,
        {
            **{"train/loss": 0.5, "train/rate/a": 0.1, "spikes/firing_rate": 0.2, "energy/synaptic_operations": 9.0},
            "spikes/layers": ("histogram", list(layers.values())),  # one key, not 74
        },
    )
    step, evaluation = run.logged[1]
    columns, data = evaluation.pop("eval/table")
    assert step == 1
    assert evaluation.pop("spikes/layers") == (["layer", "firing rate"], [["block.0", 0.1]])
    charts = {name: evaluation.pop(f"eval/return_with_interval/{name}") for name in ("500", "0.1")}
    assert charts["500"]["ys"] == [[495.0], [490.0], [500.0]]
    assert evaluation == {
        **{"eval/return": 495.0, "eval/return/500": 495.0, "eval/return/0.1": 1.0},
        **{"eval/return_low/500": 490.0, "eval/return_high/500": 500.0},
        **{"eval/return_low/0.1": 490.0, "eval/return_high/0.1": 500.0},
        **{"spikes/per_decision": 7.0, "energy/pj": 9.0},
    }
    assert [dict(zip(columns, row, strict=True))["target_return"] for row in data] == [500.0, 0.1]
    chart = run.logged[2][1]["eval/return_with_interval/500"]
    assert (chart["xs"], chart["ys"][0], chart["title"]) == ([1, 2], [495.0, 497.0], "return at target 500")
    pictures = {"media/spike_raster": ("image", (1024, 672)), "media/video": ("video", "a.mp4", "mp4")}
    assert run.logged[3] == (2, pictures)
    assert run.defined == {"eval/return": "max", "eval/return/*": "max"}  # the summary holds the best return
    (artifact, aliases), *rest = run.artifacts
    assert (artifact.files, aliases, rest) == ({"a/b.json": str(folder / "a" / "b.json")}, ["last"], [])
    assert (run.exit_code, said) == (3, [])


def test_resume_goes_on_under_the_same_id_and_skips_the_steps_that_wandb_has(tmp_path, wandb):
    make(tmp_path, "online")[0].log(1, {})
    wandb.first_step = 150
    tracker, _ = make(tmp_path, "online", resume_step=100)
    for step in (101, 150, 151):
        tracker.log(step, {"loss": 0.0})
    assert wandb.inits[1]["id"] == wandb.inits[0]["id"]
    assert (wandb.inits[0]["resume"], wandb.inits[1]["resume"]) == (None, "allow")
    assert [step for step, _ in wandb.runs[1].logged] == [150, 151]
    assert [row["step"] for row in rows(tmp_path)] == [1, 101, 150, 151]


@pytest.mark.parametrize("call", ["init", "log", "artifact", "finish"])
def test_a_wandb_that_raises_is_reported_once_and_the_record_goes_on(tmp_path, wandb, call):
    wandb.fails = {call}
    tracker, said = make(tmp_path, "online")
    for step in (1, 2):
        tracker.log(step, {"loss": 1.0})
        tracker.log_evaluation(step, [ROW])
        tracker.log_checkpoint(tmp_path, ["last"])
    tracker.finish()
    tracker.finish()
    assert len(said) == 1
    assert f"RuntimeError: {call} is broken" in said[0]
    assert "\n" not in said[0]
    assert len(rows(tmp_path)) == 4


def test_auto_without_a_key_is_offline_and_says_how_to_sync(tmp_path, wandb, listener, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{listener}")
    _, said = make(tmp_path, "auto")
    assert wandb.inits[0]["mode"] == "offline"
    assert len(said) == 1
    assert f"wandb sync {tmp_path / 'wandb' / 'offline-run-x'}" in said[0]
    assert "no API key" in said[0]


def test_auto_with_a_key_and_a_host_that_accepts_is_online(tmp_path, wandb, listener, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{listener}")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    _, said = make(tmp_path, "auto")
    assert (wandb.inits[0]["mode"], said) == ("online", [])


def test_auto_finds_the_key_in_netrc_and_the_host_in_the_settings_file(tmp_path, wandb, listener, monkeypatch):
    (tmp_path / "settings").write_text(f"[default]\nbase_url = http://127.0.0.1:{listener}/\n")
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1:{listener}\n  login user\n  password {'k' * 40}\n")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    make(tmp_path, "auto")
    assert wandb.inits[0]["mode"] == "online"


def test_auto_knocks_at_the_proxy_where_there_is_one(tmp_path, wandb, listener, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.invalid")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{listener}")
    make(tmp_path, "auto")
    assert wandb.inits[0]["mode"] == "online"


def test_auto_with_a_dead_host_is_offline_and_waits_for_no_dead_name_server(tmp_path, wandb, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    _, said = make(tmp_path, "auto")
    assert "did not answer" in said[0]
    gives_up, answered = threading.Event(), threading.Event()

    def dead(*_, **__):
        gives_up.wait(HANG)
        answered.set()
        raise OSError("no answer from the name server")

    monkeypatch.setattr(socket, "getaddrinfo", dead)
    assert not wandb_run.accepts_connection("localhost", port, 0.2)
    assert not answered.is_set(), "it has waited for the name server"
    gives_up.set()
    assert [options["mode"] for options in wandb.inits] == ["offline"]


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("host", ["a..b", "x" * 70, ""])
def test_a_host_whose_name_is_none_does_not_accept(host):
    assert not wandb_run.accepts_connection(host, 80)


@pytest.mark.parametrize("mode", ["offline", "online", "disabled"])
def test_auto_follows_wandb_mode(tmp_path, wandb, monkeypatch, mode):
    monkeypatch.setenv("WANDB_MODE", mode)
    make(tmp_path, "auto")
    assert [options["mode"] for options in wandb.inits] == ([] if mode == "disabled" else [mode])


def test_without_wandb_installed_one_line_is_said(tmp_path, wandb, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    tracker, said = make(tmp_path, "auto")
    tracker.log(1, {})
    assert len(said) == 1
    assert "pip install wandb" in said[0]
    assert rows(tmp_path) == [{"step": 1}]


REAL = """
import sys
from pathlib import Path
from snn_dt.config import TrackConfig
from snn_dt.training.tracking import Tracker
folder, mode = Path(sys.argv[1]), sys.argv[2]
for resume_step in (None, 2):
    tracker = Tracker(folder, TrackConfig(wandb=mode), {"a": {"b": 1}}, resume_step)
    for step in (1, 2, 3):
        tracker.log(step, {"loss": 1.0 / step, "rate": {"x": float("nan")}})
    row = {"target_return": 1.0, "return_mean": 2, "returns": [2.0], "return_interval": [1, 2], "env_id": "e"}
    row |= {"firing_rates": {"blocks.0": 0.1, "blocks.1": 0.2}}
    tracker.log_evaluation(3, [row, row | {"normalized_score": None, "return_mean": 2.5, "target_return": 1.5}])
    if mode != "disabled":
        from snn_dt.report.style import new_figure, png
        tracker.log_media(3, {"spike_raster": png(new_figure())})
    tracker.log_checkpoint(folder / "checkpoint", ["last"])
    tracker.finish()
assert (mode == "disabled") == ("wandb" not in sys.modules)
"""


@pytest.mark.parametrize("mode", ["disabled", "offline", "auto"])
def test_real_wandb_writes_an_offline_run_into_the_run_folder_and_prints_one_line(tmp_path, mode):
    folder = tmp_path / "run"
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "checkpoint" / "config.json").write_text("{}")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")} | {"HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", REAL, str(folder), mode],
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert [row["step"] for row in rows(folder)] == [1, 2, 1, 2, 3, 3]
    runs = list(folder.glob("wandb/offline-run-*/*.wandb"))
    lines = done.stderr.splitlines()
    if mode == "disabled":
        assert (runs, lines) == ([], [])
        return
    assert {path.name for path in runs} == {f"run-{(folder / 'wandb_id.txt').read_text().strip()}.wandb"}
    assert len(lines) == 2, done.stderr  # one for each start
    for line in lines:
        assert Path(line.split("wandb sync ")[1]).is_dir()


def test_what_is_no_file_is_not_replaced_by_one_and_a_link_stays_a_link(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    device = Path(os.devnull)
    if os.geteuid() == 0:  # root could replace the real one, were the claim false
        device = tmp_path / "null"
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (tmp_path / "device").symlink_to(device)
    for name in ("pipe", "device"):
        with pytest.raises(OSError, match="instead of a regular file"):
            io.write_atomically(tmp_path / name, "new")
    assert (tmp_path / "pipe").is_fifo()
    assert device.is_char_device()
    (tmp_path / "link").symlink_to("target")
    io.write_atomically(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"
