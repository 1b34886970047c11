"""The stability report: closed forms of single neurons and loops, gradients of a whole model, the command."""

import dataclasses
import errno
import json
import math
import os
from pathlib import Path

import pytest
import torch

from snn_dt.cli.main import main
from snn_dt.experimental.analysis.jacobian import linearise
from snn_dt.experimental.analysis.membrane_recorder import recording
from snn_dt.experimental.analysis.stability import (
    critical_loop,
    critical_scale,
    layer_stability,
    lyapunov,
    spectral_radius,
    stability_rows,
)
from snn_dt.snn import LIF, LIFParameters, LIFState, RateLIF, SpikingLayer
from tests.conftest import DISCRETE, ROOT, TINY, VARIANTS, doubled, make_batch, make_model, run


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def trace_of(neuron, current, weight=None):
    with recording(neuron) as traces:
        spikes, _ = neuron(current)
        (spikes * (1.0 if weight is None else weight)).sum().backward()
    return traces["neurons"]


def test_a_leaky_integrator_forgets_by_its_leak_and_by_nothing_else():
    neuron = LIF(tau_mem=8.0, surrogate="triangle", surrogate_slope=10.0)  # no derivative further than 0.1 from V_th
    row = layer_stability(trace_of(neuron, torch.full((20, 3, 5), 0.01, dtype=torch.float64, requires_grad=True)))
    keep = 1 - 1 / 8
    assert row["spectral_radius"] == [keep] * 20
    assert row["spectral_radius_max"] == keep
    assert row["lyapunov"] == pytest.approx(math.log(keep), abs=1e-12)
    assert row["decay_measured"] == pytest.approx(row["decay_predicted"], rel=1e-12)
    assert row["decay_predicted"] == pytest.approx([keep**t for t in range(1, 21)])
    assert (row["firing_rate"], row["dead"], row["saturated"]) == (0.0, 1.0, 0.0)


def test_a_detached_soft_reset_is_a_pure_kernel_even_while_it_fires_and_a_hard_one_cuts():
    current = (1.5 * randn(12, 400)).requires_grad_()
    soft = layer_stability(trace_of(LIF(4.0, reset="soft", detach_reset=True), current))
    assert soft["decay_measured"] == pytest.approx(soft["decay_predicted"], rel=1e-12)
    assert soft["firing_rate"] > 0.05
    hard = layer_stability(trace_of(LIF(4.0, detach_reset=True), current))
    fired = LIF(4.0, detach_reset=True)(current)[0].cumsum(0) > 0
    survived = (~fired).double().mean(1).sqrt()  # what has fired since step 0 is forgotten
    assert hard["decay_measured"] == pytest.approx([0.75**t * s for t, s in enumerate(survived.tolist(), 1)])
    always = layer_stability(trace_of(LIF(4.0, detach_reset=True), torch.full((9, 2), 9.0, requires_grad=True)))
    assert always["lyapunov"] == -math.inf


def test_dead_and_saturated_neurons_are_counted():
    current = torch.tensor([-1.0, 0.2, 0.7, 5.0, 5.0]).expand(40, 3, 5)  # never, never, some, always, always
    row = layer_stability(trace_of(LIF(2.0), current.clone().requires_grad_()))
    assert (row["dead"], row["saturated"]) == (pytest.approx(0.4), pytest.approx(0.4))
    assert row["firing_rate"] == pytest.approx((2 + 0.5) / 5, abs=0.01)


