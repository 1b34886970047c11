"""Decision Transformer weights of other packages as policies of kind `dense`.

Two layouts are read: `DecisionTransformerModel` of Hugging Face's `transformers`, and the Gym model of the authors
(github.com/kzl/decision-transformer), which has the same names under `transformer.` instead of `encoder.`. Both compute
what `dense` computes, and the mapping is exact up to rounding:

```
c_attn.weight [D, 3D]      transposed and split: query [D, D], key_value [2D, D]
c_proj, c_fc               transposed (GPT-2 stores [in, out])
wpe.weight[0] [D]          added to the bias of embed_ln; transformers passes position 0 for every token
action_tanh                bounds -1 and 1 of the head
```

What the mapping cannot express is refused by name. No file is unpickled: `.pt` and `.bin` files are read with
`weights_only=True`, which builds tensors only.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn_dt import io
from snn_dt.checkpoint import provenance, read_json, read_tensors
from snn_dt.config import Config, ModelConfig, validate
from snn_dt.errors import CheckpointError, SnnDtError
from snn_dt.evaluation.policy import Policy, PolicySpec
from snn_dt.evaluation.policy_spec import check_spec
from snn_dt.models import TaskShape, build_model

if TYPE_CHECKING:
    from snn_dt.data import Trajectories

SCALE = 1000.0
"""Divisor of returns-to-go in the authors' Gym code and in Hugging Face's checkpoints."""
UNUSED = (r"predict_(state|return)\.", r"encoder\.wpe\.", r"\.wte\.", r"\.attn\.(bias|masked_bias)$")
"""Tensors that no action depends on, or that `dense_weights` reads where it needs them."""
FIXED = {
    "model_type": "decision_transformer",
    "activation_function": "relu",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}
"""Entries of Hugging Face's config.json, and the only value of each that `dense` computes. It is also the default."""
SIZES = ("hidden_size", "n_layer", "state_dim", "act_dim")
"""Entries of Hugging Face's config.json that the weights show too. They must agree."""


@dataclass(frozen=True)
class Setting:
    """What a policy needs and weights do not hold."""

    state_mean: NDArray[np.floating[Any]]
    """Statistics of the training data `[state_dim]`."""
    state_std: NDArray[np.floating[Any]]
    target_return: float
    """The default target, in environment units."""
    rtg_scale: float = SCALE
    """Divisor of the return-to-go in training."""
    context_length: int = 20
    """K of the training, in environment steps."""
    env_id: str | None = None
    """Gymnasium id of the environment to evaluate in."""
    data: Trajectories | None = field(default=None, repr=False)
    """The dataset that the statistics were computed from, if any; it gives spaces and reference scores."""


def from_hugging_face(folder: str | Path, setting: Setting) -> Policy:
    """Return the policy of a checkpoint folder of `transformers.DecisionTransformerModel.save_pretrained`.

    Raises:
        CheckpointError: a file is missing or damaged, or the model computes something that `dense` does not.
    """
    folder = Path(folder)
    config = read_json(folder / "config.json")
    for name, expected in FIXED.items():
        if config.get(name, expected) != expected:
            raise CheckpointError(
                f"{folder}/config.json: {name}: expected {expected!r}, the only value that kind dense computes, found "
                f"{config[name]!r}; such a checkpoint cannot be imported"
            )
    files = [folder / name for name in ("model.safetensors", "pytorch_model.bin")]
    file = next((file for file in files if io.is_file(file)), None)
    if file is None:
        raise CheckpointError(
            f"expected model.safetensors or pytorch_model.bin in {folder}, found neither; weights in several files "
            "(model.safetensors.index.json) must be saved again as one"
        )
    facts: dict[str, Any] = {"n_head": 1, "resid_pdrop": 0.1, "action_tanh": True} | config
    kinds = {"n_head": (int,), "resid_pdrop": (int, float), "action_tanh": (bool, int)}
    heads, dropout, tanh = (facts[name] for name in kinds)
    for name, types in kinds.items():
        if type(facts[name]) not in types:
            raise CheckpointError(
                f"{folder}/config.json: {name}: expected {types[0].__name__}, found {facts[name]!r}; mend it"
            )
    policy = dense_policy(read_weights(file), heads, setting, file, bool(tanh), dropout)
    model: Any = policy.model
    sizes = (model.config.d_model, model.config.n_layers, model.state_dim, model.action_dim)
    for name, size in zip(SIZES, sizes, strict=True):
        if config.get(name, size) != size:
            raise CheckpointError(
                f"{folder}: expected weights and config.json of one model, found {name} {config[name]!r} and weights "
                f"for {size}; copy both again"
            )
    return policy


