"""The complement of an attention."""

from __future__ import annotations

import torch
from torch import Tensor


def complement_logits(logits: Tensor) -> Tensor:
    """``log(1 - p)`` for ``p = softmax(logits)`` of each row: the logits of the complement of an attention.

    ``log1p(-p)`` loses its digits where ``p`` is near 1, and is -inf, with infinite derivatives, where it rounds to 1.
    Only the largest ``p`` can exceed 1/2; for it the mass of the other items is summed instead,
    ``log(1 - p_top) = logsumexp_{j != top} z_j - logsumexp_j z_j``, in which nothing cancels.

    Args:
        logits: ``[..., L]``, ``L`` at least 2; -inf masks an item, and stays.

    Returns:
        ``[..., L]``, float32 or better; -inf where nothing but the item itself may be drawn.

    Gradient:
        Towards ``logits``, finite however peaked they are.
    """
    if logits.shape[-1] < 2:
        raise ValueError(f"logits must have at least 2 items, or no complement; got {list(logits.shape)}.")
    z = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    masked = z == -torch.inf
    z = torch.where(masked.all(-1, keepdim=True), 0.0, z)  # of such a row nothing is drawn, and no derivative asked
    item = torch.arange(z.shape[-1], device=z.device)
    top = item == z.argmax(-1, keepdim=True)
    others = z.masked_fill(top, -torch.inf)
    alone = (others == -torch.inf).all(-1, keepdim=True)
    rest = torch.where(alone, 0.0, others).logsumexp(-1, keepdim=True) - z.logsumexp(-1, keepdim=True)
    small = torch.log1p(-z.softmax(-1).masked_fill(top, 0.0))
    complement = torch.where(top, torch.where(alone, -torch.inf, rest), small)
    return complement.masked_fill(masked, -torch.inf)
