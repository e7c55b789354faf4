"""``zoomkern data stats``: what is in an image set; where it is asked for, whether every image can be read."""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zoomkern.data
from zoomkern.data import ImageSet, set_statistics
from zoomkern.images.progress import counted
from zoomkern.visual import count_magnitudes, save_histogram

_BAR = 40  # characters of the longest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``zoomkern data``."""
    parser.add_argument("action", choices=["stats"], help="stats: sizes, classes, objects and their share of the image")
    parser.add_argument("--set", required=True, help="class of the set, as zoomkern.data.ColonCancer or ColonCancer")
    parser.add_argument("--root", help="folder of the set, passed to it as root")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="another of its arguments")
    parser.add_argument("--decode", action="store_true", help="also read every image: channels, types, damaged files")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="also draw the objects' shares as a histogram")


def run(args: argparse.Namespace) -> int:
    """Prints the statistics, and writes the picture where one is asked for.

    Returns:
        0, or 1 where an image cannot be read, or 2 where the input is bad.
    """
    try:
        options = dict(option(words) for words in args.option) | ({} if args.root is None else {"root": args.root})
        images = make_set(args.set, options)
        kinds, damaged = decoded(images) if args.decode else (Counter(), [])
        describe(images, args.picture, args.set.rpartition(".")[2], damaged)
        for kind, count in kinds.most_common():
            print(f"{kind}  {count:,}")
    except (ValueError, OSError) as error:
        print(f"zoomkern data: {error}", file=sys.stderr)
        return 2
    for line in damaged:
        print(f"cannot be read: {line}", file=sys.stderr)
    return 1 if damaged else 0


def describe(images: ImageSet, picture: Path | None, name: str, damaged: Sequence[str]) -> None:
    """Print the statistics and draw the picture; of a set with damaged images, only where all sizes are known."""
    try:
        statistics = set_statistics(images)
    except (ValueError, OSError):
        if damaged:
            return
        raise
    print(statistics.table())
    if statistics.ratios:
        print(f"\nobjects / image, in %\n{bars([100 * ratio for ratio in statistics.ratios])}")
    if picture is not None:
        draw(picture, name, statistics.ratios)
        print(f"\nPicture: {picture}")


def decoded(images: ImageSet) -> tuple[Counter[str], list[str]]:
    """How many images have which channels and type, and what is wrong with those that cannot be read."""
    kinds: Counter[str] = Counter()
    damaged = []
    with counted(sys.stderr.isatty(), len(images), "reading", "image") as advance:
        for index, name in enumerate(images.names):
            try:
                image = images.image(index)
            except (OSError, ValueError) as error:
                damaged.append(f"{name}: {error}")
            else:
                kinds[f"{image.shape[0]} channels of {str(image.dtype).removeprefix('torch.')}"] += 1
            advance(1)
    return kinds, damaged


def option(words: str) -> tuple[str, Any]:
    """``key=value``, the value read as JSON where it is some, else as text."""
    key, equals, value = words.partition("=")
    if not key or not equals:
        raise ValueError(f"--option must be KEY=VALUE; got {words!r}.")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def make_set(name: str, options: dict[str, Any]) -> ImageSet:
    """The set of class ``name``; one without a dot is one of :mod:`zoomkern.data`.

    Raises:
        ValueError: there is no such class, or it does not take these options.
        Exception: whatever the set says of its files.
    """
    folder, _, last = name.rpartition(".")
    try:
        kind = getattr(importlib.import_module(folder or "zoomkern.data"), last, None)
    except ModuleNotFoundError as error:
        raise ValueError(f"--set: there is no module {error.name!r}; got {name!r}.") from error
    if not (inspect.isclass(kind) and issubclass(kind, ImageSet)):
        sets = (each for each, one in vars(zoomkern.data).items() if inspect.isclass(one) and issubclass(one, ImageSet))
        known = ", ".join(each for each in sets if each != "ImageSet")
        raise ValueError(f"--set must name an image set, {known} or one of your own (module.Class); got {name!r}.")
    try:
        inspect.signature(kind).bind(**options)
    except TypeError as error:
        raise ValueError(f"{last} takes {', '.join(inspect.signature(kind).parameters)}: {error}.") from error
    made: ImageSet = kind(**options)
    return made


def bars(values: Sequence[float]) -> str:
    """A histogram of magnitudes in plain characters."""
    counts, edges = count_magnitudes(values)
    marks = [f"{edge:#.2g}".rstrip(".") if edge < 99.5 else f"{edge:.0f}" for edge in edges]
    wide = max(map(len, marks))
    longest = max(counts)
    return "\n".join(
        f"  {low:>{wide}} to {high:>{wide}}  {'#' * -(-_BAR * count // longest):<{_BAR}}  {count:,}"
        for low, high, count in zip(marks, marks[1:], counts, strict=False)
    )


def draw(path: Path, name: str, ratios: Sequence[float]) -> None:
    """The picture of the shares.

    Raises:
        ValueError: no object has an area.
    """
    if not ratios:
        raise ValueError("--picture: no object of the set has an area, so there is no share of the image to draw.")
    save_histogram(path, [100 * ratio for ratio in ratios], x_label="objects / image (%)", title=name)
