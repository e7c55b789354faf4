"""One image in memory of its own, ready to be read in patches."""

from __future__ import annotations

import mmap
import sys
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from zoomkern import checks
from zoomkern.images.arrays import as_planes, copy_rows, torch_dtype
from zoomkern.images.decode import decode_into, open_picture, pixel_format
from zoomkern.images.maps import check_whole, npy_header, view_of_file, view_of_memmap
from zoomkern.images.memory import Memory, allocate_image, is_interleaved
from zoomkern.images.registration import Registration, device_index, register_image
from zoomkern.typing import dtype_code

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from numpy.typing import DTypeLike

#: Pixels that :meth:`PinnedImage.from_file` decodes unless told otherwise: 2**30, three GiB of colour.
MAX_PIXELS = 1 << 30

#: One registration at a time: several at once would be no faster, and two threads might register one image.
_REGISTERING = threading.RLock()


class PinnedImage:
    """An image in memory of exactly its size, whose rows start on a multiple of 128 bytes.

    Colour whose channels are neighbours (HWC) stays so; :attr:`tensor` shows either layout as ``[C, H, W]``. The first
    :meth:`cuda_view` page-locks the memory, so that a GPU reads it where it is; an image that meets no GPU stays in
    plain memory.

    Args:
        image: ``[C, H, W]``, uint8, uint16, float16, bfloat16, float32 or float64, any strides; it is copied.

    Memory:
        ``H * pitch`` bytes, times ``C`` for planes, rounded up to a page; the pitch is a row's bytes rounded up to 128.

    Write hazard:
        What the host writes while a kernel reads is seen in no order. Call :meth:`fence` before writing; kernels
        launched after the writing see it.

    Raises:
        TypeError: ``image`` is no tensor or of a type that images do not have.
        ValueError: ``image`` has other dimensions or no pixels.
        MemoryError: The memory is not there.

    Example:
        >>> PinnedImage(torch.zeros(3, 480, 640, dtype=torch.uint8)).shape
        torch.Size([3, 480, 640])
    """

    def __init__(self, image: Tensor) -> None:
        if not isinstance(image, Tensor):
            cure = "Use PinnedImage.from_numpy" if isinstance(image, np.ndarray) else "Convert it"
            raise TypeError(f"image must be a [C, H, W] tensor; got {type(image).__name__}. {cure}.")
        checks.dense("image", image)
        _check_shape(tuple(image.shape), "image")
        dtype_code(image.dtype, "image")
        shape = (image.shape[0], image.shape[1], image.shape[2])
        own, memory = allocate_image(shape, image.dtype, is_interleaved(image))
        self._keep(own.copy_(image.detach()), memory, None)

    @classmethod
    def empty(cls, shape: tuple[int, int, int], dtype: torch.dtype = torch.uint8, layout: str = "HWC") -> PinnedImage:
        """An image to be filled through :attr:`tensor`; its pixels are zero.

        Args:
            shape: ``(C, H, W)`` whatever the layout.
            dtype: The pixel type.
            layout: ``"HWC"`` for channels that are neighbours, ``"CHW"`` for planes.

        Raises:
            TypeError: Images do not come in ``dtype``.
            ValueError: ``shape`` is not three positive numbers, or ``layout`` is unknown.
            MemoryError: The memory is not there.
        """
        if not isinstance(shape, Sequence) or isinstance(shape, str):
            raise TypeError(f"shape must be (C, H, W); got {shape!r}.")
        _check_shape(tuple(checks.integer(f"shape[{i}]", size, -1) for i, size in enumerate(shape)), "shape")
        dtype_code(dtype, "dtype")
        if layout not in ("HWC", "CHW"):
            raise ValueError(f"layout must be 'HWC' or 'CHW'; got {layout!r}. Choose one of them.")
        return cls._of(*allocate_image(shape, dtype, interleaved=layout == "HWC" and shape[0] > 1))

    @classmethod
    def from_numpy(cls, array: np.ndarray[Any, Any], layout: str = "HWC") -> PinnedImage:
        """Copies an array; ``"HWC"`` keeps the channels of a pixel together, ``"CHW"`` keeps planes.

        Args:
            array: ``[H, W, C]``, ``[C, H, W]`` or ``[H, W]`` as ``layout`` says; any strides, either byte order.
            layout: ``"HWC"``, ``"CHW"`` or ``"HW"``.

        Raises:
            TypeError: ``array`` is no array or of a type that images do not have.
            ValueError: ``layout`` is unknown or does not suit the array, or the array is empty.
            MemoryError: The memory is not there.
        """
        if not isinstance(array, np.ndarray):
            raise TypeError(f"array must be a numpy.ndarray; got {type(array).__name__}. Use numpy.asarray first.")
        planes = as_planes(array, layout)
        image = cls.empty(planes.shape, torch_dtype(array.dtype, "array"), "HWC" if layout == "HWC" else "CHW")
        copy_rows(planes, image.tensor)
        return image

    @classmethod
    def from_memmap(
        cls,
        array_or_path: np.memmap[Any, Any] | str | os.PathLike[str],
        shape: tuple[int, ...] | None = None,
        dtype: DTypeLike | None = None,
        layout: str = "HWC",
        offset: int = 0,
    ) -> PinnedImage:
        """Views a memory map without a copy and turns the kernel's read-ahead off for it.

        A file opened by its path is mapped copy-on-write: writing to the tensor leaves the file alone. A map that the
        caller opened read-only stays read-only: writing to the tensor ends the process, as with any such memory. The
        file must keep its length as long as the image lives. A copy, or the image in another process, maps the file
        again: it shows what the file holds, not what was written to the tensor.

        Args:
            array_or_path: A ``numpy.memmap``, an ``.npy`` file, or a file of raw pixels.
            shape: Of a raw file, its dimensions in the order of ``layout``.
            dtype: Of a raw file, its NumPy type.
            layout: ``"HWC"``, ``"CHW"`` or ``"HW"``.
            offset: Of a raw file, the bytes before the first pixel.

        Raises:
            FileNotFoundError: There is no such file.
            TypeError: The argument is neither map nor path, or its type or byte order is no image's.
            ValueError: The file is truncated, the strides are negative, or an argument does not fit.
        """
        if isinstance(array_or_path, np.memmap):
            if shape is not None or dtype is not None or offset:
                raise ValueError("shape, dtype and offset must be left to the numpy.memmap. Drop them.")
            view, mapping = view_of_memmap(array_or_path, layout)
            memory = Memory(weakref.ref(mapping), mapped=True, writable=bool(array_or_path.flags.writeable))
            return cls._of(view, memory, _source_of(array_or_path, layout))
        if isinstance(array_or_path, np.ndarray):
            raise TypeError("array_or_path must be a numpy.memmap; got numpy.ndarray. Use PinnedImage.from_numpy.")
        path = _as_path(array_or_path, "array_or_path").absolute()
        view, mapping = view_of_file(path, shape, dtype, layout, offset)
        return cls._of(view, Memory(weakref.ref(mapping), mapped=True), (path, shape, dtype, layout, offset))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> PinnedImage:
        """Decodes an image file through Pillow.

        The orientation of its EXIF block is applied. Gray of 8 bits stays one channel, of 16 bits becomes uint16;
        palettes, CMYK and other colour spaces become RGB, and what is transparent is laid on white, as RGB. Pillow
        reads colour of 16 bits per channel as 8 bits.

        Args:
            path: The file.
            max_pixels: More pixels in the file's header than this are refused before they are decoded.

        Memory:
            The image, Pillow's decoded copy (four bytes per pixel of colour), and a band.

        Raises:
            ImportError: Pillow is not installed.
            FileNotFoundError: There is no such file.
            ValueError: The file is no image, damaged, or larger than ``max_pixels``.
        """
        file = _as_path(path, "path")
        checks.integer("max_pixels", max_pixels, 1, sys.maxsize)
        with open_picture(file, max_pixels) as picture:
            mode, channels, dtype = pixel_format(picture, file)
            image = cls.empty((channels, picture.height, picture.width), dtype, "HWC")
            decode_into(picture, mode, image.tensor)
        return image

    @classmethod
    def _of(cls, tensor: Tensor, memory: Memory, source: tuple[Any, ...] | None = None) -> PinnedImage:
        image = cls.__new__(cls)
        image._keep(tensor, memory, source)
        return image

    @classmethod
    def _received(cls, tensor: Tensor) -> PinnedImage:
        """What another process shares is kept where it is; other memory may share its pages and is copied."""
        return cls._of(tensor, Memory()) if tensor.is_shared() else cls(tensor)

    def _keep(self, tensor: Tensor, memory: Memory, source: tuple[Any, ...] | None) -> None:
        self._tensor = tensor
        self._memory = memory
        self._source = source
        self._registered: tuple[int, Registration, str] | None = None  # of the pixels at this address
        self._views: dict[int, Tensor] = {}

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        if self._source is not None:
            return PinnedImage.from_memmap, self._source  # another process maps the file itself
        return PinnedImage._received, (self._tensor,)

    def __deepcopy__(self, memo: dict[int, Any]) -> PinnedImage:
        return PinnedImage(self._tensor) if self._source is None else PinnedImage.from_memmap(*self._source)

    def _share(self) -> None:
        """Moves the pixels to memory that processes share, unless they are a file's.

        Page-locked pixels move too: views there are keep the old memory, and the next one registers the new.
        """
        if self._source is None:
            self._tensor.share_memory_()

    @property
    def tensor(self) -> Tensor:
        """The pixels as a ``[C, H, W]`` CPU tensor over the image's own memory, which it keeps alive."""
        return self._tensor

    def check_file(self) -> None:
        """A mapped file must still be as long as it was; what is cut off between this and the reading is not told.

        Raises:
            ValueError: It is shorter.
        """
        mapping = self._memory.owner() if self._memory.mapped and self._memory.owner is not None else None
        if isinstance(mapping, mmap.mmap):
            check_whole(mapping)

    def cuda_view(self, device: torch.device | str | int | None = None) -> Tensor:
        """The pixels as a ``[C, H, W]`` CUDA tensor over the same bytes, which kernels read through the bus.

        The first call page-locks the memory, as :meth:`pin` does; the view of a device is made once. A view is as good
        as a tensor and keeps the memory alive; when the image and its views are gone, the devices that had one are
        waited for and the memory is freed. A captured CUDA graph keeps nothing: keep the image as long as the graph.

        Args:
            device: A CUDA device, None for the current one.

        Memory:
            None on the device.

        Raises:
            RuntimeError: There is no CUDA device, this is a forked process, or the memory cannot be page-locked.
            ValueError: ``device`` is no CUDA device.
        """
        index = device_index(device)
        registration = self._register(index, False)
        view = self._views.get(index)
        if view is None:
            view = self._views[index] = registration.view(index)
        return view

    def pin(self, progress: bool | Callable[[int, int], None] = False) -> None:
        """Page-locks the memory now rather than at the first :meth:`cuda_view`; nothing is left undone on an error.

        A memory map that CUDA cannot page-lock is copied to memory that it can; :attr:`registration` says so. Pixels
        that have moved to shared memory since, in being sent to another process, are page-locked anew.

        Args:
            progress: True for a bar (tqdm), or a function called with ``(done, total)`` bytes.

        Raises:
            RuntimeError: There is no CUDA device, this is a forked process, or the memory cannot be page-locked.
            MemoryError: There is no memory for the copy of a map.
        """
        self._register(device_index(None), progress)

    def fence(self) -> None:
        """Waits until no kernel launched so far can still read the image, so that it may be written."""
        for index in list(self._views):
            torch.cuda.synchronize(index)

    def _register(self, device: int, progress: bool | Callable[[int, int], None]) -> Registration:
        if (there := self._registration_here()) is not None:  # nobody waits for another image's
            return there
        with _REGISTERING:
            if (there := self._registration_here()) is None:
                there, how = register_image(self._tensor, self._memory, device, progress)
                self._views = {}
                self._registered = (self._tensor.data_ptr(), there, how)
            return there

    def _registration_here(self) -> Registration | None:
        """The registration of the pixels where they are now."""
        registered = self._registered
        return None if registered is None or registered[0] != self._tensor.data_ptr() else registered[1]

    @property
    def registration(self) -> str | None:
        """How CUDA page-locked the memory: None before, then ``portable`` or ``default``.

        It is ``portable read-only`` or ``read-only`` for a map opened read-only. ``, a copy`` follows for a memory map
        that CUDA refused: views show the pixels as they were then.
        """
        return None if self._registered is None else self._registered[2]

    @property
    def shape(self) -> torch.Size:
        """``[C, H, W]``."""
        return self._tensor.shape

    @property
    def dtype(self) -> torch.dtype:
        """The pixel type."""
        return self._tensor.dtype

    @property
    def channels(self) -> int:
        """``C``."""
        return self._tensor.shape[0]

    @property
    def height(self) -> int:
        """``H`` in pixels."""
        return self._tensor.shape[1]

    @property
    def width(self) -> int:
        """``W`` in pixels."""
        return self._tensor.shape[2]

    @property
    def nbytes(self) -> int:
        """The bytes of memory or of the map that the image spans, row padding included."""
        return self._tensor.untyped_storage().nbytes()

    @property
    def is_pinned(self) -> bool:
        """Whether the memory is page-locked, so that a GPU can read it."""
        return self._tensor.is_pinned()

    def __repr__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        registered = "" if self.registration is None else f", registration={self.registration!r}"
        return (
            f"PinnedImage(shape={tuple(self.shape)}, dtype={dtype}, nbytes={self.nbytes}, is_pinned={self.is_pinned}"
            f"{registered})"
        )


