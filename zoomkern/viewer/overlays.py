"""What a prediction wrote of an image, checked and in the words of the page: attention, tiles and drawn patches."""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from zoomkern.visual.panels import scale_end

Array = np.ndarray[Any, np.dtype[Any]]

#: Cells of one attention that the page shows; of more, each is the largest of several.
MOST_CELLS = 1 << 22
#: Bytes of all arrays of a look, as their headers tell them; an attention of 8192 x 8192 cells has as many.
MOST_LOOK_BYTES = 1 << 28
#: Patches, and tiles; the page has a button for each.
MOST_BOXES = 1 << 16
#: Bytes of a state file; they are small.
_STATE_BYTES = 1 << 24
#: Bytes in which NumPy's header of an array must lie.
_HEADER_BYTES = 1 << 14
#: Arrays that the page shows, and the dimensions of each; files hold others too.
_DIMENSIONS = {
    "image_size": 1,
    "attention": 2,
    **{
        f"{what}_{part}": n
        for what in ("tile", "patch")
        for part, n in (("offsets", 2), ("size", 1), ("probability", 1))
    },
    "tile_attention": 3,
    "patch_weight": 1,
    "patch_tile": 1,
}

#: What NumPy raises of files that are no NPZ, or damaged.
_DAMAGE = (
    *(OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError),
    *(KeyError, TypeError, ValueError, OverflowError, MemoryError),
)


class Stage(NamedTuple):
    """One attention.

    Args:
        name: as the page calls it.
        boxes: ``[T, 4]`` int64, x, y, width and height in image pixels that each grid spans.
        grids: ``[T, gh, gw]`` float32 probabilities.
        uniform: probability of a cell, were all alike.
    """

    name: str
    boxes: Array
    grids: Array
    uniform: float


class Look(NamedTuple):
    """What a network looked at in one image.

    Args:
        summary: ``predicted``, ``classes`` and ``probability`` for the page.
        stages: the attention of each stage.
        tiles: of two stages the drawn tiles, each with ``box`` and ``probability``.
        patches: the drawn patches, each with ``box``, ``probability``, ``weight`` and ``tile``.
    """

    summary: dict[str, Any]
    stages: tuple[Stage, ...]
    tiles: list[dict[str, Any]]
    patches: list[dict[str, Any]]

    def page(self) -> dict[str, Any]:
        """Everything but the probabilities of the cells, for the page."""
        stages = [
            {
                "name": stage.name,
                "boxes": stage.boxes.tolist(),
                "rows": stage.grids.shape[1],
                "columns": stage.grids.shape[2],
                "uniform": stage.uniform,
                "end": scale_end(float(stage.grids.max(initial=0.0)), stage.uniform),
            }
            for stage in self.stages
        ]
        return self.summary | {"stages": stages, "tiles": self.tiles, "patches": self.patches}


def find_look(run: Path, image: Path, dimensions: tuple[int, int]) -> Look:
    """What ``zoomkern predict`` wrote of an image into its output folder.

    The image is found by its path, or, where the folder of images was moved, by its name if only one has it.

    Args:
        run: the output folder.
        image: the image.
        dimensions: its ``(width, height)``.

    Raises:
        FileNotFoundError: the folder holds no prediction of the image.
        ValueError: the prediction failed, is damaged, or is of an image of another size.
    """
    state = _state(run, image)
    if state.get("status") != "done":
        raise ValueError(f"{image.name} was not predicted: {state.get('error', 'its state is not done')}")
    files = state.get("files", {})
    look = files.get("look") if isinstance(files, dict) else files
    if not isinstance(files, dict) or not isinstance(look, (str, type(None))):
        raise ValueError(
            f"the state of {image.name} must name its files; its entry 'files' is {files!r:.60}. Predict it again."
        )
    if look is None:
        return Look(_summary(state), (), [], [])
    file = (run / look).resolve()
    if not file.is_relative_to(run.resolve()):
        raise ValueError(f"{str(run)!r} must hold its own files; {look!r} lies outside of it. Predict the image again.")
    try:
        return read_look(load_arrays(file), _summary(state), dimensions)
    except _DAMAGE as error:
        said = f"has no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{str(file)!r} is no look at this image: {said}. Predict the image again.") from error


