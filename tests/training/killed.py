"""Runs ``zoomkern predict`` in children that are killed while they write; started by a test, which judges the rest.

    killed.py KILLS SEED WORDS...

A child is a fork, so that it need not import anything anew. It is killed a moment after its output folder has changed a
random number of times. Prints how many images were done after each kill.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from zoomkern.cli import predict_folder
from zoomkern.training.folder import predict  # noqa: F401 - so that the children have it


def files(output: Path) -> frozenset[tuple[str, int]]:
    """What is in the folder now."""
    found = set()
    for folder, _, names in os.walk(output):
        for name in names:
            try:
                found.add((os.path.join(folder, name), os.stat(os.path.join(folder, name)).st_ino))
            except OSError:
                continue
    return frozenset(found)


def main() -> None:
    kills, seed, words = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    output = Path(words[words.index("--output") + 1])
    chance = random.Random(seed)
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            os._exit(predict_folder.main(["predict", *words]))
        changes, seen = chance.randrange(1, 12), files(output)
        while changes and os.waitpid(child, os.WNOHANG) == (0, 0):
            now = files(output)
            changes -= now != seen
            seen = now
        time.sleep(chance.random() * 0.02)
        try:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        except (ProcessLookupError, ChildProcessError):
            print("ended by itself", flush=True)
            continue
        print(len(list((output / "state").glob("[!.]*.json"))), flush=True)


if __name__ == "__main__":
    main()
