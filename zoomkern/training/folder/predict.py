"""All images of a folder, one after the other: what is done stays done, and what fails stops nobody."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.fabric.utilities import move_data_to_device

from zoomkern.images.tiles import TileCache
from zoomkern.images.writers.maps import require_tifffile
from zoomkern.training.folder.images import Found
from zoomkern.training.folder.look import Arrays, look_of
from zoomkern.training.folder.masks import NONE, TISSUE, looking_at, outline_file
from zoomkern.training.folder.network import Looker
from zoomkern.training.folder.options import Options
from zoomkern.training.folder.prepared import Prepared, mpp_of, prepare
from zoomkern.training.folder.results import write_results
from zoomkern.training.folder.states import OutputError, States
from zoomkern.training.order import mixed

#: Bytes of decoded tiles that are kept, of all images together.
_CACHE = 1 << 27
#: Changes whenever results would: whoever has older ones gets new ones.
_FORMAT = 2


class Task(NamedTuple):
    """An image to be predicted.

    Args:
        image: the file.
        network: name of the network, its weights and the options, for this image.
        reason: why it has to be predicted.
    """

    image: Found
    network: str
    reason: str


def tasks_of(images: Sequence[Found], looker: Looker, states: States, options: Options) -> list[Task]:
    """Which images have to be predicted, and why."""
    table = mpp_of(options.mpp_table, list(images))
    tasks = []
    for image in images:
        network = _identity(image, looker, options, table.get(image.name, ""))
        reason = "asked for" if options.overwrite else states.reason(image, network)
        if reason is not None:
            tasks.append(Task(image, network, reason))
    return tasks


def _identity(image: Found, looker: Looker, options: Options, line: str) -> str:
    parts: list[Any] = [_FORMAT, looker.identity, looker.classes, options.seed, options.mpp, line, options.top]
    parts += [options.mask, options.most_view_pixels]
    if options.mask not in (NONE, TISSUE):
        try:
            status = os.stat(outline_file(Path(options.mask), image))
            parts += [status.st_size, status.st_mtime_ns, "space named"]  # results of files without one are no more
        except OSError:
            parts += ["no outlines"]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def reasons(tasks: Sequence[Task]) -> str:
    """What is to be done, in a sentence."""
    counts = Counter(task.reason for task in tasks)
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())


def predict_images(
    tasks: Sequence[Task],
    looker: Looker,
    states: States,
    options: Options,
    report: Callable[[str, str], None] = lambda name, error: None,
) -> list[str]:
    """Predict images, and write what is found of each.

    While the network looks at one image, a thread reads the next one's view: so two are in memory, whatever their
    number. An image that was begun before, by a process that is no more, is alone, so that no other is blamed for it.

    Args:
        tasks: what to predict.
        looker: the network.
        states: of the output folder.
        options: how to look.
        report: called with each image's name, and its error; empty where there was none.

    Returns:
        The names of the images that failed. Where errors are not skipped, there is at most one.

    Raises:
        OutputError: nothing can be written any more.
        ImportError: what writes the files is not installed.
    """
    require_tifffile()
    failed = []
    cache = TileCache(_CACHE)

    starts = [0 if options.overwrite else states.starts(task.image, task.network) for task in tasks]
    open_now: set[str] = set()

    def begin(number: int) -> Future[Prepared]:
        image, network, _ = tasks[number]
        if starts[number] >= options.most_starts:
            return _ended_processes(starts[number])
        states.start(image, network, starts[number] + 1)
        open_now.add(image.name)
        return pool.submit(prepare, image, looker, options, cache, image_seed(options.seed, image.name))

    with ThreadPoolExecutor(1, "prepare") as pool:
        ahead = None
        try:
            for number, task in enumerate(tasks):
                name = task.image.name
                now, ahead = ahead or begin(number), None
                states.begin(name)
                try:
                    prepared = now.result()
                    if not any(starts[number : number + 2]) and number + 1 < len(tasks):
                        ahead = begin(number + 1)
                    _keep(task, prepared, *_look(prepared, looker), looker, states, options)
                    error = ""
                except OutputError:
                    raise
                except Exception as problem:
                    error = said_of(problem)
                    if name in open_now:
                        states.ended(name)
                    states.failed(task.image, task.network, error)
                    failed.append(name)
                open_now.discard(name)
                now = prepared = None  # type: ignore[assignment]  # not in memory beside the next two
                report(name, error)
                if error and not options.skip_errors:
                    break
        finally:
            for name in open_now:  # whatever ends this, it is no image that ends the process
                with suppress(OSError):
                    states.ended(name)
    return failed


def _ended_processes(times: int) -> Future[Prepared]:
    """The failure of an image that is not opened again."""
    failure: Future[Prepared] = Future()
    failure.set_exception(
        ValueError(
            f"{times} processes ended while they worked at it, of too little memory or of a damaged file, so it was "
            f"not opened again. Look at the file; --max-starts {times + 1} tries once more."
        )
    )
    return failure


@torch.no_grad()
def _look(prepared: Prepared, looker: Looker) -> tuple[list[float], Arrays]:
    """Probabilities of the classes, and where the network looked."""
    model = looker.task.model
    with looking_at(model, prepared.mask):
        batch = prepared.batch
        moved = batch._replace(view=batch.view.to(looker.device), seed=batch.seed.to(looker.device))
        prediction = looker.task.predict_step(moved, 0)
    if not bool(prediction.probability.isfinite().all()):
        raise ValueError("the network's scores are not finite. Look at its weights, and at the image's pixels.")
    out = move_data_to_device(prediction.output, "cpu")
    look = look_of(out, model, prepared.size, prepared.tile_view_size)
    return [round(value, 6) for value in prediction.probability[0].tolist()], look


def _keep(
    task: Task,
    prepared: Prepared,
    probability: list[float],
    look: Arrays,
    looker: Looker,
    states: States,
    options: Options,
) -> None:
    best = max(probability)
    predicted = looker.classes[probability.index(best)]
    verdict = f"{predicted}, probability {100 * best:.0f} %"
    files = write_results(states, task.image.name, prepared, look, looker.task.model, verdict, options.top)
    found = {
        "size": list(prepared.size),
        "mpp": prepared.reader.mpp,
        "classes": looker.classes,
        "probability": probability,
        "predicted": predicted,
        "places": look["patch_offsets"].tolist() if "patch_offsets" in look else [],
    }
    states.done(task.image, task.network, found, files)


def image_seed(seed: int, name: str) -> int:
    """The seed of an image's draws: the same in any order, shard and folder of results."""
    word = int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:7], "big")
    return mixed(seed, 0, word)


def said_of(error: Exception) -> str:
    """What an error says, in a line; of one that is no sentence of ours also what it is called."""
    text = " ".join(str(error).split())
    plain = isinstance(error, (OSError, ValueError, ImportError)) and text
    return text if plain else f"{type(error).__name__}: {text}".rstrip(": ")
