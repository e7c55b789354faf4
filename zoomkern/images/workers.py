"""The threads that decode, one pool in every process."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

_POOLS: dict[int, ThreadPoolExecutor] = {}
_LOCK = threading.Lock()


def _renew() -> None:
    """A forked child has neither its parent's threads nor whoever held the lock."""
    global _LOCK
    _LOCK = threading.Lock()
    _POOLS.clear()


os.register_at_fork(after_in_child=_renew)


def decoders() -> ThreadPoolExecutor:
    """This process's pool, of as many threads as it may use processors."""
    with _LOCK:
        if os.getpid() not in _POOLS:
            _POOLS[os.getpid()] = ThreadPoolExecutor(processors(), "zoomkern-decode")
        return _POOLS[os.getpid()]


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
