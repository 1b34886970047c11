"""Image observations, from a dataset to a decision."""

from __future__ import annotations

import contextlib
import io
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from minari.serialization import serialize_space
from PIL import Image
from torch import nn

import snn_dt
from snn_dt.config import BudgetConfig, config_from_dict
from snn_dt.data import WindowSampler
from snn_dt.data.file_faults import Declared, damaged_file
from snn_dt.data.jpeg import decode
from snn_dt.energy import DecisionMeter
from snn_dt.errors import ConfigError, DataError, EnvironmentMismatchError, ExportError
from snn_dt.export.c_policy import write_c
from snn_dt.export.graph import write_graph
from snn_dt.export.nir_graph import write_nir
from snn_dt.learning.budget import Budget
from snn_dt.models import build_model
from snn_dt.models.encoders import Convolution, SpikeConvolution, encoded
from snn_dt.registry import ENCODERS
from snn_dt.snn import backend_for
from snn_dt.task import make_policy, rtg_scale, shape_of, stacked
from tests.data.test_minari_source import edit_metadata
from tests.data.toy_episodes import random_episodes

N, LENGTH = 40, 8
SPACES = {
    "frames": spaces.Box(0, 255, (40, 36, 1), np.uint8),
    "board": spaces.Box(0, 1, (10, 10, 4), np.bool_),
    "both": spaces.Dict(
        {
            "camera": spaces.Box(0, 255, (3, 12, 10), np.uint8),
            "lamp": spaces.Discrete(3),
            "speed": spaces.Box(-np.inf, np.inf, (2,), np.float32),
        }
    ),
}
KINDS = ("dense", "snn_dt", "snn_dt_stream", "dsformer_pssa")


def observations(space, rng):
    """Return N random observations of a space, nested as it is."""
    if isinstance(space, spaces.Dict):
        return {key: observations(part, rng) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Discrete):
        return rng.integers(0, space.n, N)
    if space.dtype == np.float32:
        return rng.normal(50, 3, (N, *space.shape)).astype(np.float32)
    return rng.integers(0, int(space.high.max()) + 1, (N, *space.shape)).astype(space.dtype)


def dataset(name="frames"):
    rng = np.random.default_rng(0)
    seen = observations(SPACES[name], rng)
    ends = np.arange(N) % LENGTH == LENGTH - 1
    data = snn_dt.Trajectories.from_arrays(
        *(seen, rng.integers(0, 3, N), np.ones(N), ends, np.zeros(N, bool)),
        observation_space=SPACES[name],
        action_space=spaces.Discrete(3),
    )
    return data, seen


def config(kind="dense", frames=1, **model):
    sizes = {"d_model": 16, "n_layers": 1, "context_length": 4} | model
    return config_from_dict({"model": {"kind": kind, **sizes}, "data": {"frame_stack": frames, "normalize": False}})


def policy_of(name, kind="dense", frames=1, **model):
    data, seen = dataset(name)
    data, settings = stacked(data, frames), config(kind, frames, **model)
    scale = rtg_scale(settings, data)
    torch.manual_seed(0)
    network = build_model(settings.model.resolved(), shape_of(settings, data, scale))
    return make_policy(network, data, settings, scale), data, seen


def at(seen, step):
    return {key: part[step] for key, part in seen.items()} if isinstance(seen, dict) else seen[step]


@pytest.mark.parametrize("name", SPACES)
def test_an_image_takes_one_byte_a_pixel_and_the_numbers_beside_it_lose_nothing(name):
    data, seen = dataset(name)
    assert data.observations.dtype == np.uint8
    batch = WindowSampler(data, 4, rtg_scale=1.0).at(np.array([LENGTH - 1, 2]))
    assert batch.states.dtype == torch.uint8
    image = seen["camera"] if name == "both" else seen
    pixels = data.observations[:, 4 * data.numbers :].reshape(image.shape)
    assert (pixels == image * (255 if name == "board" else 1)).all()
    if name == "both":
        assert (data.observations.shape[1], data.numbers) == (4 * 5 + 360, 5)
        numbers = np.ascontiguousarray(data.observations[:, :20]).view(np.float32)
        assert (numbers[:, 3:] == seen["speed"]).all()
        assert (numbers[:, :3].argmax(1) == seen["lamp"]).all()
        assert data.state_mean[3:] == pytest.approx(seen["speed"].mean(0), rel=1e-5)
        assert (data.state_mean[:3] == 0).all()
        normal = batch.states[0, :, :20].contiguous().view(torch.float32)[:, 3:].numpy()
        assert normal == pytest.approx((seen["speed"][4:8] - data.state_mean[3:]) / data.state_std[3:], rel=1e-5)


