"""One decision of a policy as a graph, for torch.export (`NAME.pt2`) and ONNX (`NAME.onnx`).

S observation size, A action dimensions. The graph is a function: it maps an observation, the reward of the step before
and the state to the action and the next state. `GraphPolicy` keeps the state in Python.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from snn_dt import io, strict
from snn_dt.data.encoding import is_composite
from snn_dt.errors import ExportError
from snn_dt.evaluation.policy import Policy
from snn_dt.evaluation.policy_spec import PolicySpec, read_space
from snn_dt.export.parts import refuse_images
from snn_dt.models.goals import takes_goal
from snn_dt.models.interface import decides_from_state

RTG, GOAL = "return_to_go", "goal"
INPUTS = ("observation", "reward")
WINDOW = ("rtg", "states", "actions", "timesteps", "mask")


class Decision(nn.Module):
    """One decision: `(observation [1, S], reward [1], *state) -> (action [1(, A)], *state)`.

    `reward` is that of the step before, 0 at first. The action is in units of the environment. The first part of the
    state is the return-to-go in float64. With `model.goal: bins` the second is the goal, `PolicySpec.goals` of the
    target return. The others are those of the model, or the last steps of a model with a window.

    Args:
        policy: its model must be on the CPU.
    """

    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        from gymnasium import spaces

        space = policy.action_space
        if not hasattr(policy.model, "context_length"):
            raise ExportError(f"expected a sequence model for a graph, found {type(policy.model).__name__}; use --to c")
        self.model, self.spec = policy.model, policy.spec
        self.register_buffer("mean", policy.state_mean)
        self.register_buffer("std", policy.state_std)
        if is_composite(space):
            raise ExportError(
                f"expected Box or Discrete actions, found {space}; actions of several parts are for Python only"
            )
        self.discrete = bool(getattr(policy.model, "discrete", False))
        self.start = int(space.start) if isinstance(space, spaces.Discrete) else 0
        if not self.discrete:
            self.whole = bool(np.issubdtype(space.dtype, np.integer))
            for name in ("low", "high"):
                bound = getattr(space, name).reshape(-1).astype(np.float64 if self.whole else space.dtype)
                self.register_buffer(name, torch.as_tensor(bound))
        self.returns = [RTG, GOAL] if takes_goal(policy.model) else [RTG]
        self.names = [*self.returns, *self._model_state()]

    def _model_state(self) -> dict[str, Tensor]:
        model: Any = self.model
        if decides_from_state(model):
            rest: dict[str, Tensor] = model.rest(1)
            return rest
        k = self.spec.context_length or model.context_length
        action = torch.zeros(1, k, dtype=torch.int64) if self.discrete else torch.zeros(1, k, model.action_dim)
        parts = (torch.zeros(1, k, 1), torch.zeros(1, k, model.state_dim), action)
        steps = torch.zeros(1, k, dtype=torch.int64), torch.zeros(1, k, dtype=torch.bool)
        return dict(zip(WINDOW, (*parts, *steps), strict=True))

    def rest(self) -> tuple[Tensor, ...]:
        """Return the state at the beginning of an episode. The caller sets the return-to-go and the goal."""
        return *(torch.zeros(1, dtype=torch.float64) for _ in self.returns), *self._model_state().values()

    def forward(self, observation: Tensor, reward: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Decide; see the class."""
        rtg = state[0] if self.spec.delayed else state[0] - reward
        n = len(self.returns)
        old = {name: x.clone() for name, x in zip(self.names[n:], state[n:], strict=True)}
        scaled = (rtg / self.spec.rtg_scale).float().unsqueeze(-1)  # [1, 1]
        goal = {} if n == 1 else {"goal": (state[1] / self.spec.rtg_scale).float().unsqueeze(-1)}  # [1, 1]
        states = ((observation - self.mean) / self.std).float()
        model: Any = self.model
        if decides_from_state(model):
            prediction, new = model.step(scaled, states, old, **goal)
            action = self._read(prediction)
            new["action"] = action
        else:
            new = self._push(old, scaled, states)
            prediction = model(*new.values(), **goal, last_only=True)[:, -1]  # [1, A]
            action = self._read(prediction)
            new["actions"] = torch.cat([new["actions"][:, :-1], action.unsqueeze(1)], 1)
        return action + self.start, rtg, *state[1:n], *(new[name] for name in self.names[n:])

    def _push(self, old: dict[str, Tensor], rtg: Tensor, states: Tensor) -> dict[str, Tensor]:
        """Return the window with the new step at its end and without the oldest one."""
        step = torch.where(old["mask"][:, -1:], old["timesteps"][:, -1:] + 1, 0)  # [1, 1]
        last = {"rtg": rtg.unsqueeze(1), "states": states.unsqueeze(1), "timesteps": step}
        last |= {"actions": torch.zeros_like(old["actions"][:, :1]), "mask": torch.ones_like(old["mask"][:, :1])}
        return {name: torch.cat([old[name][:, 1:], last[name]], 1) for name in WINDOW}

    def _read(self, prediction: Tensor) -> Tensor:
        """Return the action of a prediction, as `snn_dt.evaluation.actions.ActionReader` does."""
        if self.discrete:
            return prediction.argmax(-1)
        action = torch.minimum(torch.maximum(prediction, self.low), self.high)
        return action.round().float() if self.whole else action.float()


