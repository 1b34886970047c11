"""Random nested spaces, and values of them as a dataset holds them."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

counts, shapes = st.integers(1, 4), st.sampled_from([(1,), (3,), (2, 2)])
LEAVES = st.one_of(
    st.builds(lambda n, start: spaces.Discrete(n, start=start), counts, st.integers(-3, 3)),
    st.builds(lambda shape, n, start: spaces.MultiDiscrete(np.full(shape, n), start=np.full(shape, start)),
              shapes, counts, st.integers(-2, 2)),
    st.builds(spaces.MultiDiscrete, st.lists(counts, min_size=1, max_size=3)),
    st.builds(spaces.MultiBinary, st.one_of(counts, st.tuples(counts, counts).map(list))),
    st.builds(lambda shape, dtype: spaces.Box(-2, 3, shape, dtype),
              shapes, st.sampled_from([np.float32, np.float64, np.int32])),
)  # fmt: skip
SPACES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(spaces.Tuple),
        st.dictionaries(st.sampled_from("cab"), inner, min_size=1).map(spaces.Dict),
    ),
    max_leaves=5,
)
quick = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def stacked(space: Any, values: list[Any]) -> Any:
    """Return values as arrays [T, ...], nested as the space is."""
    if isinstance(space, spaces.Dict):
        return {key: stacked(sub, [value[key] for value in values]) for key, sub in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(stacked(sub, [value[i] for value in values]) for i, sub in enumerate(space.spaces))
    return np.stack([np.asarray(value) for value in values])


def samples(space: Any, n: int, seed: int = 0) -> list[Any]:
    space.seed(seed)
    return [space.sample() for _ in range(n)]
