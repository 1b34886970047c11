"""The commands that `snn-dt data list --public` prints work as they are."""

from __future__ import annotations

import pytest

from snn_dt.cli.main import main
from snn_dt.data.collect import collect
from snn_dt.data.public_sets import find_set
from tests.runs import shared_cache as shared_cache


def test_the_command_of_a_public_set_trains_and_evaluates_a_miniature_of_it(tmp_path, monkeypatch, capsys):
    pytest.importorskip("mujoco", reason="pip install 'snn-dt[mujoco]'")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    collect("InvertedPendulum-v5", episodes=4, seed=0, dataset_id="mujoco/invertedpendulum/expert-v0")
    family, public = find_set("minari:mujoco/invertedpendulum/expert-v0")
    small = "--train.steps 2 --train.batch_size 4 --model.d_model 16 --eval.episodes 2 --track.wandb disabled"
    words = f"{family.command(public)} {small} --run-dir {tmp_path / 'run'}".split()[1:]
    assert main(words) == 0
    assert "InvertedPendulum-v5, 2 episodes per target" in capsys.readouterr().out
