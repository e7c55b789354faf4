"""Places dealt out to processes."""

from __future__ import annotations

from torch import Tensor

from zoomkern import checks


def for_rank(places: Tensor, rank: int, world_size: int) -> Tensor:
    """The places of one process: every ``world_size``-th from ``rank`` on.

    The parts of all ranks are every place once; they differ by one place at most, and each is spread over the image.

    Args:
        places: ``[L, ...]``, the same in every process, as seeds make them.
        rank: this process, from 0.
        world_size: number of processes.

    Returns:
        ``[ceil((L - rank) / world_size), ...]``, a view; empty where there are more processes than places.

    Raises:
        ValueError: ``rank`` is not below ``world_size``.
    """
    checks.integer("world_size", world_size, 1)
    checks.tensor("places", places, "a tensor [L, ...]")
    if places.ndim == 0:
        raise ValueError("places must be [L, ...]; got a scalar.")
    return places[checks.integer("rank", rank, 0, world_size - 1) :: world_size]