def load_arrays(file: Path) -> dict[str, Array]:
    """The arrays of a look that the page shows, refused by their headers before there is memory for them.

    Args:
        file: an NPZ.

    Raises:
        ValueError: they would take more than :data:`MOST_LOOK_BYTES`, or an array has another shape.
        OSError: the file cannot be read.
    """
    if (given := file.stat().st_size) > 2 * MOST_LOOK_BYTES:
        raise ValueError(f"the file must have at most {2 * MOST_LOOK_BYTES:,} bytes; it has {given:,}")
    with zipfile.ZipFile(file) as members:
        names = [name for name in _DIMENSIONS if f"{name}.npy" in members.NameToInfo]
        total = sum(_claimed_bytes(members, name) for name in names)
        if total > MOST_LOOK_BYTES:
            raise ValueError(f"its arrays must have at most {MOST_LOOK_BYTES:,} bytes; their headers claim {total:,}")
        arrays = {}
        for name in names:
            with members.open(f"{name}.npy") as member:
                arrays[name] = np.asarray(npy.read_array(member, allow_pickle=False))
        return arrays


def read_look(arrays: Mapping[str, Array], summary: dict[str, Any], dimensions: tuple[int, int]) -> Look:
    """The arrays of a look, checked.

    Args:
        arrays: as ``looks/KEY.npz`` holds them.
        summary: see :class:`Look`.
        dimensions: ``(width, height)`` of the image.

    Raises:
        KeyError: an array is missing.
        ValueError: an array has another shape, or the image another size.
    """
    height, width = (int(side) for side in _shaped(arrays, "image_size", (2,)))
    if (width, height) != tuple(dimensions):
        raise ValueError(f"it is of an image of {width} x {height} pixels, not {dimensions[0]} x {dimensions[1]}")
    stages: list[Stage] = []
    tiles: list[dict[str, Any]] = []
    if "attention" in arrays:
        attention = _shaped(arrays, "attention", (-1, -1))
        stages.append(_stage("First attention", np.array([[0, 0, width, height]]), attention[None]))
    if "tile_offsets" in arrays:
        places = _boxes(arrays, "tile")
        inside = _shaped(arrays, "tile_attention", (len(places), -1, -1))
        stages.append(_stage("Second attention", places, inside))
        chances = _shaped(arrays, "tile_probability", (len(places),))
        tiles = [
            {"box": box, "probability": _number(chance)}
            for box, chance in zip(places.tolist(), chances.tolist(), strict=True)
        ]
    if "patch_offsets" not in arrays:
        return Look(summary, tuple(stages), tiles, [])
    places = _boxes(arrays, "patch")
    parents = _shaped(arrays, "patch_tile", (len(places),)).tolist() if tiles else [None] * len(places)
    patches = [
        {"box": box, "probability": _number(chance), "weight": _number(weight), "tile": parent}
        for box, chance, weight, parent in zip(
            places.tolist(),
            _shaped(arrays, "patch_probability", (len(places),)).tolist(),
            _shaped(arrays, "patch_weight", (len(places),)).tolist(),
            parents,
            strict=True,
        )
    ]
    return Look(summary, tuple(stages), tiles, patches)


def _claimed_bytes(members: zipfile.ZipFile, name: str) -> int:
    """What an array takes, as its header tells; no more than the header is read."""
    packing = members.NameToInfo[f"{name}.npy"].compress_type
    if packing not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} must be stored or deflated; it is packed by method {packing} of ZIP")
    with members.open(f"{name}.npy") as member:
        start = io.BytesIO(member.read(_HEADER_BYTES))
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(npy.read_magic(start))
    if read is None:
        raise ValueError(f"{name} must have a header of NumPy's version 1 or 2")
    shape, _, dtype = read(start)
    if len(shape) != _DIMENSIONS[name] or min(shape) < 0 or dtype.kind not in "iuf":
        raise ValueError(f"{name} must be numbers in {_DIMENSIONS[name]} dimensions; it is {dtype} {list(shape)}")
    if name.endswith("_offsets") and shape[0] > MOST_BOXES:
        raise ValueError(f"{name} must have at most {MOST_BOXES:,} rows; its header claims {shape[0]:,}")
    return math.prod(shape) * dtype.itemsize


