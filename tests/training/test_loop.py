"""The loop makes the updates it is asked for, keeps the best model, and never keeps a spoilt one."""

from __future__ import annotations

import dataclasses
import math
import signal

import pytest
import torch

from snn_dt.config import TrainConfig
from snn_dt.errors import TrainingError
from snn_dt.training.loop import Callbacks, TrainingLoop, train
from snn_dt.training.signals import StopRequestedError, StopSignal
from snn_dt.training.sinks import firing_rates
from snn_dt.training.state import TrainingState, learning_rate, make_optimizer
from tests.conftest import CONTINUOUS, DISCRETE, TINY, make_batch, make_model

CONFIG = TrainConfig(steps=6, batch_size=6, warmup_steps=0, log_every=2, save_every=100)


class Bench:
    """One run of the loop on a tiny model, with everything it hands out written down."""

    def __init__(self, config=CONFIG, task=DISCRETE, draw=None, evaluate=None, validate=None, dropout=0.0):
        self.config, self.task, self.draw_more = config, task, draw
        self.model = make_model(dataclasses.replace(TINY, kind="dense", dropout=dropout), task)
        self.state = TrainingState(make_optimizer(config, self.model))
        self.stop = StopSignal()
        self.lines: list[tuple[int, dict]] = []
        self.evaluations: list[tuple[int, list]] = []
        self.saves: list[tuple[str, int]] = []
        self.evaluate, self.validate = evaluate, validate

    def run(self) -> bool:
        return train(self.config, self.model, self.draw, self.callbacks(), self.state)

    def callbacks(self) -> Callbacks:
        return Callbacks(self, self.save, self.evaluate, self.validate, self.stop)

    def draw(self, step: int):
        batch = make_batch(self.task, lengths=(6, 5, 4, 3, 2, 1), seed=step)
        return batch if self.draw_more is None else self.draw_more(self, step, batch)

    def log(self, step, metrics):
        self.lines.append((step, metrics))

    def log_evaluation(self, step, rows):
        self.evaluations.append((step, rows))

    def save(self, name, state):
        assert all(torch.isfinite(p).all() for p in self.model.parameters())
        self.saves.append((name, state.step))

    def weights(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in self.model.parameters()])


def with_steps(**changes) -> TrainConfig:
    return dataclasses.replace(CONFIG, **changes)


