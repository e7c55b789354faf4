"""Cross-attention pooling: learned queries over a set of features."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from zoomkern import checks


class CrossAttentionPooling(nn.Module):
    """One transformer block whose queries are learnt: a set of features becomes one vector.

    With a learned query ``q_h`` for each head, ``a_ih = <q_h, K_h f_i> / sqrt(d)`` and

        y = norm(O concat_h sum_i softmax_i(a_ih) V_h f_i),    pooled = norm(y + mlp(y)).

    Args:
        num_features: feature size ``D``.
        heads: number of heads, a divisor of ``D``; ``d = D / heads``.

    Source:
        Vaswani et al., NeurIPS 2017; Bergner et al., ICLR 2023.

    Example:
        >>> CrossAttentionPooling(32, heads=4)(torch.rand(2, 10, 32)).shape
        torch.Size([2, 32])
    """

    def __init__(self, num_features: int, heads: int = 8) -> None:
        super().__init__()
        if num_features % checks.integer("heads", heads, 1):
            raise ValueError(f"heads must divide num_features = {num_features}; got {heads}.")
        self.heads = heads
        self.query = nn.Parameter(torch.randn(heads, num_features // heads))
        self.key = nn.Linear(num_features, num_features, bias=False)  # a softmax does not see a bias
        self.value = nn.Linear(num_features, num_features)
        self.out = nn.Linear(num_features, num_features)
        self.norm = nn.LayerNorm(num_features)
        wide = 4 * num_features
        self.mlp = nn.Sequential(nn.Linear(num_features, wide), nn.GELU(), nn.Linear(wide, num_features))
        self.final_norm = nn.LayerNorm(num_features)

    def logits(self, features: Tensor) -> Tensor:
        """``[..., heads]``, what each head thinks of each feature of ``[..., D]``, whatever the others are."""
        keys = self.key(features).unflatten(-1, self.query.shape)
        logits = (keys * self.query).sum(-1) / math.sqrt(self.query.shape[1])
        return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits

    def attention(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[B, L, heads]``, each head's shares of the items.

        Args:
            features: ``[B, L, D]``.
            mask: bool ``[B, L]``, True where there is an item; at least one in each row.
        """
        logits = self.logits(features)
        if mask is not None:
            logits = logits.masked_fill(~mask[..., None], -torch.inf)
        return logits.softmax(1)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pooled features ``[B, D]``; arguments as for :meth:`attention`."""
        values = self.value(features).unflatten(-1, self.query.shape)  # [B, L, heads, d]
        share = self.attention(features, mask)[..., None]
        mixed = (share * values).sum(1).to(features.dtype).flatten(1)
        pooled = self.norm(self.out(mixed))
        return self.final_norm(pooled + self.mlp(pooled))
