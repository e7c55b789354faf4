"""The part of ``zoomkern demo`` that samples the user's own picture."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from zoomkern.cli.demo import InputError
from zoomkern.functional import sample_patches
from zoomkern.images import PinnedImage
from zoomkern.visual import area_mean, overview_size, save_attention

#: Shortest side of a picture worth sampling, in pixels.
MIN_SIDE = 64
#: Attention is local contrast raised to this power.
POWER = 3.0


def draw_picture(path: Path, num_samples: int, seed: int, output: Path) -> None:
    """Sample a picture by its local contrast, at full resolution, and draw where.

    Args:
        path: picture to read, any format Pillow knows.
        num_samples: patches to read.
        seed: of the draw.
        output: PNG to write.
    """
    image = _read(path)
    size = (image.shape[1], image.shape[2])
    side = min(max(round(min(size) / 12), 32), 256)
    grid = (-(-size[0] // side), -(-size[1] // side))
    if num_samples > grid[0] * grid[1]:
        raise InputError(
            f"--samples must be at most {grid[0] * grid[1]} for a picture of {size[0]} x {size[1]} pixels; "
            f"got {num_samples}."
        )
    print(f"{path.name}: {size[0]} x {size[1]} pixels, {grid[0]} x {grid[1]} cells, {num_samples} patches to read.")
    small = area_mean(image, overview_size(size))
    if not small.isfinite().all():
        raise InputError(f"--image: {str(path)!r} holds pixels that are NaN or infinite.")
    black, white = _pixel_range(image, small)
    logits = contrast_logits(image, grid)
    drawn = sample_patches([image], logits.unsqueeze(0), num_samples, (side, side), padding_mode="shift", seed=seed)
    share = num_samples * side * side / (size[0] * size[1])
    save_attention(
        output,
        overview=(small - black) / (white - black),
        attention=logits.flatten().softmax(0).unflatten(0, grid),
        patches=(drawn.patches[0] - black) / (white - black),
        offsets=drawn.offsets[0],
        probabilities=drawn.log_prob[0].exp(),
        image_size=size,
        title=path.name,
        subtitle=f"{num_samples} patches of {side} × {side} pixels ({100 * share:.2g} % of the picture), drawn without "
        "replacement where local contrast is high",
    )


def contrast_logits(image: Tensor, grid: tuple[int, int]) -> Tensor:
    """How much an image's brightness varies within every cell.

    Args:
        image: ``[C, H, W]``, any pixel type.
        grid: ``(Gh, Gw)``.

    Returns:
        ``[Gh, Gw]`` float32 attention logits, finite also where the image is flat.
    """
    rows, columns = grid
    height = image.shape[1]
    deviation = torch.empty(grid)
    for row in range(rows):
        band = image[:, row * height // rows : -(-(row + 1) * height // rows)]
        # float64: a variance is a small difference of large means
        brightness = band.to(torch.float64).mean(0, keepdim=True)  # [1, h, W]
        moments = F.adaptive_avg_pool2d(torch.cat([brightness, brightness.square()]), (1, columns))[:, 0]  # [2, Gw]
        deviation[row] = (moments[1] - moments[0].square()).clamp(min=0).sqrt()
    floor = 0.05 * deviation.mean() + 1e-6
    return POWER * (deviation + floor).log()


def _read(path: Path) -> Tensor:
    """The picture as ``[C, H, W]``, or an :class:`InputError` that says why not."""
    try:
        image = PinnedImage.from_file(path).tensor
    except (OSError, ValueError) as error:
        raise InputError(f"--image: {error}") from error
    except MemoryError as error:
        raise InputError(f"--image: there is not enough memory for {str(path)!r}.") from error
    if min(image.shape[1:]) < MIN_SIDE:
        raise InputError(
            f"--image must be at least {MIN_SIDE} x {MIN_SIDE} pixels; {str(path)!r} has "
            f"{image.shape[1]} x {image.shape[2]}."
        )
    return image


def _pixel_range(image: Tensor, small: Tensor) -> tuple[float, float]:
    """What is shown black and what white: 0 and 255 for eight bits, else the range of the overview."""
    if image.dtype == torch.uint8:
        return 0.0, 255.0
    black, white = float(small.min()), float(small.max())
    return black, white if white > black else black + 1.0
