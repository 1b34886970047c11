"""The datasets of the repository are what their manifest says."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import snn_dt

ROOT = Path(__file__).resolve().parents[2] / "datasets"
MANIFEST = json.loads((ROOT / "manifest.json").read_text())


@pytest.mark.parametrize("dataset_id", MANIFEST["datasets"])
def test_files_and_contents_match_the_manifest(dataset_id):
    entry = MANIFEST["datasets"][dataset_id]
    for name, digest in entry["files"].items():
        assert hashlib.sha256((ROOT / name).read_bytes()).hexdigest() == digest, name
    t = snn_dt.load_dataset(str(ROOT / dataset_id))
    assert (t.dataset_id, t.env_id) == (dataset_id, entry["env_id"])
    assert (t.n_episodes, t.n_steps, t.checksum) == (entry["episodes"], entry["steps"], entry["checksum"])
    assert (t.reference.min, t.reference.max) == (entry["reference"]["min"], entry["reference"]["max"])
    found = dict(
        zip(["min", "p10", "p50", "p90", "max"], np.quantile(t.episode_returns, [0, 0.1, 0.5, 0.9, 1]), strict=True)
    )
    assert found | {"mean": t.episode_returns.mean()} == pytest.approx(entry["returns"], abs=1e-3)


def test_every_file_is_accounted_for_and_all_fit_in_18_mb():
    roots = {dataset_id.split("/")[0] for dataset_id in MANIFEST["datasets"]}
    files = {path.relative_to(ROOT).as_posix() for root in roots for path in (ROOT / root).rglob("*") if path.is_file()}
    listed = {name for entry in MANIFEST["datasets"].values() for name in entry["files"]}
    assert {name for name in files - listed if not name.endswith("namespace_metadata.json")} == set()
    assert sum(path.stat().st_size for path in ROOT.rglob("*") if path.is_file()) < 18.1e6
    assert not list(ROOT.rglob("__init__.py"))


def test_provenance_and_licence_are_stated():
    licence = (ROOT / MANIFEST["license"]["file"]).read_text()
    assert "MIT License" in licence
    assert MANIFEST["license"]["copyright"] in licence
    assert "DLR-RM/rl-trained-agents" in MANIFEST["provenance"]["policies"]


def test_the_drone_flies_its_recorded_episodes_again():
    from snn_dt.data.minari_source import metadata

    t = snn_dt.load_dataset(str(ROOT / "drone/crazyflie/mixed-v0"))
    assert (
        metadata(ROOT / "drone/crazyflie/mixed-v0")["algorithm_name"]
        in MANIFEST["datasets"][t.dataset_id]["provenance"]["command"]
    )
    env = gymnasium.make("snn_dt.data.registration:" + t.env_id)
    for episode in (3, 49):
        rows = slice(*t.episode_offsets[episode : episode + 2])
        observation, _ = env.reset(seed=540000 + episode)
        rewards = []
        for recorded, action in zip(t.observations[rows], t.actions[rows], strict=True):
            assert observation == pytest.approx(recorded, abs=1e-4)
            observation, reward, terminated, truncated, _ = env.step(action)
            rewards.append(reward)
        assert (terminated, truncated) == (t.terminated[episode], t.truncated[episode])
        assert sum(rewards) == pytest.approx(t.episode_returns[episode], abs=1e-2)


def test_minari_itself_finds_and_reads_them_where_they_are(monkeypatch):
    import minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(ROOT))
    with warnings.catch_warnings(action="error"):
        assert set(minari.list_local_datasets()) == set(MANIFEST["datasets"])
    assert minari.load_dataset("sb3/cartpole/mixed-v0").total_steps == 50001
