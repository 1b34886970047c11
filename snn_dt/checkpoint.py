"""Checkpoints: folders with everything a policy needs.

No file but the training state is pickled. Loading is strict. A save replaces the folder atomically.

```
config.json           format, model configuration, task shape, policy specification
model.safetensors     weights
stats.safetensors     state_mean, state_std
provenance.json       dataset and its checksum, seed, step, commit, versions, command
training_state.pt     optimizer and generators; only in a run folder, to resume it
```
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from snn_dt import __version__, io, named, strict
from snn_dt.config import Config, EvalConfig, ModelConfig, validate
from snn_dt.errors import CheckpointError, SnnDtError
from snn_dt.models import TaskShape, build_model

if TYPE_CHECKING:
    from snn_dt.evaluation.policy import Policy

FORMAT = 1


def save_checkpoint(
    directory: Path,
    policy: Policy,
    config: ModelConfig,
    task: TaskShape,
    provenance: dict[str, Any],
    training_state: dict[str, Any] | None = None,
) -> None:
    """Write a checkpoint folder. An older one at the same path is replaced when the new one is complete.

    Raises:
        CheckpointError: it cannot be written (disk full, no permission); the older checkpoint is untouched.
    """
    from safetensors.torch import save

    description = {
        "format": FORMAT,
        "model": strict.to_dict(config),
        "task": strict.to_dict(task),
        "policy": dataclasses.asdict(policy.spec),
    }
    temporary = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)  # left by a process that was killed
    try:
        temporary.mkdir(parents=True)
        (temporary / "config.json").write_text(json.dumps(description, indent=2) + "\n")
        (temporary / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in policy.model.state_dict().items()}
        (temporary / "model.safetensors").write_bytes(save(weights))  # save_file would make it private
        stats = {"state_mean": policy.state_mean, "state_std": policy.state_std}
        stats = {name: tensor.cpu().contiguous() for name, tensor in stats.items()}
        (temporary / "stats.safetensors").write_bytes(save(stats))
        if training_state is not None:
            torch.save(training_state, temporary / "training_state.pt")
        _replace(temporary, directory)
    except (OSError, RuntimeError, _safetensors_error()) as error:
        raise CheckpointError(
            f"expected to write a checkpoint to {directory}, found: {error}; free space or choose another folder with "
            "--run-dir (the checkpoint that was there is untouched)"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file by name.

    Raises:
        ValueError: numbers that are not finite. A missing, damaged or irregular file raises an error of its own kind.
    """
    from safetensors.torch import load_file

    tensors = load_file(io.require_file(path))
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(f"NaN or infinite numbers in {name}")
    return tensors


def from_pretrained(path: str | Path, device: str = "cpu", *, trust: bool = False) -> Policy:
    """Load a policy; needs no dataset or environment.

    `path` is a checkpoint folder, a run folder (its last checkpoint) or a name of `snn-dt list`, as `cartpole-snn_dt`.

    `user/name` names a repository on the Hugging Face hub, if there is no such folder (`pip install 'snn-dt[hub]'`).

    With `trust` an evaluation makes the environment that the checkpoint describes. This may import modules and open
    files, see `snn_dt.data.env_spec`. Loading makes no environment.

    Raises:
        CheckpointError: missing or damaged files, weights that are not finite or do not fit the configuration.
        DeviceError: this machine has no such device.
    """
    from snn_dt.device import choose_device
    from snn_dt.evaluation.policy import Policy, PolicySpec
    from snn_dt.evaluation.policy_spec import check_spec

    target = choose_device(device)
    directory = find_checkpoint(Path(path))
    _refuse_actor(directory)
    description = read_json(directory / "config.json")
    if type(description.get("format")) is not int or description["format"] != FORMAT:  # True is 1 as well
        raise CheckpointError(
            f"{directory}: expected checkpoint format {FORMAT}, found {description.get('format')!r}; "
            f"it was written by another version of snn_dt (this is {__version__})"
        )
    try:
        source = str(directory / "config.json")
        config = strict.build(ModelConfig, description["model"], source)
        task = strict.build(TaskShape, description["task"], source)
        spec = strict.build(PolicySpec, description["policy"], source)
        validate(Config(model=config, eval=EvalConfig(context_length=spec.context_length)))
        check_spec(spec, task)
        weights, stats = (read_tensors(directory / name) for name in ("model.safetensors", "stats.safetensors"))
        _check_sizes(config, task, weights)
        model = build_model(config, task)
        model.load_state_dict(weights, strict=True)
        mean, std = stats["state_mean"], stats["state_std"]
        if not mean.shape == std.shape == (task.numbers,):
            raise ValueError(f"statistics of shape {tuple(mean.shape)} for {task.numbers} numbers of a state")
        if not (mean.is_floating_point() and std.is_floating_point()):
            raise ValueError(f"statistics of type {mean.dtype} and {std.dtype}, not floating point")
        if not (std > 0).all():
            raise ValueError("a state_std that is not above 0")
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, SnnDtError, _safetensors_error()) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{directory}: expected a complete checkpoint, found: {reason}; copy or train it again"
        ) from error
    provenance = read_json(directory / "provenance.json")
    policy = Policy(model.to(target).eval(), spec, mean, std, provenance)
    policy.trust = trust
    return policy


