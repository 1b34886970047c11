"""A trained model as a policy: `reset(target_return)`, `act(observation)`, `observe(reward)`."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from functools import cached_property, wraps
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from snn_dt import strict
from snn_dt.errors import CheckpointError, EnvironmentMismatchError
from snn_dt.evaluation.actions import to_space
from snn_dt.evaluation.adaptation import OnlinePlasticity
from snn_dt.evaluation.context import Context, make_context
from snn_dt.evaluation.policy_spec import PolicySpec as PolicySpec
from snn_dt.evaluation.policy_spec import read_space
from snn_dt.evaluation.stream_context import StreamContext
from snn_dt.rule_config import PlasticityConfig, plasticity_checks

F = TypeVar("F", bound=Callable[..., Any])


def _alone(method: F) -> F:
    """Let a method refuse to run while another thread is in one of this policy's, whose episode it would change."""

    @wraps(method)
    def call(self: Policy, *arguments: Any, **options: Any) -> Any:
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(
                f"expected one thread at a time in a policy, found policy.{method.__name__} called while another is "
                "in it; give each thread a policy of its own, copy.deepcopy(policy)"
            )
        try:
            return method(self, *arguments, **options)
        finally:
            self._lock.release()

    return call  # type: ignore[return-value]


class Policy:
    """A return-conditioned policy for one environment, or for N side by side.

    `copy.deepcopy` and `pickle` take it as it is, in the middle of an episode too. Its running episode belongs to one
    thread: a call while another thread is in one raises `RuntimeError`.

    Args:
        model: `model(rtg, states, actions, timesteps, attention_mask, last_only)`, see `DecisionTransformer`.
        spec: spaces, scales and names.
        state_mean, state_std: statistics `[state_dim]` that observations are normalised with.
        provenance: where the weights come from.

    Attributes:
        trust: make the environment that `spec` describes even if that imports or opens what it names, see
            `snn_dt.envs.spec`.
    """

    trust = False

    def __init__(
        self,
        model: nn.Module,
        spec: PolicySpec,
        state_mean: Tensor,
        state_std: Tensor,
        provenance: dict[str, Any] | None = None,
    ) -> None:
        self.model, self.spec, self.provenance = model, spec, provenance or {}
        self.device = next(model.parameters()).device
        self.state_mean, self.state_std = state_mean.to(self.device), state_std.to(self.device)
        self._context: Context | StreamContext | None = None
        self._single = True
        self._rtg = torch.zeros(0)
        self._plasticity: OnlinePlasticity | None = None
        self._lock = threading.RLock()
        self._unobserved = self._told = False

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.RLock())

    @_alone
    def to(self, device: torch.device | str) -> Policy:
        """Move the whole policy to a device; a running episode, and what was learned online, are forgotten."""
        self.model.to(device)
        self.device = next(self.model.parameters()).device
        self.state_mean, self.state_std = self.state_mean.to(self.device), self.state_std.to(self.device)
        self._context = None
        self.adapt(None if self._plasticity is None else self._plasticity.config)
        return self

    @_alone
    def adapt(self, plasticity: PlasticityConfig | None) -> None:
        """Learn while acting, from what was observed against what was asked for; None, or an eta of 0, learns nothing.

        Begins at the weights as they were trained, whatever was learned online before, and never changes them: what is
        learned at the end of an episode (the next `reset`, `restart` or `keep`) is a bounded addition to the head that
        no checkpoint holds. See `snn_dt.evaluation.adaptation.OnlinePlasticity`.

        Raises:
            ConfigError: `post: error` for continuous actions, or a number that is out of range.
        """
        if plasticity is not None:
            strict.check_all(plasticity_checks("plasticity", plasticity))
        if self._plasticity is not None:
            self._plasticity.close()
            self._plasticity = self._context = None
        if plasticity is not None and plasticity.eta > 0:
            self._plasticity = OnlinePlasticity(plasticity, self.model, self.spec.rtg_scale)
            self._context = None

    @property
    def adapted(self) -> float:
        """Norm of what was learned online, in norms of the head's weights."""
        return 0.0 if self._plasticity is None else self._plasticity.change

    @_alone
    def reset(self, target_return: float | ArrayLike | None = None, batch_size: int | None = None) -> None:
        """Begin an episode, or `batch_size` of them, asking for `target_return` (environment units; None: the default).

        With `batch_size`, `act` and `observe` take and give arrays with a leading axis of that size.

        Raises:
            ValueError: a target that is not finite.
        """
        self.model.eval()
        self._single, self._unobserved = batch_size is None, False
        n = 1 if batch_size is None else batch_size
        self._context = make_context(self.model, n, self.device)
        target = self.spec.target_return if target_return is None else target_return
        if not np.isfinite(np.asarray(target, dtype=np.float64)).all():
            raise ValueError(f"expected a finite target_return, found {target_return!r}")
        self._rtg = torch.zeros(n, dtype=torch.float64, device=self.device) + self._tensor(target)
        if self._plasticity is not None:
            self._plasticity.finish_all()
            self._plasticity.begin(self._rtg)

    @_alone
    @torch.inference_mode()
    def act(self, observation: Any) -> Any:
        """Choose the action for an observation (one, or a batch of flat ones `[N, state_dim]`), in environment units.

        The first time it is called again before `observe`, a warning says that the return-to-go has not moved.

        Raises:
            EnvironmentMismatchError: the observation is not of the size the model was trained on, or not finite.
        """
        context = self._running()
        states = self._states(observation)
        if self._unobserved:
            self._tell()
        rtg = (self._rtg / self.spec.rtg_scale).float()
        normal = ((states - self.state_mean) / self.state_std).float()  # in the type of the data's statistics till here
        prediction = context.decide(self.model, rtg, normal)
        action = prediction.argmax(-1) if self.model.discrete else self._clip(prediction)
        context.set_action(action)
        self._unobserved = True
        if self._plasticity is not None:
            self._plasticity.step(prediction, action)
        return self._to_environment(action.cpu().numpy())

    @_alone
    def observe(self, reward: float | ArrayLike) -> None:
        """Take the reward of the last action (one, or `[N]`) off what is still asked for.

        Raises:
            EnvironmentMismatchError: a reward that is not finite.
        """
        self._running()
        if not np.isfinite(np.asarray(reward, dtype=np.float64)).all():
            raise EnvironmentMismatchError("expected finite rewards, found NaN or infinity; check the environment")
        self._unobserved = False
        if not self.spec.delayed:
            self._rtg -= self._tensor(reward)
        if self._plasticity is not None:
            self._plasticity.observe(self._tensor(reward))

    @_alone
    def restart(self, rows: NDArray[np.int64], target_return: float) -> None:
        """Begin new episodes in some rows of a batch."""
        index = torch.as_tensor(rows, device=self.device)
        self._running().restart(index)
        self._rtg[index] = target_return
        if self._plasticity is not None:
            self._plasticity.restart(index, target_return)

    @_alone
    def keep(self, rows: NDArray[np.int64]) -> None:
        """Go on with some rows of a batch only."""
        index = torch.as_tensor(rows, device=self.device)
        self._running().keep(index)
        self._rtg = self._rtg[index]
        if self._plasticity is not None:
            self._plasticity.keep(index)

    @_alone
    def state(self) -> dict[str, Tensor]:
        """Return copies of all that the running episodes have left behind: `load_state` goes on from there.

        Tensors by name, for `torch.save`. How many episodes there are is part of it, the weights are not.
        """
        running = {f"context.{name}": x for name, x in self._running().state_dict().items()}
        return running | {"returns_to_go": self._rtg.clone(), "single": torch.tensor(self._single)}

    @_alone
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` returned, in this policy or in another one with the same weights.

        Raises:
            CheckpointError: the state is of a policy with another model.
        """
        values = {n.removeprefix("context."): x for n, x in state.items() if n.startswith("context.")}
        rtg = state.get("returns_to_go", self._rtg)
        context = make_context(self.model, len(rtg), self.device)
        expected, found = (
            {name: tuple(x.shape) for name, x in part.items()} for part in (context.state_dict(), values)
        )
        if expected != found or "single" not in state:
            raise CheckpointError(
                f"expected the state of a running policy with this model, {expected}, found {found}; load the policy "
                "that it was taken from"
            )
        context.load_state_dict(values)
        self.model.eval()
        self._unobserved = False
        self._context, self._rtg, self._single = context, rtg.to(self.device, copy=True), bool(state["single"])

    @property
    def context(self) -> Context | StreamContext:
        """What is remembered of the running episodes: their last steps, or the model's state."""
        return self._running()

    @cached_property
    def observation_space(self) -> Any:
        """The Gymnasium space of an observation."""
        return read_space(self.spec.observation_space)

    @cached_property
    def action_space(self) -> Any:
        """The Gymnasium space of an action."""
        return read_space(self.spec.action_space)

    def flatten(self, observation: Any) -> NDArray[np.floating[Any]]:
        """Turn one observation of the environment into the flat array `[state_dim]` the model was trained on.

        In float32; in float64 where the statistics are, as float32 would lose what a column holds beside its mean.
        """
        from gymnasium import spaces

        if isinstance(observation, dict | tuple):
            observation = spaces.flatten(self.observation_space, observation)
        return np.asarray(observation, dtype=self._number).reshape(-1)

    @property
    def _number(self) -> type[np.floating[Any]]:
        return np.float64 if self.state_mean.dtype == torch.float64 else np.float32

    def _tell(self) -> None:
        """Warn, once in the life of a policy, that it acts on without hearing of rewards it counts on."""
        config = getattr(self.model, "config", None)
        if self._told or self.spec.delayed or not getattr(config, "return_conditioned", True):
            return
        self._told = True
        warnings.warn(
            "expected policy.observe(reward) after each policy.act(observation), found two decisions without it: the "
            "policy goes on asking for all of its target return; call observe with every reward, or with 0 to keep "
            "asking for the same",
            stacklevel=5,
        )

    def _running(self) -> Context | StreamContext:
        if self._context is None:
            raise RuntimeError("expected policy.reset(target_return=...) before the first act; call it at every reset")
        return self._context

    def _tensor(self, value: Any) -> Tensor:
        return torch.as_tensor(np.asarray(value, dtype=np.float64), device=self.device)

    def _states(self, observation: Any) -> Tensor:
        states = self.flatten(observation)[None] if self._single else np.asarray(observation, dtype=self._number)
        expected = (len(self._rtg), self.model.state_dim)
        if states.shape != expected:
            raise EnvironmentMismatchError(
                f"expected {expected[0]} observation(s) of size {expected[1]}, as in {self.spec.dataset_id}, found an "
                f"array of shape {states.shape}; use the environment the policy was trained for ({self.spec.env_id})"
            )
        if not np.isfinite(states).all():
            raise EnvironmentMismatchError("expected finite observations, found NaN or infinity; check the environment")
        return torch.as_tensor(states, device=self.device)

    def _clip(self, prediction: Tensor) -> Tensor:
        space = self.action_space
        whole = np.issubdtype(space.dtype, np.integer)
        bounds = (b.reshape(-1).astype(np.float64 if whole else b.dtype) for b in (space.low, space.high))
        low, high = (torch.as_tensor(b, device=self.device) for b in bounds)
        action = prediction.clamp(low, high)
        if whole:
            return action.round()
        return action.half() if space.dtype == np.float16 else action

    def _to_environment(self, action: NDArray[Any]) -> Any:
        space = self.action_space
        if self.model.discrete:
            action = action + space.start
            return int(action[0]) if self._single else action
        action = to_space(action.reshape(-1, *space.shape), space)
        return action[0] if self._single else action
