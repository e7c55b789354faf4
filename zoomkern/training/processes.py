"""Calls in processes of their own, of which one may die without the others."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

Name = TypeVar("Name", bound=Hashable)


def in_processes(
    function: Callable[..., None], calls: Mapping[Name, tuple[Any, ...]], processes: int
) -> Iterator[tuple[Name, str]]:
    """Call ``function`` with every tuple of arguments, each in a fresh process that ends when this one does.

    A pool would be shorter, but one process that the system kills takes all of it along.

    Args:
        function: importable by its name.
        calls: arguments, by what each call is named.
        processes: how many at the same time.

    Yields:
        The name of each call that ended, and what went wrong; empty where nothing did.
    """
    spawn = multiprocessing.get_context("spawn")
    waiting = list(calls)
    running: dict[Any, tuple[Name, Any]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                name = waiting.pop(0)
                ours, theirs = spawn.Pipe(duplex=False)
                process = spawn.Process(target=_call, args=(theirs, function, calls[name]))
                process.start()
                theirs.close()  # so that the end of the process is the end of the pipe
                running[ours] = name, process
            ready: list[Any] = wait(list(running))
            for pipe in ready:
                name, process = running.pop(pipe)
                try:
                    error = pipe.recv()
                except EOFError:
                    process.join()
                    error = f"its process ended with status {process.exitcode}; -9 is what a lack of memory leaves"
                process.join()
                yield name, error
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.join()


def _call(pipe: Connection, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        function(*arguments)
    except (Exception, SystemExit) as error:
        pipe.send(f"{type(error).__name__}: {error}")
    else:
        pipe.send("")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
