"""The ring buffer remembers what a list of the running episodes' steps would."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_dt.evaluation.context import Context


class NaiveContext:
    """A list of (rtg, state, action) per running episode."""

    def __init__(self, n: int, context_length: int) -> None:
        self.context_length = context_length
        self.episodes: list[list[dict]] = [[] for _ in range(n)]

    def push(self, rtg, states) -> None:
        for episode, r, s in zip(self.episodes, rtg, states, strict=True):
            episode.append({"rtg": r, "state": s, "action": torch.zeros_like(s[0]), "timestep": len(episode)})

    def set_action(self, actions) -> None:
        for episode, action in zip(self.episodes, actions, strict=True):
            episode[-1]["action"] = action

    def restart(self, rows) -> None:
        for row in rows:
            self.episodes[row] = []

    def keep(self, rows) -> None:
        self.episodes = [self.episodes[row] for row in rows]

    def last_steps(self, row: int) -> list[dict]:
        return self.episodes[row][-self.context_length :]


def assert_same(context: Context, naive: NaiveContext) -> None:
    rtg, states, actions, timesteps, mask = context.window()
    assert mask.shape[0] == len(naive.episodes)
    assert mask.shape[1] <= naive.context_length
    for row in range(len(naive.episodes)):
        steps = naive.last_steps(row)
        k = len(steps)
        assert mask[row].tolist() == [False] * (mask.shape[1] - k) + [True] * k
        assert timesteps[row].tolist() == [0] * (mask.shape[1] - k) + [step["timestep"] for step in steps]
        for name, values in (("rtg", rtg[..., 0]), ("state", states), ("action", actions)):
            for value, step in zip(values[row, mask.shape[1] - k :], steps, strict=True):
                assert torch.equal(value, step[name]), name


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 5),
    context_length=st.integers(1, 6),
    seed=st.integers(0, 2**32 - 1),
    end=st.floats(0, 0.6),
    leave=st.floats(0, 0.05),
)
def test_the_window_is_the_last_steps_of_every_episode_through_restarts_and_departures(
    n, context_length, seed, end, leave
):
    g = torch.Generator().manual_seed(seed)
    context = Context(n, context_length, 3, 0, True, torch.device("cpu"))
    naive = NaiveContext(n, context_length)
    context.actions = context.actions.float()  # so that one comparison serves states and actions
    for _ in range(150):
        if not naive.episodes:
            break
        live = len(naive.episodes)
        rtg, states, actions = torch.randn(live, generator=g), torch.randn(live, 3, generator=g), torch.rand(live)
        for buffer in (context, naive):
            buffer.push(rtg, states)
        assert_same(context, naive)  # as the model sees it: the newest action is still 0
        for buffer in (context, naive):
            buffer.set_action(actions)
        assert_same(context, naive)
        over = torch.rand(live, generator=g) < end
        gone = torch.rand(live, generator=g) < leave
        for buffer in (context, naive):
            buffer.restart(torch.nonzero(over & ~gone)[:, 0])
            buffer.keep(torch.nonzero(~gone)[:, 0])


def test_the_newest_action_is_zero_until_it_is_set():
    context = Context(2, 3, 1, 2, False, torch.device("cpu"))
    for step in range(7):
        context.push(torch.zeros(2), torch.zeros(2, 1))
        assert (context.window()[2][:, -1] == 0).all()
        context.set_action(torch.full((2, 2), step + 1.0))
    assert (context.window()[2][:, :, 0] == torch.tensor([5.0, 6.0, 7.0])).all()


def test_a_window_is_a_view_and_no_longer_than_the_oldest_running_episode():
    context = Context(2, 50, 1, 2, False, torch.device("cpu"))
    for step in range(20):
        context.push(torch.zeros(2), torch.zeros(2, 1))
        assert context.window()[1].shape == (2, step + 1, 1)
    assert context.window()[1].data_ptr() in range(
        context.states.data_ptr(), context.states.data_ptr() + context.states.nbytes
    )
    context.restart(torch.tensor([0]))
    context.keep(torch.tensor([0]))
    context.push(torch.zeros(1), torch.zeros(1, 1))
    assert context.window()[1].shape == (1, 1, 1)
