"""Memory that CUDA page-locks, so that kernels read it where it lies: its registration, its views, its end.

torch's binding of the CUDA runtime registers memory and lets go of it; no CUDA code of our own is needed. The memory is
freed only when every device that has a view of it is idle and CUDA has let go. When the interpreter exits nothing of
that happens, for kernels and exit handlers may still read: the memory stays registered and goes with the process. A
forked child, where CUDA does not work, drops its copy without a call.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import mmap
import os
import weakref
from typing import TYPE_CHECKING, Any

import torch

from zoomkern.images.memory import Memory, allocate_image, host_module, is_interleaved
from zoomkern.images.progress import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

#: Memory is registered in pieces of this size: the driver stops no kernel for longer, and progress can be told.
CHUNK_BYTES = 1 << 30
#: cudaHostRegister's flags, made of Portable, Mapped and ReadOnly.
FLAGS = {"portable read-only": 0x01 | 0x02 | 0x08, "read-only": 0x08, "portable": 0x01 | 0x02, "default": 0x00}
#: Number of the device attribute CanUseHostPointerForRegisteredMem.
HOST_POINTERS = 91
#: Errors by which CUDA says that this memory cannot be registered so: invalid value, refused by the operating system,
#: already registered, not supported.
UNSUITABLE = (1, 304, 712, 801)


class RegistrationError(RuntimeError):
    """CUDA refused to page-lock memory; ``code`` is its error."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Registration:
    """The page-locked memory of one image. The image and every view hold it; with the last of them it ends.

    Args:
        image: ``[C, H, W]`` CPU tensor whose storage is registered, in whole pages.
        owner: What keeps the bytes of that storage, even if torch moves the tensor to shared memory.
        flags: Names in :data:`FLAGS`, tried in order while CUDA finds the memory unsuitable.
        device: Number of the CUDA device whose context registers; all devices may read.
        progress: True for a bar (tqdm), or a function called with ``(done, total)`` bytes.

    Attributes:
        how: The flags that CUDA took.

    Raises:
        RegistrationError: CUDA took none; nothing is registered.
    """

    def __init__(
        self,
        image: Tensor,
        owner: object,
        flags: Sequence[str],
        device: int,
        progress: bool | Callable[[int, int], None],
    ) -> None:
        storage = image.untyped_storage()
        self._address, self._nbytes = storage.data_ptr(), storage.nbytes()
        self._layout = (tuple(image.shape), image.stride(), image.storage_offset())
        self._dtype = image.dtype
        self._devices = {device}  # its copy engine may read without a view
        chunks = _chunks(self._address, self._nbytes)
        self.how = _register(chunks, flags, device, progress)
        # A reference that only `_let_go` gives back, so that the end of the interpreter does not free the memory.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))
        weakref.finalize(self, _release, os.getpid(), self._devices, chunks, owner).atexit = False

    def view(self, device: int) -> Tensor:
        """The image as a tensor on a CUDA device, over the same bytes; it keeps this registration alive."""
        _check_host_pointers(device)
        self._devices.add(device)
        memory = (ctypes.c_char * self._nbytes).from_address(self._address)
        vars(memory)["owner"] = self  # torch keeps the buffer, the buffer keeps the registration
        with torch.inference_mode(False):  # the view serves other calls too
            return _as_cuda(torch.frombuffer(memory, dtype=self._dtype).as_strided(*self._layout), device)


def register_image(
    image: Tensor, memory: Memory, device: int, progress: bool | Callable[[int, int], None]
) -> tuple[Registration, str]:
    """Page-locks an image's memory, or of a memory map that CUDA finds unsuitable a copy; says which.

    Raises:
        RegistrationError: CUDA refused.
        MemoryError: There is no memory for the copy.
    """
    if image.is_shared():  # the pixels have moved there, or came from another process, and move no more
        memory = Memory()
    owner = image if memory.owner is None else memory.owner()
    writable_flags = ("portable", "default")
    flags = writable_flags if memory.writable else tuple(FLAGS)
    try:
        registration = Registration(image, owner, flags, device, progress)
        return registration, registration.how
    except RegistrationError as refusal:
        if not memory.mapped or refusal.code not in UNSUITABLE:
            raise
    shape = (image.shape[0], image.shape[1], image.shape[2])
    copy, _ = allocate_image(shape, image.dtype, is_interleaved(image))
    registration = Registration(copy.copy_(image), copy, writable_flags, device, progress)
    return registration, f"{registration.how}, a copy"


def device_index(device: torch.device | str | int | None) -> int:
    """The number of a CUDA device, None for the current one.

    Raises:
        RuntimeError: This is a forked process, or there is no CUDA device.
        ValueError: The device is no CUDA device, or there is none of its number.
    """
    if not torch.cuda.is_initialized():
        if torch.cuda._is_in_bad_fork():
            raise RuntimeError(
                "A CUDA view must not be asked for in a forked process: CUDA does not work there. Start workers with "
                "DataLoader(..., multiprocessing_context='spawn'), or let them read image.tensor."
            )
        if not torch.cuda.is_available():
            raise RuntimeError(
                "A CUDA view needs a CUDA device; torch sees no CUDA device. Read image.tensor, or install a torch "
                "with CUDA and the driver."
            )
    wanted = torch.device("cuda", device) if isinstance(device, int) else torch.device(device or "cuda")
    if wanted.type != "cuda":
        raise ValueError(f"device must be a CUDA device; got {wanted}. Read image.tensor in host memory.")
    index = torch.cuda.current_device() if wanted.index is None else wanted.index
    if index >= torch.cuda.device_count():
        raise ValueError(f"device must be one of {torch.cuda.device_count()} CUDA devices; got {wanted}. Choose one.")
    return index


