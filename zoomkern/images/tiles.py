"""Decoded tiles, kept as long as there is room for them."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any

import numpy as np

Tile = np.ndarray[Any, Any]


class TileCache:
    """The tiles that were used last, shared by the threads of a process; each is decoded once however many ask for it.

    Another process, forked or spawned, starts with an empty cache of the same size.

    Args:
        max_bytes: of all tiles together; at least the last one is kept.

    Attributes:
        max_bytes: as given.
        hits: tiles that were there.
        misses: tiles that had to be decoded.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._start()
        _CACHES.add(self)

    def _start(self) -> None:
        self.hits = self.misses = 0
        self._bytes = 0
        self._lock = threading.Lock()
        self._tiles: OrderedDict[Hashable, Future[Tile]] = OrderedDict()

    def get(self, key: Hashable, decode: Callable[[], Tile]) -> Tile:
        """The tile ``key``, which ``decode`` makes if it is not there; an error of ``decode`` is kept for nobody."""
        with self._lock:
            known = self._tiles.get(key)
            if known is not None:
                self.hits += 1
                self._tiles.move_to_end(key)
            else:
                self.misses += 1
                mine: Future[Tile] = Future()
                self._tiles[key] = mine
        if known is not None:
            return known.result()
        try:
            tile = decode()
        except BaseException as error:
            with self._lock:
                self._tiles.pop(key, None)
            mine.set_exception(error)
            raise
        mine.set_result(tile)
        self._keep(tile)
        return tile

    def _keep(self, tile: Tile) -> None:
        with self._lock:
            self._bytes += tile.nbytes
            for key in list(self._tiles):
                if self._bytes <= self.max_bytes or len(self._tiles) == 1:
                    break
                if self._tiles[key].done():
                    self._bytes -= self._tiles.pop(key).result().nbytes

    @property
    def nbytes(self) -> int:
        """Bytes of the tiles that are there."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._tiles)

    def __reduce__(self) -> tuple[Any, tuple[int, ...]]:
        return (_shared, ()) if self is SHARED else (TileCache, (self.max_bytes,))


_CACHES: weakref.WeakSet[TileCache] = weakref.WeakSet()


#: What images share that are given no cache of their own.
SHARED = TileCache(1 << 28)


def _shared() -> TileCache:
    return SHARED


def _empty() -> None:
    """A forked child's caches: their parent's tiles may be half decoded, and their locks held."""
    for cache in list(_CACHES):
        cache._start()


os.register_at_fork(after_in_child=_empty)
