"""Read the patches of drawn or given places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from zoomkern import checks
from zoomkern.functional.draws import Draw, call, check_draw, choose
from zoomkern.functional.stored import gather_stored
from zoomkern.images.resolve import any_stored, resolve_images
from zoomkern.ops import gathering, sampling
from zoomkern.ops import patches as patches_op
from zoomkern.reference import offsets as offsets_room
from zoomkern.reference.patches import place_offsets
from zoomkern.typing import PADDED_OFFSET, PIXEL_DTYPES, TABLE_COLUMNS, ImageBatch, SampledPatches, dtype_code

PADDING_MODES = ("constant", "shift")
DIVISORS = {torch.uint8: 255.0, torch.uint16: 65535.0}


def sample_patches(
    images: Tensor | Sequence[Any] | ImageBatch,
    logits: Tensor,
    num_samples: int | Tensor,
    patch_size: int | tuple[int, int],
    *,
    locations: Tensor | None = None,
    sampler: str = "gumbel",
    estimator: str | None = None,
    mask: Tensor | None = None,
    temperature: float = 1.0,
    on_short: str = "error",
    max_samples: int | None = None,
    level: int | None = None,
    step: int = 1,
    align: str = "center",
    padding_mode: str = "constant",
    fill: float | Sequence[float] = 0,
    scale: float | Sequence[float] | None = None,
    shift: float | Sequence[float] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.contiguous_format,
    seed: int | Tensor | None = None,
    generator: torch.Generator | None = None,
    out: Tensor | None = None,
    backend: str | None = None,
) -> SampledPatches:
    """Draw places from an attention and read only their patches, at full resolution.

    Cell (r, c) of a grid of logits stands for the pixels it covers; its patch is centred on them.

    Args:
        images: ``[B, C, H, W]``; a list of B ``[C, H, W]`` tensors, ``PinnedImage`` or ``Pyramid`` of any sizes; or
            ``bank[ids]`` of an ``ImageBank``. uint8, uint16, float16, bfloat16, float32 or float64, any strides.
        logits: ``[B, Gh, Gw]``, or ``[B, L]`` with ``locations``.
        num_samples: as for :func:`sample`.
        patch_size: ``(height, width)`` in output pixels, or one int.
        locations: int64 ``[L, 2]`` or ``[B, L, 2]``, top-left ``(y, x)`` of each candidate, in pixels of the level.
        sampler: as for :func:`sample`; so are ``estimator``, ``mask``, ``temperature``, ``on_short``, ``max_samples``,
            ``seed``, ``generator`` and ``backend``.
        estimator: see ``sampler``.
        mask: see ``sampler``.
        temperature: see ``sampler``.
        on_short: see ``sampler``; a padded draw has a patch of ``fill``.
        max_samples: see ``sampler``.
        level: level of the pyramids to read, 0 is the finest.
        step: every ``step``-th pixel is read, so a patch spans ``step * patch_size`` pixels.
        align: ``center``, or ``corners``: cell (0, 0) is centred on the first pixel and the last cell on the last.
        padding_mode: outside the image is ``fill`` (``constant``), or the window is moved inside (``shift``).
        fill: value of pixels outside, in pixel units, before scale and shift; one number or one per channel.
        scale: ``out = pixel * scale + shift``; one number or one per channel, default 1. Here, and for ``shift``,
            ``mean``, ``std`` and ``fill``, a compiled step takes numbers or tuples of them, no tensors.
        shift: default 0.
        mean: with ``std`` the usual shorthand; uint8 is first divided by 255, uint16 by 65535, so a mean above 1 is
            an error there.
        std: see ``mean``.
        dtype: of the patches: float32, float16, bfloat16 or float64.
        memory_format: ``torch.contiguous_format``, or ``torch.channels_last`` for channels innermost.
        seed: see ``sampler``.
        generator: see ``sampler``.
        out: ``[B, N, C, Ph, Pw]`` of type ``dtype`` in ``memory_format``, to be written instead of a new tensor.
        backend: see ``sampler``.

    Returns:
        ``SampledPatches(patches [B, N, C, Ph, Pw], index [B, N], offsets [B, N, 2], log_prob [B, N], weight [B, N])``.

    Gradient:
        log_prob towards logits; patches towards floating-point images.

    Memory:
        The result and ``O(B L)`` at most, whatever the size of the images.

    Raises:
        ValueError: as :func:`sample`, and images, locations or out that do not fit.
        TypeError: an argument of the wrong type.

    Source:
        Katharopoulos & Fleuret, ICML 2019; Kong & Henao, CVPR 2022.

    Example:
        >>> drawn = zoomkern.sample_patches(images, logits, 10, (50, 50), mean=0.5, std=0.5)
        >>> features = network(drawn.patches.flatten(0, 1)).unflatten(0, drawn.index.shape)  # [B, 10, D]
        >>> pooled = zoomkern.expectation(features, drawn.sample)
    """
    draw = check_draw(
        logits, num_samples, sampler, estimator, mask, temperature, on_short, max_samples, seed, generator
    )
    resolved = resolve_images(images, level, logits.device)
    _check_batch(resolved, logits.shape[0], logits.device, "logits")
    locations = _check_locations(locations, draw)
    conversion = _conversion(resolved, logits.device, scale, shift, mean, std, fill)
    reading = _reading(resolved, patch_size, step, padding_mode, dtype, memory_format)
    leading = (logits.shape[0], draw.num_samples, conversion.shape[1])
    _check_result(out, leading, reading, resolved, logits.device, "logits")
    checks.choice("align", align, offsets_room.ALIGNMENTS)
    chosen = choose(backend, logits.device)
    if any_stored(resolved):
        return _sample_stored(resolved, draw, locations, conversion, align, reading, out, chosen)
    where = (draw.logits, draw.mask, draw.seed, draw.counts, locations, conversion, draw.grid)
    rules = (draw.num_samples, draw.sampler, draw.estimator, draw.pad, align)
    drawn: SampledPatches = call(patches_op.sample_patches, resolved, *where, *rules, reading, out, chosen)
    return drawn


def gather_patches(
    images: Tensor | Sequence[Any] | ImageBatch,
    offsets: Tensor,
    patch_size: int | tuple[int, int],
    *,
    level: int | None = None,
    step: int = 1,
    padding_mode: str = "constant",
    fill: float | Sequence[float] = 0,
    scale: float | Sequence[float] | None = None,
    shift: float | Sequence[float] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.contiguous_format,
    out: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """Read patches at given places: ``out = pixel * scale + shift``.

    Args:
        images: as for :func:`sample_patches`, and so all arguments but ``offsets``.
        offsets: ``[B, N, 2]`` int64, top-left ``(y, x)`` in pixels of the level; any value, also outside the image.
        patch_size: ``(height, width)`` in output pixels, or one int.
        level: level of the pyramids to read.
        step: every ``step``-th pixel is read.
        padding_mode: ``constant`` or ``shift``.
        fill: value of pixels outside.
        scale: default 1.
        shift: default 0.
        mean: with ``std``, instead of ``scale`` and ``shift``.
        std: see ``mean``.
        dtype: of the patches.
        memory_format: ``torch.contiguous_format`` or ``torch.channels_last``.
        out: tensor to write instead of a new one.
        backend: as for :func:`sample`.

    Returns:
        ``[B, N, C, Ph, Pw]`` of type ``dtype``.

    Gradient:
        Towards floating-point images, deterministic.

    Memory:
        The result alone.

    Raises:
        ValueError: images, offsets or out that do not fit.
        TypeError: an argument of the wrong type.

    Example:
        >>> zoomkern.gather_patches([image], torch.tensor([[[0, 0], [512, 96]]]), 64)
    """
    checks.tensor("offsets", offsets, "an int64 tensor [B, N, 2]")
    checks.dtype("offsets", offsets.dtype, (torch.int64,))
    if offsets.ndim != 3 or offsets.shape[2] != 2:
        raise ValueError(f"offsets must be [B, N, 2], a (y, x) per patch; got {list(offsets.shape)}.")
    resolved = resolve_images(images, level, offsets.device)
    _check_batch(resolved, offsets.shape[0], offsets.device, "offsets")
    conversion = _conversion(resolved, offsets.device, scale, shift, mean, std, fill)
    reading = _reading(resolved, patch_size, step, padding_mode, dtype, memory_format)
    _check_result(out, (*offsets.shape[:2], conversion.shape[1]), reading, resolved, offsets.device, "offsets")
    chosen = choose(backend, offsets.device)
    if any_stored(resolved):
        return gather_stored(resolved, offsets, conversion, reading, out, chosen)
    return gathering.gather_patches(resolved, offsets, conversion, reading, out, chosen)


def _sample_stored(
    images: Any,
    draw: Draw,
    locations: Tensor | None,
    conversion: Tensor,
    align: str,
    reading: gathering.Reading,
    out: Tensor | None,
    backend: str,
) -> SampledPatches:
    """Draw, then read: what the op ``patches`` does at once where all images are in memory."""
    width = draw.grid[1] if draw.grid else 0
    index, log_prob, weight = call(sampling.sample, *draw[:-1], width, backend)
    sizes = torch.tensor([image.shape[1:] for image in images], device=index.device)
    size = (reading.height, reading.width)
    offsets = place_offsets(index, sizes, draw.grid, locations, size, reading.step, align, reading.shift)
    patches = gather_stored(images, offsets, conversion, reading, out, backend)
    return SampledPatches(patches, index, offsets, log_prob, weight)


def cell_offsets(
    index: Tensor,
    grid: tuple[int, int],
    image_size: tuple[int, int] | Tensor,
    patch_size: int | tuple[int, int],
    *,
    step: int = 1,
    align: str = "center",
) -> Tensor:
    """Top-left corners of the patches of grid cells, as :func:`sample_patches` places them.

    Args:
        index: ``[B, N]`` int64 flat cells; -1 for a padded draw.
        grid: ``(Gh, Gw)``.
        image_size: ``(H, W)`` of all images, or int64 ``[B, 2]``.
        patch_size: ``(height, width)`` in output pixels, or one int.
        step: every ``step``-th pixel is read.
        align: ``center`` or ``corners``.

    Returns:
        ``[B, N, 2]`` int64 ``(y, x)``.

    Raises:
        ValueError: an index outside the grid, or sizes that do not fit.
    """
    checks.tensor("index", index, "an int64 tensor [B, N]")
    checks.dtype("index", index.dtype, (torch.int64,))
    if index.ndim != 2:
        raise ValueError(f"index must be [B, N]; got {list(index.shape)}.")
    rows, columns = checks.pair("grid", grid)
    if not isinstance(image_size, Tensor):
        image_size = torch.tensor([checks.pair("image_size", image_size)], device=index.device).expand(len(index), 2)
    checks.tensor("image_size", image_size, "(height, width) or an int64 tensor [B, 2]")
    checks.dtype("image_size", image_size.dtype, (torch.int64,))
    checks.shape("image_size", image_size, (index.shape[0], 2), "[B, 2]")
    checks.same_device("image_size", image_size, index.device, "index")
    if not torch.compiler.is_compiling() and index.numel():
        least, most = int(image_size.min()), int(image_size.max())
        if least < 1 or most > checks.MOST_PIXELS:
            raise ValueError(f"image_size must be between 1 and {checks.MOST_PIXELS} pixels; got {least} to {most}.")
        low, high = int(index.min()), int(index.max())
        if low < -1 or high >= rows * columns:
            raise ValueError(f"index must be -1 or in [0, {rows * columns}); got {low} to {high}.")
    size, step = _extent(patch_size, step)
    align = checks.choice("align", align, offsets_room.ALIGNMENTS)
    return offsets_room.cell_offsets(index, (rows, columns), image_size, size, step, align, PADDED_OFFSET)


def _check_batch(images: Tensor | Sequence[Tensor] | ImageBatch, batch: int, device: torch.device, name: str) -> None:
    count = images.table.shape[0] if isinstance(images, ImageBatch) else len(images)
    if count != batch:
        cure = f" If these are one image's, pass {name}[None]." if count == 1 else ""
        raise ValueError(f"images must be one for each of the {batch} rows of {name}; got {count}.{cure}")
    if isinstance(images, ImageBatch):
        return checks.same_device("images", images.table, device, name)
    wanted = torch.device("cpu") if any_stored(images) else device
    for image in [images] if isinstance(images, Tensor) else images:
        if image.requires_grad and any_stored(images):
            raise ValueError("images must not require a gradient beside stored ones; got one that does. Detach it.")
        if image.device != wanted:
            like = f", like {name}" if wanted == device else " beside stored ones"
            pinned = device.type == "cuda" and image.device.type == "cpu"
            cure = "Make them PinnedImage, which a GPU reads where they are, or move" if pinned else "Move"
            raise ValueError(f"images must be on {wanted}{like}; got {image.device}. {cure} {name} or the images.")


def _check_locations(locations: Tensor | None, draw: Draw) -> Tensor | None:
    if locations is None:
        if draw.grid is None:
            raise ValueError("locations must be given with logits [B, L]; got None. Pass [L, 2], or a grid of logits.")
        if 0 in draw.grid and draw.logits.shape[0] and not draw.pad:
            raise ValueError(f"logits must have cells; got a grid of {list(draw.grid)}.")
        return None
    checks.tensor("locations", locations, "an int64 tensor [L, 2] or [B, L, 2]")
    checks.dtype("locations", locations.dtype, (torch.int64,))
    if draw.grid is not None:
        raise ValueError("locations go with logits [B, L]; got a grid of logits. Flatten the logits or drop locations.")
    batch, items = draw.logits.shape
    wanted = (items, 2) if locations.ndim == 2 else (batch, items, 2)
    checks.shape("locations", locations, wanted, "[L, 2] or [B, L, 2]")
    checks.same_device("locations", locations, draw.logits.device)
    return locations


def _channels(images: Tensor | Sequence[Tensor] | ImageBatch) -> tuple[int, set[torch.dtype]]:
    """Number of channels and the pixel types."""
    if isinstance(images, Tensor):
        return images.shape[1], {images.dtype}
    members = images.images if isinstance(images, ImageBatch) else images
    return (members[0].shape[0] if members else 1), {image.dtype for image in members}


def _conversion(images: Any, device: torch.device, scale: Any, shift: Any, mean: Any, std: Any, fill: Any) -> Tensor:
    channels, kinds = _channels(images)
    divisor = DIVISORS.get(next(iter(kinds)), 1.0) if len(kinds) == 1 else None if kinds else 1.0
    return _constants(checks.conversion(channels, divisor, scale, shift, mean, std, fill), device)


def _constants(rows: checks.Rows, device: torch.device) -> Tensor:
    """``[3, C]`` float64: in host memory, from where it goes to kernels with their arguments.

    A graph compiled for a GPU must hold no tensor of the host, so that CUDA graphs can replay it.
    """
    if torch.compiler.is_compiling() and device.type != "cpu":
        filled = [[torch.full((), value, dtype=torch.float64, device=device) for value in row] for row in rows]
        return torch.stack([torch.stack(row) for row in filled])
    return torch.tensor(rows, dtype=torch.float64, device="cpu")


def _extent(patch_size: int | tuple[int, int], step: int) -> tuple[tuple[int, int], int]:
    """The checked size and step of patches that span a possible number of pixels."""
    size, step = checks.pair("patch_size", patch_size), checks.integer("step", step, 1)
    if max(size) * step > checks.MOST_PIXELS:
        raise ValueError(f"step * patch_size must be at most {checks.MOST_PIXELS} pixels; got {step} * {max(size)}.")
    return size, step


def _reading(
    images: Any, patch_size: Any, step: int, padding_mode: str, dtype: torch.dtype, memory_format: torch.memory_format
) -> gathering.Reading:
    (height, width), step = _extent(patch_size, step)
    checks.choice("padding_mode", padding_mode, PADDING_MODES)
    checks.dtype("dtype", dtype, checks.FLOATS)
    if not isinstance(memory_format, torch.memory_format):
        raise TypeError(f"memory_format must be a torch.memory_format; got {type(memory_format).__name__}.")
    if memory_format not in (torch.contiguous_format, torch.channels_last):
        raise ValueError(f"memory_format must be torch.contiguous_format or torch.channels_last; got {memory_format}.")
    last = memory_format == torch.channels_last
    return gathering.Reading(height, width, step, padding_mode == "shift", dtype_code(dtype, "dtype"), last)


def _check_result(
    out: Tensor | None,
    leading: tuple[int, int, int],
    reading: gathering.Reading,
    images: Tensor | Sequence[Tensor] | ImageBatch,
    device: torch.device,
    like: str,
) -> None:
    """The patches must have an address, and ``out`` must suit them."""
    wanted = (*leading, reading.height, reading.width)
    bytes_wanted = math.prod([max(size, 1) for size in wanted]) * PIXEL_DTYPES[reading.dtype].itemsize
    if bytes_wanted > checks.MOST_BYTES:
        size = (reading.height, reading.width)
        raise ValueError(f"patch_size must make a result that fits in memory; got {size}, {bytes_wanted} bytes in all.")
    if out is None:
        return
    checks.tensor("out", out, "a tensor [B, N, C, Ph, Pw]")
    checks.shape("out", out, wanted, "[B, N, C, Ph, Pw]")
    checks.same_device("out", out, device, like)
    if out.dtype != PIXEL_DTYPES[reading.dtype]:
        raise TypeError(f"out must have the type of dtype; got {out.dtype}. Pass dtype={out.dtype}.")
    if not torch.compiler.is_compiling() and out.is_neg():
        raise ValueError("out must hold its values as they are; got a negated view. Pass memory of torch.empty.")
    if not reading.stored(out).is_contiguous():
        cure = "Make it with torch.empty and the memory_format of the call"
        raise ValueError(f"out must be contiguous in memory_format; got strides {list(out.stride())}. {cure}.")
    if out.requires_grad:
        raise ValueError("out must not require a gradient; got one that does. Pass out.detach().")
    operands, table = gathering.operands(images)
    tensors = [image for image in operands if isinstance(image, Tensor)]  # stored images share memory with nobody
    if gathering.track(tensors):
        raise ValueError("out carries no gradient to images; got images that require one. Detach them or drop out.")
    if not torch.compiler.is_compiling() and _overlap(out, tensors, table):
        raise ValueError("out must not share memory with images; got one that does. Pass a tensor of its own.")


def _overlap(out: Tensor, images: list[Tensor], table: Tensor | None) -> bool:
    """Whether ``out``, which is contiguous, lies between the first and the last pixel of an image."""
    start = out.data_ptr()
    stop = start + out.numel() * out.itemsize
    if start == 0:
        return False  # a fake tensor
    for image in images:
        last = sum((size - 1) * stride for size, stride in zip(image.shape, image.stride(), strict=True))
        if image.numel() and image.data_ptr() < stop and start < image.data_ptr() + (last + 1) * image.itemsize:
            return True
    if table is None or table.device.type != "cpu":
        return False
    column = TABLE_COLUMNS.index
    sizes, strides = (table[:, column(name) : column(name) + 3] for name in ("channels", "stride_c"))
    width = torch.tensor([kind.itemsize for kind in PIXEL_DTYPES], device="cpu")[table[:, column("dtype")]]
    first = table[:, column("pointer")]
    end = first + (((sizes - 1) * strides).sum(1) + 1) * width
    return bool(((first < stop) & (start < end)).any())
