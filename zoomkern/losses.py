"""Losses around an attention: the entropy regulariser, and the contrast with where attention does not look."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from zoomkern import checks


def attention_entropy(logits: Tensor) -> Tensor:
    """Entropy of each image's attention, in nats.

    ``H_b = -sum_l p_bl log p_bl`` with ``p_b = softmax(logits_b)``, taken from the logits themselves: the logarithm of
    a rounded probability is never formed, so attention that has collapsed onto one cell gives 0 and finite gradients.

    Args:
        logits: ``[B, ...]`` unnormalised log attention, a grid or a list of places; ``-inf`` masks a place.

    Returns:
        ``[B]``, float32 or better, between 0 and the logarithm of the number of places; 0 where all are masked.

    Gradient:
        Towards ``logits``; exactly 0 for masked places.
    """
    if logits.dim() < 2:
        raise ValueError(f"attention_entropy: logits must be [B, L] or [B, Gh, Gw]; got {list(logits.shape)}.")
    checks.dtype("logits", logits.dtype, checks.FLOATS)
    flat = logits.flatten(1)
    if flat.dtype in (torch.float16, torch.bfloat16):
        flat = flat.float()
    nowhere = (flat == -torch.inf).all(1)
    flat = flat.masked_fill(nowhere[:, None], 0.0)  # whose logarithms would have no gradient
    log_prob = flat.log_softmax(1)
    log_prob = log_prob.masked_fill(log_prob == -torch.inf, 0.0)
    prob = flat.softmax(1)
    return -(prob * log_prob).sum(1).masked_fill(nowhere, 0.0)


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


def supervised_attention(logits: Tensor, shares: Tensor) -> Tensor:
    """How far attention lies from annotations: ``-sum_l q_l log p_l`` with ``q`` the shares of each row, normalised.

    Args:
        logits: ``[B, ...]`` unnormalised log attention; ``-inf`` masks a place, of which nothing is asked.
        shares: of the same shape, not negative: how much of each cell an object covers; NaN gives NaN.

    Returns:
        A scalar, float32 or better: the mean over the rows that have an object at all; 0 where none has.

    Example:
        >>> supervised_attention(torch.zeros(1, 4), torch.tensor([[0.0, 0.5, 0.5, 0.0]]))
        tensor(1.3863)
    """
    if logits.shape != shares.shape or logits.dim() < 2:
        given = f"{list(logits.shape)} and {list(shares.shape)}"
        raise ValueError(f"supervised_attention: logits and shares must have one shape [B, ...]; got {given}.")
    wide = logits.flatten(1).float() if logits.dtype in (torch.float16, torch.bfloat16) else logits.flatten(1)
    masked = wide == -torch.inf
    wide = wide.masked_fill(masked.all(1, keepdim=True), 0.0)  # whose logarithms would have no gradient
    wanted = shares.flatten(1).to(wide.dtype).masked_fill(masked, 0.0)
    total = wanted.sum(1, keepdim=True)
    taught = total != 0  # NaN is something, and stays
    wanted = wanted / torch.where(taught, total, 1.0)
    losses = -torch.where(wanted != 0, wanted * wide.log_softmax(1), 0.0).sum(1)
    return losses.sum() / taught.sum().clamp(min=1)


def in_sample_contrastive(
    scores: Tensor, labels: Tensor, negative: int | None = 0, *, to_negative: bool = False
) -> Tensor:
    """The contrastive loss within an image: where attention does not look, there must be nothing of the image's class.

    The mean over the positive images, those whose label is not ``negative``, of ``-log(1 - Psi(label | x))`` with
    ``Psi = softmax(scores)``. It is taken as ``logsumexp_k s_k - logsumexp_{k != label} s_k``, so that a class of
    probability 1 gives a finite loss and a gradient that does not vanish. With two classes both forms are the same.

    Args:
        scores: ``[B, K]`` class scores before the softmax of places that attention avoids, such as
            :meth:`zoomkern.models.ZoomIn.contrast` gives.
        labels: int64 ``[B]``, the images' classes.
        negative: the class of images without an object; None where every image has one.
        to_negative: push towards the class ``negative``, with the cross-entropy ``-log Psi(negative | x)``, instead of
            away from the label alone.

    Returns:
        A scalar, float32 or better; 0 where no image is positive. Nothing synchronises.

    Source:
        Kong & Henao, CVPR 2022: images with an object, with their label inverted.

    Example:
        >>> in_sample_contrastive(torch.zeros(2, 2), torch.tensor([0, 1]))
        tensor(0.6931)
    """
    if scores.dim() != 2 or scores.shape[1] < 2:
        raise ValueError(f"in_sample_contrastive: scores must be [B, K] with K at least 2; got {list(scores.shape)}.")
    if labels.shape != scores.shape[:1] or labels.dtype != torch.int64:
        given = f"{labels.dtype} {list(labels.shape)}"
        raise ValueError(f"in_sample_contrastive: labels must be int64 [B] = [{scores.shape[0]}]; got {given}.")
    if labels.device.type == "cpu" and not torch.compiler.is_compiling() and labels.numel():
        least, most = labels.min().item(), labels.max().item()
        if least < 0 or most >= scores.shape[1]:
            raise ValueError(
                f"in_sample_contrastive: labels must be classes below {scores.shape[1]}; got {least} to {most}. "
                "Leave out images without a label."
            )
    if negative is not None and not 0 <= negative < scores.shape[1]:
        raise ValueError(f"in_sample_contrastive: negative must be a class below {scores.shape[1]}; got {negative}.")
    wide = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
    if to_negative:
        if negative is None:
            raise ValueError("in_sample_contrastive: to_negative needs the class to push towards; got negative=None.")
        losses = F.cross_entropy(wide, torch.full_like(labels, negative), reduction="none")
    else:
        others = wide.scatter(1, labels[:, None], -torch.inf)
        losses = wide.logsumexp(1) - others.logsumexp(1)
    positive = torch.ones_like(labels, dtype=torch.bool) if negative is None else labels != negative
    return torch.where(positive, losses, 0.0).sum() / positive.sum().clamp(min=1)
