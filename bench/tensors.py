"""Peak bytes of the tensors that a call makes, and its floating-point operations."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import FlopCounterMode


class Peak(NamedTuple):
    """The most that was there at once.

    Args:
        bytes: of all tensors that the call made, not of those that were there before.
        at: the op that reached it and the shape of its result; empty on a GPU, whose allocator does not tell.
    """

    bytes: int
    at: str


class LiveTensors(TorchDispatchMode):
    """Adds up the storages that ops return, as long as they live; views count once.

    What an op allocates and frees inside itself, a library's workspace say, is not seen: the figure is the network's,
    the same for every library and number of threads, and for tensors that have shapes alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak, self.at = 0, ""
        self._bytes = 0
        self._living: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {_address(storage) for storage, _ in _storages((args, kwargs))}
        for storage, shape in _storages(result):
            address = _address(storage)
            if address in given or address in self._living:
                continue
            self._living.add(address)
            self._bytes += storage.nbytes()
            weakref.finalize(storage, self._freed, address, storage.nbytes())
            if self._bytes > self.peak:
                self.peak, self.at = self._bytes, f"{func._schema.name.split('::')[1]} {shape}"
        return result

    def _freed(self, address: int, size: int) -> None:
        self._living.discard(address)
        self._bytes -= size


def peak(run: Callable[[], Any], device: torch.device) -> Peak:
    """Peak of one call; on a GPU it is the allocator's, workspaces included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return Peak(torch.cuda.max_memory_allocated(device) - before, "")
    with LiveTensors() as tensors:
        run()
    return Peak(tensors.peak, tensors.at)


def flops(run: Callable[[], Any]) -> int:
    """Of convolutions and matrix products, two for a multiplication with its addition; other ops are left out."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def _storages(tree: Any) -> Iterable[tuple[torch.UntypedStorage, list[int]]]:
    return ((leaf.untyped_storage(), list(leaf.shape)) for leaf in tree_iter(tree) if isinstance(leaf, Tensor))


def _address(storage: torch.UntypedStorage) -> int:
    return storage._cdata  # of the storage itself: tensors of shapes alone have no data to point to
