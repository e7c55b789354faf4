"""What every reader of image files offers, and the one place where ``(x, y)`` becomes ``(y, x)``."""

from __future__ import annotations

import errno
import numbers
import os
import threading
import weakref
from abc import abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from zoomkern import checks
from zoomkern.images.levels import Levels

#: Bytes of one decoded tile or strip beyond which a file is refused: its header lies, or it cannot be read in patches.
MAX_TILE_BYTES = 1 << 28

#: What the machine lacks, whatever the file holds.
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)

#: Of a folder that is an image, the file that tells one from another; the first that is there.
_METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup")

_Self = TypeVar("_Self", bound="Reader")


class ReadError(OSError):
    """A file is damaged, or not the image that its header says; the message names it."""


class Header(NamedTuple):
    """What a file says of its image before a pixel is decoded.

    Args:
        level_dimensions: ``(width, height)`` of each level, from the finest.
        channels: ``C``.
        dtype: pixel type, one of :data:`zoomkern.typing.PIXEL_DTYPES`.
        tile_sizes: of each level the ``(height, width)`` of its own tiles, None where they cannot be had one by one.
        mpp: microns per pixel of level 0, None where unknown.
        background: value of pixels outside of the image: white for colour of 8 bits, no-data where a raster has it.
        nodata: value that means "no pixel here" in a raster; None where there is none.
        transform: ``(a, b, c, d, e, f)`` of a raster: map x = a column + b row + c, map y = d column + e row + f.
        crs: coordinate reference system of that map, such as ``EPSG:32633``.
        properties: what else the file says, as OpenSlide names it where it has a name for it.
    """

    level_dimensions: tuple[tuple[int, int], ...]
    channels: int
    dtype: torch.dtype
    tile_sizes: tuple[tuple[int, int] | None, ...]
    mpp: float | None = None
    background: float = 255.0
    nodata: float | None = None
    transform: tuple[float, float, float, float, float, float] | None = None
    crs: str | None = None
    properties: Mapping[str, str] = {}


