"""The public functions: they check, resolve images and seeds, choose a backend and call the op."""

from zoomkern.functional.batches import patch_batches
from zoomkern.functional.draws import draw_weights, sample
from zoomkern.functional.pooling import compose, estimate_total, expectation, merge_repeats
from zoomkern.functional.reads import cell_offsets, gather_patches, sample_patches

__all__ = [
    "cell_offsets",
    "compose",
    "draw_weights",
    "estimate_total",
    "expectation",
    "gather_patches",
    "merge_repeats",
    "patch_batches",
    "sample",
    "sample_patches",
]