def pixels_on(image: Any, device: torch.device | None) -> Any:
    """The pixels of a PinnedImage as a CUDA device sees them, or as the host does; anything else as it is."""
    if not isinstance(image, PinnedImage):
        return image
    image.check_file()
    return image.cuda_view(device) if device is not None and device.type == "cuda" else image.tensor


def _check_shape(shape: tuple[int, ...], name: str) -> None:
    if len(shape) != 3:
        raise ValueError(f"{name} must be [C, H, W]; got shape {shape}. Add or index the missing or extra dimension.")
    if min(shape) < 1:
        raise ValueError(f"{name} must hold at least one pixel; got shape {shape}. Leave empty images out.")


def _source_of(array: np.memmap[Any, Any], layout: str) -> tuple[Any, ...] | None:
    """The arguments by which a whole map is opened again; None for a part of one, or a map without a file's name."""
    whole = isinstance(array.base, mmap.mmap) and array.flags.c_contiguous
    if not whole or array.filename is None:
        return None
    if Path(array.filename).suffix == ".npy":  # whose header says the rest, if this is what it says
        try:
            shape, dtype, _, offset = npy_header(Path(array.filename))
        except ValueError:
            return None
        same = (shape, dtype, offset) == (array.shape, array.dtype, array.offset)
        return (array.filename, None, None, layout, 0) if same else None
    return array.filename, array.shape, array.dtype, layout, array.offset


def _as_path(path: str | os.PathLike[str], name: str) -> Path:
    try:
        return Path(path)
    except TypeError:
        raise TypeError(f"{name} must be a path; got {type(path).__name__}. Pass a str or pathlib.Path.") from None
