"""What is known of an image that was predicted: a file each, written last."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zoomkern.images.files import remove_parts, write_whole
from zoomkern.training.folder.images import Found
from zoomkern.training.names import output_key

DONE, FAILED = "done", "failed"
#: The files of an image, in the state's ``files``: folder and ending.
FILES = {
    "look": ("looks", ".npz"),
    "attention": ("attention", ".ome.tif"),
    "overlay": ("overlays", ".png"),
    "sheet": ("patches", ".png"),
    "outlines": ("patches", ".geojson"),
}

State = dict[str, Any]


class OutputError(OSError):
    """Nothing can be written into the output folder: neither of this image nor of any other."""


@contextmanager
def writing() -> Iterator[None]:
    """What fails in here is the output folder, not an image.

    Raises:
        OutputError: instead of any other OSError.
    """
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        if error.errno is None:
            raise OutputError(str(error)) from error
        raise OutputError(error.errno, error.strerror, error.filename) from error


class States:
    """The states in an output folder.

    Args:
        output: the folder.
    """

    def __init__(self, output: Path) -> None:
        self.output = output

    def path(self, name: str) -> Path:
        """Where the state of an image is."""
        return self.output / "state" / f"{output_key(name)}.json"

    def file(self, name: str, kind: str) -> Path:
        """Where a file of an image is; ``kind`` is one of :data:`FILES`."""
        folder, ending = FILES[kind]
        return self.output / folder / f"{output_key(name)}{ending}"

    def read(self, name: str) -> State | None:
        """The state of an image; None where there is none that can be read."""
        try:
            state = json.loads(self.path(name).read_bytes())
        except (OSError, ValueError):
            return None
        return state if isinstance(state, dict) and state.get("image") == name else None

    def all(self) -> list[State]:
        """The states of all images in the folder, in the order of their names, whoever asked for them."""
        found = []
        for path in self.output.glob("state/[!.]*.json"):
            try:
                state = json.loads(path.read_bytes())
            except (OSError, ValueError):
                continue
            name = state.get("image") if isinstance(state, dict) else None
            if isinstance(name, str) and name and self.path(name) == path:
                found.append(state)
        return sorted(found, key=lambda state: state["image"])

    def reason(self, image: Found, network: str) -> str | None:
        """Why an image has to be predicted, in a few words; None where it need not.

        Args:
            image: as it is now.
            network: the name of the network, its weights and the options.
        """
        state = self.read(image.name)
        if state is None:
            return "new"
        if state.get("status") != DONE:
            return "failed before"
        if state.get("network") != network:
            return "of another network, or with other options"
        if state.get("input") != input_of(image):
            return "changed since"
        if not all((self.output / file).is_file() for file in state["files"].values()):
            return "without some of their files"
        return None

    def starts(self, image: Found, network: str) -> int:
        """How often an image, as it is now, was begun by processes that ended before it did."""
        try:
            state = json.loads(self._started(image.name).read_bytes())
        except (OSError, ValueError):
            return 0
        same = isinstance(state, dict) and state.get("input") == input_of(image) and state.get("network") == network
        times = state.get("times") if same else 0
        return times if isinstance(times, int) else 0

    def start(self, image: Found, network: str, times: int) -> None:
        """Say, before an image is opened, how often it was begun by now: it may end this process."""
        state = {"image": image.name, "input": input_of(image), "network": network, "times": times}
        with writing():
            write_whole(self._started(image.name), json.dumps(state) + "\n")

    def ended(self, name: str) -> None:
        """Forget that an image was begun."""
        with writing():
            self._started(name).unlink(missing_ok=True)

    def begin(self, name: str) -> None:
        """Forget an image: its state first, then its files, and what a killed process left half-written."""
        with writing():
            self.path(name).unlink(missing_ok=True)
            for path in (self.path(name), self._started(name), *(self.file(name, kind) for kind in FILES)):
                if path != self._started(name):
                    path.unlink(missing_ok=True)
                remove_parts(path.parent, path.name)

    def done(self, image: Found, network: str, found: State, files: dict[str, Path]) -> None:
        """Say that an image is done, and all its files are there."""
        self.ended(image.name)  # first, so that none is left of an image that is done
        relative = {kind: os.fspath(path.relative_to(self.output)) for kind, path in files.items()}
        self._write(image, DONE, network, {**found, "files": relative})

    def failed(self, image: Found, network: str, error: str) -> None:
        """Say why there is nothing of an image."""
        self._write(image, FAILED, network, {"error": error})

    def _started(self, name: str) -> Path:
        """Where it is said that an image was begun."""
        return self.output / "started" / f"{output_key(name)}.json"

    def _write(self, image: Found, status: str, network: str, more: State) -> None:
        head = {"image": image.name, "path": os.fspath(image.path), "status": status, "input": input_of(image)}
        with writing():
            write_whole(self.path(image.name), json.dumps({**head, "network": network, **more}, indent=1) + "\n")


def input_of(image: Found) -> dict[str, int]:
    """What tells a changed file from the one that was predicted."""
    return {"bytes": image.nbytes, "modified_ns": image.modified}
