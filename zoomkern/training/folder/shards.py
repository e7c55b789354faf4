"""Which of many launches does which images: a rule that all of them follow, so that none has to ask another."""

from __future__ import annotations

import heapq
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from zoomkern.training.folder.images import Found


class Shard(NamedTuple):
    """One part of the images.

    Args:
        number: from 1.
        parts: how many there are.
        source: who said so.
    """

    number: int
    parts: int
    source: str

    def __str__(self) -> str:
        return f"shard {self.number}/{self.parts} ({self.source})"


def parse_shard(text: str) -> Shard:
    """``3/16``, the third of sixteen.

    Raises:
        ValueError: it is none such.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"--shard must be NUMBER/COUNT, counted from 1, as 3/16; got {text!r}.")
    return Shard(int(match[1]), int(match[2]), "--shard")


def shard_of(environment: Mapping[str, str]) -> Shard:
    """What a launcher says of this process: torchrun's ``RANK`` and ``WORLD_SIZE``, inside of a Slurm array's task.

    Raises:
        ValueError: the array's numbers have gaps, so that a task's place among them is not known.
    """
    number, count, sources = 0, 1, []
    if "SLURM_ARRAY_TASK_ID" in environment:
        task, least, most, step, tasks = (
            int(environment.get(f"SLURM_ARRAY_TASK_{name}", default))
            for name, default in (("ID", ""), ("MIN", "0"), ("MAX", "0"), ("STEP", "1"), ("COUNT", "1"))
        )
        if (most - least) // step + 1 != tasks or (task - least) % step:
            raise ValueError(
                f"SLURM_ARRAY_TASK_ID = {task} is one of {tasks} tasks from {least} to {most}, which leave gaps. Say "
                "which part this is, as --shard 3/16."
            )
        number, count = (task - least) // step, tasks
        sources.append("SLURM_ARRAY_TASK_ID")
    if "RANK" in environment and "WORLD_SIZE" in environment:
        world = int(environment["WORLD_SIZE"])
        number, count = number * world + int(environment["RANK"]), count * world
        sources.append("RANK")
    return Shard(number + 1, count, " and ".join(sources) or "all images")


def deal(images: Sequence[Found], count: int) -> list[list[Found]]:
    """Divide images into ``count`` parts of about as many bytes: the largest first, each to the part with the least.

    No part has more than the least of them and the largest image it got. All who see the same files divide alike.
    """
    parts: list[list[Found]] = [[] for _ in range(count)]
    loads = [(0, number) for number in range(count)]
    for image in sorted(images, key=lambda image: (-image.nbytes, image.name)):
        load, number = loads[0]
        parts[number].append(image)
        heapq.heapreplace(loads, (load + max(image.nbytes, 1), number))
    return [sorted(part) for part in parts]