def test_a_stack_holds_the_frames_before_and_repeats_the_first_one_of_an_episode():
    data, seen = dataset()
    batch = WindowSampler(stacked(data, 3), 4, rtg_scale=1.0).at(np.array([LENGTH + 3, LENGTH]))
    assert batch.states.shape == (2, 4, 3 * 40 * 36)
    steps = batch.states.numpy().reshape(2, 4, 3, 40, 36, 1)
    for k in range(4):  # the window is steps 0 to 3 of the second episode
        earlier = [LENGTH + max(k - back, 0) for back in (2, 1, 0)]
        assert (steps[0, k] == seen[earlier]).all()
    assert not steps[1, :3].any()  # padding


def test_a_policy_normalises_the_numbers_beside_an_image_as_training_does():
    data, seen = dataset("both")
    settings = config_from_dict({"model": {"d_model": 16, "n_layers": 1, "context_length": 4}})
    policy = make_policy(build_model(settings.model.resolved(), shape_of(settings, data, 1.0)), data, settings, 1.0)
    policy.reset(8.0)
    found = policy._images.scale(policy._states(at(seen, 3)), policy.state_mean, policy.state_std)
    expected = WindowSampler(data, 4, rtg_scale=1.0).at(np.array([3])).states[0, -1:]
    numbers = [rows[:, :20].contiguous().view(torch.float32) for rows in (found, expected)]
    assert numbers[0].std() > 0.3
    assert torch.allclose(*numbers, atol=1e-4)
    assert torch.equal(found[:, 20:], expected[:, 20:])


def test_more_frames_than_rows_are_still_channels():
    policy, *_ = policy_of("board", frames=20)
    assert policy.model.embedding.encoder.net[0].shape == (20 * 4, 10, 10)


@pytest.mark.parametrize("frames", [0, -1, 257])
def test_a_stack_of_no_frames_or_of_too_many_is_refused(frames):
    with pytest.raises(ConfigError, match=r"data\.frame_stack: expected in \[1, 256\]"):
        config(frames=frames)


