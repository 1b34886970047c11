"""Call `kept_keys.cpp`: a decision of a model with an attention span, of its blocks or as a whole."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from snn_dt.snn.cpp import SIZE, Shape, Stack, function_of, pointer_to_constants


class Ring(ctypes.Structure):
    """Attention span S, tokens of a step P and tokens of a ring C, as `kept_keys.cpp` has them."""

    _fields_ = [(name, SIZE) for name in ("span", "per_step", "capacity")]


ENDS = (
    *("rtg", "rtg_bias", "state", "state_bias", "action", "action_bias", "table", "norm", "norm_shift"),
    *("last_norm", "last_shift", "head", "head_bias", "action_low", "action_high", "trained"),
)


class Ends(ctypes.Structure):
    """What is before and behind the blocks, as `kept_keys.cpp` has it. The pointers do not keep tensors alive."""

    _fields_ = [
        *((name, SIZE) for name in ("states", "actions", "discrete", "bounded", "positions")),
        *((name, ctypes.c_double) for name in ("low", "high", "eps")),
        *((name, ctypes.c_void_p) for name in ENDS),
    ]


class Whole:
    """Make decisions from the inputs of a model to its predictions. What stays from one to the next is prepared once.

    The keys and values are in `rings` tensors.
    """

    def __init__(self, rings: int, ring: Ring, ends: Ends, stack: Stack, width: int) -> None:
        self._kept = ring, ends, stack, pointer_to_constants(stack.constants)
        self._shape = Shape(length=ring.per_step, width=width, **stack.shape)
        self._actions = ends.actions
        self._tensors = (ctypes.c_void_p * (5 + rings))()
        self._structures = *(ctypes.byref(s) for s in (self._shape, ring, ends)), self._kept[-1]
        self._weights = stack.pointers.data_ptr()
        self._function = function_of("decide_whole", torch.float32)

    def __call__(self, inputs: tuple[Tensor, Tensor, Tensor], timesteps: Tensor, rings: list[Tensor]) -> Tensor:
        """Return predictions `[B, A]` from `rtg [B, 1]`, `states [B, S]` and the last `actions [B(, A)]`.

        All are contiguous. The rings are changed in place, see `decide`, and the timesteps `[B]` count up.
        """
        states = inputs[1]
        predictions = states.new_empty(len(states), self._actions)
        self._shape.batch = len(states)
        self._tensors[:] = [x.data_ptr() for x in (predictions, *inputs, timesteps, *rings)]
        self._function(self._tensors, self._weights, *self._structures, torch.get_num_threads())
        return predictions


def decide(x: Tensor, timesteps: Tensor, rings: list[Tensor], ring: Ring, stack: Stack) -> Tensor:
    """Run the new tokens `x [B, P, D]` of a decision through a stack of blocks and return the last one, `[B, D]`.

    The keys and values of each layer, `rings [B, C, D]`, are changed in place. `timesteps [B]` are the steps of the
    rows in their episodes. `x` is overwritten.
    """
    batch, tokens, width = x.shape
    last = x.new_empty(batch, width)
    pointers = (ctypes.c_void_p * len(rings))(*[r.data_ptr() for r in rings])
    shape = Shape(batch=batch, length=tokens, width=width, **stack.shape)
    arguments = [t.data_ptr() for t in (x, timesteps, last, stack.pointers)]
    constants = pointer_to_constants(stack.constants)
    structures = ctypes.byref(shape), ctypes.byref(ring), constants
    function_of("decide", x.dtype)(*arguments, ctypes.addressof(pointers), *structures, torch.get_num_threads())
    return last
