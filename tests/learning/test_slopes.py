"""Slope schedules: their formulas by hand, the forward pass they leave alone, the loop that follows them."""

import math
import signal

import pytest
import torch

from snn_dt.config import config_from_dict
from snn_dt.errors import ConfigError
from snn_dt.learning.slopes import Adaptive, Interval, SlopeSchedule, make_schedule, score_of, set_slope
from snn_dt.snn import SpikingLayer
from tests.conftest import DISCRETE, make_batch, make_model, run
from tests.runs import CARTPOLE, left_behind, lines_of, resume, state_of, stop_at_update, train


@pytest.mark.parametrize(
    ("shape", "expected"),
    # u = 0, 1/2, 1, 1 in updates 0..., 15..., 25..., 1000
    [
        ("linear", [2.0, 17.0, 32.0, 32.0]),
        ("cubic", [2.0, 2.0 + 30 / 8, 32.0, 32.0]),
        ("geometric", [2.0, 8.0, 32.0, 32.0]),
    ],
)
def test_an_interval_schedule_has_the_slopes_worked_by_hand(shape, expected):
    schedule = Interval(2.0, 32.0, every=10, count=2, shape=shape, start=5)
    for begin, end, slope in zip((0, 15, 25, 1000), (15, 25, 1000, 1001), expected, strict=True):
        assert schedule.slope(begin) == schedule.slope(end - 1) == pytest.approx(slope, abs=1e-12)


def eq7(returns):
    """Eq. 7 as it is printed, of a full window: the mean over ten of r / 2 + r' / 2, clipped to 1 and 100."""
    terms = [returns[t] / 2 + (returns[t] - returns[t - 1]) / 2 for t in range(len(returns) - 10, len(returns))]
    return min(max(sum(terms) / 10, 1.0), 100.0)


def test_the_adaptive_schedule_is_eq_7_of_the_paper():
    schedule, returns = Adaptive(first=2.0), [-30.0, 5.0, 11.0, 8.0, 40.0, 41.0, 70.0, 66.0, 90.0, 120.0, 133.0]
    for r in returns:
        schedule.observe(r)
    assert schedule.slope(0) == pytest.approx(eq7(returns), abs=1e-12)
    returns.append(150.0)
    schedule.observe(150.0)
    assert schedule.slope(0) == pytest.approx(eq7(returns), abs=1e-12)
    assert 30 < schedule.slope(0) < 50


def test_the_adaptive_schedule_at_its_edges():
    schedule = Adaptive(first=7.0)
    assert schedule.slope(0) == 7.0, "no score yet"
    schedule.observe(8.0)
    assert schedule.slope(0) == 4.0, "the first score has a difference of 0"
    schedule.observe(math.nan)
    assert schedule.slope(0) == 4.0, "a score that is no number is left out"
    schedule.observe(12.0)
    assert schedule.slope(0) == (4.0 + 8.0) / 2, "fewer scores than the window"
    schedule.observe(-500.0)
    assert schedule.slope(0) == 1.0
    for _ in range(20):
        schedule.observe(201.0)
    assert schedule.slope(0) == 100.0


def test_a_loss_counts_by_how_far_it_has_fallen():
    schedule = Adaptive(first=3.0, gain=200.0, falling=True)
    for loss in (0.8, 0.6, 0.2):  # r = 0, 1/4, 3/4; r' = 0, 1/4, 1/2
        schedule.observe(loss)
    assert schedule.slope(0) == pytest.approx(200 * (0 + 1 / 4 + 5 / 8) / 3)


def test_a_schedule_goes_on_from_its_state():
    one, two = Adaptive(2.0, falling=True, gain=50.0, window=3), Adaptive(2.0, falling=True, gain=50.0, window=3)
    for loss in (1.0, 0.9, 0.7, 0.4):
        one.observe(loss)
    two.load_state_dict(one.state_dict())
    for schedule in (one, two):
        schedule.observe(0.3)
    assert one.slope(0) == two.slope(0)
    assert one.state_dict() == two.state_dict()


@pytest.mark.parametrize(
    ("kind", "expected"), [("return", 40.0), ("normalized", 0.5), ("loss", 0.3), ("nothing scored", None)]
)
def test_the_score_is_the_one_asked_for(kind, expected):
    rows = [{"return_mean": 40.0, "normalized_score": 50.0}, {"return_mean": 1.0, "normalized_score": 1.0}]
    if expected is None:
        assert math.isnan(score_of("normalized", [{"return_mean": 1.0, "normalized_score": None}], 0.3))
        assert math.isnan(score_of("return", None, 0.3))
        assert math.isnan(score_of("loss", rows, None))
    else:
        assert score_of(kind, rows, 0.3) == expected


def gradients(model, batch):
    model.zero_grad()
    predictions = run(model, batch)
    predictions.square().sum().backward()
    return predictions.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_no_slope_changes_the_forward_pass_of_any_model(config, task):
    if config.kind == "dense":
        pytest.skip("has no spikes")
    model, batch = make_model(config, task), make_batch(task, config.context_length)
    results = []
    for slope in (1.0, 7.0, 100.0):
        set_slope(model, slope)
        results.append(gradients(model, batch))
    assert all(torch.equal(results[0][0], other[0]) for other in results[1:])
    assert not torch.allclose(results[0][1], results[2][1])


