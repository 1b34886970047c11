"""Truncated BPTT: whole windows are BPTT, cuts are cuts, the forward pass never notices, memory does not grow.

A window of another length is a matrix product of another shape, so membranes are compared to rounding. Spikes are
compared one by one: no membrane comes near enough to its threshold for rounding to decide, which is tested first.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from snn_dt.learning.tbptt import TBPTT
from snn_dt.snn import LIF
from snn_dt.snn.states import keep_rows, map_state, reset_rows
from tests.conftest import CONTINUOUS, make_batch, make_model
from tests.models.test_stream import CONFIG, doubled
from tests.tolerance import assert_same_to_rounding, is_far_from_threshold

T, B, D = 24, 3, 5
NEURONS = {
    "hard": {"reset": "hard"},
    "soft, detached": {"reset": "soft", "detach_reset": True},
    "adaptive": {"threshold_adaptation": 0.3, "current_adaptation": 0.1, "tau_adaptation": 5.0},
}


class Layer(torch.nn.Module):
    """A linear layer and its neurons, `[T, B, D]` in and out, whose state is a `LIFState`."""

    def __init__(self, **options) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(D, D).double()
        torch.nn.init.normal_(self.linear.weight)
        self.neurons = LIF(tau_mem=4.0, **options).double()
        self.calls: list[int] = []

    def forward(self, x, state):
        self.calls.append(len(x))
        return self.neurons(self.linear(x), state)


@pytest.fixture(params=NEURONS)
def layer(request) -> Layer:
    """A layer of each kind of neuron."""
    return Layer(**NEURONS[request.param])


def sequence(length: int = T, seed: int = 0) -> torch.Tensor:
    """An input `[T, B, D]`."""
    return torch.randn(length, B, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradient_of(layer: Layer, outputs: torch.Tensor) -> torch.Tensor:
    """The gradient of the weights for a loss that tells all outputs apart."""
    weights = torch.linspace(-1, 2, outputs.numel(), dtype=torch.float64).view_as(outputs)
    return torch.autograd.grad((weights * outputs).sum(), layer.linear.weight)[0]


def assert_same_state(found, expected) -> None:
    """States that are equal to rounding."""
    map_state(lambda a, b: assert_same_to_rounding(a, b) or a, found, expected)


def test_no_membrane_of_these_tests_is_so_near_its_threshold_that_rounding_could_decide(layer):
    assert is_far_from_threshold(layer.neurons, layer.linear(sequence()))


@pytest.mark.parametrize("window", [T, T + 7])
def test_a_window_as_long_as_the_sequence_is_bptt_bit_for_bit(layer, window):
    x = sequence()
    whole, last = layer(x, None)
    tbptt = TBPTT(layer, window)
    ((steps, outputs),) = tbptt(x)
    assert steps == slice(0, T)
    assert torch.equal(outputs, whole)
    assert torch.equal(gradient_of(layer, outputs), gradient_of(layer, whole))
    assert torch.equal(tbptt.state.v_mem, last.v_mem)
    assert layer.calls == [T, T], "one call, not several"


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (5, 5), (7, 2), (8, 3), (6, 1), (24, 10)])
def test_the_spikes_do_not_depend_on_the_window_and_the_membranes_only_by_rounding(layer, window, stride):
    x, seen, handed = sequence(), [], []
    tbptt = TBPTT(layer, window, stride)
    for steps, outputs in tbptt(x):
        handed += range(T)[steps]
        seen.append(outputs.detach())
    assert handed == list(range(T)), "every step once, in order"
    whole, last = layer(x, None)
    assert torch.equal(torch.cat(seen), whole)
    assert_same_state(tbptt.state, last)


@pytest.mark.parametrize(("window", "stride"), [(6, 6), (7, 2), (9, 4)])
def test_no_gradient_reaches_inputs_before_the_window_and_all_of_it_those_inside(layer, window, stride):
    x = sequence().requires_grad_()
    for steps, outputs in TBPTT(layer, window, stride)(x):
        reached = torch.autograd.grad(outputs.sum(), x)[0].abs().sum((1, 2))
        first = max(0, steps.stop - window)
        assert not reached[:first].any()
        assert not reached[steps.stop :].any()
        assert (reached[first : steps.stop] > 0).all()


@pytest.mark.parametrize(("window", "stride"), [(6, 6), (7, 2)])
def test_the_gradient_of_a_window_is_bptt_from_its_detached_first_state(layer, window, stride):
    x = sequence()
    for steps, outputs in TBPTT(layer, window, stride)(x):
        first = max(0, steps.stop - window)
        state = None
        if first:
            state = map_state(torch.Tensor.detach, layer(x[:first], None)[1])
        expected = layer(x[first : steps.stop], state)[0][steps.start - first :]
        torch.testing.assert_close(gradient_of(layer, outputs), gradient_of(layer, expected), rtol=1e-12, atol=1e-12)


def test_what_truncation_leaves_out_is_the_tail_of_the_membranes_kernel():
    neurons = LIF(tau_mem=10.0, reset="none").double()
    x = torch.zeros(200, 1, 1, dtype=torch.float64).requires_grad_()
    for window in (5, 20, 44):  # 0.9^44 = 1 %
        last = None
        for steps, outputs in TBPTT(lambda x, state: _membrane(neurons, x, state), window, stride=1)(x):
            last = steps, outputs
        assert last[0] == slice(199, 200)
        kept = torch.autograd.grad(last[1].sum(), x)[0].sum()
        assert float(1 - kept / 10) == pytest.approx(0.9**window, rel=1e-6)  # the whole kernel sums to 1 / (1 - 0.9)


def _membrane(neurons, x, state):
    """The membranes of silent neurons as outputs, by one step at a time."""
    outputs = []
    for current in x.unbind(0):
        state = neurons(current[None], state)[1]
        outputs.append(state.v_mem)
    return torch.stack(outputs), state


def test_the_state_goes_on_from_call_to_call_and_can_be_put_away(layer):
    x = sequence()
    whole = layer(x, None)[0]
    tbptt, parts = TBPTT(layer, window=5), []
    for part in x.split(8):
        parts += [outputs.detach() for _, outputs in tbptt(part)]
        tbptt, state = TBPTT(layer, window=5), tbptt.state
        assert not state.v_mem.requires_grad
        tbptt.state = state
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize(("window", "stride"), [(T, T), (6, 6), (7, 3)])
def test_an_episode_that_begins_in_a_row_forgets_and_learns_nothing_of_the_one_before(layer, window, stride):
    x = sequence().requires_grad_()
    starts = torch.zeros(T, B, dtype=torch.bool)
    starts[10, 1] = starts[0, 2] = starts[13, 2] = True
    outputs = torch.cat([y for _, y in TBPTT(layer, window, stride)(x, starts=starts)])
    for row, begins in enumerate(([0], [0, 10], [0, 13])):
        alone = [layer(part[:, None], None)[0] for part in x[:, row].tensor_split(begins[1:])]
        torch.testing.assert_close(outputs[:, row : row + 1], torch.cat(alone), rtol=0, atol=0)
    (whole,) = [y for _, y in TBPTT(layer, T)(x, starts=starts)]
    reached = torch.autograd.grad(whole[12:].sum(), x)[0].abs().sum(2)
    assert (reached[:12, 0] > 0).all()
    assert not reached[:10, 1].any()
    assert (reached[10:, 1] > 0).all()


def test_rows_of_neurons_whose_rest_is_not_zero_go_back_to_it():
    neurons = LIF(tau_mem=4.0, v_rest=-2.0).double()
    x, starts = 3 * sequence(), torch.zeros(T, B, dtype=torch.bool)
    starts[9] = True
    rest = map_state(lambda v: torch.full_like(v[:1], -2.0), neurons(x[:1], None)[1])
    outputs = torch.cat([y for _, y in TBPTT(neurons, 6, rest=rest)(x, starts=starts)])
    assert torch.equal(outputs[9:], neurons(x[9:], None)[0])
    at_zero = torch.cat([y for _, y in TBPTT(neurons, 6)(x, starts=starts)])
    assert not torch.equal(outputs, at_zero)


def test_burn_in_moves_the_state_and_is_not_learned_from(layer):
    x = sequence().requires_grad_()
    handed = list(TBPTT(layer, window=6, burn_in=9)(x))
    assert [steps for steps, _ in handed] == [slice(9, 15), slice(15, 21), slice(21, 24)]
    whole = layer(x, None)[0]
    assert torch.equal(torch.cat([y for _, y in handed]), whole[9:])
    assert not torch.autograd.grad(handed[0][1].sum(), x)[0][:9].any()
    assert list(TBPTT(layer, window=6, burn_in=30)(x)) == []


def test_weights_may_change_between_windows():
    layer, plain = Layer(), Layer()
    x = sequence()
    optimizers = [torch.optim.SGD(each.parameters(), 0.1) for each in (layer, plain)]
    for _, outputs in TBPTT(layer, 6)(x):
        optimizers[0].zero_grad()
        outputs.square().sum().backward()
        optimizers[0].step()
    state = None
    for part in x.split(6):
        outputs, state = plain(part, None if state is None else map_state(torch.Tensor.detach, state))
        optimizers[1].zero_grad()
        outputs.square().sum().backward()
        optimizers[1].step()
    assert torch.equal(layer.linear.weight, plain.linear.weight)
    assert not torch.equal(layer.linear.weight, Layer().linear.weight)


class Held:
    """Bytes that autograd holds for a backward pass, now and at most."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def pack(self, x: torch.Tensor):
        return Kept(self, x)

    @staticmethod
    def unpack(kept) -> torch.Tensor:
        return kept.x