def from_original(file: str | Path, setting: Setting, n_heads: int = 1) -> Policy:
    """Return the policy of a state dict of the authors' Gym model, in a `.pt`, `.bin` or `.safetensors` file.

    `n_heads` is `n_head` of the training (1 in the authors' code), which the weights do not show.

    Raises:
        CheckpointError: the file is missing, damaged or holds more than tensors, or another model.
    """
    return dense_policy(read_weights(Path(file)), n_heads, setting, Path(file), tanh=True, dropout=0.1)


def dense_policy(
    weights: Mapping[str, Tensor], n_heads: int, setting: Setting, source: Path, tanh: bool, dropout: float
) -> Policy:
    """Return the policy with these weights in either layout. `tanh` bounds the actions to -1 and 1."""
    try:
        mapped = dense_weights(weights, tanh)
        steps, d = mapped["embedding.positions.weight"].shape
        action_dim, state_dim = len(mapped["head.bias"]), mapped["embedding.state.weight"].shape[1]
        hidden = len(mapped["blocks.0.mlp.1.bias"])
        if 0 in (steps, d, action_dim, state_dim):
            raise ValueError("a tensor without numbers")
        if hidden % d:
            raise ValueError(f"n_inner: expected a multiple of the width {d}, found {hidden}")
        bounds = (1.0,) * action_dim if tanh else None
        low = None if bounds is None else tuple(-x for x in bounds)
        task = TaskShape(state_dim, action_dim, False, steps, low, bounds)  # no rtg_range: returns are not clamped
        n_layers = sum(bool(re.fullmatch(r"blocks\.\d+\.mlp\.1\.bias", name)) for name in mapped)
        config = ModelConfig(
            kind="dense", d_model=d, n_layers=n_layers, n_heads=n_heads, context_length=setting.context_length,
            mlp_ratio=hidden // d, dropout=dropout,
        )  # fmt: skip
        validate(Config(model=config))
        for name in ("state_mean", "state_std"):
            if (shape := getattr(setting, name).shape) != (state_dim,):
                raise ValueError(f"{name}: expected {state_dim} numbers, one for each state dimension, found {shape}")
        model = build_model(config, task)
        model.load_state_dict(mapped, strict=True)
        spec = _spec(setting, task, _dataset_id(setting, source))
        check_spec(spec, task)  # the actions of the dataset may be others
    except (RuntimeError, ValueError, LookupError, TypeError, SnnDtError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{source}: expected the weights of a Decision Transformer in the layout of transformers or of the "
            f"authors' Gym code, found: {reason}; other models cannot be imported"
        ) from error
    facts = provenance(imported_from=str(source), dataset_id=spec.dataset_id)
    mean, std = (torch.from_numpy(np.array(x)) for x in (setting.state_mean, setting.state_std))
    return Policy(model.eval(), spec, mean, std, facts)


def dense_weights(weights: Mapping[str, Tensor], tanh: bool = True) -> dict[str, Tensor]:
    """Return the state dict of kind `dense` for one of transformers or of the authors' Gym code.

    Raises:
        ValueError: a tensor is missing, or there is one that the mapping does not know.
    """
    root = "encoder" if any(name.startswith("encoder.") for name in weights) else "transformer"
    left = {name for name in weights if not any(re.search(pattern, name) for pattern in UNUSED)}

    def take(name: str, transpose: bool = False) -> Tensor:
        if name not in weights:
            raise ValueError(f"no tensor {name}")
        left.discard(name)
        if not weights[name].is_floating_point():
            raise ValueError(f"{name} of type {weights[name].dtype}, not floating point")
        return weights[name].T if transpose else weights[name]

    def copy(new: str, old: str, transpose: bool = False) -> dict[str, Tensor]:
        return {f"{new}.weight": take(f"{old}.weight", transpose), f"{new}.bias": take(f"{old}.bias")}

    table = take("embed_timestep.weight")  # [timesteps, D]
    mapped = {"embedding.positions.weight": table, "embedding.positions.last": torch.tensor(len(table) - 1)}
    for new, old in (("rtg", "return"), ("state", "state"), ("action", "action"), ("norm", "ln")):
        mapped |= copy(f"embedding.{new}", f"embed_{old}")
    if root == "encoder":
        bias, first = mapped["embedding.norm.bias"], take("encoder.wpe.weight")[0]
        if bias.shape != first.shape:
            raise ValueError(f"embed_ln.bias of shape {tuple(bias.shape)} and wpe of shape {tuple(first.shape)} a row")
        mapped["embedding.norm.bias"] = bias + first
    for i in sorted({int(found[1]) for name in weights if (found := re.match(rf"{root}\.h\.(\d+)\.", name))}):
        new, old = f"blocks.{i}", f"{root}.h.{i}"
        mapped |= copy(f"{new}.attention.norm", f"{old}.ln_1") | copy(f"{new}.mlp.0", f"{old}.ln_2")
        qkv = copy("", f"{old}.attn.c_attn", transpose=True)  # weight [3D, D], bias [3D]
        d = len(qkv[".bias"]) // 3
        for name, tensor in qkv.items():
            query, key_value = tensor.split([d, 2 * d])
            mapped |= {f"{new}.attention.query{name}": query, f"{new}.attention.key_value{name}": key_value}
        mapped |= copy(f"{new}.attention.out", f"{old}.attn.c_proj", transpose=True)
        mapped |= copy(f"{new}.mlp.1", f"{old}.mlp.c_fc", transpose=True)
        mapped |= copy(f"{new}.mlp.3", f"{old}.mlp.c_proj", transpose=True)
    mapped |= copy("norm", f"{root}.ln_f") | copy("head", "predict_action.0")
    if left:
        raise ValueError(f"{len(left)} tensors that kind dense lacks, the first {min(left)}")
    if tanh:
        one = torch.ones_like(mapped["head.bias"])
        mapped |= {"head.low": -one, "head.high": one}
    return {name: tensor.contiguous() for name, tensor in mapped.items()}


