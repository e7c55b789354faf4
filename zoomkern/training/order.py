"""In which order images are seen: a function of the seed and the epoch, and of nothing that a restart would lose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch.utils.data import Sampler

from zoomkern.functional.seeds import derived_seed

#: An image's place in the set, and the epoch it is seen in.
Place = tuple[int, int]


def mixed(seed: int, *numbers: int) -> int:
    """A seed for every sequence of numbers, each step by :func:`~zoomkern.functional.seeds.derived_seed`."""
    value = torch.tensor(seed, dtype=torch.int64)
    for number in numbers:
        value = derived_seed(value, torch.tensor(number, dtype=torch.int64))
    return int(value)


class EpochBatches(Sampler[list[Place]]):
    """Shuffled batches, a pure function of ``(seed, epoch)``, from wherever training stands.

    Every iteration asks ``standing()`` which epoch it is and how many of its batches were taken, and goes on from there
    to the end of that epoch, so that a resumed run sees what the interrupted one would have seen. With several ranks
    every rank takes its part of the same joint batch.

    Args:
        indices: places of the images in their set.
        batch_size: images of a joint batch; the last one of an epoch may be smaller.
        seed: of the order.
        standing: the epoch, from 0, and the number of its joint batches that were taken.
        rank: which part to take, of ``world_size``.
        world_size: number of parts.

    Raises:
        ValueError: a joint batch that does not leave an image for every rank.
    """

    def __init__(
        self,
        indices: Sequence[int],
        batch_size: int,
        seed: int,
        standing: Callable[[], tuple[int, int]],
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.indices = list(indices)
        self.batch_size = batch_size
        self.seed = seed
        self.standing = standing
        self.rank = rank
        self.world_size = world_size
        smallest = len(self.indices) % batch_size or min(batch_size, len(self.indices))
        if smallest < world_size:
            raise ValueError(
                f"every batch must hold an image for each of {world_size} processes; {len(self.indices)} images in "
                f"batches of {batch_size} leave one of {smallest}. Choose another batch_size."
            )

    def __len__(self) -> int:
        """Joint batches of an epoch."""
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[list[Place]]:
        epoch, done = self.standing()
        generator = torch.Generator().manual_seed(mixed(self.seed, epoch))
        order = torch.randperm(len(self.indices), generator=generator)
        for batch in order.split(self.batch_size)[done:]:
            yield [(self.indices[i], epoch) for i in batch.tensor_split(self.world_size)[self.rank].tolist()]


class LookingBatches(Sampler[list[Place]]):
    """Batches in the order of the set, every image once whatever the number of ranks; drawn alike in every epoch.

    Args:
        indices: places of the images in their set.
        batch_size: images of a batch.
        rank: takes every ``world_size``-th image.
        world_size: number of processes.

    Raises:
        ValueError: fewer images than processes: one without any would leave the others waiting for its figures.
    """

    #: The epoch that draws are seeded by; no epoch of training has it.
    EPOCH = -1

    def __init__(self, indices: Sequence[int], batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        if len(indices) < world_size:
            raise ValueError(
                f"each of {world_size} processes must have an image to look at; got {len(indices)}. Start fewer."
            )
        own = [(i, self.EPOCH) for i in indices[rank::world_size]]
        self.batches = [own[i : i + batch_size] for i in range(0, len(own), batch_size)]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Place]]:
        return iter(self.batches)
