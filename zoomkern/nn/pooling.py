"""Pooling: from many feature vectors to one, over a draw or over all there are."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from zoomkern import checks
from zoomkern.typing import Sample, SampledPatches


class GatedAttentionPooling(nn.Module):
    """Gated attention on top of the attention that drew: what a place looks like decides how much it counts.

    With ``u_i = w^T (tanh(V f_i) * sigmoid(U f_i))`` the pooled feature is

        sum_l p_l e^{u_l} f_l / sum_l p_l e^{u_l},

    over all places. Both sums are estimated without bias from the draw, so their ratio is

        sum_i a_i f_i  with  a = softmax(u_i + log w_i + log_prob_i - stop(log_prob_i)).

    The ratio is consistent, not unbiased: its bias falls as the variance does, and is 0 once every place is drawn. The
    ratio's gradient towards ``log_prob_i`` is ``a_i <g, f_i - pooled>``, so it needs no baseline.

    Args:
        num_features: feature size ``D``.
        hidden: width of the gate.

    Gradient:
        Towards features, the gate, and the attention that drew.

    Source:
        Ilse et al., "Attention-based Deep Multiple Instance Learning", ICML 2018.

    Example:
        >>> drawn = zoomkern.sample_patches(images, logits, 10, (50, 50), mean=0.5, std=0.5)
        >>> features = network(drawn.patches.flatten(0, 1)).unflatten(0, drawn.index.shape)  # [B, 10, D]
        >>> pooled = GatedAttentionPooling(network.out_features)(features, drawn)  # [B, D]
    """

    def __init__(self, num_features: int, hidden: int = 128) -> None:
        super().__init__()
        self.value = nn.Linear(num_features, hidden)
        self.gate = nn.Linear(num_features, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)  # a softmax does not see a bias

    def attention(self, features: Tensor, sample: Sample | SampledPatches) -> Tensor:
        """``[B, N]``, the share of each drawn item: 0 for a padded one, 1 in all, float32 or better.

        Args:
            features: ``[B, N, D]`` of the drawn patches.
            sample: the draw; of several stages the composed one.

        Raises:
            ValueError: shapes that do not fit.
            TypeError: arguments of the wrong type.
        """
        checks.tensor("features", features, "a tensor [B, N, D]")
        checks.sample("sample", sample)
        shape = (*sample.index.shape, self.value.in_features)
        checks.shape("features", features, shape, "[B, N, D]")
        hidden = torch.tanh(self.value(features)) * torch.sigmoid(self.gate(features))
        score = _full(self.score(hidden).squeeze(-1))
        log_prob = sample.log_prob.to(score.dtype)
        counted = (sample.index >= 0) & (sample.weight > 0)
        weight = torch.where(counted, sample.weight, 1.0).to(score.dtype)
        logits = (score + weight.log() + log_prob - log_prob.detach()).masked_fill(~counted, -torch.inf)
        # of a row without any item nothing is pooled, and its softmax would be NaN
        some = counted.any(1, keepdim=True)
        return torch.where(counted, torch.where(some, logits, 0.0).softmax(1), 0.0)

    def forward(self, features: Tensor, sample: Sample | SampledPatches) -> Tensor:
        """Pooled features ``[B, D]``, 0 where nothing was drawn; arguments as for :meth:`attention`."""
        share = self.attention(features, sample)[..., None]
        return (share * features).sum(1).to(features.dtype)


class MeanPooling(nn.Module):
    """``1/L sum_l f_l`` of features ``[B, L, D]`` or a map ``[B, D, h, w]``: ``[B, D]``."""

    def forward(self, features: Tensor) -> Tensor:
        """Pool."""
        return _items(features).mean(1)


class MaxPooling(nn.Module):
    """``max_l f_l``, feature by feature, of features ``[B, L, D]`` or a map ``[B, D, h, w]``: ``[B, D]``."""

    def forward(self, features: Tensor) -> Tensor:
        """Pool."""
        return _items(features).amax(1)


class LogSumExpPooling(nn.Module):
    """``t log(1/L sum_l exp(f_l / t))``: between the maximum, for small ``t``, and the mean, for large ``t``.

    The mean inside makes it independent of how many items there are: a constant map gives its constant.

    Args:
        temperature: ``t``, positive, in the unit of the features.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = checks.temperature(temperature)

    def forward(self, features: Tensor) -> Tensor:
        """Pool ``[B, L, D]`` or ``[B, D, h, w]`` to ``[B, D]``."""
        items = _items(features)
        scaled = _full(items) / self.temperature
        return (self.temperature * (scaled.logsumexp(1) - math.log(items.shape[1]))).to(features.dtype)


class SoftAttentionPooling(nn.Module):
    """``sum_l softmax_l(w^T tanh(V f_l)) f_l`` over all items.

    Args:
        num_features: feature size ``D``.
        hidden: width of the attention.

    Source:
        Ilse et al., ICML 2018, without the gate; Pawlowski et al., arXiv 1908.06037.
    """

    def __init__(self, num_features: int, hidden: int = 128) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(num_features, hidden), nn.Tanh(), nn.Linear(hidden, 1, bias=False))

    def attention(self, features: Tensor) -> Tensor:
        """``[B, L]``, the share of each item of ``[B, L, D]`` or ``[B, D, h, w]`` (row by row), float32 or better."""
        return _full(self.score(_items(features)).squeeze(-1)).softmax(1)

    def forward(self, features: Tensor) -> Tensor:
        """Pool ``[B, L, D]`` or ``[B, D, h, w]`` to ``[B, D]``."""
        return (self.attention(features)[..., None] * _items(features)).sum(1).to(features.dtype)


def _full(values: Tensor) -> Tensor:
    """Float32 or better."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _items(features: Tensor) -> Tensor:
    """``[B, L, D]`` from itself or from a map ``[B, D, h, w]``."""
    if features.ndim not in (3, 4) or 0 in features.shape[1:]:
        raise ValueError(f"features must be [B, L, D] or [B, D, h, w] with items to pool; got {list(features.shape)}.")
    return features if features.ndim == 3 else features.flatten(2).transpose(1, 2)
