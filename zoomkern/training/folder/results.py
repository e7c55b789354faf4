"""The files of one image: its look, the attention for other programs, pictures, and outlines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoomkern.images.files import write_whole
from zoomkern.images.places import patch_features, save_geojson
from zoomkern.images.writers.maps import ome_map
from zoomkern.training.folder.look import Arrays, look_bytes
from zoomkern.training.folder.prepared import Prepared
from zoomkern.training.folder.states import States, writing
from zoomkern.training.names import legible
from zoomkern.training.pictures import pixels_at, visible
from zoomkern.typing import SampledPatches
from zoomkern.visual import Tiles, save_overlay, save_sheet
from zoomkern.visual.figures import percent


def write_results(
    states: States, name: str, prepared: Prepared, look: Arrays, model: Any, verdict: str, top: int
) -> dict[str, Path]:
    """Write all files of an image but its state.

    Args:
        states: of the output folder.
        name: of the image.
        prepared: the image.
        look: what the network looked at; without anything nothing is written.
        model: the network, for the size of its patches.
        verdict: title of the pictures.
        top: patches that pictures show; 0 for no pictures.

    Returns:
        What was written, by its kind.

    Raises:
        OutputError: nothing can be written any more.
        OSError: the image is damaged.
    """
    tensors = {key: torch.from_numpy(value) for key, value in look.items()}
    sheet, overlay = None, None  # read before anything is written: what fails here is the image
    if top and "patch_offsets" in look and len(look["patch_offsets"]):
        sheet = _sheet(prepared, tensors, model, top)
    if top and look:
        overlay = _overlay(prepared, tensors, model, top)
    with writing():
        return _written(states, name, prepared, look, tensors, sheet, overlay, verdict)


def _written(
    states: States,
    name: str,
    prepared: Prepared,
    look: Arrays,
    tensors: dict[str, Tensor],
    sheet: dict[str, Any] | None,
    overlay: dict[str, Any] | None,
    verdict: str,
) -> dict[str, Path]:
    files: dict[str, Path] = {}
    subtitle = legible(name)

    def place(kind: str) -> Path:
        files[kind] = states.file(name, kind)
        files[kind].parent.mkdir(parents=True, exist_ok=True)
        return files[kind]

    if not look:
        return files
    write_whole(place("look"), look_bytes(look))
    if "attention" in look:
        write_whole(place("attention"), ome_map(look["attention"], "attention", _cell_size(prepared, look)))
    if "patch_offsets" in look:
        header = prepared.reader.header
        save_geojson(place("outlines"), _outlines(tensors), transform=header.transform, crs=header.crs)
        if sheet is not None:
            shares = f"{subtitle}, shares in the image's feature"
            save_sheet(place("sheet"), **sheet, title=verdict, subtitle=shares)
    if overlay is not None:
        save_overlay(place("overlay"), **overlay, title=verdict, subtitle=subtitle)
    return files


def _cell_size(prepared: Prepared, look: Arrays) -> tuple[float, float] | None:
    """``(h, w)`` of a cell of the first attention in microns."""
    mpp = prepared.reader.mpp
    if mpp is None:
        return None
    rows, columns = look["attention"].shape
    return mpp * prepared.size[0] / rows, mpp * prepared.size[1] / columns


def _outlines(look: dict[str, Tensor]) -> list[dict[str, Any]]:
    """The drawn tiles and patches as GeoJSON features."""
    stages = [name for name in ("tile", "patch") if f"{name}_offsets" in look]
    features = []
    for stage, name in enumerate(stages, 1):
        index, offsets, weight = (look[f"{name}_{part}"][None] for part in ("index", "offsets", "weight"))
        log_prob = look[f"{name}_probability"].log()[None]
        drawn = SampledPatches(torch.zeros(1, index.shape[1], 0, 0, 0), index, offsets, log_prob, weight)
        height, width = look[f"{name}_size"].tolist()
        features += patch_features(drawn, (height, width), stage=stage)
    return features


def _overlay(prepared: Prepared, look: dict[str, Tensor], model: Any, top: int) -> dict[str, Any]:
    none = torch.zeros(0, 2, dtype=torch.int64)
    return {
        "overview": visible(prepared.overview)[0],
        "attention": look.get("attention"),
        "offsets": look.get("patch_offsets", none)[:top],
        "patch_size": tuple(look["patch_size"].tolist()) if "patch_size" in look else (1, 1),
        "image_size": prepared.size,
        "mpp": prepared.reader.mpp,
        "tiles": _tiles(prepared, look, model, top) if len(look.get("tile_offsets", ())) else None,
    }


def _tiles(prepared: Prepared, look: dict[str, Tensor], model: Any, top: int) -> Tiles:
    small = prepared.batch.tile_view[0]
    start, size = look["tile_offsets"][:top], torch.tensor(prepared.size)
    # a tile starts at floor(corner * size / small)
    corners = -(-start * torch.tensor(small.shape[-2:])).div(size, rounding_mode="floor")
    light, fill = visible(prepared.overview)[1], model.reading.get("fill", 0)
    parents = look["patch_tile"][:top]
    return Tiles(
        start,
        model.tile_size,
        pixels_at(small, corners, model.view_size, 1, light, fill),
        look["tile_attention"][:top],
        look["tile_probability"][:top],
        torch.where(parents < len(start), parents, -1),
    )


def _sheet(prepared: Prepared, look: dict[str, Tensor], model: Any, top: int) -> dict[str, Any]:
    step = model.reading.get("step", 1)
    light = visible(prepared.overview)[1]
    places, fill = look["patch_offsets"][:top], model.reading.get("fill", 0)
    patches = pixels_at(prepared.pyramid, places, tuple(model.patch_size), step, light, fill)
    shares = look["patch_weight"][:top].tolist()
    return {"patches": patches, "labels": [f"{i + 1}    {percent(share)}" for i, share in enumerate(shares)]}