@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_the_norm_of_the_state_gradient_follows_the_backward_recurrence(reset):
    p = LIFParameters(4.0, reset=reset)
    current, weight = randn(10, 6), randn(10, 6, seed=1)
    row = layer_stability(trace_of(LIF(4.0, reset=reset), current.requires_grad_(), weight))
    with torch.no_grad():
        v, hs = torch.zeros(6, dtype=torch.float64), []
        for x in current:
            h = v * 0.75 + x
            hs.append(h)
            v = h * (h < 1) if reset == "hard" else h - (h >= 1).double()
        dv, expected = torch.zeros(6, dtype=torch.float64), []
        for h, g in zip(hs[::-1], weight.flip(0), strict=True):
            expected.append(dv.norm().item())
            psi, keep = 1 / (1 + p.surrogate_slope * (h - 1).abs()) ** 2, (h < 1).double() if reset == "hard" else 1.0
            dv = 0.75 * (keep * dv + psi * (g + (-h if reset == "hard" else -1.0) * dv))
    assert row["state_gradient"] == pytest.approx(expected[::-1], rel=1e-12)


def test_the_critical_weights_of_a_membrane_and_its_synapse():
    low, high = critical_loop(0.5, 0.8)
    assert (low, high) == (pytest.approx(-0.6), pytest.approx(0.1))
    for weight, stable in ((0.999 * high, True), (1.001 * high, False), (0.999 * low, True), (1.001 * low, False)):
        loop = torch.tensor([[0.5, 1.0], [weight, 0.8]], dtype=torch.float64)
        assert (spectral_radius(loop) < 1) == stable
    tau_m, tau_s, dt = 20.0, 5.0, 0.25  # forward Euler of dv = -v/tau_m + i, di = -i/tau_s + W v
    assert critical_loop(1 - dt / tau_m, 1 - dt / tau_s)[1] == pytest.approx(dt**2 / (tau_m * tau_s))


def test_the_critical_scale_of_a_neuron_that_feeds_itself_has_its_closed_form():
    # no reset: h' = (1 - leak + gain w psi) h to first order, of modulus 1 at w = leak / (gain psi)
    p = LIFParameters(5.0, c_m=2.0, reset="none")
    state = LIFState(*(torch.zeros(1, dtype=torch.float64) for _ in range(3)))
    step = linearise(torch.full((1,), 0.45, dtype=torch.float64), state, p, p.leak, p.v_threshold)  # h = .9
    psi = 1 / (1 + 10 * 0.1) ** 2
    found = critical_scale([step] * 4, torch.full((1, 1), 0.1, dtype=torch.float64))
    # the loop's state (V, s) holds what h holds one step on, so that the product is not normal: many steps tell
    many = critical_scale([step] * 150, torch.full((1, 1), 0.1, dtype=torch.float64))
    expected = 0.2 / (2.0 * psi) / 0.1
    assert many == pytest.approx(expected, rel=2e-2)
    assert abs(found - expected) > abs(many - expected)
    assert critical_scale([step], torch.zeros(1, 1).double()) is None


def test_a_random_loop_passes_radius_one_where_the_circular_law_says():
    neuron, n = LIF(5.0, reset="soft", detach_reset=True, surrogate_slope=2.0), 150
    with torch.no_grad(), recording(neuron) as traces:
        neuron(0.3 * randn(3, n))
    trace = traces["neurons"]
    row = layer_stability(trace)
    weight = row["critical_gain"] * randn(n, n, seed=1) / n**0.5
    looped = layer_stability(trace, weight)
    assert looped["spectral_radius"] == pytest.approx([1.0] * 3, abs=0.1)
    assert row["critical_scale"] is None
    assert 0.3 < looped["critical_scale"] < 1.1, "a finite product of matrices that are not normal grows before that"


def test_the_exponent_of_a_product_is_that_of_its_largest_singular_value_without_overflow():
    jacobians = randn(6, 3, 4, 4)
    product = jacobians[5] @ jacobians[4] @ jacobians[3] @ jacobians[2] @ jacobians[1] @ jacobians[0]
    torch.testing.assert_close(lyapunov(jacobians), torch.linalg.matrix_norm(product, 2).log() / 6)
    huge = (1e3 * torch.eye(2, dtype=torch.float64)).expand(400, 2, 2)
    assert lyapunov(huge).item() == pytest.approx(math.log(1e3))