class Kept:
    """A tensor that is counted as long as it lives."""

    def __init__(self, held: Held, x: torch.Tensor) -> None:
        self.held, self.x = held, x
        held.now += x.nbytes
        held.most = max(held.most, held.now)

    def __del__(self) -> None:
        self.held.now -= self.x.nbytes


@pytest.mark.parametrize("stride", [8, 3])
def test_memory_is_that_of_a_window_however_long_the_sequence_is(stride):
    most = {}
    for window, length in ((8, 80), (8, 800), (800, 800)):
        held = Held()
        with torch.autograd.graph.saved_tensors_hooks(held.pack, held.unpack):
            for _, outputs in TBPTT(Layer(), window, min(stride, window))(sequence(length)):
                outputs.sum().backward()
        most[window, length] = held.most
    assert most[8, 800] == most[8, 80]
    assert most[8, 800] < most[800, 800] / 5


@pytest.mark.parametrize("window", [200, 50, 30])
def test_the_streaming_model_is_run_as_it_stands(window):
    model, batch = make_model(CONFIG, CONTINUOUS).double(), doubled(make_batch(CONTINUOUS, 200, (200, 200)))
    inputs = (batch.rtg, batch.states, batch.actions, batch.attention_mask)
    whole = model.scan(*inputs)[0]
    tbptt = TBPTT(model.scan, window, dim=1)
    parts = []
    for steps, outputs in tbptt(*inputs):
        assert outputs.shape[1] == steps.stop - steps.start
        outputs.square().sum().backward()
        parts.append(outputs.detach())
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-12)
    if window == 200:
        summed = {name: p.grad.clone() for name, p in model.named_parameters()}
        model.zero_grad()
        whole.square().sum().backward()
        assert all(torch.equal(summed[name], p.grad) for name, p in model.named_parameters())