@pytest.mark.parametrize("encoder", ["nature", "spiking"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["frames", "both"])
def test_a_decision_that_keeps_features_equals_the_forward_over_the_images(name, kind, encoder):
    policy, data, seen = policy_of(name, kind, 2, encoder=encoder, positions="none")
    policy.model.double()
    batch = WindowSampler(data, 4, rtg_scale=policy.spec.rtg_scale, normalize=False).at(np.array([3]))
    with torch.inference_mode():
        model = policy.model.eval()
        fields = [x.double() if x.is_floating_point() else x for x in batch.fields]
        expected = model(*fields)
        features = encoded(model, batch.states[0])  # each state by itself
        assert torch.allclose(model(fields[0], features[None], *fields[2:]), expected, rtol=0, atol=1e-12)
    calls = []
    policy.model.embedding.encoder.register_forward_hook(lambda m, x, y: calls.append(x[0].shape[:2]))
    found = []
    policy.reset(float(data.returns_to_go[0]))
    policy._rtg = policy._rtg.double()
    for step in range(4):
        states = policy._states(at(seen, step))
        with torch.inference_mode():
            normal = policy._images.scale(states, policy.state_mean, policy.state_std)
            rtg = (policy._rtg / policy.spec.rtg_scale).double()
            context = policy.context
            for tensor in ("rtg", "states"):
                if tensor in vars(context._inner):
                    setattr(context._inner, tensor, getattr(context._inner, tensor).double())
            found.append(context.decide(policy._decider.by_modules, rtg, normal))
        context.set_action(torch.tensor([data.actions[step]]))
        policy.observe(1.0)
    assert torch.allclose(torch.cat(found)[-1], expected[0, -1], rtol=0, atol=1e-12)
    assert calls == [(1, 1)] * 4  # one new state each, however long the window is


def test_a_policy_sees_the_frames_of_a_batch_that_restarts_and_shrinks():
    policy, _, seen = policy_of("frames", "snn_dt", 3)
    policy.reset(5.0, batch_size=2)
    rows = np.stack([policy.flatten(frame) for frame in seen])
    policy.act(rows[[0, 1]])
    policy.observe([0.0, 0.0])
    policy.restart(np.array([0]), 5.0)
    policy.act(rows[[2, 3]])
    pixels = rows.shape[1]
    past = policy.context.past.numpy().reshape(2, 2, pixels)
    assert (past[0] == rows[[2, 2]]).all()
    assert (past[1] == rows[[1, 3]]).all()
    saved = policy.state()
    policy.keep(np.array([1]))
    assert (policy.context.past.numpy() == past[1:].reshape(1, -1)).all()
    policy.load_state(saved)
    assert (policy.context.past.numpy() == past.reshape(2, -1)).all()


@pytest.mark.parametrize(("shape", "padding"), [((2, 9, 7), 0), ((2, 9, 7), 1), ((1, 20, 20), 0)])
def test_the_additions_of_a_convolution_are_counted_with_its_borders(shape, padding):
    layer = Convolution(shape, 3, 4, 3, padding).double()
    size = int(np.prod(shape))
    torch.nn.init.ones_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    reached = layer(torch.eye(size, dtype=torch.float64)).sum(-1)  # outputs that each input is added to
    assert torch.equal(layer.fan_out(), reached)


@pytest.mark.parametrize("kind", KINDS)
def test_the_energy_of_a_spiking_encoder_is_that_of_one_frame(kind):
    policy, data, seen = policy_of("board", kind, encoder="spiking")
    policy.reset(5.0)
    with policy.through_modules(), DecisionMeter(policy.model) as meter:
        for step in range(3):
            policy.act(seen[step])
            policy.observe(1.0)
            meter.count(*policy.context.counted())
    assert meter.uncounted == []
    second = policy.model.embedding.encoder.net[2]
    assert isinstance(second, SpikeConvolution)
    counts = {name.removeprefix("embedding.encoder."): count / 3 for name, count in meter.by_module.items()}
    assert counts["net.0"].macs == 8 * 8 * 9 * 4 * 16  # valid taps only, every pixel
    spikes = []
    with torch.inference_mode():
        for step in range(3):
            x = torch.from_numpy(data.observations[step]).reshape(1, 1, 10, 10, 4).permute(0, 1, 4, 2, 3).flatten(2)
            spikes.append(policy.model.embedding.encoder.net[:2](x.float() / 255) * second.sim_steps)
    expected = sum(float((s.double() @ second.fan_out()).sum()) for s in spikes) / 3
    assert counts["net.2"].acs == pytest.approx(expected, rel=1e-6)
    assert counts["net.1"].neuron_updates == second.sim_steps * 16 * 8 * 8
    assert all(ratio > 0 for ratio in meter.yardsticks().values())


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_budget_counts_the_encoder_once_for_each_decision(kind):
    policy, data, _ = policy_of("board", kind, encoder="spiking")
    model = policy.model.eval()
    found = []
    for encoder in (model.embedding.encoder, nn.Identity()):
        batch = WindowSampler(data, 4, rtg_scale=1.0).at(np.array([3]))
        features = model.embedding.encoder(batch.states if not model.streams else batch.states.transpose(0, 1))
        states = batch.states if encoder is model.embedding.encoder else features.reshape(1, 4, -1)
        budget = Budget(BudgetConfig(synaptic_operations=1.0, mean_firing_rate=0.1), model)
        with budget.watch():
            model(batch.rtg, states, *batch.fields[2:])
        found.append(float(budget.activity(batch.attention_mask)["synaptic_operations"].detach()))
    second, last = model.embedding.encoder.net[2], model.embedding.encoder.net[4]
    x = torch.from_numpy(data.observations[:4]).reshape(1, 4, 10, 10, 4).permute(0, 1, 4, 2, 3).flatten(2) / 255
    first = model.embedding.encoder.net[:2](x)
    spikes = [float(y.sum()) for y in model.embedding.encoder.net[:4](x)[0]]
    each = [
        4 * (float(s.double() @ second.fan_out()) + n * last.out_features)
        for s, n in zip(first[0], spikes, strict=True)
    ]
    assert found[0] - found[1] == pytest.approx(np.mean(each) if model.streams else each[-1], rel=1e-4)


class Signal(gym.Env):
    """The channel of the pixel that is lit names the right action."""

    def __init__(self, render_mode=None):
        self.observation_space, self.action_space = spaces.Box(0, 255, (10, 10, 3), np.uint8), spaces.Discrete(3)

    def _next(self):
        self.asked = int(self.np_random.integers(3))
        board = np.zeros((10, 10, 3), np.uint8)
        board[self.np_random.integers(10), self.np_random.integers(10), self.asked] = 255
        return board

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._next(), {}

    def step(self, action):
        self.steps += 1
        return self._next(), float(action == self.asked), False, self.steps == LENGTH, {}


def test_a_run_on_images_trains_saves_loads_and_is_evaluated(tmp_path):
    gym.register("Signal-v0", Signal)
    try:
        env, rng, rows = gym.make("Signal-v0"), np.random.default_rng(0), []
        for episode in range(40):
            board, _ = env.reset(seed=episode)
            done = False
            while not done:
                right = int(np.flatnonzero(board.any((0, 1)))[0])
                action = right if rng.random() < episode / 40 else int(rng.integers(3))
                after, reward, terminated, done, _ = env.step(action)
                rows.append((board, action, reward, terminated, done))
                board = after
        data = snn_dt.Trajectories.from_arrays(
            *map(np.array, zip(*rows, strict=True)), env_id="Signal-v0", action_space=spaces.Discrete(3)
        )
        settings = config_from_dict(
            {
                "model": {"kind": "snn_dt", "d_model": 16, "n_layers": 1, "context_length": 2, "encoder": "spiking"},
                "train": {"steps": 5, "batch_size": 8, "device": "cpu"},
                "eval": {"episodes": 2, "target_return": [float(LENGTH)]},
                "track": {"wandb": "disabled"},
            }
        )
        run = snn_dt.train(settings, tmp_path / "run", data=data)
        assert run.rows[0]["uncounted"] == []
        policy = snn_dt.from_pretrained(tmp_path / "run")
        assert policy.model.task.image == (10, 10, 3)
        again = snn_dt.evaluate(policy, float(LENGTH), episodes=2)
        assert again[0]["returns"] == run.rows[0]["returns"]
    finally:
        gym.registry.pop("Signal-v0", None)


@pytest.mark.parametrize(("kind", "span"), [("snn_dt", None), ("dense", 2), ("snn_dt_stream", None)])
def test_the_fast_way_of_deciding_reads_the_features_of_an_image(kind, span):
    policy, _, seen = policy_of("both", kind, attention_span=span)
    if backend_for("cpu") != "cpp":
        pytest.skip("no C++ compiler")
    policy.reset(8.0)
    assert policy._decider.way == "cpp"
    found = {}
    for name in ("fast", "modules"):
        policy.reset(8.0)
        decided = found[name] = []
        decide = policy.context.decide
        policy.context.decide = lambda *a, decide=decide, decided=decided: decided.append(decide(*a)) or decided[-1]
        for step in range(5):
            with policy.through_modules() if name == "modules" else contextlib.nullcontext():
                policy.act(at(seen, step))
            policy.observe(1.0)
    assert torch.allclose(torch.cat(found["fast"]), torch.cat(found["modules"]), atol=1e-4)


def test_a_user_s_encoder_is_selected_by_its_name():
    snn_dt.register_encoder("flat", lambda config, shape: nn.Linear(int(np.prod(shape)), config.d_model))
    try:
        policy, _, seen = policy_of("frames", encoder="flat")
        policy.reset(8.0)
        policy.act(seen[0])
        assert type(policy.model.embedding.encoder.net) is nn.Linear
    finally:
        ENCODERS.remove("flat")


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_frames_that_minari_stores_as_jpeg_are_decoded(minari_set, data_format):
    space = spaces.Dict({"eye": spaces.Box(0, 255, (32, 40, 3), np.uint8), "speed": spaces.Box(-1, 1, (1,))})
    (episode,) = random_episodes([3])
    levels = np.array([0, 90, 200, 255], np.uint8)  # a frame of one grey loses nothing
    eye = np.broadcast_to(levels[:, None, None, None], (4, 32, 40, 3))
    seen = {"eye": eye.copy(), "speed": np.zeros((4, 1), np.float32)}
    folder = minari_set([episode | {"observations": seen}], observation_space=space, data_format=data_format)
    data = snn_dt.load_dataset(str(folder))
    assert (data.observations[:, 4:] == eye[:3].reshape(3, -1)).all()
    other = {"eye": spaces.Box(0, 255, (40, 32, 3), np.uint8), "speed": spaces.Box(-1, 1, (1,))}
    edit_metadata(folder, observation_space=serialize_space(spaces.Dict(other)))
    with pytest.raises(DataError, match=r"frame 0 of shape \(32, 40, 3\), expected \(40, 32, 3\)"):
        snn_dt.load_dataset(str(folder))


WRONG_PIXELS = {
    "fractions": lambda image: image / 255,
    "negative": lambda image: image.astype(int) - 256,
    "too large": lambda image: image.astype(int) + 256,
    "NaN": lambda image: np.where(image > 9, np.nan, image),
}


@pytest.mark.parametrize("wrong", WRONG_PIXELS)
def test_pixels_that_are_no_bytes_are_refused_by_data_and_policy(wrong):
    policy, data, seen = policy_of("frames")
    policy.reset(8.0)
    policy.act(seen[0].astype(np.float64))  # whole numbers of another type are the same image
    policy.reset(8.0)
    with pytest.raises(EnvironmentMismatchError, match="whole numbers from 0 to 255"):
        policy.act(WRONG_PIXELS[wrong](seen[0]))
    with pytest.raises(DataError, match="whole numbers from 0 to 255"):
        snn_dt.Trajectories.from_arrays(
            *(WRONG_PIXELS[wrong](seen), data.actions, np.ones(N), np.arange(N) == N - 1, np.zeros(N, bool)),
            observation_space=SPACES["frames"],
            action_space=spaces.Discrete(3),
        )


def test_bytes_above_the_largest_value_of_their_space_are_refused():
    space, ends = spaces.Box(0, 1, (10, 10, 4), np.uint8), np.arange(4) == 3
    with pytest.raises(DataError, match="whole numbers from 0 to 1"):
        snn_dt.Trajectories.from_arrays(
            *(np.full((4, 10, 10, 4), 255, np.uint8), np.zeros(4, int), np.ones(4), ends, np.zeros(4, bool)),
            observation_space=space,
        )


def test_goals_beside_an_image_are_refused_for_the_image():
    parts = {name: spaces.Box(-1, 1, (2,), np.float32) for name in ("achieved_goal", "desired_goal")}
    space = spaces.Dict({**parts, "observation": SPACES["board"]})
    rng, ends = np.random.default_rng(0), np.arange(N) == N - 1
    data = snn_dt.Trajectories.from_arrays(
        *(observations(space, rng) | {name: np.zeros((N, 2), np.float32) for name in parts}, np.zeros(N, int)),
        *(np.ones(N), ends, np.zeros(N, bool)),
        observation_space=space,
    )
    settings = config(condition="goal")
    with pytest.raises(ConfigError, match=r"no image, found an image of \(10, 10, 4\)"):
        shape_of(settings, data, 1.0)


def png(side):
    buffer = io.BytesIO()
    Image.new("L", (side, side)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("frames", "fault"),
    [
        ([b"no image"], "cannot identify"),
        ([png(2000)[:200]], "(?i)truncated|broken"),
        ([None], "NoneType"),
        ([png(64)], r"frame 0 of shape \(64, 64\), expected \(2000, 2000\)"),
        ([png(2000)] * 40, "declares 160000000 bytes"),
    ],
)
def test_frames_that_are_damaged_or_far_larger_than_their_files_are_one_clear_error(tmp_path, frames, fault):
    path = tmp_path / "data"
    declared = Declared(path, sum(map(len, filter(None, frames))))
    with pytest.raises(DataError, match=fault), damaged_file(path):
        decode(frames, spaces.Box(0, 255, (2000, 2000), np.uint8), declared)


@pytest.mark.parametrize("to", ["c", "nir", "onnx"])
def test_an_image_policy_is_not_exported(tmp_path, to):
    policy, *_ = policy_of("board", "snn_dt", attention_span=2)
    write = {"c": write_c, "nir": write_nir, "onnx": partial(write_graph, to="onnx")}[to]
    with pytest.raises(ExportError, match="observations without an image"):
        write(policy, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_stack_of_observations_without_an_image_is_refused():
    data = snn_dt.Trajectories.from_arrays(np.zeros((4, 2)), np.zeros(4, int), np.ones(4), np.zeros(4), np.zeros(4))
    with pytest.raises(snn_dt.SnnDtError, match=r"data\.frame_stack: expected 1"):
        stacked(data, 2)
