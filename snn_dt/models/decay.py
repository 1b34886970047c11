r"""Softmax-free attention as a running sum with decay: a state of constant size, whatever the length of the past.

T tokens, B batch, H heads, d width of a head, D = H d; C tokens of a chunk. Time first: `[T, B, D]`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHUNK = 64


class DecayAttention(nn.Module):
    r"""`S_t = g S_(t-1) + k_t^T v_t`, `y_t = (1 - g) q_t S_t` per head, with `g` in (0, 1) learned.

    Equal to `y_t = (1 - g) \sum_{j <= t} g^(t - j) (q_t . k_j) v_j`, an average that neither grows with the age of an
    episode nor forgets at an edge. `g = sigmoid(raw)`; heads start with memories of 2 to `longest` tokens.

    Source: the retention of RetNet (arXiv 2307.08621), with learned decays, on spikes.
    """

    def __init__(self, n_heads: int, longest: float = 64.0) -> None:
        super().__init__()
        self.n_heads = n_heads
        memory = torch.logspace(math.log10(2.0), math.log10(longest), n_heads)  # 1 / (1 - g)
        self.raw = nn.Parameter((memory - 1).log())

    @property
    def decay(self) -> Tensor:
        """`g [H]`."""
        return torch.sigmoid(self.raw)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mix `q, k, v [T, B, D]` from the sum `state [B, H, d, d]` (None: 0); return `y` and the next sum."""
        q, k, v = (x.unflatten(-1, (self.n_heads, -1)) for x in (q, k, v))  # [T, B, H, d]
        if state is None:
            state = q.new_zeros(*q.shape[1:], q.shape[-1])
        if len(q) == 1:
            y, state = self.recurrent(q, k, v, state)
        else:
            y, state = self.chunked(q, k, v, state)
        return y.flatten(2), state  # [T, B, H, d] -> [T, B, D]

    def recurrent(self, q: Tensor, k: Tensor, v: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Advance token by token: `q, k, v, y [T, B, H, d]`."""
        decay, gain = (torch.sigmoid(x)[:, None, None] for x in (self.raw, -self.raw))
        ys = []
        for q_t, k_t, v_t in zip(q.unbind(0), k.unbind(0), v.unbind(0), strict=True):
            state = decay * state + k_t.unsqueeze(-1) * v_t.unsqueeze(-2)
            ys.append((gain * (q_t.unsqueeze(-2) @ state)).squeeze(-2))  # [B, H, d]
        return torch.stack(ys), state  # [T, B, H, d]

    def chunked(self, q: Tensor, k: Tensor, v: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Advance chunk by chunk, the same to rounding: within a chunk by its scores, between chunks by the sum.

        Only powers of `g` up to the length of a chunk occur, and no negative ones.
        """
        whole = len(q) // CHUNK * CHUNK
        parts = []
        for part in (slice(0, whole), slice(whole, None)):
            if len(q[part]):
                y, state = self._chunks(q[part], k[part], v[part], state)
                parts.append(y)
        return (parts[0] if len(parts) == 1 else torch.cat(parts)), state

    def _chunks(self, q: Tensor, k: Tensor, v: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Advance over chunks of equal length."""
        length = min(len(q), CHUNK)
        q, k, v = (x.unflatten(0, (-1, length)).permute(2, 3, 0, 1, 4) for x in (q, k, v))  # [B, H, n, C, d]
        steps = torch.arange(length, device=q.device)
        log_decay = F.logsigmoid(self.raw)[:, None]
        powers = (log_decay * steps).exp()  # [H, C]: g^0 .. g^(C-1)
        distance = steps[:, None] - steps
        within = (log_decay[..., None] * distance.clamp(min=0)).exp() * (distance >= 0)  # [H, C, C]
        scores = (q @ k.transpose(-1, -2)) * within[:, None]  # [B, H, n, C, C]
        added = (k * powers.flip(-1)[:, None, :, None]).transpose(-1, -2) @ v  # [B, H, n, d, d]
        over_chunk = (log_decay * length).exp()[..., None]
        before = []
        for chunk in added.unbind(2):
            before.append(state)
            state = over_chunk * state + chunk
        since = (powers * self.decay[:, None])[:, None, :, None]  # g^1 .. g^C
        y = scores @ v + since * (q @ torch.stack(before, 2))
        y = torch.sigmoid(-self.raw)[:, None, None, None] * y
        return y.permute(2, 3, 0, 1, 4).flatten(0, 1), state  # [B, H, n, C, d] -> [n C, B, H, d]
