"""Weights of `transformers` and of the authors' Gym code give the same actions in kind `dense`; the rest is refused."""

from __future__ import annotations

import json
import math
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch.nn import functional as F

import snn_dt
from snn_dt.cli.main import main
from snn_dt.convert import SCALE, Setting, dense_weights, from_hugging_face, from_original
from snn_dt.data import Trajectories
from snn_dt.errors import CheckpointError
from snn_dt.models import build_model

STATE, ACTION, D, HEADS, LAYERS, K = 3, 2, 8, 2, 2, 4
SETTING = Setting(np.zeros(STATE, np.float32), np.ones(STATE, np.float32), target_return=50.0, context_length=K)


def state_dict(root: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights in the layout of `transformers` (root `encoder`) or of the authors' code (root `transformer`)."""
    g = torch.Generator().manual_seed(seed)

    def random(shape):
        return torch.randn(shape, generator=g) * 0.3

    shapes = {
        "embed_timestep.weight": (30, D), "embed_return.weight": (D, 1), "embed_return.bias": (D,),
        "embed_state.weight": (D, STATE), "embed_state.bias": (D,), "embed_action.weight": (D, ACTION),
        "embed_action.bias": (D,), "embed_ln.weight": (D,), "embed_ln.bias": (D,), "predict_state.weight": (STATE, D),
        "predict_state.bias": (STATE,), "predict_return.weight": (1, D), "predict_return.bias": (1,),
        "predict_action.0.weight": (ACTION, D), "predict_action.0.bias": (ACTION,), f"{root}.wte.weight": (1, D),
        f"{root}.ln_f.weight": (D,), f"{root}.ln_f.bias": (D,),
    }  # fmt: skip
    if root == "encoder":
        shapes["encoder.wpe.weight"] = (16, D)
    for i in range(LAYERS):
        for name, size in (("ln_1", D), ("ln_2", D)):
            shapes |= {f"{root}.h.{i}.{name}.weight": (size,), f"{root}.h.{i}.{name}.bias": (size,)}
        linear = {"attn.c_attn": (D, 3 * D), "attn.c_proj": (D, D), "mlp.c_fc": (D, 4 * D), "mlp.c_proj": (4 * D, D)}
        for name, shape in linear.items():
            shapes |= {f"{root}.h.{i}.{name}.weight": shape, f"{root}.h.{i}.{name}.bias": shape[1:]}
        shapes |= {f"{root}.h.{i}.attn.bias": (1, 1, 16, 16), f"{root}.h.{i}.attn.masked_bias": ()}
    return {name: random(shape) for name, shape in shapes.items()}


def published(w: dict[str, torch.Tensor], root: str, rtg, states, actions, timesteps) -> torch.Tensor:
    """The Decision Transformer of the paper for full windows, written out: GPT-2 blocks over 3K tokens."""

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def conv1d(x, name):
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], 1e-5)

    time = w["embed_timestep.weight"][timesteps]
    parts = [linear(x, f"embed_{name}") + time for x, name in ((rtg, "return"), (states, "state"), (actions, "action"))]
    x = norm(torch.stack(parts, 2).flatten(1, 2), "embed_ln")  # [B, K, 3, D] -> [B, 3K, D]
    if root == "encoder":
        x = x + w["encoder.wpe.weight"][0]
    batch, length = x.shape[:2]
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    for i in range(LAYERS):
        at = f"{root}.h.{i}"
        qkv = conv1d(norm(x, f"{at}.ln_1"), f"{at}.attn.c_attn").split(D, -1)
        q, k, v = (part.view(batch, length, HEADS, D // HEADS).transpose(1, 2) for part in qkv)  # [B, H, 3K, d]
        scores = (q @ k.transpose(-1, -2) / math.sqrt(D // HEADS)).masked_fill(future, -math.inf).softmax(-1)
        x = x + conv1d((scores @ v).transpose(1, 2).flatten(2), f"{at}.attn.c_proj")
        x = x + conv1d(conv1d(norm(x, f"{at}.ln_2"), f"{at}.mlp.c_fc").relu(), f"{at}.mlp.c_proj")
    return linear(norm(x, f"{root}.ln_f")[:, 1::3], "predict_action.0").tanh()  # read from the state tokens


def window(batch: int = 5, length: int = K) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(7)
    rtg, states, actions = (torch.randn(batch, length, n, generator=g).double() for n in (1, STATE, ACTION))
    return rtg, states, actions, torch.arange(length).repeat(batch, 1) + 3


def hugging_face_folder(path, weights, **config):
    from safetensors.torch import save_file

    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps({"model_type": "decision_transformer", "n_head": HEADS} | config))
    save_file(weights, path / "model.safetensors")
    return path


def in_float64(policy, weights):
    model = build_model(policy.model.config, policy.model.task).double().eval()
    model.load_state_dict(dense_weights({name: x.double() for name, x in weights.items()}))
    return model


@pytest.mark.parametrize("root", ["encoder", "transformer"])
def test_imported_weights_predict_what_the_published_model_predicts(tmp_path, root):
    weights = state_dict(root)
    if root == "encoder":
        policy = from_hugging_face(hugging_face_folder(tmp_path / "hf", weights), SETTING)
    else:
        torch.save(weights, tmp_path / "model.pt")
        policy = from_original(tmp_path / "model.pt", SETTING, n_heads=HEADS)
    inputs = window()
    expected = published({name: x.double() for name, x in weights.items()}, root, *inputs)
    found = in_float64(policy, weights)(*inputs, torch.ones(5, K, dtype=torch.bool))
    assert (found - expected).abs().max() < 1e-13
    single = policy.model(*(x.float() if x.is_floating_point() else x for x in inputs), torch.ones(5, K).bool())
    assert (single - expected).abs().max() < 1e-5


@pytest.mark.parametrize("tanh", [True, False])
def test_transformers_and_dense_agree_in_float64(tmp_path, tanh):
    pip = "pip install 'snn-dt[hf]'"
    transformers = pytest.importorskip("transformers", reason=f"transformers is not installed: {pip}")
    sizes = {"state_dim": STATE, "act_dim": ACTION, "hidden_size": D, "n_layer": LAYERS, "n_head": HEADS}
    config = transformers.DecisionTransformerConfig(**sizes, max_ep_len=30, action_tanh=tanh)
    torch.manual_seed(0)
    theirs = transformers.DecisionTransformerModel(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():  # theirs start so small that mistakes would not show
            parameter.normal_(std=0.3)
    theirs.save_pretrained(tmp_path / "hf")
    policy = from_hugging_face(tmp_path / "hf", SETTING)
    model = build_model(policy.model.config, policy.model.task).double().eval()
    model.load_state_dict(dense_weights(theirs.double().state_dict(), tanh))
    rtg, states, actions, timesteps = window()
    mask = torch.arange(K).repeat(5, 1) >= torch.tensor([0, 1, 2, 3, 0])[:, None]  # pads on the left
    with torch.no_grad():
        expected = theirs(
            states=states, actions=actions, rewards=rtg, returns_to_go=rtg, timesteps=timesteps,
            attention_mask=mask.long(),
        ).action_preds  # fmt: skip
    difference = (model(rtg, states, actions, timesteps, mask) - expected)[mask].abs().max()
    assert difference < (1e-13 if tanh else 1e-12)


def test_an_imported_policy_is_saved_loaded_and_acts(tmp_path):
    stats = tmp_path / "stats.json"
    stats.write_text(json.dumps({"state_mean": [0.1, 0.2, 0.3], "state_std": [1.0, 2.0, 3.0]}))
    folder = hugging_face_folder(tmp_path / "hf", state_dict("encoder"))
    words = ["import", "hf", str(folder), "--stats", str(stats), "--out", str(tmp_path / "out"), "--target_return", "9"]
    assert main(words) == 0
    policy = snn_dt.from_pretrained(tmp_path / "out")
    assert policy.spec.rtg_scale == SCALE
    assert policy.provenance["imported_from"].endswith("model.safetensors")
    assert policy.model.task.rtg_range is None  # returns above those of any dataset are not clamped
    policy.reset()
    action = policy.act(np.zeros(STATE))
    assert action.shape == (ACTION,)
    assert (abs(action) <= 1).all()


class Surprise:
    def __reduce__(self):
        return (open, ("surprise.txt", "w"))


def test_a_pickled_model_is_refused_and_not_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Surprise()}, "model.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Surprise(), protocol=2))
    for name in ("model.pt", "plain.pt"):
        with pytest.raises(CheckpointError, match="never unpickled"):
            from_original(tmp_path / name, SETTING)
    assert not (tmp_path / "surprise.txt").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("activation_function", "gelu"),
        ("layer_norm_epsilon", 1e-6),
        ("scale_attn_by_inverse_layer_idx", True),
        ("scale_attn_weights", False),
        ("add_cross_attention", True),
        ("model_type", "gpt2"),
        ("n_head", "two"),
        ("n_head", math.nan),
        ("n_head", 1.5),
        ("action_tanh", "no"),
    ],
)
def test_what_dense_does_not_compute_is_refused_by_name(tmp_path, name, value):
    folder = hugging_face_folder(tmp_path / "hf", state_dict("encoder"), **{name: value})
    with pytest.raises(CheckpointError, match=f"{name}: expected"):
        from_hugging_face(folder, SETTING)


def test_tensors_too_many_or_too_few_are_refused_by_name(tmp_path):
    weights = state_dict("encoder")
    more = hugging_face_folder(tmp_path / "more", weights | {"encoder.h.0.crossattention.c_attn.weight": torch.ones(1)})
    with pytest.raises(CheckpointError, match="crossattention"):
        from_hugging_face(more, SETTING)
    fewer = hugging_face_folder(tmp_path / "fewer", {k: x for k, x in weights.items() if k != "embed_ln.bias"})
    with pytest.raises(CheckpointError, match=r"no tensor embed_ln\.bias"):
        from_hugging_face(fewer, SETTING)
    with pytest.raises(CheckpointError, match="state_mean: expected 3 numbers"):
        from_hugging_face(hugging_face_folder(tmp_path / "hf", weights), Setting(np.zeros(2), np.ones(2), 1.0))


@pytest.mark.parametrize(("name", "value"), [("hidden_size", 16), ("n_layer", 7), ("state_dim", 17), ("act_dim", 6)])
def test_weights_that_contradict_the_config_beside_them_are_refused(tmp_path, name, value):
    folder = hugging_face_folder(tmp_path / "hf", state_dict("encoder"), **{name: value})
    with pytest.raises(CheckpointError, match=f"found {name} {value} and weights"):
        from_hugging_face(folder, SETTING)


ODD = {
    "repeated": torch.as_strided(torch.zeros(1), (1 << 40,), (0,)),
    "sparse": torch.eye(2).to_sparse(),
    "meta": torch.empty(2, device="meta"),
    "infinite": torch.tensor([math.inf]),
}


@pytest.mark.parametrize("odd", ODD)
def test_a_tensor_that_the_file_does_not_hold_in_full_is_refused(tmp_path, odd):
    torch.save(state_dict("transformer") | {"predict_state.extra": ODD[odd]}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"found 'predict_state\.extra'"):
        from_original(tmp_path / "model.pt", SETTING, HEADS)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (3, torch.zeros(1), "found 3"),
        ("embed_return.bias", torch.ones(D, dtype=torch.complex64), "not floating point"),
        ("embed_timestep.weight", torch.ones(30, D, dtype=torch.int8), "not floating point"),
        ("embed_timestep.weight", torch.zeros(0, D), "without numbers"),
        ("predict_action.0.bias", torch.zeros(0), "without numbers"),
    ],
)
def test_weights_that_would_become_others_are_refused(tmp_path, name, value, said):
    torch.save(state_dict("transformer") | {name: value}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=said):
        from_original(tmp_path / "model.pt", SETTING, HEADS)


