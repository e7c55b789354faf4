"""What one would write without zoomkern: the naive pipeline, and the best expressions in torch.

Besides the naive pipeline stand the fastest expressions found: noise from ``rand`` and two logarithms takes a third of
the time of ``exponential_``; one ``mul(out=)`` per sliced patch beats stacking, indexing and ``index_select`` of rows.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bench.workloads import MEAN, STD

_MEAN, _STD = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
_SCALE, _SHIFT = 1 / (255 * _STD), -_MEAN / _STD

# Sampling: logits [B, L] -> index [B, N]


def softmax_multinomial(logits: Tensor, draws: int, replacement: bool = False) -> Tensor:
    return torch.multinomial(logits.softmax(-1), draws, replacement=replacement)


def gumbel_topk(logits: Tensor, draws: int) -> Tensor:
    """The race in one expression: ``topk(logits - log(-log u))``."""
    noise = torch.rand_like(logits).log_().neg_().log_()
    return torch.sub(logits, noise, out=noise).topk(draws).indices


def cumsum_search(logits: Tensor, draws: int) -> Tensor:
    """Independent draws by inversion."""
    edges = logits.softmax(-1).cumsum(-1)
    points = torch.rand(len(logits), draws, device=logits.device) * edges[:, -1:]
    return torch.searchsorted(edges, points).clamp_(max=logits.shape[1] - 1)


def systematic(logits: Tensor, draws: int) -> Tensor:
    """Inclusion ``min(1, c p)`` and systematic points along it; float32, so only roughly ``threshold``."""
    p = logits.softmax(-1)
    c = p.new_full((len(p), 1), float(draws))
    for _ in range(2):
        certain = c * p >= 1
        rest = torch.where(certain, 0, p).sum(-1, keepdim=True)
        c = (draws - certain.sum(-1, keepdim=True)) / rest
    edges = (c * p).clamp_(max=1).cumsum(-1)
    starts = torch.arange(draws, device=p.device) + torch.rand(len(p), 1, device=p.device)
    points = starts * (edges[:, -1:] / draws)
    return torch.searchsorted(edges, points).clamp_(max=logits.shape[1] - 1)


def softmax_topk(logits: Tensor, draws: int) -> Tensor:
    return logits.softmax(-1).topk(draws).indices


def topk(logits: Tensor, draws: int) -> Tensor:
    return logits.topk(draws).indices


# Gathering: images of [3, H, W] uint8, offsets [B, N, 2] -> [B, N, 3, P, P] float32, (pixel / 255 - mean) / std


def formula(images: Sequence[Tensor], offsets: Tensor, patch: int) -> Tensor:
    """No rival: the documented ``pixel * scale + shift`` in float32, bit by bit."""
    mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (MEAN, STD))
    pairs = zip(images, offsets.tolist(), strict=True)
    pixels = torch.stack([image[:, y : y + patch, x : x + patch] for image, row in pairs for y, x in row])
    patches = pixels.float() * (1 / (255 * std)).float() + (-mean / std).float()
    return patches.view(*offsets.shape[:2], 3, patch, patch)


def slice_stack(images: Sequence[Tensor], offsets: Tensor, patch: int) -> Tensor:
    """Slices each patch, stacks, converts, normalises."""
    pairs = zip(images, offsets.tolist(), strict=True)
    patches = torch.stack([image[:, y : y + patch, x : x + patch] for image, row in pairs for y, x in row])
    return ((patches.float() / 255 - _MEAN) / _STD).view(*offsets.shape[:2], 3, patch, patch)


def unfold_index(images: Sequence[Tensor], offsets: Tensor, patch: int) -> Tensor:
    """Advanced indexing into a view of all windows; the images are HWC in memory."""
    rows = []
    for image, at in zip(images, offsets, strict=True):
        pixels = image.permute(1, 2, 0).flatten(1)  # [H, 3 W]
        windows = pixels.unfold(0, patch, 1).unfold(1, 3 * patch, 3)  # [H - P + 1, W - P + 1, P, 3 P]
        rows.append(windows[at[:, 0], at[:, 1]])
    patches = torch.stack(rows).unflatten(-1, (patch, 3)).movedim(-1, 2)
    return patches.to(torch.float32, memory_format=torch.contiguous_format).mul_(_SCALE).add_(_SHIFT)


def slice_into(images: Sequence[Tensor], offsets: Tensor, patch: int, out: Tensor | None = None) -> Tensor:
    """Converts each slice straight into its place, with one multiplication and one addition per pixel."""
    if out is None:
        out = torch.empty(*offsets.shape[:2], 3, patch, patch)
    for image, row, targets in zip(images, offsets.tolist(), out, strict=True):
        for (y, x), target in zip(row, targets, strict=True):
            torch.mul(image[:, y : y + patch, x : x + patch], _SCALE, out=target).add_(_SHIFT)
    return out


def roi_align() -> tuple[Any, str | None]:
    """torchvision's ``roi_align``, or why it is not here."""
    try:
        from torchvision.ops import roi_align as function
    except ImportError:
        return None, "torchvision is not installed"
    except (OSError, RuntimeError) as error:
        return None, f"torchvision does not load: {str(error).splitlines()[0]}"
    return function, None


