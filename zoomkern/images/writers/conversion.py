"""An image copied band by band, with its coarser levels, so that a killed run can go on."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from zoomkern import checks
from zoomkern.images.files import alone, size_and_time, write_whole
from zoomkern.images.halving import mean_of_four
from zoomkern.images.progress import counted
from zoomkern.images.pyramid import level_sizes
from zoomkern.images.readers.libraries import library
from zoomkern.images.readers.reader import Header, Reader
from zoomkern.images.workers import processors
from zoomkern.images.writers.ome_zarr import OmeZarr
from zoomkern.images.writers.pyramid_file import PyramidFile
from zoomkern.images.writers.writer import Sparse, Writer, sync_folder

#: How a copy may be written: ``pyramid`` is zoomkern's own, the fastest to read.
FORMATS: dict[str, type[Writer]] = {"pyramid": PyramidFile, "ome-zarr": OmeZarr}

#: Seconds between two records of how far a copy is.
RECORD_SECONDS = 1.0
#: A record waits at least so many times as long as the last one took.
_RECORD_PART = 20
#: Side of the blocks that are read at a time, about: source tiles that lie across two of them are decoded twice.
_BLOCK = 1024
#: Bytes of a block; tiles of a source that are larger are decoded in parts.
_BLOCK_BYTES = 1 << 26
TILE_SIDES = (16, 4096)


def convert(
    source: Reader,
    output: str | os.PathLike[str],
    format: str = "pyramid",
    *,
    levels: int | None = None,
    tile: int = 256,
    threads: int | None = None,
    overwrite: bool = False,
    progress: bool | Callable[[int, int], None] = False,
) -> Path:
    """Copies an image; level 0 is the source's, each further level the mean of two by two pixels of the one before.

    The levels are those of :meth:`zoomkern.Pyramid.build`, bit for bit. Tiles that are all background are left out. The
    copy grows in a folder beside ``output``, ``.NAME.part``, and is renamed when it is whole: what has that name is
    whole. A run that was killed goes on where it was when it is called again with the same arguments; a copy that is
    not wanted any more is given up by removing that folder.

    Args:
        source: the image.
        output: the file, or the folder of ``ome-zarr``.
        format: ``pyramid``, zoomkern's own, or ``ome-zarr``.
        levels: how many in all; None: as long as both sides have 256 pixels.
        tile: side of the copy's tiles in pixels, a multiple of 16.
        threads: that decode and halve; None for as many as there are processors.
        overwrite: replace what ``output`` names, when the copy is whole.
        progress: True for a bar (tqdm), or a function called with ``(done, total)`` rows.

    Returns:
        ``output``.

    Memory:
        A few blocks of 1024 x 1024 pixels, or of a source's tile where that is larger, per thread.

    Raises:
        FileExistsError: ``output`` is there already.
        ImportError: the format needs a library of the extra ``slides``.
        ReadError: the source is damaged; what was copied before stays in the folder beside.
        OSError: the disk is full, or another process makes the same copy.
        ValueError: an argument does not fit.
    """
    checks.choice("format", format, tuple(FORMATS))
    for name in FORMATS[format].libraries:
        library(name, "slides")
    checks.integer("tile", tile, *TILE_SIDES)
    if tile % 16:
        raise ValueError(f"tile must be a multiple of 16; got {tile}. 256 suits patches of any size.")
    pool_size = processors() if threads is None else checks.integer("threads", threads, 1, 1024)
    target = Path(os.path.abspath(output))
    if not target.name:
        raise ValueError(f"output must name a file; got {str(target)!r}. Add a name to the folder.")
    work = target.with_name(f".{target.name}.part")
    made = work / "copy"
    header = _header(source, levels)
    plan = _Plan(source, header, tile, format)
    state_file = work / "state.json"
    named = plan.state(state_file).get("whole", False) and not os.path.lexists(made)  # all that a killed run left
    _check_output(target, source, FORMATS[format], overwrite or named)
    work.mkdir(parents=True, exist_ok=True)
    with alone(work / "lock"):
        _check_output(target, source, FORMATS[format], overwrite or named)  # again: another process may have made it
        state = plan.state(state_file)
        if not os.path.lexists(made) and not (named and os.path.lexists(target)):
            state = {}
        if not state:
            _remove(made)
        if not state.get("whole"):
            writer = FORMATS[format](made, header, tile)
            try:
                _fill(source, writer, plan, state, state_file, pool_size, progress)
            except OSError as error:
                if error.filename is not None or not error.errno:
                    raise
                raise OSError(
                    error.errno,
                    f"{error.strerror}; what was copied stays in {str(work)!r}, and the same call goes on from there "
                    "when there is room",
                    str(target),
                ) from error
            finally:
                writer.close()
        _publish(made, target, work)
        _remove(work / "old")
        for left in (
            work / "lock",
            state_file,
            *work.glob(f".{state_file.name}.*.part"),
        ):  # of records that were killed
            left.unlink(missing_ok=True)
        work.rmdir()
    return target


class _Plan:
    """What is copied in which order, and what tells two copies apart.

    Bands are numbered; a band of a coarser level comes as soon as the two that it is made of are there.
    """

    def __init__(self, source: Reader, header: Header, tile: int, format: str) -> None:
        high, wide = source.header.tile_sizes[0] or (tile, tile)
        pixel = header.channels * header.dtype.itemsize
        self.rows = _multiple(max(_BLOCK, high), tile)
        columns = _multiple(max(_BLOCK, min(wide, header.level_dimensions[0][0])), tile)
        if columns * self.rows * pixel > _BLOCK_BYTES:  # strips, say: rather fewer rows than parts of a strip
            self.rows = _multiple(high, tile)
        self.columns = max(min(columns, _BLOCK_BYTES // (self.rows * pixel) // tile * tile), tile)
        self.bands = list(_bands([-(-height // self.rows) for _, height in header.level_dimensions]))
        self.identity = [
            format,
            str(source.path.resolve()),
            *size_and_time(source.path),
            repr(header),
            tile,
            self.rows,
            self.columns,
        ]

    def state(self, state_file: Path) -> dict[str, Any]:
        """How far a record says this copy is; empty where there is none of it."""
        try:
            said: dict[str, Any] = json.loads(state_file.read_text())
            return said if said["identity"] == self.identity else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}


def _bands(counts: list[int]) -> Iterator[tuple[int, int]]:
    """``(level, band)`` in order, of so many bands of each level."""

    def climb(level: int, band: int) -> Iterator[tuple[int, int]]:
        yield level, band
        if level + 1 < len(counts) and (band % 2 or band == counts[level] - 1):
            yield from climb(level + 1, band // 2)

    for band in range(counts[0]):
        yield from climb(0, band)


def _fill(
    source: Reader,
    writer: Writer,
    plan: _Plan,
    state: dict[str, Any],
    state_file: Path,
    threads: int,
    progress: bool | Callable[[int, int], None],
) -> None:
    """Writes the bands that are missing."""
    sizes = writer.header.level_dimensions
    done = int(state.get("done", 0))
    writer.start(state.get("mark"))

    def record(number: int, whole: bool = False) -> None:
        said = {"identity": plan.identity, "done": number, "mark": writer.mark(), "whole": whole}
        write_whole(state_file, json.dumps(said))

    def height(level: int, band: int) -> int:
        return min(plan.rows, sizes[level][1] - band * plan.rows)

    due = time.monotonic() + RECORD_SECONDS
    with (
        counted(progress, sum(size[1] for size in sizes), "convert") as advance,
        ThreadPoolExecutor(threads, "zoomkern-convert") as pool,
    ):
        advance(sum(height(level, band) for level, band in plan.bands[:done]))
        for number, (level, band) in enumerate(plan.bands[done:], done + 1):
            y, rows = band * plan.rows, height(level, band)
            places = [(x, min(plan.columns, sizes[level][0] - x)) for x in range(0, sizes[level][0], plan.columns)]
            reads = [(source, writer, level, y, x, rows, width) for x, width in places]
            for (x, _), pixels in zip(places, _ahead(pool, _block, reads, 2 * threads), strict=True):
                if pixels is not None:
                    writer.write(level, y, x, pixels)
            advance(rows)
            start = time.monotonic()
            if start >= due:
                record(number)
                due = time.monotonic() + max(RECORD_SECONDS, _RECORD_PART * (time.monotonic() - start))
    writer.finish()
    record(len(plan.bands), whole=True)


def _block(
    source: Reader, writer: Writer, level: int, y: int, x: int, height: int, width: int
) -> np.ndarray[Any, Any] | None:
    """``[height, width, C]``, read from the source or halved from the level before; None where that is background."""
    if level == 0:
        if isinstance(source, Sparse) and source.is_empty(0, y, x, height, width):
            return None
        return source.read_window(0, y, x, height, width)
    columns, rows = writer.header.level_dimensions[level - 1]
    finer = (level - 1, 2 * y, 2 * x, min(2 * height, rows - 2 * y), min(2 * width, columns - 2 * x))
    return None if writer.is_empty(*finer) else mean_of_four(writer.read(*finer))


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[..., Any], arguments: list[tuple[Any, ...]], count: int
) -> Iterator[Any]:
    """Results in order, of which ``count`` are under way."""
    pending: deque[Future[Any]] = deque()
    try:
        for some in arguments:
            pending.append(pool.submit(function, *some))
            if len(pending) > count:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def _header(source: Reader, levels: int | None) -> Header:
    """The header of the copy."""
    width, height = source.dimensions
    sizes = [(height, width), *level_sizes(height, width, levels, 256)]
    levels_of = "openslide.level"  # of the source, not of the copy
    said = {name: text for name, text in source.properties.items() if not name.startswith(levels_of)}
    dimensions = tuple((w, h) for h, w in sizes)
    return source.header._replace(level_dimensions=dimensions, tile_sizes=(), mpp=source.mpp, properties=said)


def _multiple(value: int, of: int) -> int:
    return -(-value // of) * of


def _check_output(target: Path, source: Reader, kind: type[Writer], overwrite: bool) -> None:
    """Refuse what must not be replaced."""
    if source.path.resolve().is_relative_to(target.resolve()):
        raise ValueError(f"output must not be the image itself, nor hold it; got {str(target)!r}. Choose another name.")
    if not os.path.lexists(target):
        return
    if target.is_dir():
        if not kind.is_folder:
            raise FileExistsError(f"output must be a file; {str(target)!r} is a folder. Add a name to it.")
        if not (target / ".zgroup").is_file():
            raise FileExistsError(f"output must be an OME-Zarr to be replaced; {str(target)!r} is another folder.")
    if not overwrite:
        raise FileExistsError(f"output is there already: {str(target)!r}. Choose another name, or pass overwrite.")


def _publish(made: Path, target: Path, work: Path) -> None:
    """Give the whole copy its name; a folder that had it waits in ``work`` until then."""
    if not os.path.lexists(made):
        return  # a run that was killed had done that
    if target.is_dir() and not target.is_symlink():
        _remove(work / "old")
        os.rename(target, work / "old")
    os.replace(made, target)
    sync_folder(target.parent)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