def test_episodes_of_the_streaming_model_begin_inside_a_batch():
    model = make_model(dataclasses.replace(CONFIG, n_layers=1), CONTINUOUS).double()
    batch = doubled(make_batch(CONTINUOUS, 40, (40, 40)))
    inputs = (batch.rtg, batch.states, batch.actions, batch.attention_mask)
    starts = torch.zeros(2, 40, dtype=torch.bool)
    starts[1, 17] = True
    ((_, outputs),) = TBPTT(model.scan, 40, dim=1)(*inputs, starts=starts)
    torch.testing.assert_close(outputs[1, 17:], model.scan(*(x[1:, 17:] for x in inputs))[0][0], rtol=0, atol=1e-12)
    torch.testing.assert_close(outputs[0], model.scan(*(x[:1] for x in inputs))[0][0], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("window", "stride", "burn_in"), [(4, 5, 0), (0, None, 0), (4, 0, 0), (4, 4, -1)])
def test_a_stride_that_would_leave_steps_out_is_refused(window, stride, burn_in):
    with pytest.raises(ValueError, match="expected 1 <= stride <= window and burn_in >= 0, found stride"):
        TBPTT(lambda x, state: (x, state), window, stride, burn_in)


def test_a_state_of_anything_but_tensors_is_refused():
    with pytest.raises(TypeError, match="expected tensors in tuples, lists and dictionaries; found str"):
        reset_rows({"v": ["x"]}, torch.tensor([True]))


def test_rows_are_kept_in_the_order_asked_for_in_any_structure():
    state = {"a": (torch.arange(3), None), "b": [torch.eye(3, dtype=torch.bool)]}
    kept = keep_rows(state, torch.tensor([2, 0]))
    assert kept["a"][0].tolist() == [2, 0]
    assert kept["a"][1] is None
    assert kept["b"][0].tolist() == [[False, False, True], [True, False, False]]