def _state(run: Path, image: Path) -> dict[str, Any]:
    """The state of the image."""
    if not (run / "state").is_dir():
        raise FileNotFoundError(
            f"--run must be an output folder of zoomkern predict; {str(run)!r} has no folder 'state' in it."
        )
    named = []
    for state in _states(run):
        path = Path(str(state.get("path", "")))
        if path == image or (path.exists() and os.path.samefile(path, image)):
            return state
        if Path(str(state.get("image", ""))).name == image.name:
            named.append(state)
    if len(named) != 1:
        found = f"{len(named)} of that name at other places" if named else "none of that name"
        raise FileNotFoundError(f"--run: {str(run)!r} has no prediction of {str(image)!r}, and {found}.")
    return named[0]


def _states(run: Path) -> Iterator[dict[str, Any]]:
    """All that can be read."""
    for file in sorted((run / "state").glob("*.json")):
        if file.stat().st_size > _STATE_BYTES:
            continue
        try:
            state = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            continue
        if isinstance(state, dict):
            yield state


def _summary(state: Mapping[str, Any]) -> dict[str, Any]:
    classes, probability = state.get("classes", []), state.get("probability", [])
    if not (isinstance(classes, list) and isinstance(probability, list)):
        raise ValueError("the state must have lists of classes and of probabilities. Predict the image again.")
    strange = [chance for chance in probability if isinstance(chance, bool) or not isinstance(chance, (int, float))]
    if strange:
        raise ValueError(f"the state must have numbers as probabilities; got {strange[0]!r:.60}. Predict it again.")
    if len(classes) != len(probability):
        raise ValueError(f"the state has {len(classes)} classes but {len(probability)} probabilities.")
    return {
        "predicted": str(state.get("predicted", "")),
        "classes": [str(name) for name in classes],
        "probability": [_number(chance) for chance in probability],
    }


def _stage(name: str, boxes: Array, grids: Array) -> Stage:
    """Probabilities that the page can hold."""
    if np.isinf(grids).any():
        raise ValueError(f"{name} must be finite; it is infinite somewhere")
    _, rows, columns = grids.shape
    uniform = 1 / max(rows * columns, 1)
    block = 1
    while len(grids) * -(-rows // block) * -(-columns // block) > MOST_CELLS:
        block += 1
    if block > 1:
        name += f" (largest of {block} x {block} cells)"
        padded = np.pad(grids, ((0, 0), (0, -rows % block), (0, -columns % block)))
        grids = padded.reshape(len(grids), -(-rows // block), block, -(-columns // block), block).max((2, 4))
    return Stage(name, boxes, np.nan_to_num(grids, nan=0.0).astype("<f4"), uniform)


def _boxes(arrays: Mapping[str, Array], what: str) -> Array:
    """``[N, 4]`` x, y, width, height."""
    offsets = _shaped(arrays, f"{what}_offsets", (-1, 2)).astype(np.int64)
    size = _shaped(arrays, f"{what}_size", (2,)).astype(np.int64)
    return np.concatenate((offsets[:, ::-1], np.broadcast_to(size[::-1], offsets.shape)), 1)


def _shaped(arrays: Mapping[str, Array], name: str, shape: tuple[int, ...]) -> Array:
    """An array of numbers; -1 is any length."""
    array = arrays[name]
    fits = array.ndim == len(shape) and all(want in (-1, got) for want, got in zip(shape, array.shape, strict=True))
    if not fits or array.dtype.kind not in "iuf":
        wanted = ", ".join("any" if side < 0 else str(side) for side in shape)
        raise ValueError(f"{name} must be numbers of shape [{wanted}]; it is {array.dtype} {list(array.shape)}")
    return array


def _number(value: Any) -> float | None:
    """A number as JSON has them."""
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if np.isfinite(number) else None