@pytest.mark.parametrize("name", ["snn_dt", "snn_dt-spikes", "dsformer_tssa"])
def test_recording_changes_no_output_and_reaches_every_layer(name):
    model = make_model(dataclasses.replace(TINY, **VARIANTS[name]), DISCRETE).double()
    batch = doubled(make_batch(DISCRETE, lengths=(6, 6)))
    expected = run(model, batch)
    with recording(model) as traces:
        found = run(model, batch)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    layers = [name for name, m in model.named_modules() if isinstance(m, SpikingLayer)]
    assert set(layers) == {key.partition("#")[0] for key in traces}
    assert torch.equal(run(model, batch), expected), "afterwards the layers are their own again"
    rows = stability_rows(model, lambda: run(model, batch).square().sum())
    assert all(len(row["spectral_radius"]) == TINY.sim_steps for row in rows)
    assert all(max(row["state_gradient"]) > 0 for row in rows if row["firing_rate"] > 0 and row["layer"] in layers[:3])


def test_adaptation_is_part_of_the_state():
    # soft detached, no spikes near: the two parts decay by themselves, the slower one is the radius
    neuron = LIF(2.0, threshold_adaptation=0.5, tau_adaptation=10.0, surrogate="triangle", reset="soft")
    row = layer_stability(trace_of(neuron, torch.zeros(5, 4, requires_grad=True)))
    assert row["spectral_radius"] == pytest.approx([0.9] * 5)
    assert row["lyapunov"] == pytest.approx(math.log(0.9))
    assert row["decay_measured"] == pytest.approx([0.5**t for t in range(1, 6)])


def test_a_rate_layer_is_followed_through_its_steps():
    layer = RateLIF(3, norm_width=4).double()
    x = randn(5, 4).requires_grad_()
    with recording(layer) as traces:
        rate = layer(x)
    assert torch.equal(rate, torch.stack(traces["neurons"].spikes).mean(0))
    torch.testing.assert_close(traces["neurons"].currents[2], layer.norm(x).detach())


def test_the_command_reports_on_a_checkpoint(tmp_path, capsys):
    words = ["--checkpoint", str(ROOT / "results/pretrained/pendulum-snn_dt"), "--batch_size", "4", "--device", "cpu"]
    assert main(["analyse", "stability", *words, "--threads", "1", "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "stability.json").read_text())
    assert {"blocks.0.mlp.0", "blocks.1.attention.lif_out"} <= {row["layer"] for row in rows}
    assert (tmp_path / "stability.png").read_bytes().startswith(b"\x89PNG")
    assert "blocks.0.mlp.0" in capsys.readouterr().out


@pytest.mark.parametrize("name", [".stability.json.partial", ".stability.png.partial"])
def test_a_disk_that_is_full_when_results_are_written_is_a_mistake_in_one_line(tmp_path, monkeypatch, capsys, name):
    real = Path.open

    def opened(self, *arguments, **options):
        if self.name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", opened)
    words = ["--checkpoint", str(ROOT / "results/pretrained/pendulum-snn_dt"), "--batch_size", "2", "--device", "cpu"]
    assert main(["analyse", "stability", *words, "--threads", "1", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "No space left on device; free space or choose another place" in error
    assert not (tmp_path / name).exists()


def test_a_folder_that_cannot_be_written_is_said_before_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "snn_dt.experimental.analysis.stability.stability_rows", lambda *_: pytest.fail("work was done")
    )
    (tmp_path / "file").touch()
    words = ["--checkpoint", str(ROOT / "results/pretrained/pendulum-snn_dt"), "--out", str(tmp_path / "file")]
    assert main(["analyse", "stability", *words]) == 2
    assert "expected a folder that can be written" in capsys.readouterr().err


def test_a_dense_checkpoint_is_refused(tmp_path, capsys):
    words = ["--checkpoint", str(ROOT / "results/pretrained/cartpole-dense"), "--out", str(tmp_path)]
    assert main(["analyse", "stability", *words]) == 2
    assert "expected a model with spiking neurons" in capsys.readouterr().err