def read_weights(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a `.safetensors` file or of a state dict saved by torch. Nothing is unpickled.

    Raises:
        CheckpointError: the file is missing or damaged, or holds other objects than tensors.
    """
    try:
        if file.suffix == ".safetensors":
            return read_tensors(file)
        _check_archive(file)
        found = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file}: expected a state dict of tensors, found other Python objects, which are never unpickled; save it "
            "again with torch.save(model.state_dict(), FILE) or as safetensors"
        ) from error
    except Exception as error:  # torch raises errors of many types for a damaged file
        raise CheckpointError(
            f"expected weights in {file}, found: {' '.join(str(error).split())[:300]}; copy the file again"
        ) from error
    wrong = type(found).__name__
    if isinstance(found, dict):
        names = [name for name, x in found.items() if not (isinstance(name, str) and _is_plain(x))]
        wrong = f"{names[0]!r:.80} ({type(found[names[0]]).__name__})" if names else ""
    if wrong:
        raise CheckpointError(
            f"{file}: expected a state dict, finite dense tensors by name, found {wrong}; save it again with "
            "torch.save(model.state_dict(), FILE)"
        )
    state: dict[str, Tensor] = found
    return state


def _check_archive(file: Path) -> None:
    """Raise ValueError for a compressed archive. torch writes none, and a small one can fill the memory."""
    if zipfile.is_zipfile(io.require_file(file)):
        with zipfile.ZipFile(file) as archive:
            if any(item.compress_type != zipfile.ZIP_STORED for item in archive.infolist()):
                raise ValueError("a compressed archive, which torch.save does not write")


def _is_plain(x: object) -> bool:
    """Return whether `x` is a tensor of finite numbers, all of which the file holds: a stride of 0 repeats one."""
    return (
        isinstance(x, Tensor)
        and (x.layout, x.device.type) == (torch.strided, "cpu")
        and not (x.is_nested or x.is_quantized)
        and x.numel() * x.element_size() <= x.untyped_storage().nbytes()
        and bool(x.isfinite().all())
    )


def read_stats(file: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return `state_mean` and `state_std` of a JSON file with two lists of numbers by these names.

    Raises:
        CheckpointError: it has no such lists.
    """
    try:
        found = io.read_json(file)
        mean, std = (np.array(found[name], dtype=np.float32) for name in ("state_mean", "state_std"))
        if not (mean.ndim == 1 and mean.shape == std.shape and np.isfinite(mean).all() and (std > 0).all()):
            raise ValueError(f"lists of shape {mean.shape} and {std.shape}")
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f'{file}: expected {{"state_mean": [...], "state_std": [...]}} of finite numbers and deviations above 0, '
            f"found: {error!r}; copy them from the model's page, or name the dataset (--stats minari:<id>)"
        ) from error
    return mean, std


def _dataset_id(setting: Setting, source: Path) -> str:
    return setting.data.dataset_id if setting.data else f"unknown, imported from {source.name}"


def _spec(setting: Setting, task: TaskShape, dataset_id: str) -> PolicySpec:
    from gymnasium.spaces import Box
    from minari.serialization import serialize_space

    data = setting.data
    bound = 1.0 if task.action_high else np.inf
    observations = data.observation_space if data else Box(-np.inf, np.inf, (task.state_dim,))
    actions = data.action_space if data else Box(-bound, bound, (task.action_dim,))
    return PolicySpec(
        dataset_id=dataset_id,
        observation_space=serialize_space(observations),
        action_space=serialize_space(actions),
        rtg_scale=setting.rtg_scale,
        delayed=False,
        target_return=setting.target_return,
        env_id=setting.env_id,
        env_spec=data.env_spec if data and data.env_id == setting.env_id else None,
        reference=vars(data.reference) if data and data.reference else None,
    )
