"""The gradient analysis: against a layer worked by hand, against the published trend, and on a trained network."""

import csv
import json

import numpy as np
import pytest
import torch
from torch import nn

from snn_dt.cli.main import main
from snn_dt.experimental.analysis.gradients import gradient_rows, paper_draws
from snn_dt.snn import LIF
from tests.conftest import ROOT

PENDULUM = str(ROOT / "results/pretrained/pendulum-snn_dt")


def at(rows, what):
    """The values of each slope, layer by layer."""
    slopes = sorted({row["slope"] for row in rows})
    return {slope: [row[what] for row in rows if row["slope"] == slope] for slope in slopes}


class OneStep(nn.Module):
    """Two neurons, one step, input 1: h = w, so that dL/dw is psi_k(w - 1) of each."""

    def __init__(self):
        super().__init__()
        self.linear, self.neurons = nn.Linear(1, 2, bias=False), LIF(reset="none")
        nn.init.constant_(self.linear.weight, 1.0)
        with torch.no_grad():
            self.linear.weight[1] = 0.5

    def forward(self):
        return self.neurons(self.linear(torch.ones(1, 1, 1)))[0].sum()


def test_a_layer_of_two_neurons_has_the_magnitude_and_cosine_worked_by_hand():
    model = OneStep()  # u = 0 and -1/2: psi = 1 and 1 / (1 + k/2)^2, which is 1/4 at k = 2, 1/9 at k = 4
    rows = gradient_rows([(model, model.forward)] * 3, [2.0], reference=4.0)
    assert [(row["slope"], row["layer"], row["draws"]) for row in rows] == [(2.0, "linear", 3), (4.0, "linear", 3)]
    assert rows[0]["magnitude"] == pytest.approx((1 + 1 / 4) / 2)
    assert rows[1]["magnitude"] == pytest.approx((1 + 1 / 9) / 2)
    cosine = (1 + 1 / 36) / ((1 + 1 / 16) * (1 + 1 / 81)) ** 0.5
    assert rows[0]["cosine"] == pytest.approx(cosine)
    assert rows[1]["cosine"] == pytest.approx(1)


# Our own earlier measurement of the paper's network, 100 draws in float64; layers from the input to the output.
MAGNITUDE = {
    1: (1.8e1, 4.2e0, 1.4e0, 4.4e-1),
    10: (3.3e-2, 3.7e-2, 6.2e-2, 9.6e-2),
    25: (2.2e-3, 4.6e-3, 1.6e-2, 4.8e-2),
    100: (3.3e-5, 1.8e-4, 1.7e-3, 1.5e-2),
}
COSINE = {1: (0.06, 0.10, 0.21, 0.36), 10: (0.30, 0.40, 0.57, 0.73), 25: (0.61, 0.68, 0.80, 0.89), 100: (1, 1, 1, 1)}


def test_the_network_of_the_paper_shows_the_published_trend():
    rows = gradient_rows(paper_draws(40), list(MAGNITUDE))
    magnitude, cosine = at(rows, "magnitude"), at(rows, "cosine")
    for slope in MAGNITUDE:
        for found, known in zip(magnitude[slope], MAGNITUDE[slope], strict=False):
            assert known / 1.6 < found < 1.6 * known
        assert cosine[slope][:4] == pytest.approx(COSINE[slope], abs=0.1)
        assert (np.diff(cosine[slope][:4]) > -1e-12).all(), "the closer to the output, the closer to the reference"
    for layer in range(4):
        assert (np.diff([c[layer] for c in cosine.values()]) > -1e-12).all()
    assert magnitude[1][0] > 1e5 * magnitude[100][0]
    assert len({m[4] for m in magnitude.values()}) == 1, "behind the last spike nothing depends on the slope"


def test_the_command_measures_a_checkpoint_on_its_data_and_writes_numbers_and_a_figure(tmp_path, capsys):
    words = ["--checkpoint", PENDULUM, "--slopes", "1", "10", "--draws", "2", "--batch_size", "4", "--device", "cpu"]
    assert main(["analyse", "gradients", *words, "--threads", "1", "--out", str(tmp_path / "new")]) == 0
    rows = json.loads((tmp_path / "new/gradients.json").read_text())
    with (tmp_path / "new/gradients.csv").open() as file:
        assert [float(row["cosine"]) for row in csv.DictReader(file)] == [row["cosine"] for row in rows]
    assert (tmp_path / "new/gradients.png").read_bytes().startswith(b"\x89PNG")
    cosine = at(rows, "cosine")
    assert list(cosine) == [1.0, 10.0, 100.0]
    names = [row["layer"] for row in rows if row["slope"] == 1.0]
    assert names[-1] == "head"
    assert cosine[1.0][-1] == cosine[10.0][-1] == pytest.approx(1)
    first = names.index("blocks.0.attention.query.0")
    assert cosine[1.0][first] < cosine[10.0][first] < 1
    assert "blocks.0.attention.query.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["slopes"], "expected one of gradients"),
        (["gradients", "--out", "x", "--slopes", "0"], "expected slopes above 0"),
        (["gradients", "--out", "x", "--slopes"], "expected slopes above 0, at least one"),
        (
            [
                "gradients",
                "--out",
                "x",
                "--checkpoint",
                PENDULUM,
                "--dataset",
                str(ROOT / "datasets/sb3/hopper/mixed-v0"),
            ],
            "found (11, 3, False)",
        ),
    ],
)
def test_what_cannot_be_analysed_is_refused_in_one_line(words, message, capsys):
    assert main(["analyse", *words]) == 2
    assert message in capsys.readouterr().err