@contextmanager
def _plain_modules() -> Iterator[None]:
    """Trace the neurons as plain torch: a graph cannot hold the kernels."""
    before = os.environ.get("SNN_DT_KERNEL")
    os.environ["SNN_DT_KERNEL"] = "reference"
    try:
        with torch.no_grad():
            yield
    finally:
        if before is None:
            del os.environ["SNN_DT_KERNEL"]
        else:
            os.environ["SNN_DT_KERNEL"] = before


def write_graph(policy: Policy, folder: Path, to: str, name: str = "policy") -> list[Path]:
    """Write `NAME.pt2` or `NAME.onnx`, and `NAME.json` with the names, types and shapes of inputs and state.

    Args:
        policy: of any kind, on the CPU.
        folder: made if it is missing.
        to: `pt2` or `onnx`.
        name: stem of the files.

    Raises:
        ExportError: a package is missing, or the model cannot be traced.
    """
    refuse_images(policy, to)
    decision = Decision(policy).eval()
    if to == "onnx":
        _require_onnx()
    rest = decision.rest()
    example = torch.zeros(1, len(policy.state_mean), dtype=policy.state_mean.dtype), torch.zeros(1).double(), *rest
    io.writable_folder(folder)
    path = folder / f"{name}.{to}"
    outputs = ["action", *(f"next.{n}" for n in decision.names)]
    inputs, content = [*INPUTS, *(f"state.{n}" for n in decision.names)], BytesIO()
    try:
        with _plain_modules():
            program = torch.export.export(decision, example, strict=False)
            if to == "pt2":
                torch.export.save(program, content)
            else:
                names: dict[str, Any] = {"input_names": inputs, "output_names": outputs}
                written = torch.onnx.export(program, dynamo=True, verbose=False, external_data=False, **names)
                assert written is not None
                content.write(written.model_proto.SerializeToString())
    except Exception as error:  # the tracer raises errors of many types
        reason = " ".join(str(error).split())[:300]
        raise ExportError(f"expected a model that torch.export can trace, found: {reason}; use --to c") from error
    io.write_atomically(path, content.getvalue())
    state = {n: [str(x.dtype).removeprefix("torch."), list(x.shape)] for n, x in zip(decision.names, rest, strict=True)}
    facts = {
        "format": 1,
        "to": to,
        "name": name,
        "observation": [str(policy.state_mean.dtype).removeprefix("torch."), len(policy.state_mean)],
        "discrete": decision.discrete,
        "state": state,
        "policy": asdict(policy.spec),
    }
    io.write_atomically(folder / f"{name}.json", json.dumps(facts, indent=2) + "\n")
    return [path, folder / f"{name}.json"]


def _require_onnx() -> None:
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ExportError("expected onnx and onnxscript for ONNX, found none; pip install 'snn-dt[onnx]'") from error


class GraphPolicy:
    """A written graph with `reset`, `act` and `observe`: `NAME.pt2` in torch, `NAME.onnx` in onnxruntime.

    Raises:
        ExportError: files are missing or damaged, or onnxruntime is.
    """

    def __init__(self, path: Path) -> None:
        try:
            facts = io.read_json(path.with_suffix(".json"))
            self.spec = strict.build(PolicySpec, facts["policy"], "policy")
            self.discrete, self._state, self._observation = facts["discrete"], facts["state"], facts["observation"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ExportError(f"{path}: expected a graph with its JSON, found: {error}; export it again") from error
        self._run = self._onnx(path) if path.suffix == ".onnx" else self._pt2(path)
        self._space = read_space(self.spec.action_space)
        self.reset()

    @staticmethod
    def _pt2(path: Path) -> Any:
        module = torch.export.load(path).module()

        def run(inputs: dict[str, Any]) -> list[Any]:
            with torch.no_grad():
                return [x.numpy() for x in module(*(torch.as_tensor(x) for x in inputs.values()))]

        return run

    @staticmethod
    def _onnx(path: Path) -> Any:
        try:
            import onnxruntime
        except ImportError as error:
            raise ExportError("expected onnxruntime for ONNX, found none; pip install 'snn-dt[onnx]'") from error
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        used = {x.name for x in session.get_inputs()}  # an input that changes nothing is no input of the graph

        def run(inputs: dict[str, Any]) -> Any:
            named = {name if name in INPUTS else f"state.{name}": x for name, x in inputs.items()}
            return session.run(None, {name: x for name, x in named.items() if name in used})

        return run

    def reset(self, target_return: float | None = None) -> None:
        """Begin an episode with a target return in environment units. None is the default."""
        target = self.spec.target_return if target_return is None else target_return
        self.state = {name: np.zeros(shape, dtype=dtype) for name, (dtype, shape) in self._state.items()}
        self.state[RTG][:] = target
        if GOAL in self.state:
            self.state[GOAL][:] = self.spec.goals(np.array([target]))
        self._reward = 0.0

    def act(self, observation: Any) -> Any:
        """Return the action for a flat observation in environment units."""
        dtype, size = self._observation
        inputs = {"observation": np.asarray(observation, dtype=dtype).reshape(1, size), "reward": [self._reward]}
        inputs["reward"] = np.array(inputs["reward"], dtype=np.float64)
        action, *state = self._run(inputs | self.state)
        self.state, self._reward = dict(zip(self.state, state, strict=True)), 0.0
        return int(action[0]) if self.discrete else action[0].astype(self._space.dtype).reshape(self._space.shape)

    def observe(self, reward: float) -> None:
        """Subtract the reward of the last action from the return-to-go, at the next decision."""
        self._reward = float(reward)