@functools.cache
def _check_host_pointers(device: int) -> None:
    """A view has the host's addresses, which all but some integrated GPUs use for registered memory.

    Raises:
        RuntimeError: This device has others.
    """
    value = ctypes.c_int(1)
    with contextlib.suppress(OSError):  # torch finds the driver where the loader does not
        ctypes.CDLL("libcuda.so.1").cuDeviceGetAttribute(ctypes.byref(value), HOST_POINTERS, device)
    if not value.value:
        raise RuntimeError(
            f"A CUDA view needs a device that reads page-locked memory at the host's addresses; cuda:{device} does not."
            " Copy the image: image.tensor.to('cuda')."
        )


def _chunks(address: int, nbytes: int) -> list[tuple[int, int]]:
    """``(address, bytes)`` of the pieces of the whole pages that hold some bytes."""
    start = address // mmap.PAGESIZE * mmap.PAGESIZE
    end = -(-(address + nbytes) // mmap.PAGESIZE) * mmap.PAGESIZE
    return [(at, min(CHUNK_BYTES, end - at)) for at in range(start, end, CHUNK_BYTES)]


def _register(
    chunks: list[tuple[int, int]], flags: Sequence[str], device: int, progress: bool | Callable[[int, int], None]
) -> str:
    """Registers all pieces with the first flags that CUDA takes, and names them."""
    cudart = torch.cuda.cudart()
    with torch.cuda.device(device):
        for name in flags:
            status = _register_as(cudart, chunks, FLAGS[name], progress)
            if int(status) == 0:
                return name
            _forget_error(device)
            if int(status) not in UNSUITABLE:
                break
    total = sum(nbytes for _, nbytes in chunks)
    tried = " and as ".join(flags[: flags.index(name) + 1])
    raise RegistrationError(
        f"{total:,} bytes of host memory must be page-locked for a CUDA view; CUDA refused them as {tried}: "
        f"{cudart.cudaGetErrorString(status)} ({int(status)}). RLIMIT_MEMLOCK is {_memlock()}. Raise the limit "
        "(ulimit -l unlimited; docker run --ulimit memlock=-1), free memory, or take a smaller image.",
        int(status),
    )


def _register_as(
    cudart: Any, chunks: list[tuple[int, int]], flags: int, progress: bool | Callable[[int, int], None]
) -> Any:
    """CUDA's status; after an error or an exception no piece is left registered."""
    total = sum(nbytes for _, nbytes in chunks)
    with contextlib.ExitStack() as undo, counted(progress, total, "page-locking", "B") as done:
        for address, nbytes in chunks:
            status = cudart.cudaHostRegister(address, nbytes, flags)
            if int(status) != 0:
                return status
            undo.callback(cudart.cudaHostUnregister, address)
            done(nbytes)
        undo.pop_all()
    return status


def _forget_error(device: int) -> None:
    """The runtime remembers a refused call and would blame the next kernel for it: here is one to take the blame."""
    with contextlib.suppress(RuntimeError):
        torch.empty(1, dtype=torch.uint8, device=f"cuda:{device}").fill_(0)


def _memlock() -> str:
    host = host_module()
    if host is None:
        return "unknown (zoomkern._host is not built)"
    limit = host.limits()["memlock_soft"]
    return "unlimited" if limit is None else f"{limit:,} bytes"


class _DLTensor(ctypes.Structure):
    """The first fields of DLPack's DLManagedTensor, which never change."""

    _fields_ = (("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32))


_DLPACK_CUDA = 2
_capsule_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


def _as_cuda(pixels: Tensor, device: int) -> Tensor:
    """The same tensor on a CUDA device, of which it keeps the memory.

    Through DLPack, which carries the device and every pixel type. ``__cuda_array_interface__`` has no device: torch
    would ask CUDA, be told of the one that registered the memory, and copy the image to any other.
    """
    capsule = torch.utils.dlpack.to_dlpack(pixels)
    header = _DLTensor.from_address(_capsule_pointer(capsule, b"dltensor"))
    header.device_type, header.device_id = _DLPACK_CUDA, device
    return torch.utils.dlpack.from_dlpack(capsule)


#: Released while a graph was captured, when a device cannot be waited for; let go with the next release.
_waiting: list[tuple[int, set[int], list[tuple[int, int]], object]] = []


def _release(process: int, devices: set[int], chunks: list[tuple[int, int]], owner: object) -> None:
    _waiting.append((process, devices, chunks, owner))
    if process == os.getpid() and torch.cuda.is_current_stream_capturing():
        return
    with contextlib.suppress(IndexError):  # another thread may have taken the last
        while _waiting:
            _let_go(*_waiting.pop())


def _let_go(process: int, devices: set[int], chunks: list[tuple[int, int]], owner: object) -> None:
    """Frees memory that nobody holds. What cannot be waited for or unregistered raises, and stays for ever."""
    if process == os.getpid():
        for device in sorted(devices):
            torch.cuda.synchronize(device)
        cudart = torch.cuda.cudart()
        for address, nbytes in chunks:
            status = cudart.cudaHostUnregister(address)
            if int(status) != 0:
                message = cudart.cudaGetErrorString(status)
                raise RuntimeError(f"CUDA did not let go of {nbytes:,} bytes of host memory: {message}. They are kept.")
    ctypes.pythonapi.Py_DecRef(ctypes.py_object(owner))
