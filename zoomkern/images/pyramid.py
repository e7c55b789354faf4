"""An image at several sizes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from zoomkern import checks
from zoomkern.images import nvimagecodec
from zoomkern.images.halving import halve
from zoomkern.images.levels import Levels
from zoomkern.images.memory import is_interleaved
from zoomkern.images.pinned import PinnedImage, pixels_on
from zoomkern.images.progress import counted
from zoomkern.images.readers import Reader
from zoomkern.images.readers.opening import open_image
from zoomkern.images.stored import FileLevel, ReducedLevel, StoredLevel, TiledLevel
from zoomkern.images.tiles import SHARED, TileCache
from zoomkern.typing import dtype_code

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

#: Where :meth:`Pyramid.open` may put a level.
PLACES = ("resident", "compressed", "disk")

#: Pixels that are decoded at a time into a resident level, about.
_BAND_PIXELS = 1 << 22


class Pyramid(Levels):
    """One image at several sizes; level 0 is the finest. ``pyramid[i]`` is the ``[C, H, W]`` tensor of a level.

    Args:
        levels: ``[C, H, W]`` tensors, :class:`PinnedImage` or levels that are stored in a file, from the largest to the
            smallest, of the same channels, type and device; they are kept, not copied.
        mpp: Microns (or any unit) per pixel of level 0.

    Attributes:
        levels: What was given; a GPU reads those that are a :class:`PinnedImage` where they are.

    Raises:
        TypeError: A level is neither, or of another type than level 0.
        ValueError: A level is not smaller than the one before, or has other channels or dimensions.
    """

    def __init__(self, levels: Sequence[Tensor | PinnedImage | StoredLevel], *, mpp: float | None = None) -> None:
        if not isinstance(levels, (list, tuple)):
            cure = "Use Pyramid.build(image) to compute the levels" if isinstance(levels, (Tensor, PinnedImage)) else ""
            raise TypeError(
                f"levels must be a list of images; got {type(levels).__name__}. {cure or 'Make it a list'}."
            )
        if not levels:
            raise ValueError("levels must hold at least one image; got an empty list. Begin with the finest level.")
        if mpp is not None:
            mpp = checks.number("mpp", mpp)
        tensors = [
            level if isinstance(level, StoredLevel) else _level_tensor(level, f"levels[{i}]")
            for i, level in enumerate(levels)
        ]
        for i in range(1, len(tensors)):
            _check_follows(tensors[i - 1], tensors[i], i)
        self.levels = tuple(levels)
        self.mpp = mpp
        self._name = "the pyramid"

    @classmethod
    def build(
        cls,
        image: Tensor | PinnedImage,
        levels: int | None = None,
        min_size: int = 256,
        threads: int | None = None,
        progress: bool | Callable[[int, int], None] = False,
        *,
        mpp: float | None = None,
    ) -> Pyramid:
        """Halves an image again and again; level 0 is the image itself, not a copy.

        A pixel of level ``i + 1`` is the mean of the two by two pixels of level ``i`` that it covers, integers rounded
        to nearest with halves to even. An odd last row or column is kept: its means are over the pixels that are there,
        so that a level has ``ceil(H / 2)`` rows and ``ceil(W / 2)`` columns.

        Args:
            image: ``[C, H, W]`` in CPU memory, any strides. Channels that are neighbours (HWC) stay so in all levels.
            levels: How many in all, level 0 included. None: as long as both sides have ``min_size`` pixels.
            min_size: The least side of the smallest level, in pixels, where ``levels`` is None.
            threads: Threads that compute; None for ``torch.get_num_threads()``.
            progress: True for a bar (tqdm), or a function called with ``(done, total)`` rows.
            mpp: Microns per pixel of ``image``.

        Memory:
            The levels, a third of the image, and a few MiB per thread.

        Raises:
            TypeError: ``image`` is no image.
            ValueError: ``image`` is not in CPU memory, or there cannot be so many levels.
            MemoryError: The memory is not there.
        """
        finest = _level_tensor(image, "image")
        if finest.device.type != "cpu":
            raise ValueError(f"image must be in CPU memory; got {finest.device}. Move it with image.cpu().")
        if threads is not None:
            checks.integer("threads", threads, 1)
        if mpp is not None:
            checks.number("mpp", mpp)
        sizes = level_sizes(finest.shape[1], finest.shape[2], levels, min_size)
        layout = "HWC" if is_interleaved(finest) else "CHW"
        built: list[Tensor | PinnedImage] = [image if isinstance(image, PinnedImage) else finest]
        finer = finest.detach().resolve_neg()
        with (
            counted(progress, sum(height for height, _ in sizes), "pyramid") as done,
            ThreadPoolExecutor(threads or torch.get_num_threads()) as pool,
        ):
            for height, width in sizes:
                level = PinnedImage.empty((finest.shape[0], height, width), finest.dtype, layout)
                halve(finer, level.tensor, pool, done)
                finer = level.tensor
                built.append(level)
        return cls(built, mpp=mpp)

    @classmethod
    def open(
        cls,
        source: Reader | str | os.PathLike[str],
        *,
        where: str | Sequence[str] = "auto",
        memory: int = 1 << 26,
        cache: TileCache | int | None = None,
        decoder: str = "imagecodecs",
        mpp: float | None = None,
        mpp_table: str | os.PathLike[str] | None = None,
    ) -> Pyramid:
        """The levels of a file, those that fit in memory; :func:`zoomkern.sample_patches` reads them all alike.

        Args:
            source: an image file, or a reader of one.
            where: ``resident`` decodes a level into memory now, ``compressed`` keeps its tiles as the file has them and
                decodes those that are read, ``disk`` reads the file whenever asked; one for all levels, or one for
                each. ``auto`` makes the coarsest levels resident as far as ``memory`` goes and leaves the others on
                disk.
            memory: bytes of pixels that ``auto`` may make resident.
            cache: keeps decoded tiles; bytes for a cache of this image's own. None is that of the process, 256 MiB
                which all images share.
            decoder: ``imagecodecs`` decodes in threads; ``nvimgcodec``, of levels that are ``compressed``, decodes JPEG
                tiles of TIFF files by nvImageCodec, on the device where the patches are wanted.
            mpp: microns per pixel of level 0, where the file does not tell.
            mpp_table: a CSV file that does, as for :func:`zoomkern.open_image`.

        Memory:
            What is resident, the cache, and 12 MiB or three patches while patches are read.

        Raises:
            FileNotFoundError: there is no such file.
            ReadError: the file is damaged, or no image.
            ValueError: ``where`` or ``decoder`` is unknown, or a level without tiles of its own is to be
                ``compressed``.
            ImportError: the library that reads or decodes the file is not installed; the message names it.
        """
        if checks.choice("decoder", decoder, ("imagecodecs", "nvimgcodec")) == "nvimgcodec":
            nvimagecodec.library()
        reader = source if isinstance(source, Reader) else open_image(source, mpp=mpp, mpp_table=mpp_table)
        if cache is None:
            cache = SHARED
        elif not isinstance(cache, TileCache):
            cache = TileCache(checks.integer("cache", cache, 0, checks.MOST_BYTES))
        places = _places(reader, where, checks.integer("memory", memory, 0, checks.MOST_BYTES))
        levels = [_opened(reader, level, place, cache, decoder) for level, place in enumerate(places)]
        pyramid = cls(levels, mpp=reader.mpp if mpp is None else mpp)
        pyramid._name = reader.name
        return pyramid

    def at_scale(self, scale: float) -> Tensor | PinnedImage | StoredLevel:
        """The image at a scale: a level of it, or one that is made from a finer level as it is read.

        Args:
            scale: 1 is full resolution.

        Returns:
            What :func:`zoomkern.gather_patches` takes in a list of images. A level serves if both its sides are off by
            no more than 2 pixels or 1 %; else a pixel is the mean of ``k`` x ``k`` pixels of the coarsest level for
            which ``k`` is whole.

        Raises:
            ValueError: no level is a whole multiple of the scale.
        """
        checks.number("scale", scale)
        width, height = self.level_dimensions[0]
        wanted = (height * scale, width * scale)
        for level in reversed(self.levels):
            if _is_near(tuple(level.shape[1:]), wanted):
                return level
        for level in reversed(self.levels):
            factor = round(level.shape[1] / wanted[0])
            if factor > 1 and _is_near(tuple(-(-side // factor) for side in level.shape[1:]), wanted):
                return ReducedLevel(pixels_on(level, None), factor)
        known = ", ".join(f"1 / {value:.4g}" for value in self.level_downsamples)
        raise ValueError(
            f"scale must be that of a level, or a whole part of one; got {scale:.4g} of {self.name}. "
            f"There are {known}. Choose one of them, or one of them divided by 2, 3, ..."
        )

    @property
    def level_dimensions(self) -> tuple[tuple[int, int], ...]:
        """``(width, height)`` of each level, as OpenSlide says it."""
        return tuple((level.shape[2], level.shape[1]) for level in self.levels)

    @property
    def name(self) -> str:
        """What an error calls the image: its file, quoted, where it has one."""
        return self._name

    @property
    def shape(self) -> torch.Size:
        """``[C, H, W]`` of level 0."""
        return self.levels[0].shape

    @property
    def dtype(self) -> torch.dtype:
        """The pixel type."""
        return self.levels[0].dtype

    def __len__(self) -> int:
        return len(self.levels)

    def __getitem__(self, level: int) -> Tensor:
        """``[C, H, W]`` of a level; one that is stored is read whole, every time."""
        chosen = self.levels[self.checked_level(level)]
        return chosen.whole() if isinstance(chosen, StoredLevel) else pixels_on(chosen, None)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        sizes = ", ".join(f"{w}x{h}" for w, h in self.level_dimensions)
        dtype = str(self.dtype).removeprefix("torch.")
        return f"Pyramid(levels=[{sizes}], channels={self.shape[0]}, dtype={dtype}, mpp={self.mpp})"


def _places(reader: Reader, where: str | Sequence[str], memory: int) -> list[str]:
    """Where each level of a file is to be."""
    if where == "auto":
        places = ["disk"] * reader.level_count
        for level in range(reader.level_count - 1, -1, -1):
            width, height = reader.level_dimensions[level]
            memory -= width * height * reader.header.channels * reader.header.dtype.itemsize
            if memory < 0:
                break
            places[level] = "resident"
        return places
    if isinstance(where, str):
        checks.choice("where", where, ("auto", *PLACES))
    places = [where] * reader.level_count if isinstance(where, str) else list(where)
    if len(places) != reader.level_count:
        raise ValueError(f"where must name {reader.level_count} places, one for each level; got {len(places)}.")
    return [checks.choice("where", place, PLACES) for place in places]


def _opened(reader: Reader, level: int, place: str, cache: TileCache, decoder: str) -> PinnedImage | StoredLevel:
    tiled = reader.header.tile_sizes[level] is not None
    stored: StoredLevel = FileLevel(reader, level)
    if place == "compressed":
        stored = TiledLevel(reader, level, cache, resident=True, decoder=decoder)
    elif tiled and reader.decodes:
        stored = TiledLevel(reader, level, cache)
    if place != "resident":
        return stored
    channels, height, width = stored.shape
    image = PinnedImage.empty((channels, height, width), stored.dtype)
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        count = min(rows, height - top)
        np.copyto(image.tensor[:, top : top + count].permute(1, 2, 0).numpy(), stored.read(top, 0, count, width))
    return image


def _is_near(size: tuple[int, ...], wanted: tuple[float, float]) -> bool:
    return all(abs(side - want) <= max(2.0, 0.01 * want) for side, want in zip(size, wanted, strict=True))


def _level_tensor(level: Tensor | PinnedImage, name: str) -> Tensor:
    tensor = pixels_on(level, None)
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a [C, H, W] tensor or a PinnedImage; got {type(tensor).__name__}. Convert it.")
    if tensor.ndim != 3 or tensor.numel() == 0:
        raise ValueError(
            f"{name} must be [C, H, W] with at least one pixel; got shape {tuple(tensor.shape)}. Reshape it."
        )
    checks.dense(name, tensor)
    dtype_code(tensor.dtype, name)
    return tensor


def _check_follows(finer: Tensor | StoredLevel, level: Tensor | StoredLevel, i: int) -> None:
    name = f"levels[{i}]"
    if level.shape[0] != finer.shape[0]:
        raise ValueError(
            f"{name} must have the {finer.shape[0]} channels of the level before; got {level.shape[0]}. Match them."
        )
    if level.dtype != finer.dtype or level.device != finer.device:
        raise TypeError(
            f"{name} must be {finer.dtype} on {finer.device} as the level before; got {level.dtype} on {level.device}. "
            f"Convert it with .to({str(finer.device)!r}, {finer.dtype})."
        )
    if level.shape[1] > finer.shape[1] or level.shape[2] > finer.shape[2] or level.shape == finer.shape:
        raise ValueError(
            f"{name} must be smaller than the level before, {finer.shape[2]} x {finer.shape[1]}; "
            f"got {level.shape[2]} x {level.shape[1]}. Order the levels from the finest."
        )


def level_sizes(height: int, width: int, levels: int | None, min_size: int) -> list[tuple[int, int]]:
    """``(height, width)`` of the levels below level 0."""
    if levels is not None:
        checks.integer("levels", levels, 1)
    checks.integer("min_size", min_size, 1)
    sizes: list[tuple[int, int]] = []
    while levels is None or len(sizes) < levels - 1:
        half = ((height + 1) // 2, (width + 1) // 2)
        if half == (height, width):
            if levels is None:
                break
            raise ValueError(f"levels must be at most {len(sizes) + 1}; got {levels}. One pixel cannot be halved.")
        if levels is None and min(half) < min_size:
            break
        sizes.append(half)
        height, width = half
    return sizes