class Reader(Levels):
    """An image file, read in windows.

    The file is opened when it is first read, once in every process: a reader may be pickled, and used by the threads of
    a process and by its forked, spawned or fork-served children alike. It stays open until :meth:`close`, the end of a
    ``with`` block, or the reader's own.

    Args:
        path: the file, or the folder of a format that has one.
        mpp: microns per pixel of level 0, where the file does not tell or is wrong.

    Attributes:
        path: absolute.
        header: what the file says.
        identity: path, bytes, modification time in nanoseconds and inode of the file, or of a Zarr folder's metadata,
            when the reader was made; a file that is replaced has another.

    Raises:
        FileNotFoundError: there is no such file.
        ReadError: the file is damaged, or no image that this reader reads.
        ImportError: the library is not installed; the message names the extra.
    """

    #: Whether tiles take time to decode, so that decoded ones are worth keeping.
    decodes = True

    def __init__(self, path: str | os.PathLike[str], *, mpp: float | None = None) -> None:
        self.path = Path(path).absolute()
        if not self.path.exists():
            raise FileNotFoundError(f"path must name an image; got {str(self.path)!r}, which is not there. Check it.")
        if not self.path.is_file() and not self.path.is_dir():
            raise ReadError(f"path must name a file or folder; got {self.name}, a device or pipe. Copy it to a file.")
        self.identity: tuple[str, int, int, int] = _identity(self.path)
        self._given_mpp = None if mpp is None else checks.number("mpp", mpp)
        self._lock = (os.getpid(), threading.RLock())
        self._opened: tuple[int, Any] | None = None
        with self._reading():
            self.header = self._read_header(self._handle())
            _check_header(self.header)
        self._opened = None  # so that a thousand slides that wait to be read hold no file

    # What a format implements.

    @abstractmethod
    def _open(self) -> Any:
        """A handle of the library; it stays in the process and the reader that made it."""

    @abstractmethod
    def _read_header(self, handle: Any) -> Header:
        """The header; no pixel is decoded."""

    @abstractmethod
    def _read_window(self, handle: Any, level: int, y: int, x: int, height: int, width: int) -> np.ndarray[Any, Any]:
        """``[height, width, C]`` of a window that lies inside the level, in pixels of the level; called by threads."""

    def _tile_bytes(self, handle: Any, level: int, row: int, column: int) -> bytes | None:
        """A tile as the file holds it; None for one that the file leaves out. Of levels with a tile size only."""
        raise NotImplementedError

    def _decode_tile(self, handle: Any, level: int, data: bytes | None) -> np.ndarray[Any, Any]:
        """``[tile height, tile width, C]`` of what :meth:`_tile_bytes` gave, whole also at the edges."""
        raise NotImplementedError

    def _tile_file(self, handle: Any, level: int, data: bytes) -> bytes | None:
        """As :meth:`tile_file`, where the format has such tiles."""
        return None

    # What users call.

    @property
    def name(self) -> str:
        """The path, quoted."""
        return repr(str(self.path))

    @property
    def level_dimensions(self) -> tuple[tuple[int, int], ...]:
        """``(width, height)`` of each level."""
        return self.header.level_dimensions

    @property
    def dimensions(self) -> tuple[int, int]:
        """``(width, height)`` of level 0."""
        return self.header.level_dimensions[0]

    @property
    def shape(self) -> torch.Size:
        """``[C, H, W]`` of level 0."""
        width, height = self.dimensions
        return torch.Size((self.header.channels, height, width))

    @property
    def mpp(self) -> float | None:  # type: ignore[override]
        """Microns per pixel of level 0: what was given, else what the file says."""
        return self.header.mpp if self._given_mpp is None else self._given_mpp

    @property
    def properties(self) -> Mapping[str, str]:
        """What the file says of itself, by OpenSlide's names where it has one."""
        return self.header.properties

    def read_region(self, *, location: Sequence[int], level: int, size: tuple[int, int]) -> np.ndarray[Any, Any]:
        """A region as OpenSlide reads it, without transparency.

        Args:
            location: ``(x, y)`` of the top-left corner in pixels of level 0; at other levels rounded down to a pixel.
            level: the level to read.
            size: ``(width, height)`` in pixels of that level.

        Returns:
            ``[height, width, C]`` of :attr:`header`'s pixel type; outside of the image is its ``background``.

        Raises:
            ReadError: the file is damaged where it was read.
        """
        level = self.checked_level(level)
        place = _place(location)
        width, height = checks.pair("size", size)
        at = [
            side * low // full
            for side, low, full in zip(place, self.level_dimensions[level], self.dimensions, strict=True)
        ]
        return self.read_window(level, at[1], at[0], height, width)

    def read_window(self, level: int, y: int, x: int, height: int, width: int) -> np.ndarray[Any, Any]:
        """``[height, width, C]`` at ``(y, x)`` in pixels of the level; outside of the image is ``background``.

        Raises:
            ReadError: the file is damaged there.
        """
        columns, rows = self.level_dimensions[level]
        top, left = max(y, 0), max(x, 0)
        bottom, right = min(y + height, rows), min(x + width, columns)
        inside = bottom > top and right > left
        if inside and (bottom - top, right - left) == (height, width):
            return self._window(level, y, x, height, width)
        region = np.full((height, width, self.header.channels), self.header.background, numpy_type(self.header.dtype))
        if inside:
            region[top - y : bottom - y, left - x : right - x] = self._window(
                level, top, left, bottom - top, right - left
            )
        return region

    def tile_bytes(self, level: int, row: int, column: int) -> bytes | None:
        """A tile of the level as the file holds it; None for one that the file leaves out.

        Raises:
            ValueError: ``header.tile_sizes`` is None there: tiles of this level cannot be had one by one.
            ReadError: the file is damaged there.
        """
        self._tile_size(level)
        with self._reading():
            return self._tile_bytes(self._handle(), level, row, column)

    def decode_tile(self, level: int, data: bytes | None) -> np.ndarray[Any, Any]:
        """``[tile height, tile width, C]`` of what :meth:`tile_bytes` gave, whole also at the edges.

        Raises:
            ReadError: the bytes are no tile of this file.
        """
        wanted = (*self._tile_size(level), self.header.channels)
        with self._reading():
            tile = self._decode_tile(self._handle(), level, data)
            if tile.shape != wanted:
                raise ValueError(f"a tile of level {level} has the shape {tile.shape} instead of {wanted}")
            return tile

    def tile_file(self, level: int, data: bytes | None) -> bytes | None:
        """A tile as a JPEG file of its own, which decodes to RGB of :meth:`decode_tile`'s shape; None where it is none.

        Raises:
            ReadError: the bytes are no tile of this file.
        """
        if data is None:
            return None
        with self._reading():
            return self._tile_file(self._handle(), level, data)

    def close(self) -> None:
        """Let go of the file; reading again opens it again."""
        with self._own_lock():
            opened, self._opened = self._opened, None
            if opened is not None and opened[0] != os.getpid():
                _PARENTS.append(opened)

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_lock", "_opened")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=(os.getpid(), threading.RLock()), _opened=None)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{w}x{h}" for w, h in self.level_dimensions)
        return f"{type(self).__name__}({self.name}, levels=[{sizes}], mpp={self.mpp})"

    def _window(self, level: int, y: int, x: int, height: int, width: int) -> np.ndarray[Any, Any]:
        with self._reading():
            window = self._read_window(self._handle(), level, y, x, height, width)
            if window.shape != (height, width, self.header.channels):
                raise ValueError(f"a window of level {level} has the shape {window.shape}")
            return window

    def _tile_size(self, level: int) -> tuple[int, int]:
        size = self.header.tile_sizes[self.checked_level(level)]
        if size is None:
            raise ValueError(f"level must have tiles of its own; level {level} of {self.name} has none. Read windows.")
        return size

    def _handle(self) -> Any:
        """This process's handle. A forked child leaves its parent's alone and opens the file again."""
        here = os.getpid()
        opened = self._opened
        if opened is None or opened[0] != here:
            _make_room(self)
            with self._own_lock():
                opened = self._opened
                if opened is None or opened[0] != here:
                    if _identity(self.path) != self.identity:
                        raise ReadError(
                            f"path must name the same file throughout; {self.name} was replaced. Reopen it."
                        )
                    if opened is not None:
                        _PARENTS.append(opened)
                    self._opened = opened = (here, self._open())
        return opened[1]

    def _own_lock(self) -> Any:
        """This process's lock; the parent's may be held by a thread that a forked child does not have."""
        here = os.getpid()
        if self._lock[0] != here:
            self._lock = (here, threading.RLock())
        return self._lock[1]

    def _reading(self) -> _Reading:
        return _Reading(self)


