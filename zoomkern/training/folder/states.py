"""What is known of an image that was predicted: a file each, written last."""

from __future__ import annotations

import glob
import json
import os
from pathlib import Path
from typing import Any

from zoomkern.training.files import write_whole
from zoomkern.training.folder.images import Found
from zoomkern.training.folder.names import output_key

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

    def begin(self, name: str) -> None:
        """Forget an image: its state first, then its files, and what a killed process left half-written."""
        self.path(name).unlink(missing_ok=True)
        for path in (self.path(name), *(self.file(name, kind) for kind in FILES)):
            path.unlink(missing_ok=True)
            for part in glob.glob(f"{glob.escape(str(path.parent / f'.{path.name}'))}.*.part"):
                Path(part).unlink(missing_ok=True)

    def done(self, image: Found, network: str, found: State, files: dict[str, Path]) -> None:
        """Say that an image is done, and all its files are there."""
        relative = {kind: os.fspath(path.relative_to(self.output)) for kind, path in files.items()}
        self._write(image, DONE, network, {**found, "files": relative})

    def failed(self, image: Found, network: str, error: str) -> None:
        """Say why there is nothing of an image."""
        self._write(image, FAILED, network, {"error": error})

    def _write(self, image: Found, status: str, network: str, more: State) -> None:
        head = {"image": image.name, "path": os.fspath(image.path), "status": status, "input": input_of(image)}
        write_whole(self.path(image.name), json.dumps({**head, "network": network, **more}, indent=1) + "\n")


def input_of(image: Found) -> dict[str, int]:
    """What tells a changed file from the one that was predicted."""
    return {"bytes": image.nbytes, "modified_ns": image.modified}
