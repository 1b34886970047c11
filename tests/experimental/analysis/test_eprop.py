"""The report on e-prop: cosines to backpropagation through time, on real data, of a checkpoint and of a config."""

from __future__ import annotations

import csv
import json

import pytest
import torch

from snn_dt.cli.main import main
from snn_dt.experimental.analysis.eprop_gradients import RULES, eprop_rows
from tests.conftest import DISCRETE, ROOT, make_batch, make_model, run
from tests.experimental.local_learning.test_eprop_blocks import SPIKES

PENDULUM = str(ROOT / "results/pretrained/pendulum-snn_dt")


def test_cosine_and_size_are_those_of_the_gradients():
    model, batch = make_model(SPIKES, DISCRETE).double(), make_batch(DISCRETE)
    batch.__dict__.update(rtg=batch.rtg.double(), states=batch.states.double())
    before = {name: p.clone() for name, p in model.named_parameters()}
    rows = eprop_rows(model, [lambda: run(model, batch).square().sum()] * 2)
    assert {row["rule"] for row in rows} == set(RULES)
    found = {(row["rule"], row["layer"]): row for row in rows}
    for rule in ("last block", "all blocks"):
        for layer in ("head", "norm", "blocks.1.mlp.4", "blocks.1.mlp.1"):
            assert found[rule, layer]["cosine"] == pytest.approx(1, abs=1e-12)
            assert found[rule, layer]["size"] == pytest.approx(1, abs=1e-12)
        assert 0.9 < found[rule, "blocks.1.attention.out"]["cosine"] < 1 - 1e-6
    assert found["random feedback", "head"]["cosine"] == pytest.approx(1, abs=1e-12)
    assert abs(found["random feedback", "blocks.1.mlp.4"]["cosine"]) < 0.95
    assert all(row["batches"] == 2 for row in rows)
    assert all(torch.equal(p, before[name]) and p.requires_grad for name, p in model.named_parameters())


@pytest.mark.slow
def test_the_command_reports_on_a_checkpoint_with_either_coding(tmp_path, capsys):
    command = ["analyse", "eprop", "--checkpoint", PENDULUM, "--batches", "1", "--batch_size", "4", "--threads", "1"]
    cosines = {}
    for coding in ("rate", "spikes"):
        out = tmp_path / coding
        assert main([*command, "--coding", coding, "--out", str(out)]) == 0
        assert "blocks.1.attention.query.0" in capsys.readouterr().out
        rows = json.loads((out / "eprop.json").read_text())
        assert len(rows) == len(list(csv.DictReader((out / "eprop.csv").open())))
        assert (out / "eprop.png").stat().st_size > 1000
        cosines[coding] = {row["layer"]: row["cosine"] for row in rows if row["rule"] == "all blocks"}
    assert list(cosines["rate"].values()) == pytest.approx([1.0] * len(cosines["rate"]), abs=1e-6)
    assert min(cosines["spikes"].values()) < 0.999


@pytest.mark.slow
def test_the_command_reports_on_a_model_before_its_training(tmp_path):
    config = [str(ROOT / "configs" / name) for name in ("cartpole.yaml", "variant/snn_dt.yaml")]
    options = ["--batches", "1", "--batch_size", "2", "--threads", "1"]
    assert main(["analyse", "eprop", "--config", *config, "--out", str(tmp_path), *options]) == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--checkpoint", str(ROOT / "results/pretrained/cartpole-dense")],
            "expected a model of kind snn_dt, found dense",
        ),
        ([], "expected either --checkpoint or --config"),
        (["--checkpoint", PENDULUM, "--batches", "0"], "expected --batches and --batch_size of at least 1"),
    ],
    ids=["dense", "nothing", "no batches"],
)
def test_mistakes_are_named(tmp_path, capsys, flags, message):
    assert main(["analyse", "eprop", "--out", str(tmp_path / "out"), *flags]) == 2
    assert message in capsys.readouterr().err