def test_a_row_of_positions_of_another_width_is_refused(tmp_path):
    weights = state_dict("encoder") | {"encoder.wpe.weight": torch.ones(16, 1)}
    with pytest.raises(CheckpointError, match="wpe of shape"):
        from_hugging_face(hugging_face_folder(tmp_path / "hf", weights), SETTING)


def test_a_compressed_archive_is_refused_before_it_fills_the_memory(tmp_path):
    torch.save({"predict_state.x": torch.zeros(1 << 16)}, tmp_path / "plain.pt")
    small = zipfile.ZipFile(tmp_path / "small.pt", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, small:
        for item in plain.infolist():
            small.writestr(item.filename, plain.read(item))
    with pytest.raises(CheckpointError, match="a compressed archive"):
        from_original(tmp_path / "small.pt", SETTING)


def test_a_dataset_of_other_actions_is_refused(tmp_path):
    data = Trajectories.from_episodes(
        [{"observations": np.zeros((4, STATE)), "actions": np.zeros(4, np.int64), "rewards": np.ones(4)}],
        observation_space=Box(-1, 1, (STATE,)),
        action_space=Discrete(2),
    )
    torch.save(state_dict("transformer"), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="action_space: expected a Box space of size 2"):
        from_original(tmp_path / "model.pt", replace(SETTING, data=data), HEADS)


def test_mistakes_on_the_command_line_are_one_line(tmp_path, capsys):
    folder = hugging_face_folder(tmp_path / "hf", state_dict("encoder"))
    (tmp_path / "stats.json").write_text('{"state_mean": [0]}')
    for words in (["--stats", "nowhere.json"], ["--stats", str(tmp_path / "stats.json")], ["--stats", "minari:a/b-v0"]):
        assert main(["import", "hf", str(folder), "--out", str(tmp_path / "out"), *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert words[1].startswith("minari") or "of finite numbers and deviations above 0" in line
    assert not (tmp_path / "out").exists()
