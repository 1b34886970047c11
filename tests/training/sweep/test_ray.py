"""A sweep on a Ray cluster outlives one of its nodes."""

from __future__ import annotations

import json

import pytest

from tests.patience import HANG
from tests.training.sweep.conftest import start_sweep, uninterrupted_weights, wait_for, weights

pytest.importorskip("ray", reason="Ray is not installed: pip install 'snn-dt[ray]'")


@pytest.mark.slow
@pytest.mark.timeout(2 * HANG)  # two clusters are started, and a node is given up after a while
def test_a_trial_whose_node_dies_goes_on_elsewhere_to_the_weights_of_an_unbroken_run(sweep_file, tmp_path):
    from ray.cluster_utils import Cluster

    path, root = sweep_file(steps=800, seeds=[0, 1]), tmp_path / "runs"
    names = ("tiny-seed0", "tiny-seed1")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        doomed = cluster.add_node(num_cpus=1)
        sweep = start_sweep(path, root, "--address", cluster.address)
        wait_for(lambda: all((root / name / "checkpoints/last").is_dir() for name in names))
        assert not any((root / name / "result.json").exists() for name in names)
        cluster.remove_node(doomed, allow_graceful=False)
        whole = {names[1]: uninterrupted_weights(path, names[1], tmp_path / "whole1")}
        out, _ = sweep.communicate(timeout=HANG)
    finally:
        cluster.shutdown()
    assert sweep.returncode == 0, out
    attempts = {name: json.loads((root / name / "attempt.json").read_text())["number"] for name in names}
    assert sorted(attempts.values()) == [1, 2], "one trial was interrupted, the other was not"
    moved = max(attempts, key=attempts.__getitem__)
    if moved not in whole:  # Ray gave the first trial to the second node
        whole[moved] = uninterrupted_weights(path, moved, tmp_path / "whole0")
    assert weights(root / moved) == whole[moved]
    assert [row["state"] for row in json.loads((root / "summary.json").read_text())] == ["done", "done"]
