"""Losses around an attention: the entropy regulariser."""

from __future__ import annotations

import torch
from torch import Tensor


def attention_entropy(logits: Tensor) -> Tensor:
    """Entropy of each image's attention, in nats.

    ``H_b = -sum_l p_bl log p_bl`` with ``p_b = softmax(logits_b)``, taken from the logits themselves: the logarithm of
    a rounded probability is never formed, so attention that has collapsed onto one cell gives 0 and finite gradients.

    Args:
        logits: ``[B, ...]`` unnormalised log attention, a grid or a list of places; ``-inf`` masks a place.

    Returns:
        ``[B]``, float32 or better, between 0 and the logarithm of the number of places.

    Gradient:
        Towards ``logits``; exactly 0 for masked places.
    """
    if logits.dim() < 2:
        raise ValueError(f"attention_entropy: logits must be [B, L] or [B, Gh, Gw]; got {list(logits.shape)}.")
    flat = logits.flatten(1)
    if flat.dtype in (torch.float16, torch.bfloat16):
        flat = flat.float()
    log_prob = flat.log_softmax(1)
    log_prob = log_prob.masked_fill(log_prob == -torch.inf, 0.0)
    prob = flat.softmax(1)
    return -(prob * log_prob).sum(1)


def entropy_regulariser(logits: Tensor, strength: float) -> Tensor:
    """The term to add to a loss so that attention stays spread out: ``-strength`` times the mean entropy.

    The mean runs over all images of the batch, so the term does not depend on the batch size.

    Args:
        logits: ``[B, ...]`` unnormalised log attention.
        strength: how much a nat of entropy is worth in units of the loss; negative values concentrate the attention.

    Returns:
        A scalar; 0 for an empty batch.

    Source:
        Katharopoulos & Fleuret, ICML 2019; Kong & Henao, CVPR 2022, minimise ``strength * sum p log p``.

    Example:
        >>> entropy_regulariser(torch.zeros(2, 4, 4), strength=1.0)
        tensor(-2.7726)
    """
    entropy = attention_entropy(logits)
    return entropy.sum() * (-strength / max(entropy.shape[0], 1))
