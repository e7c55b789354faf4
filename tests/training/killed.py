"""Runs ``zoomkern predict`` in children that are killed while they write; started by a test, which judges the rest.

    killed.py KILLS SEED WORDS...

A child is a fork, so that it need not import anything anew. It ends itself, as by a kill, a moment after it has written
to its output folder a random number of times. Prints how many images were done after each.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

from zoomkern.cli import predict_folder
from zoomkern.training.folder import predict  # noqa: F401 - so that the children have it

#: How often an image's files are opened or named.
WRITES = 14


def end_after(writes: int, seconds: float, output: Path) -> None:
    """An alarm that nobody handles ends this process ``seconds`` after so many ``writes``, openings and namings."""
    left = writes

    def seen(event: str, given: tuple[Any, ...]) -> None:
        nonlocal left
        written = event == "os.rename" or (event == "open" and given[2] & (os.O_WRONLY | os.O_RDWR))
        if written and str(given[0]).startswith(str(output)):
            left -= 1
            if left == 0:
                signal.setitimer(signal.ITIMER_REAL, seconds)

    sys.addaudithook(seen)


def main() -> None:
    kills, seed, words = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    output = Path(words[words.index("--output") + 1])
    chance = random.Random(seed)
    for _ in range(kills):
        writes = chance.randrange(1, 2 * WRITES)
        seconds = chance.uniform(1e-6, 0.01)
        child = os.fork()
        if child == 0:
            end_after(writes, seconds, output)
            os._exit(predict_folder.main(["predict", *words]))
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
            print(len(list((output / "state").glob("[!.]*.json"))), flush=True)
        else:
            print("ended by itself", flush=True)


if __name__ == "__main__":
    main()