def test_the_rate_warms_up_in_a_line_and_falls_to_zero_in_a_cosine():
    config = TrainConfig(steps=110, warmup_steps=10, learning_rate=2.0)
    rates = [learning_rate(config, step) for step in range(110)]
    assert rates[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    assert rates[10] == 2.0
    assert rates[60] == pytest.approx(1.0)
    assert rates[35] == pytest.approx(1 + math.cos(math.pi / 4))
    assert 0 < rates[-1] < 1e-3
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_a_constant_rate_stays_after_the_warm_up_and_no_warm_up_begins_at_the_peak():
    config = TrainConfig(steps=50, warmup_steps=4, learning_rate=2.0, schedule="constant")
    assert [learning_rate(config, step) for step in (0, 1, 3, 4, 49)] == [0.5, 1.0, 2.0, 2.0, 2.0]
    assert learning_rate(TrainConfig(steps=50, warmup_steps=0, learning_rate=2.0), 0) == 2.0
    assert learning_rate(TrainConfig(steps=5, warmup_steps=10, learning_rate=2.0), 4) == 1.0


def test_each_update_is_made_with_its_own_rate():
    bench = Bench(with_steps(log_every=1, warmup_steps=3))
    bench.run()
    rates = [metrics["learning_rate"] for _, metrics in bench.lines]
    assert rates == [learning_rate(bench.config, step) for step in range(6)]
    assert bench.state.optimizer.param_groups[0]["lr"] == bench.state.optimizer.param_groups[1]["lr"] == rates[-1]


def test_weights_decay_in_matrices_only():
    model = make_model(dataclasses.replace(TINY, kind="snn_dt", positions="phase"), CONTINUOUS)
    decayed, plain = make_optimizer(TrainConfig(weight_decay=0.5), model).param_groups
    assert decayed["weight_decay"] == 0.5
    assert plain["weight_decay"] == 0.0
    names = {id(p): name for name, p in model.named_parameters()}
    assert len(decayed["params"]) + len(plain["params"]) == len(names)
    for p in plain["params"]:
        assert names[id(p)].endswith(("bias", "cycles", "phase")) or isinstance(owner(model, p), torch.nn.LayerNorm)
    assert all(names[id(p)].endswith("weight") for p in decayed["params"])


def owner(model, parameter) -> torch.nn.Module:
    """The module that a parameter belongs to."""
    return next(m for m in model.modules() if any(p is parameter for p in m.parameters(recurse=False)))


@pytest.mark.parametrize("task", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_parts_of_a_batch_add_up_to_the_whole_though_they_hold_unequal_numbers_of_steps(task):
    whole, parts = (Bench(with_steps(accumulate=n, log_every=1, steps=1), task) for n in (1, 3))
    whole.run()
    parts.run()
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)
    for name in ("loss", "grad_norm"):
        assert whole.lines[0][1][name] == pytest.approx(parts.lines[0][1][name], rel=1e-5)


def test_accuracy_is_logged_for_choices_and_the_error_for_numbers():
    for task, name in ((DISCRETE, "accuracy"), (CONTINUOUS, "action_error")):
        bench = Bench(task=task)
        bench.run()
        assert all(name in metrics for _, metrics in bench.lines)


def test_a_line_holds_the_means_of_the_updates_since_the_last():
    every, third = Bench(with_steps(log_every=1)), Bench(with_steps(log_every=4))
    every.run()
    third.run()
    assert [step for step, _ in third.lines] == [4, 6]
    losses = [metrics["loss"] for _, metrics in every.lines]
    assert third.lines[0][1]["loss"] == pytest.approx(sum(losses[:4]) / 4)
    assert third.lines[1][1]["loss"] == pytest.approx(sum(losses[4:]) / 2)


def test_clipping_bounds_what_the_optimizer_sees_and_zero_switches_it_off(monkeypatch):
    seen = []

    def note(optimizer, *_):
        grads = [p.grad for group in optimizer.param_groups for p in group["params"]]
        seen.append(float(torch.cat([g.flatten() for g in grads]).norm()))

    for clip in (0.01, 0.0):
        bench = Bench(with_steps(steps=1, log_every=1, grad_clip=clip))
        bench.state.optimizer.register_step_pre_hook(note)
        bench.run()
        logged = bench.lines[0][1]["grad_norm"]
        assert logged > 0.01  # as it was before
        assert seen[-1] == pytest.approx(clip or logged, rel=1e-3)


def test_dropout_works_in_training_and_in_training_only():
    bench, again, without = Bench(dropout=0.5), Bench(dropout=0.5), Bench()
    for each in (bench, again, without):
        torch.manual_seed(3)
        each.run()
    assert torch.equal(bench.weights(), again.weights())
    assert not torch.equal(bench.weights(), without.weights())
    modes = []
    bench = Bench(with_steps(eval_every=2), evaluate=lambda: modes.append(bench.model.training) or [{"return_mean": 1}])
    bench.run()
    assert modes == [False] * 3


def scores(*values):
    """An `evaluate` that returns one score after another."""
    left = list(values)
    return lambda: [{"return_mean": left.pop(0)}]


def test_the_best_checkpoint_is_the_best_evaluated_and_the_last_is_the_last():
    bench = Bench(with_steps(eval_every=1), evaluate=scores(3.0, 1.0, 7.0, 2.0, 7.0, 6.0))
    assert bench.run()
    assert [step for step, _ in bench.evaluations] == [1, 2, 3, 4, 5, 6]
    assert [step for name, step in bench.saves if name == "best"] == [1, 3, 5]
    assert bench.saves[-1] == ("last", 6)
    assert bench.state.best_score == 7.0


def test_the_first_target_decides_which_is_best():
    rows = iter([[{"return_mean": 1.0}, {"return_mean": 9.0}], [{"return_mean": 2.0}, {"return_mean": 0.0}]])
    bench = Bench(with_steps(eval_every=3), evaluate=lambda: next(rows))
    bench.run()
    assert [step for name, step in bench.saves if name == "best"] == [3, 6]


def test_without_an_environment_the_validation_loss_decides_and_without_both_the_newest_is_best():
    losses = iter([0.5, 0.1, 0.3])
    bench = Bench(with_steps(eval_every=2), validate=lambda: next(losses))
    bench.run()
    assert [step for name, step in bench.saves if name == "best"] == [2, 4]
    assert [metrics["validation_loss"] for _, metrics in bench.lines if "validation_loss" in metrics] == [0.5, 0.1, 0.3]
    bench = Bench(with_steps(eval_every=2))
    bench.run()
    assert [step for name, step in bench.saves if name == "best"] == [2, 4, 6]


def test_evaluation_comes_once_at_the_end_and_whenever_it_is_due():
    bench = Bench(evaluate=scores(1.0))
    bench.run()
    assert [step for step, _ in bench.evaluations] == [6]
    bench = Bench(with_steps(eval_every=4), evaluate=scores(1.0, 1.0))
    bench.run()
    assert [step for step, _ in bench.evaluations] == [4, 6]


def test_checkpoints_come_when_they_are_due_before_and_after_every_evaluation_and_at_the_end():
    bench = Bench(with_steps(save_every=2, eval_every=3), evaluate=scores(1.0, 0.0))
    bench.run()
    assert [step for name, step in bench.saves if name == "last"] == [2, 3, 3, 4, 6, 6]
    bench = Bench(with_steps(steps=5, save_every=2), draw=stopping_at(3))
    bench.run()
    assert bench.saves == [("last", 2), ("last", 4)]


def test_an_evaluation_that_fails_loses_no_update():
    def evaluate():
        raise RuntimeError("the simulator broke")

    bench = Bench(evaluate=evaluate)
    with pytest.raises(RuntimeError):
        bench.run()
    assert bench.saves == [("last", 6)]
    assert bench.state.evaluated_at == -1


def test_a_finished_run_makes_no_further_update():
    bench = Bench(evaluate=scores(1.0))
    bench.run()
    before, lines = bench.weights(), len(bench.lines)
    assert bench.run()
    assert torch.equal(bench.weights(), before)
    assert len(bench.lines) == lines
    assert len(bench.evaluations) == 1


def stopping_at(step: int):
    """A `draw` during which a signal arrives."""

    def draw(bench, now, batch):
        if now == step:
            bench.stop._note(signal.SIGTERM, None)
        return batch

    return draw


def test_a_stop_ends_the_update_in_hand_saves_and_does_not_evaluate():
    bench = Bench(with_steps(eval_every=4), draw=stopping_at(3), evaluate=scores())
    assert not bench.run()
    assert bench.state.step == 4
    assert bench.saves == [("last", 4)]


def test_a_stop_during_an_evaluation_saves_a_run_that_will_evaluate_again():
    def evaluate():
        bench.stop._note(signal.SIGINT, None)
        bench.stop.check()

    for steps in (6, 3):  # in the middle of training, and after its last update
        bench = Bench(with_steps(steps=steps, eval_every=3), evaluate=evaluate, validate=lambda: 0.5)
        assert not bench.run()
        assert bench.saves == [("last", 3)]
        assert bench.state.evaluated_at == -1
        assert bench.evaluations == []
        assert not any("validation_loss" in metrics for _, metrics in bench.lines)  # it will be recorded then, once


def test_a_second_signal_interrupts_at_once():
    with StopSignal() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.signum == signal.SIGINT
        with pytest.raises(StopRequestedError):
            stop.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_signal_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with StopSignal():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def spoilt_at(step: int, value: float = math.nan, then=None):
    """A `draw` whose batch makes the loss of one update, and of every later one, no number."""

    def draw(bench, now, batch):
        if then is not None:
            batch = then(bench, now, batch)
        return dataclasses.replace(batch, states=batch.states + value) if now == step else batch

    return draw


@pytest.mark.parametrize(
    "changes",
    [{}, {"log_every": 100, "save_every": 4}, {"log_every": 100, "eval_every": 4}, {"log_every": 100}],
    ids=["at a record", "before a checkpoint", "before an evaluation", "at the end"],
)
def test_a_loss_that_is_no_number_ends_the_run_and_nothing_spoilt_is_kept(changes):
    bench = Bench(with_steps(**changes), draw=spoilt_at(3), evaluate=lambda: [{"return_mean": 1.0}])
    with pytest.raises(TrainingError, match=r"expected a finite loss, found nan by update \d; lower"):
        bench.run()
    assert all(step <= 3 for _, step in bench.saves)
    assert all(math.isfinite(metrics["loss"]) for _, metrics in bench.lines)


def test_a_stop_does_not_keep_a_spoilt_model_either():
    bench = Bench(with_steps(log_every=100), draw=spoilt_at(3, then=stopping_at(4)))
    with pytest.raises(TrainingError):
        bench.run()
    assert bench.saves == []


def test_a_gradient_that_is_no_number_is_noticed_though_the_loss_is_one():
    bench = Bench(with_steps(log_every=1))
    bench.model.head.register_full_backward_hook(
        lambda _, grads, __: tuple(None if g is None else g * math.nan for g in grads)
    )
    with pytest.raises(TrainingError, match="finite grad_norm"):
        bench.run()
    assert bench.saves == []


def test_bf16_trains_and_leaves_weights_in_float32():
    bench = Bench(with_steps(precision="bf16", steps=20, learning_rate=3e-3), CONTINUOUS)
    bench.run()
    assert bench.weights().dtype == torch.float32
    plain = Bench(with_steps(steps=20, learning_rate=3e-3), CONTINUOUS)
    plain.run()
    assert not torch.equal(plain.weights(), bench.weights())
    assert bench.lines[-1][1]["loss"] == pytest.approx(plain.lines[-1][1]["loss"], rel=0.05)


def test_firing_rates_are_of_real_steps_and_leave_the_model_training():
    model = make_model(dataclasses.replace(TINY, kind="snn_dt", dropout=0.5), DISCRETE).train()
    batch = make_batch(DISCRETE)
    rates = firing_rates(model, batch)
    assert model.training
    assert rates == firing_rates(model, batch)
    pads = ~batch.attention_mask
    other = dataclasses.replace(batch, states=batch.states.masked_fill(pads[..., None], 30.0))
    assert rates == firing_rates(model, other)
    layers = {name: rate for name, rate in rates.items() if "/" in name}
    assert rates["firing_rate"] == pytest.approx(sum(layers.values()) / len(layers))
    assert len(layers) == 2 * 7
    assert all(0 < rate < 1 for rate in layers.values())
    assert firing_rates(make_model(dataclasses.replace(TINY, kind="dense"), DISCRETE), batch) == {}


def test_the_steps_of_an_update_come_in_the_order_in_which_they_are_written(monkeypatch):
    calls = []
    for name in ("evaluate_if_due", "draw", "update", "log_if_due", "save_if_due", "_evaluate", "_save"):
        method = getattr(TrainingLoop, name)

        def noted(self, *args, name=name, method=method):
            calls.append(name)
            return method(self, *args)

        monkeypatch.setattr(TrainingLoop, name, noted)
    bench = Bench(with_steps(steps=2, log_every=1, save_every=1), evaluate=scores(1.0))
    assert bench.run()
    update = ["evaluate_if_due", "draw", "update", "log_if_due", "save_if_due", "_save"]
    assert calls == [*update, *update, "evaluate_if_due", "_evaluate", "_save"]


def test_one_update_is_one_step_of_the_loop():
    loop, bench = Bench(with_steps(steps=3)), Bench(with_steps(steps=3))
    assert bench.run()
    steps = TrainingLoop(loop.config, loop.model, loop.draw, loop.callbacks(), loop.state)
    for step in range(3):
        assert loop.state.step == step
        batch = steps.one_update()
        assert torch.equal(batch.states, loop.draw(step).states)
    assert torch.equal(loop.weights(), bench.weights())
