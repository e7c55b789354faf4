"""zoomkern: let a network look at images far larger than its accelerator's memory."""

from importlib import metadata

from zoomkern.functional import (
    cell_offsets,
    compose,
    draw_weights,
    estimate_total,
    expectation,
    gather_patches,
    merge_repeats,
    patch_batches,
    sample,
    sample_patches,
)
from zoomkern.images import (
    ImageBank,
    PinnedImage,
    Pyramid,
    cells_with,
    grid_places,
    open_image,
    random_places,
    tissue_mask,
)
from zoomkern.typing import ImageBatch, Sample, SampledPatches

__all__ = [
    "ImageBank",
    "ImageBatch",
    "PinnedImage",
    "Pyramid",
    "Sample",
    "SampledPatches",
    "cell_offsets",
    "cells_with",
    "compose",
    "draw_weights",
    "estimate_total",
    "expectation",
    "gather_patches",
    "grid_places",
    "merge_repeats",
    "open_image",
    "patch_batches",
    "random_places",
    "sample",
    "sample_patches",
    "tissue_mask",
]


def __getattr__(name: str) -> str:
    if name == "__version__":
        return metadata.version("zoomkern")
    raise AttributeError(f"module 'zoomkern' has no attribute {name!r}")