def _check_sizes(config: ModelConfig, task: TaskShape, weights: dict[str, torch.Tensor]) -> None:
    """Raise if the weights do not fit the configuration. This is checked before memory for the model is allocated."""
    if config.n_layers > len(weights):
        raise ValueError(f"{len(weights)} tensors for {config.n_layers} layers")
    with _WithoutValues(), torch.device("meta"):  # shapes only, no memory
        build_model(config, task).load_state_dict(weights, strict=True, assign=True)


class _WithoutValues(TorchFunctionMode):
    """Skips the initialisation of meta tensors, which have no memory: there `normal_` would import 800 modules."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        values = kwargs or {}
        if getattr(function, "__module__", "") == "torch.nn.init":
            return values["tensor"] if "tensor" in values else args[0]
        return args[0] if function is torch.Tensor.normal_ else function(*args, **values)


def was_saved(run_dir: Path) -> bool:
    """Return whether a run has a checkpoint `last` (or `last.old` after a crash during a save)."""
    return any((run_dir / "checkpoints" / name).is_dir() for name in ("last", "last.old"))


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint folder at `path`, the last checkpoint of the run folder there, or the checkpoint so named.

    Names are those of `snn-dt list`, or `user/name` or `hf:user/name` of the Hugging Face hub; `snn_dt.named` has the
    order in which they are looked for.

    Raises:
        CheckpointError: there is none.
    """
    typed = os.fspath(path)
    path = Path(os.path.realpath(io.check_name(path, CheckpointError, "a checkpoint folder")))
    last = path / "checkpoints" / "last"
    old = path.parent / f"{path.name}.old"  # left by an interrupted replacement; elsewhere it may be a copy
    torn = [old] if path.parent.name == "checkpoints" or not path.exists() else []
    for candidate in (path, *torn, last, last.with_name("last.old")):
        if io.is_file(candidate / "config.json"):
            return candidate
    _refuse_actor(path / "actor")
    if not path.exists() and (found_by_name := named.find("pretrained", typed)) is not None:
        return found_by_name
    found, others = "no config.json in it", "; see snn-dt list"
    if not path.exists():
        found, others = "no such folder", f", nor a checkpoint of that name{named.suggestion('pretrained', typed)}"
    raise CheckpointError(
        f"expected a checkpoint folder (config.json, model.safetensors, ...) or a run folder at {path}, found {found}"
        f"{others}"
    )


def _refuse_actor(folder: Path) -> None:
    """Raise if `folder` holds an actor of `snn-dt online`, which has no target return and so is no checkpoint."""
    if io.is_file(folder / "config.json") and "actor" in read_json(folder / "config.json"):
        raise CheckpointError(
            f"{folder}: expected a return-conditioned policy, found an actor of snn-dt online; load it by "
            "snn_dt.experimental.online.saved.load_actor, or score it by experiments/online/flights.py (docs/online.md)"
        )


def provenance(**facts: Any) -> dict[str, Any]:
    """Return `facts` and the command, commit and versions that produced them."""
    return {
        **facts,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _commit(),
        "versions": {
            "snn_dt": __version__,
            "python": platform.python_version(),
            **{name: _version(name) for name in ("torch", "numpy", "gymnasium", "minari", "mujoco")},
        },
        "machine": platform.machine(),
    }


def _replace(new: Path, directory: Path) -> None:
    """Replace `directory` by `new`. A crash in between leaves `<directory>.old`, which `find_checkpoint` finds."""
    old = directory.with_name(directory.name + ".old")
    # The content must be on the disk before the rename, or a power failure could leave empty files.
    for file in new.iterdir():
        with file.open("rb+") as handle:
            os.fsync(handle.fileno())
    if directory.exists():
        shutil.rmtree(old, ignore_errors=True)  # only now: `old` may have been the only checkpoint
        directory.rename(old)
    try:
        new.rename(directory)
    except OSError:
        if old.exists():
            old.rename(directory)
        raise
    shutil.rmtree(old, ignore_errors=True)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file of a checkpoint.

    Raises:
        CheckpointError: there is none.
    """
    try:
        content = io.read_json(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"expected JSON in {path}, found: {error}; copy or train the checkpoint again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"expected an object in {path}, found {type(content).__name__}")
    return content


def _safetensors_error() -> type[Exception]:
    from safetensors import SafetensorError

    error: type[Exception] = SafetensorError
    return error


@functools.cache
def _commit() -> str | None:
    """Return the commit of the code. It is read once because later edits do not change the loaded code."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    try:
        # Changes in results/ do not count, because runs write there.
        changes = git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)results")
        return git("rev-parse", "HEAD") + ("-dirty" if changes else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
