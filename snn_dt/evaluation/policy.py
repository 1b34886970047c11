"""A trained model as a policy: `reset(target_return)`, `act(observation)`, `observe(reward)`."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial, update_wrapper
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from snn_dt import strict
from snn_dt.data.encoding import row
from snn_dt.errors import CheckpointError, EnvironmentMismatchError
from snn_dt.evaluation.actions import ActionReader, CompositeReader, make_reader
from snn_dt.evaluation.contexts import AnyContext, make_context
from snn_dt.evaluation.decide import Decider, make_decider, pick_way
from snn_dt.evaluation.image_context import ImageReader
from snn_dt.evaluation.policy_spec import PolicySpec as PolicySpec
from snn_dt.evaluation.policy_spec import Specified
from snn_dt.models.goals import aim, takes_goal
from snn_dt.rule_config import PlasticityConfig, local_rule, plasticity_checks
from snn_dt.snn.backends import wide

P = ParamSpec("P")
R = TypeVar("R")


def _one_thread(method: Callable[Concatenate[Policy, P], R]) -> Callable[Concatenate[Policy, P], R]:
    """Make a method raise if another thread is inside a method of the same policy."""

    def call(self: Policy, /, *arguments: P.args, **options: P.kwargs) -> R:
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(
                f"expected one thread at a time in a policy, found policy.{method.__name__} called while another is "
                "in it; give each thread a policy of its own, copy.deepcopy(policy)"
            )
        try:
            return method(self, *arguments, **options)
        finally:
            self._lock.release()

    update_wrapper(call, method)
    return call


class Policy(Specified):
    """A return-conditioned policy for one environment or for N in parallel.

    `copy.deepcopy` and `pickle` also copy a running episode. A policy can be used by one thread at a time. Concurrent
    calls raise `RuntimeError`.

    Args:
        model: see `snn_dt.models.interface.SequenceModel`.
        spec: spaces, scales and names.
        state_mean, state_std: statistics `[state_dim]` for the normalisation of observations.
        provenance: origin of the weights.

    Attributes:
        trust: make the environment of `spec` even if this imports a module or opens a file; see
            `snn_dt.data.env_spec`.
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
        self._context: AnyContext | None = None
        self._decider: Decider | None = None
        self._modules_only = False
        self._reader: ActionReader | CompositeReader | None = None
        self._single = True
        self._rtg = self._asked = torch.zeros(0)
        self._plasticity: Any = None  # an `OnlinePlasticity` after `adapt`
        self._lock = threading.RLock()
        self._unobserved = self._warned = self._warned_beyond = self._mixed = False

    def __repr__(self) -> str:
        spec, config = self.spec, getattr(self.model, "config", None)
        kind = type(self.model).__name__ if config is None else config.kind
        return (
            f"Policy(kind={kind!r}, dataset={spec.dataset_id!r}, env={spec.env_id!r}, "
            f"target_return={spec.target_return:g}, device={str(self.device)!r})"
        )

    def __getstate__(self) -> dict[str, Any]:
        # A lock cannot be copied or pickled; `__setstate__` makes a new one.
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.RLock())

    @_one_thread
    def to(self, device: torch.device | str) -> Policy:
        """Move the policy to a device. This ends running episodes and discards online plasticity."""
        self.model.to(device)
        self.device = next(self.model.parameters()).device
        self.state_mean, self.state_std = self.state_mean.to(self.device), self.state_std.to(self.device)
        # All of them hold tensors or graphs of the old device.
        self._context = self._decider = self._reader = None
        self.adapt(None if self._plasticity is None else self._plasticity.config)
        return self

    @_one_thread
    def adapt(self, plasticity: PlasticityConfig | None) -> None:
        """Start online plasticity from the observed return minus the target return. None or an eta of 0 stops it.

        It does not change the trained weights. At the end of an episode (the next `reset`, `restart` or `keep`) it
        updates a bounded addition to the head, which is in no checkpoint. See
        `snn_dt.experimental.local_learning.OnlinePlasticity`.

        Raises:
            ConfigError: `post: error` with continuous actions, or a value is out of range.
        """
        if plasticity is not None:
            strict.check_all(plasticity_checks("plasticity", plasticity))
        if self._plasticity is not None:
            self._plasticity.close()
            self._plasticity = self._context = None
        if plasticity is not None and plasticity.eta > 0:
            self._plasticity = local_rule("OnlinePlasticity")(plasticity, self.model, self.spec.rtg_scale)
            self._context = None

    @property
    def adapts(self) -> bool:
        """Whether the policy learns while it acts."""
        return self._plasticity is not None

    @property
    def adapted(self) -> float:
        """Norm of the online addition to the head divided by the norm of its weights."""
        return 0.0 if self._plasticity is None else self._plasticity.change

    @_one_thread
    def reset(self, target_return: float | str | ArrayLike | None = None, batch_size: int | None = None) -> None:
        """Begin one episode, or `batch_size` of them, with a target return in environment units.

        None is the default, `"most"` the mean return of the best tenth of the data. A number beyond the data gives a
        warning once. With `model.goal: bins` the target picks the bin, with the weights as they are now. With
        `batch_size`, `act` and `observe` use arrays with a leading axis of that size. This call also picks the way of
        deciding (`snn_dt.evaluation.decide`).

        Raises:
            ValueError: a target is neither finite nor `"most"`.
        """
        target = self.spec.targets(target_return)
        n = 1 if batch_size is None else batch_size
        self._begin(make_context(self.model, n, self.device, self.spec.context_length), single=batch_size is None)
        # float64: rewards of a long episode are subtracted one by one. The target may be [N].
        self._rtg = torch.zeros(n, dtype=wide(self.device), device=self.device) + self._tensor(target)
        self._ask(self._rtg.clone())
        if self._plasticity is not None:
            self._plasticity.finish_all()
            self._plasticity.begin(self._rtg)

    def _ask(self, targets: Tensor) -> None:
        """Set the goals of the episodes to the bins whose returns are nearest to `targets [N]`, environment units."""
        asked = targets.cpu().numpy()
        if not self._warned_beyond and (beyond := self.spec.beyond(asked)):
            self._warned_beyond = True
            warnings.warn(beyond, stacklevel=5)
        self._asked = self._tensor(self.spec.goals(asked))
        self._mixed = aim(self.model, self._asked / self.spec.rtg_scale)

    def _begin(self, context: AnyContext, single: bool) -> None:
        """Continue from `context`, with the fastest way of deciding that the model supports now."""
        self.model.eval()
        decider = self._decider
        if decider is None or decider.model is not self.model or decider.way != pick_way(self.model):
            self._decider = make_decider(self.model)  # kept otherwise: a CUDA graph takes long to capture
        else:
            decider.begin()
        self._context, self._single, self._unobserved = context, single, False

    @contextmanager
    def through_modules(self) -> Iterator[None]:
        """Decide by calling the modules inside the context, as hooks and a meter require.

        The fast ways call no modules. A forward hook disables them automatically. Other patches of a model need this
        context.
        """
        before, self._modules_only = self._modules_only, True
        try:
            yield
        finally:
            self._modules_only = before

    @_one_thread
    @torch.inference_mode()
    def act(self, observation: Any) -> Any:
        """Return the action for an observation in environment units: one, or a batch of flat ones `[N, state_dim]`.

        The action is a value of the action space, for a Dict a dictionary. A batch gives an array `[N, ...]`, or a list
        of N actions of a Dict or Tuple.

        A warning is issued once if `observe` was not called since the last action.

        Raises:
            EnvironmentMismatchError: the observation has not the size of training or is not finite.
        """
        context, decider = self._running(), self._decider
        assert decider is not None
        states = self._states(observation)
        if self._unobserved:
            self._warn_unobserved()
        rtg = (self._rtg / self.spec.rtg_scale).float()
        # The statistics are float64 where float32 would lose digits, so normalise before the cast.
        scale: Any = (lambda x, mean, std: ((x - mean) / std).float()) if self._images is None else self._images.scale
        normal = scale(states, self.state_mean, self.state_std)
        # Plasticity reads the input of the head through a hook.
        modules = self._modules_only or self._plasticity is not None
        rows = {"goal": (self._asked / self.spec.rtg_scale).float()[:, None]} if self._mixed else {}  # [N, 1]
        prediction = context.decide(partial(decider.by_modules, **rows) if modules or rows else decider, rtg, normal)
        reader = self._action_reader()
        action = reader.read(prediction)
        context.set_action(action)
        self._unobserved = True
        if self._plasticity is not None:
            self._plasticity.step(prediction, action)
        return reader.to_environment(action, self._single)

    @_one_thread
    def observe(self, reward: float | ArrayLike) -> None:
        """Subtract the reward of the last action (one, or `[N]`) from the return-to-go.

        Raises:
            EnvironmentMismatchError: a reward is not finite.
        """
        self._running()
        if not np.isfinite(np.asarray(reward, dtype=np.float64)).all():
            raise EnvironmentMismatchError("expected finite rewards, found NaN or infinity; check the environment")
        self._unobserved = False
        # With delayed rewards the return-to-go of the data is constant through an episode.
        if not self.spec.delayed:
            self._rtg -= self._tensor(reward)
        if self._plasticity is not None:
            self._plasticity.observe(self._tensor(reward))

    @_one_thread
    def restart(self, rows: NDArray[np.int64], target_return: float) -> None:
        """Begin new episodes in the given rows of a batch."""
        index = torch.as_tensor(rows, device=self.device)
        self._running().restart(index)
        self._rtg[index] = self._asked[index] = target_return
        self._ask(self._asked)
        if self._plasticity is not None:
            self._plasticity.restart(index, target_return)

    @_one_thread
    def keep(self, rows: NDArray[np.int64]) -> None:
        """Keep only the given rows of a batch."""
        index = torch.as_tensor(rows, device=self.device)
        self._running().keep(index)
        self._rtg, self._asked = self._rtg[index], self._asked[index]
        if self._plasticity is not None:
            self._plasticity.keep(index)

    @_one_thread
    def state(self) -> dict[str, Tensor]:
        """Return copies of the tensors of running episodes by name, for `torch.save` and `load_state`.

        The state includes the number of episodes. It does not include the weights.
        """
        running = {f"context.{name}": x for name, x in self._running().state_dict().items()}
        running |= {"goal": self._asked.clone()} if takes_goal(self.model) else {}
        return running | {"returns_to_go": self._rtg.clone(), "single": torch.tensor(self._single)}

    @_one_thread
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from a result of `state`, in this policy or in another one with the same weights.

        Raises:
            CheckpointError: the state belongs to another model.
        """
        values = {n.removeprefix("context."): x for n, x in state.items() if n.startswith("context.")}
        rtg = state.get("returns_to_go", self._rtg)
        context = make_context(self.model, len(rtg), self.device, self.spec.context_length)
        expected, found = (
            {name: tuple(x.shape) for name, x in part.items()} for part in (context.state_dict(), values)
        )
        if expected != found or "single" not in state or (takes_goal(self.model) and "goal" not in state):
            raise CheckpointError(
                f"expected the state of a running policy with this model, {expected}, found {found}; load the policy "
                "that it was taken from"
            )
        # All checks are done, so an error leaves the running episodes unchanged.
        context.load_state_dict(values)
        self._begin(context, single=bool(state["single"]))
        self._rtg = rtg.to(self.device, copy=True)
        self._ask(state.get("goal", rtg).to(self.device, copy=True))

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write a checkpoint folder for `snn_dt.from_pretrained`. It does not include running episodes.

        Raises:
            CheckpointError: the folder cannot be written. An existing checkpoint is not changed.
        """
        from snn_dt.checkpoint import save_checkpoint

        model: Any = self.model
        directory = Path(folder)
        save_checkpoint(directory, self, model.config, model.task, self.provenance)
        return directory

    @property
    def context(self) -> AnyContext:
        """The context of the running episodes: their last steps or the state of the model."""
        return self._running()

    @cached_property
    def _encoded(self) -> bool:
        from gymnasium import spaces

        return not isinstance(self.observation_space, spaces.Box)

    def flatten(self, observation: Any) -> NDArray[np.number[Any]]:
        """Return one observation of the environment as a flat array `[state_dim]`, as in training.

        Its type is float32, or float64 if the statistics are: float32 loses digits of columns with a large mean.
        Choices become one-hot, see `snn_dt.data.encoding`; images bytes, see `snn_dt.data.images`. A flat array is
        returned as it is.

        Raises:
            EnvironmentMismatchError: the observation is not one of the space.
        """
        images = self._images
        if images and images.is_row(observation):
            return np.asarray(observation)
        if self._encoded:
            try:
                observation = row(self.observation_space, observation)
            except ValueError as error:
                raise EnvironmentMismatchError(
                    f"expected observations of {self.observation_space}, found {error}; use the environment the policy "
                    f"was trained for ({self.spec.env_id})"
                ) from error
        # [state_dim]
        return images.row(observation) if images else np.asarray(observation, dtype=self._number).reshape(-1)

    @cached_property
    def _images(self) -> ImageReader | None:
        image = getattr(getattr(self.model, "task", None), "image", None)
        return None if image is None else ImageReader(self.model, self.observation_space)

    @property
    def _number(self) -> type[np.floating[Any]]:
        return np.float64 if self.state_mean.dtype == torch.float64 else np.float32

    def _warn_unobserved(self) -> None:
        """Warn once per policy if a decision is made without the reward of the one before."""
        config = getattr(self.model, "config", None)
        if self._warned or self.spec.delayed or not getattr(config, "reads_return", True):
            return
        self._warned = True
        warnings.warn(
            "expected policy.observe(reward) after each policy.act(observation), found two decisions without it: the "
            "return-to-go stays at its old value; call observe with every reward, or with 0 to keep the return-to-go",
            stacklevel=5,
        )

    def _action_reader(self) -> ActionReader | CompositeReader:
        if self._reader is None:
            self._reader = make_reader(self.action_space, bool(self.model.discrete), self.device)
        return self._reader

    def _running(self) -> AnyContext:
        if self._context is None:
            raise RuntimeError("expected policy.reset(target_return=...) before the first act; call it at every reset")
        return self._context

    def _tensor(self, value: Any) -> Tensor:
        return torch.as_tensor(np.asarray(value, dtype=np.float64)).to(self.device, wide(self.device))

    def _states(self, observation: Any) -> Tensor:
        # [1, state_dim], or the batch [N, state_dim].
        images = self._images
        if self._single or images:
            states = np.stack(list(map(self.flatten, [observation] if self._single else observation)))
        else:
            states = np.asarray(observation, dtype=self._number)
        expected = (len(self._rtg), images.size if images else self.model.state_dim)
        if states.shape != expected:
            raise EnvironmentMismatchError(
                f"expected {expected[0]} observation(s) of size {expected[1]}, as in {self.spec.dataset_id}, found an "
                f"array of shape {states.shape}; use the environment the policy was trained for ({self.spec.env_id})"
            )
        if not np.isfinite(images.numbers(states) if images else states).all():
            raise EnvironmentMismatchError("expected finite observations, found NaN or infinity; check the environment")
        return torch.as_tensor(states, device=self.device)
