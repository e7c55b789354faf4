"""How many tiles and sub-tiles two stages draw, and from what."""

from __future__ import annotations

import warnings
from typing import NamedTuple


class Plan(NamedTuple):
    """How tiles and the sub-tiles inside them are drawn.

    Args:
        tiles: sampler of the first stage, and ``tile_estimator`` its weight rule.
        tile_estimator: see ``tiles``.
        num_tiles: draws of the first stage in each repetition.
        most: draws inside one tile, at most.
        total: sub-tiles per image in each repetition, at most.
        sampler: sampler inside a tile, and ``estimator`` its weight rule.
        estimator: see ``sampler``.
        repetitions: independent draws of both stages whose estimates are averaged.
    """

    tiles: str
    tile_estimator: str | None
    num_tiles: int
    most: int
    total: int
    sampler: str
    estimator: str | None
    repetitions: int


def warn_of_padding(plan: Plan, tiles: int, cells: int) -> None:
    """Draws that a grid of ``tiles``, or ``cells`` inside each, cannot give: they are padding in every image."""
    if plan.tiles == "replacement":
        return
    for name, wanted, there in (("num_tiles", plan.num_tiles, tiles), ("num_samples / num_tiles", plan.most, cells)):
        if wanted > there:
            warnings.warn(
                f"{name} = {wanted} draws from a grid of {there} cells: the other {wanted - there} are padding in "
                "every image. Draw fewer, or make the grid finer.",
                stacklevel=3,
            )


def warn_of_rounding(tile_size: tuple[int, int], view_size: tuple[int, int], scale: float) -> None:
    """A tile's view that spans much more or less than the tile: its cells stand for other places than are read."""
    for side, pixels in zip(tile_size, view_size, strict=True):
        if abs(pixels - scale * side) > 0.05 * scale * side:
            warnings.warn(
                f"tile_size {side} is {scale * side:.3g} pixels at tile_scale = {scale:g}: views have {pixels}, which "
                f"span {pixels / scale:.3g}. Choose a tile_size of which that scale is a whole number of pixels.",
                stacklevel=3,
            )
            return