class _Reading:
    """Whatever a library raises for a damaged file is a :class:`ReadError` that names it."""

    __slots__ = ("_reader",)

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, Exception) or isinstance(error, _AS_THEY_ARE):
            return
        if isinstance(error, OSError) and error.errno in _SHORTAGES:
            return
        if str(error).startswith(_DAMAGED):  # it says so itself
            raise ReadError(str(error)) from error
        said = f"{type(error).__name__}: {error}"
        raise ReadError(f"{_DAMAGED}; reading {self._reader.name} failed: {said}. Fetch or export it again.") from error


#: How errors of damaged files begin.
_DAMAGED = "path must name a whole image"

#: Errors that say themselves what is wrong.
_AS_THEY_ARE = (ReadError, FileNotFoundError, PermissionError, ImportError)

#: Handles that a fork copied: closing them here would disturb the parent.
_PARENTS: list[Any] = []

#: Readers of a process that hold their files; of more, the one that opened its own first lets go, and opens it again
#: when it is read. Systems allow a process some 1,024 files, and some slides are several.
MOST_OPEN = 128
_OPEN: deque[weakref.ref[Reader]] = deque()


def _make_room(reader: Reader) -> None:
    """For another that is about to open its file; threads may come here at once."""
    _OPEN.append(weakref.ref(reader))
    while len(_OPEN) > MOST_OPEN:
        try:
            first = _OPEN.popleft()()
        except IndexError:  # another thread took the last
            return
        if first is not None and first is not reader:
            first.close()


def numpy_type(dtype: torch.dtype) -> np.dtype[Any]:
    """NumPy's name of a pixel type."""
    return np.dtype(str(dtype).removeprefix("torch."))


def _identity(path: Path) -> tuple[str, int, int, int]:
    """Path, bytes, modification time in nanoseconds and inode: of a folder those of its metadata, where it has some."""
    file = path
    if path.is_dir():
        file = next((path / name for name in _METADATA if (path / name).is_file()), path)
    status = file.stat()
    return str(path), status.st_size, status.st_mtime_ns, status.st_ino


def _place(location: Sequence[int]) -> tuple[int, int]:
    """``(x, y)`` of any two integers, NumPy's among them."""
    if type(location) is tuple and len(location) == 2 and type(location[0]) is type(location[1]) is int:
        return location  # the way it is nearly always given, in a twentieth of a patch's time
    given = list(location) if isinstance(location, (Sequence, np.ndarray)) else []
    if len(given) != 2 or any(isinstance(side, bool) or not isinstance(side, numbers.Integral) for side in given):
        raise TypeError(
            f"location must be (x, y), two integers in pixels of level 0; got {location!r}. Round it with int()."
        )
    return int(given[0]), int(given[1])


def _check_header(header: Header) -> None:
    """A file may say anything; what is decoded later must fit in memory."""
    if not header.level_dimensions or not header.channels:
        raise ValueError("it holds no image")
    for level, (size, tile) in enumerate(zip(header.level_dimensions, header.tile_sizes, strict=True)):
        if min(size) < 1 or max(size) > checks.MOST_PIXELS:
            raise ValueError(f"level {level} has {size[0]} x {size[1]} pixels")
        if tile is None:
            continue
        nbytes = tile[0] * tile[1] * header.channels * header.dtype.itemsize
        if min(tile) < 1 or nbytes > MAX_TILE_BYTES:
            raise ValueError(f"its tiles of {tile[1]} x {tile[0]} pixels take {nbytes} bytes, beyond {MAX_TILE_BYTES}")
