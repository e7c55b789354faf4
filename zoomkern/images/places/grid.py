"""Places in rows and columns."""

from __future__ import annotations

import torch
from torch import Tensor

from zoomkern import checks
from zoomkern.images.places.shares import share_at, some_enough

EDGES = ("inside", "cover")
#: Places beyond which a list of them is refused: 4 GiB.
MOST_PLACES = 1 << 28


def grid_places(
    image_size: tuple[int, int],
    patch_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    *,
    overlap: int | tuple[int, int] | None = None,
    mask: Tensor | None = None,
    minimum: float = 0.1,
    edge: str = "inside",
) -> Tensor:
    """Places at a regular distance, row by row.

    Args:
        image_size: ``(H, W)`` of the level that is read.
        patch_size: ``(height, width)`` in pixels of that level, or one int; with ``step`` what the patch spans.
        stride: distance between neighbours, ``(down, right)`` or one int; None for patches side by side.
        overlap: pixels that neighbours share, instead of ``stride``.
        mask: bool ``[h, w]`` of the whole image at any size; keeps the places whose patch it covers enough.
        minimum: share of a patch that the mask must cover; with 0 any.
        edge: ``inside`` keeps to whole patches from the top left, and may leave a margin at the bottom and right;
            ``cover`` moves a last row and column to the edge, so that patches side by side show every pixel. There an
            image smaller than the patch has one place, 0, from which the patch hangs over.

    Returns:
        int64 ``[L, 2]``, top-left ``(y, x)``: the ``locations`` of :func:`zoomkern.sample_patches`, or with ``[None]``
        the ``offsets`` of :func:`zoomkern.gather_patches`.

    Memory:
        16 bytes per place; with a mask about 100, and 8 per pixel of the mask.

    Raises:
        ValueError: no patch fits, the mask covers none enough, or sizes and distances do not fit.

    Example:
        >>> grid_places((100, 200), 64, edge="cover").tolist()
        [[0, 0], [0, 64], [0, 128], [0, 136], [36, 0], [36, 64], [36, 128], [36, 136]]
    """
    size, patch = checks.pair("image_size", image_size), checks.pair("patch_size", patch_size)
    steps = _strides(patch, stride, overlap)
    last = last_place(size, patch, edge)
    number = (last[0] // steps[0] + 2) * (last[1] // steps[1] + 2)
    if number > MOST_PLACES:
        raise ValueError(f"stride must leave at most {MOST_PLACES} places; got about {number}. Enlarge it.")
    rows, columns = (_starts(*axis, edge) for axis in zip(last, steps, strict=True))
    places = torch.cartesian_prod(rows, columns)
    if mask is None:
        return places
    places = places.to(mask.device)
    return places[some_enough(share_at(mask, places, patch, size), minimum, f"a patch of {patch} on the grid")]


def last_place(size: tuple[int, int], patch: tuple[int, int], edge: str) -> tuple[int, int]:
    """The last row and column from which a whole patch fits; 0 along a side that is too short, to ``cover`` it."""
    checks.choice("edge", edge, EDGES)
    if edge == "inside" and (patch[0] > size[0] or patch[1] > size[1]):
        raise ValueError(
            f"patch_size must fit in the image, {size[0]} x {size[1]}; got {patch[0]} x {patch[1]}. "
            "Make it smaller, or pass edge='cover' for patches that hang over."
        )
    return max(size[0] - patch[0], 0), max(size[1] - patch[1], 0)


def _strides(
    patch: tuple[int, int], stride: int | tuple[int, int] | None, overlap: int | tuple[int, int] | None
) -> tuple[int, int]:
    if overlap is None:
        return patch if stride is None else checks.pair("stride", stride)
    if stride is not None:
        raise ValueError("stride and overlap say the same thing; got both. Keep one.")
    shared = (overlap, overlap) if isinstance(overlap, int) else tuple(overlap)
    if len(shared) != 2:
        raise ValueError(f"overlap must be (height, width) or one int; got {overlap!r}.")
    down, right = (
        size - checks.integer(f"overlap[{axis}]", pixels, 0, size - 1)
        for axis, (size, pixels) in enumerate(zip(patch, shared, strict=True))
    )
    return down, right


def _starts(last: int, step: int, edge: str) -> Tensor:
    starts = torch.arange(0, last + 1, step)
    return torch.cat([starts, torch.tensor([last])]) if edge == "cover" and last % step else starts
