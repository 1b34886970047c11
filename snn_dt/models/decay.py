r"""Softmax-free attention as a running sum with decay. The size of the state is independent of the sequence length.

T tokens, B batch, H heads, d width of a head, D = H d, C tokens per chunk, n chunks. Time comes first: `[T, B, D]`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHUNK = 64


class DecayAttention(nn.Module):
    r"""Retention with a learned decay per head: `S_t = g S_(t-1) + k_t^T v_t` and `y_t = (1 - g) q_t S_t`.

    This equals `y_t = (1 - g) \sum_{j <= t} g^(t - j) (q_t . k_j) v_j`. The average does not grow with the age of an
    episode and has no window edge. `g = sigmoid(raw)` is in (0, 1). The heads start with time constants `1 / (1 - g)`
    from 2 to `longest` tokens.

    Source: retention of RetNet (arXiv 2307.08621) with learned decays and spiking inputs.
    """

    def __init__(self, n_heads: int, longest: float = 64.0) -> None:
        super().__init__()
        self.n_heads = n_heads
        memory = torch.logspace(math.log10(2.0), math.log10(longest), n_heads)  # 1 / (1 - g) [H]
        self.raw = nn.Parameter((memory - 1).log())  # logit of g = 1 - 1 / memory

    @property
    def decay(self) -> Tensor:
        """Decay g of each head `[H]`."""
        return torch.sigmoid(self.raw)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mix `q, k, v [T, B, D]` and return `y [T, B, D]` with the next state.

        `state [B, H, d, d]` is the running sum. None is 0.
        """
        q, k, v = (x.unflatten(-1, (self.n_heads, -1)) for x in (q, k, v))  # [T, B, H, d]
        if state is None:
            state = q.new_zeros(*q.shape[1:], q.shape[-1])  # [B, H, d, d]
        if len(q) == 1:
            y, state = self.recurrent(q, k, v, state)
        else:
            y, state = self.chunked(q, k, v, state)
        return y.flatten(2), state  # [T, B, H, d] -> [T, B, D]

    def recurrent(self, q: Tensor, k: Tensor, v: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Advance token by token. `q`, `k`, `v` and the result are `[T, B, H, d]`."""
        # sigmoid(-raw) = 1 - g without cancellation; [H, 1, 1] each
        decay, gain = (torch.sigmoid(x)[:, None, None] for x in (self.raw, -self.raw))
        ys = []
        for q_t, k_t, v_t in zip(q.unbind(0), k.unbind(0), v.unbind(0), strict=True):
            state = decay * state + k_t.unsqueeze(-1) * v_t.unsqueeze(-2)  # [B, H, d, 1] * [B, H, 1, d]
            ys.append((gain * (q_t.unsqueeze(-2) @ state)).squeeze(-2))  # [B, H, d]
        return torch.stack(ys), state  # [T, B, H, d]

    def chunked(self, q: Tensor, k: Tensor, v: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Advance chunk by chunk. The result equals that of `recurrent` to rounding.

        Scores connect tokens inside a chunk. The running sum connects chunks. All powers of `g` are from 0 to the
        length of a chunk, so none overflows.
        """
        # First all whole chunks, then the rest as one shorter chunk.
        whole = len(q) // CHUNK * CHUNK
        parts = []
        for part in (slice(0, whole), slice(whole, None)):
            if len(q[part]):
                y, state = self._chunks(q[part], k[part], v[part], state)
                parts.append(y)
        return (parts[0] if len(parts) == 1 else torch.cat(parts)), state

    def _chunks(self, q: Tensor, k: Tensor, v: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Advance over n chunks of equal length C."""
        length = min(len(q), CHUNK)
        q, k, v = (x.unflatten(0, (-1, length)).permute(2, 3, 0, 1, 4) for x in (q, k, v))  # [B, H, n, C, d]
        steps = torch.arange(length, device=q.device)
        log_decay = F.logsigmoid(self.raw)[:, None]
        powers = (log_decay * steps).exp()  # [H, C]: g^0 .. g^(C-1)
        distance = steps[:, None] - steps  # [C, C]
        # The clamp keeps exp finite for later tokens, which the factor then sets to 0.
        within = (log_decay[..., None] * distance.clamp(min=0)).exp() * (distance >= 0)  # [H, C, C]
        scores = (q @ k.transpose(-1, -2)) * within[:, None]  # [B, H, n, C, C]
        added = (k * powers.flip(-1)[:, None, :, None]).transpose(-1, -2) @ v  # [B, H, n, d, d]
        over_chunk = (log_decay * length).exp()[..., None]  # g^C [H, 1, 1]
        before = []
        for chunk in added.unbind(2):
            before.append(state)  # the sum before the chunk [B, H, d, d]
            state = over_chunk * state + chunk
        since = (powers * self.decay[:, None])[:, None, :, None]  # g^1 .. g^C [H, 1, C, 1]
        y = scores @ v + since * (q @ torch.stack(before, 2))  # [B, H, n, C, d]
        # The factor 1 - g [H, 1, 1, 1] keeps the average from growing with the number of tokens.
        y = torch.sigmoid(-self.raw)[:, None, None, None] * y
        return y.permute(2, 3, 0, 1, 4).flatten(0, 1), state  # [B, H, n, C, d] -> [n C, B, H, d]