def roi_align_patches(function: Any, floats: Tensor, offsets: Tensor, patch: int) -> Tensor:
    """``roi_align`` with one sample per bin of one pixel reads exact pixels; its images ``[B, 3, H, W]`` are float."""
    corners = offsets.flip(-1).float()  # (x, y)
    boxes = list(torch.cat((corners, corners + patch), -1))
    patches = function(floats, boxes, patch, sampling_ratio=1, aligned=True)
    return patches.mul_(_SCALE).add_(_SHIFT).view(*offsets.shape[:2], 3, patch, patch)


def host_gather(image: Tensor, offsets: Tensor, patch: int, staging: Tensor | None) -> Tensor:
    """Patches ``[N, 3, P, P]`` float16 on the GPU, of an image in host memory: sliced there, copied, normalised here.

    ``staging`` is a page-locked buffer; without one the patches are stacked and page-locked anew.
    """
    slices = [image[:, y : y + patch, x : x + patch] for y, x in offsets.tolist()]
    if staging is None:
        patches = torch.stack(slices).pin_memory().cuda(non_blocking=True)
    else:
        torch.cuda.current_stream().synchronize()  # the last copy has left the buffer
        patches = torch.stack(slices, out=staging).cuda(non_blocking=True)
    scale, shift = _on_gpu()
    return torch.addcmul(shift, patches.float(), scale).half()


@functools.cache
def _on_gpu() -> tuple[Tensor, Tensor]:
    return _SCALE.cuda(), _SHIFT.cuda()


# Both: images, logits [B, Gh, Gw] -> patches


def grid_offsets(index: Tensor, grid: tuple[int, int], size: tuple[int, int], patch: int) -> Tensor:
    """Windows centred on their cells and moved inside the image."""
    cells = (index // grid[1], index % grid[1])
    axes = zip(cells, grid, size, strict=True)
    starts = [((2 * c + 1) * s - g * patch).div(2 * g, rounding_mode="floor").clamp(0, s - patch) for c, g, s in axes]
    return torch.stack(starts, -1)


def naive_pipeline(images: Sequence[Tensor], logits: Tensor, draws: int, patch: int) -> Tensor:
    index = softmax_multinomial(logits.flatten(1), draws)
    return slice_stack(images, grid_offsets(index, logits.shape[1:], images[0].shape[1:], patch), patch)


def race_pipeline(
    images: Sequence[Tensor], logits: Tensor, draws: int, patch: int, out: Tensor | None = None
) -> Tensor:
    index = gumbel_topk(logits.flatten(1), draws)
    return slice_into(images, grid_offsets(index, logits.shape[1:], images[0].shape[1:], patch), patch, out)


# Expectation: features [B, N, D], log_prob and weight [B, N] -> [B, D]


def weighted_sum(features: Tensor, log_prob: Tensor, weight: Tensor) -> Tensor:
    return ((weight * (log_prob - log_prob.detach()).exp())[..., None] * features).sum(1)


def weighted_einsum(features: Tensor, log_prob: Tensor, weight: Tensor) -> Tensor:
    return torch.einsum("bn,bnd->bd", weight * (log_prob - log_prob.detach()).exp(), features)