def test_a_block_takes_its_own_factor_and_what_is_in_no_block_takes_none():
    model = make_model(config_from_dict({"model": {"d_model": 16, "n_heads": 2, "positions": "phase"}}).model, DISCRETE)
    set_slope(model, 8.0, (0.25, 2.0))
    slopes = {name: m.surrogate_slope for name, m in model.named_modules() if isinstance(m, SpikingLayer)}
    assert {slopes[n] for n in slopes if n.startswith("blocks.0.")} == {2.0}
    assert {slopes[n] for n in slopes if n.startswith("blocks.1.")} == {16.0}
    assert model.embedding.positions.surrogate_slope == 8.0


def test_the_config_makes_the_schedule_it_names():
    def made(**slope_schedule):
        train = {"steps": 100, "eval_every": 10, "slope_schedule": slope_schedule}
        data = {"validation_fraction": 0.1}
        return make_schedule(config_from_dict({"model": {"surrogate_slope": 2}, "train": train, "data": data}))

    assert made() is None
    assert type(made(layers=[1, 2])) is SlopeSchedule
    staged = made(kind="geometric", last=32, stages=4)
    assert [staged.slope(step) for step in (0, 19, 20, 40, 79, 80, 99)] == pytest.approx([2, 2, 4, 8, 16, 32, 32])
    eq_7, normalized = made(kind="adaptive", score="return"), made(kind="adaptive", last=50)
    eq_7.observe(30.0)
    normalized.observe(1.0)
    assert (eq_7.slope(0), normalized.slope(0)) == (15.0, 50.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": {"kind": "dense"}, "train": {"slope_schedule": {"kind": "linear"}}}, "fixed for dense"),
        ({"train": {"slope_schedule": {"last": 0.5}}}, "slope_schedule.last: expected at least 1"),
        ({"train": {"slope_schedule": {"layers": [1.0]}}}, "expected 2 factors or none"),
        ({"train": {"slope_schedule": {"layers": [1.0, 0.0]}}}, "expected factors above 0"),
        ({"train": {"slope_schedule": {"kind": "adaptive"}}}, "train.eval_every: expected above 0"),
        (
            {"train": {"eval_every": 5, "slope_schedule": {"kind": "adaptive"}}, "eval": {"episodes": 0}},
            "eval.episodes: expected above 0",
        ),
        (
            {"train": {"eval_every": 5, "slope_schedule": {"kind": "adaptive", "score": "loss"}}},
            "data.validation_fraction: expected above 0",
        ),
        ({"train": {"slope_schedule": {"kind": "cubical"}}}, "did you mean 'cubic'"),
    ],
)
def test_a_schedule_that_cannot_be_followed_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        config_from_dict(values)


def test_a_run_follows_its_schedule_and_records_the_slope(tmp_path):
    slopes = {"train__slope_schedule__kind": "linear", "train__slope_schedule__stages": 1}
    assert train(tmp_path / "run", **{"model__kind": "snn_dt", "model__surrogate_slope": 2, **slopes}) == 0
    found = {line["step"]: line["surrogate_slope"] for line in lines_of(tmp_path / "run") if "surrogate_slope" in line}
    assert found == {4: 2.0, 8: 100.0, 12: 100.0, 14: 100.0}


@pytest.mark.slow
def test_a_run_that_follows_its_loss_goes_on_bit_for_bit(tmp_path, monkeypatch):
    changes = {"model__kind": "snn_dt", "train__eval_every": 3, "train__log_every": 1}
    changes |= {"train__slope_schedule__kind": "adaptive", "train__slope_schedule__score": "loss"}
    assert train(tmp_path / "whole", **changes) == 0
    stop_at_update(monkeypatch, 7)  # after two evaluations, before the next
    assert train(tmp_path / "run", **changes) == 128 + signal.SIGTERM
    assert len(state_of(tmp_path / "run")["slopes"]["terms"]) == 2
    assert resume(tmp_path / "run") == 0
    assert left_behind(tmp_path / "run") == left_behind(tmp_path / "whole")
    slopes = {line["surrogate_slope"] for line in lines_of(tmp_path / "whole") if "surrogate_slope" in line}
    assert len(slopes) > 1


def test_a_dataset_without_reference_returns_cannot_be_followed_by_its_score(tmp_path, monkeypatch, capsys):
    from snn_dt import task as module

    monkeypatch.setattr(module, "load_dataset", without_reference(module.load_dataset))
    adaptive = {"model__kind": "snn_dt", "train__slope_schedule__kind": "adaptive", "data__dataset": CARTPOLE}
    assert train(tmp_path / "run", **adaptive) == 2
    assert "expected a dataset with reference returns" in capsys.readouterr().err


def without_reference(load):
    import dataclasses

    return lambda *args, **kwargs: dataclasses.replace(load(*args, **kwargs), reference=None)
