"""A device is the one asked for, or an error that names it; threads are this process's share."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from snn_dt import Trajectories, train
from snn_dt.config import config_from_dict
from snn_dt.device import choose_device, device_name, set_threads
from snn_dt.errors import ConfigError, DeviceError
from tests.conftest import register_countdown


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that there are so many GPUs."""

    def pretend(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return pretend


def test_auto_is_the_gpu_if_there_is_one(gpus):
    gpus(0)
    assert choose_device("auto") == torch.device("cpu")
    gpus(1)
    assert choose_device("auto") == torch.device("cuda")
    assert choose_device("cpu") == torch.device("cpu")


def test_a_gpu_is_taken_by_its_number_as_far_as_there_are_some(gpus):
    gpus(2)
    assert choose_device("cuda") == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(DeviceError, match="expected the device cuda:2, found 2 CUDA devices"):
        choose_device("cuda:2")


def test_a_gpu_goes_by_its_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"a GPU, number {device.index}")
    assert device_name(torch.device("cuda:1")) == "a GPU, number 1"
    assert device_name(torch.device("cpu")) == "cpu"


def test_without_a_gpu_the_error_says_what_to_do(gpus):
    gpus(0)
    for name in ("cuda", "cuda:0"):
        with pytest.raises(DeviceError, match=rf"expected the device {name}, found 0 .* use --device cpu") as caught:
            choose_device(name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "gpu", "mps:0", "CUDA", "cuda:", "cuda:x", "cuda:-1", "cuda:²", "cuda:0:1"])
def test_another_name_is_refused(gpus, name):
    gpus(1)
    with pytest.raises(DeviceError, match="expected the device auto, cpu, cuda, cuda:N, mps or xpu"):
        choose_device(name)


@pytest.mark.parametrize(("name", "backend"), [("mps", torch.backends.mps), ("xpu", torch.xpu)])
def test_other_accelerators_are_taken_by_name_only(gpus, monkeypatch, name, backend):
    gpus(0)
    monkeypatch.setattr(backend, "is_available", lambda: True)
    assert choose_device(name) == torch.device(name)
    assert choose_device("auto") == torch.device("cpu")
    monkeypatch.setattr(backend, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=rf"expected the device {name}, found none .* a build of torch for {name}"):
        choose_device(name)


class _WithoutFloat64(TorchDispatchMode):
    """Refuses what mps refuses: tensors of float64. Those of one element on the host are allowed."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for value in found if isinstance(found, (tuple, list)) else [found]:
            if torch.is_tensor(value) and value.dtype == torch.float64 and func not in HOST:
                raise TypeError(f"{func} made a float64 tensor of shape {tuple(value.shape)}")
        return found


HOST = {torch.ops.aten.lift_fresh.default, torch.ops.aten.detach.default}  # a tensor made from numpy, not yet moved
WIDE = (
    "snn.probe",
    "training.loop",
    "training.state",
    "evaluation.policy",
    "energy.costs",
    "energy.rules",
    "energy.meter",
)


@pytest.mark.parametrize("kind", ["snn_dt", "snn_dt_stream", "dense"])
def test_no_tensor_of_float64_is_made_where_the_device_has_none(monkeypatch, tmp_path, kind):
    """A training and an evaluation as on mps, which has float32 only, with the CPU in its place."""
    for module in WIDE:
        monkeypatch.setattr(import_module(f"snn_dt.{module}"), "wide", lambda device: torch.float32)
    rng, ends = np.random.default_rng(0), np.arange(60) % 6 == 5
    data = Trajectories.from_arrays(
        rng.normal(size=(60, 2)),
        rng.integers(0, 2, 60),
        np.ones(60),
        ends,
        np.zeros(60, bool),
        env_id=register_countdown(),
    )
    config = config_from_dict({
        "model": {"kind": kind, "d_model": 8, "n_layers": 1, "context_length": 4},
        "train": {"steps": 2, "batch_size": 4, "device": "cpu", "threads": 1},
        "eval": {"episodes": 2, "num_envs": 2}, "track": {"wandb": "disabled"},
    })  # fmt: skip
    with _WithoutFloat64():
        rows = train(config, tmp_path / "run", data).rows
    assert rows[0]["energy_pj_per_decision"] > 0


@pytest.fixture
def _threads_are_put_back():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads_are_put_back")
def test_threads_are_those_asked_for_then_those_of_the_environment_then_the_share_of_the_cores(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert set_threads(2) == torch.get_num_threads() == 2
    assert set_threads(0) == torch.get_num_threads() == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(8), raising=False)
    assert set_threads(0) == torch.get_num_threads() == 8
    assert set_threads(0, processes=4) == 2
    assert set_threads(0, processes=40) == 1


@pytest.mark.usefixtures("_threads_are_put_back")
def test_so_many_threads_that_libgomp_ends_the_process_are_refused(monkeypatch):
    for threads in (-1, 100_000):
        with pytest.raises(ConfigError, match=f"expected 0 to 1024 CPU threads, found {threads}"):
            set_threads(threads)
    monkeypatch.setenv("OMP_NUM_THREADS", "100000")
    with pytest.raises(ConfigError, match=r"found 100000; .* OMP_NUM_THREADS"):
        set_threads(0)
