"""Drawn patches as GeoJSON, for QuPath and GIS programs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from zoomkern import checks
from zoomkern.images.places.geojson import IDENTITY, MAP, PIXELS, SPACE, Transform, checked_transform
from zoomkern.typing import SampledPatches

#: QuPath's kinds of objects that a patch may be: annotations can be edited, detections be many.
OBJECT_TYPES = ("annotation", "detection", "tile")


def patch_features(
    drawn: SampledPatches,
    extent: int | tuple[int, int],
    *,
    row: int = 0,
    stage: int = 1,
    downsample: float | tuple[float, float] = 1.0,
    object_type: str = "annotation",
) -> list[dict[str, Any]]:
    """The drawn patches of one image as GeoJSON features, in pixels of level 0.

    Each is a rectangle with the properties ``probability``, ``weight``, ``index`` and ``stage``. QuPath shows them as
    measurements of an object in the class ``stage 1``. Padded draws are left out.

    Args:
        drawn: a draw with its places; of a ``ZoomIn`` its ``tiles`` (stage 1) or ``sampled`` (stage 2).
        extent: ``(height, width)`` that a patch spans in pixels of the level it was read from, or one int: its size,
            times ``step``.
        row: which image of the batch.
        stage: which stage drew them.
        downsample: pixels of level 0 per pixel of that level, or ``(down, right)`` where they differ.
        object_type: ``annotation``, ``detection`` or ``tile``, as QuPath calls them.

    Returns:
        A feature per patch, in the order of the draw; several stages or images of tiles are joined with ``+``.

    Raises:
        ValueError: arguments that do not fit the draw.
        TypeError: ``drawn`` has no places.
    """
    checks.sample("drawn", drawn)
    checks.tensor("drawn.offsets", getattr(drawn, "offsets", None), "an int64 tensor [B, N, 2]")
    checks.shape("drawn.offsets", drawn.offsets, (*drawn.index.shape, 2), "[B, N, 2]")
    height, width = checks.pair("extent", extent)
    down, right = downsample if isinstance(downsample, tuple) else (downsample, downsample)
    scale = torch.tensor([checks.number("downsample", down), checks.number("downsample", right)], dtype=torch.float64)
    checks.integer("row", row, 0, len(drawn.index) - 1)
    checks.integer("stage", stage, 1)
    checks.choice("object_type", object_type, OBJECT_TYPES)
    kept = (drawn.index[row] >= 0).cpu()
    low = drawn.offsets[row].cpu()[kept]
    corners = torch.cat([low * scale, (low + torch.tensor([height, width])) * scale], dim=1).tolist()
    values = zip(
        drawn.log_prob[row].detach().double().exp().cpu()[kept].tolist(),
        drawn.weight[row].double().cpu()[kept].tolist(),
        drawn.index[row].cpu()[kept].tolist(),
        strict=True,
    )
    features = []
    for (top, left, bottom, end), (probability, weight, index) in zip(corners, values, strict=True):
        ring = [[left, top], [end, top], [end, bottom], [left, bottom], [left, top]]
        measured = {"probability": probability, "weight": weight, "index": index, "stage": stage}
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": {
                    **measured,
                    "objectType": object_type,
                    "classification": {"name": f"stage {stage}"},
                    "measurements": measured,
                },
            }
        )
    return features


def save_geojson(
    path: str | os.PathLike[str],
    features: Sequence[dict[str, Any]],
    *,
    transform: Transform | None = None,
    crs: str | None = None,
) -> None:
    """Write features as a GeoJSON file, there whole or not at all.

    The file says what its coordinates are: ``coordinate_space`` is ``pixels of level 0``, which QuPath shows where they
    are, or ``map``, and then ``crs`` names the system as GeoJSON of 2008 does, which GDAL and QGIS read. Of today's
    GeoJSON (RFC 7946) it is one by agreement, unless ``crs`` is ``EPSG:4326``. Numbers are written with all digits.

    Args:
        path: file to write.
        features: polygons in pixels of level 0, as :func:`patch_features` makes them.
        transform: ``(a, b, c, d, e, f)`` of a raster: the file is in its map, x = a column + b row + c and
            y = d column + e row + f.
        crs: coordinate reference system of that map, such as ``EPSG:32633``; of no use without ``transform``.

    Raises:
        ValueError: a transform that cannot be inverted, or a property that is no number JSON has, such as NaN.
        OSError: the file cannot be written; what was there still is.
    """
    from zoomkern.images.files import write_whole  # needs fcntl, which `import zoomkern` does not

    collection: dict[str, Any] = {"type": "FeatureCollection", SPACE: PIXELS if transform is None else MAP}
    if transform is not None and crs is not None:
        collection["crs"] = {"type": "name", "properties": {"name": _urn(crs)}}
    mapped = IDENTITY if transform is None else checked_transform(transform)
    collection["features"] = [_placed(feature, mapped) for feature in features]
    write_whole(Path(path), json.dumps(collection, allow_nan=False))


def _placed(feature: dict[str, Any], transform: Transform) -> dict[str, Any]:
    """The feature in map coordinates, its outer ring counter-clockwise there as the standard has it."""
    a, b, c, d, e, f = transform
    order = 1 if a * e > b * d else -1
    rings = feature["geometry"]["coordinates"]
    placed = [[[a * x + b * y + c, d * x + e * y + f] for x, y in ring[::order]] for ring in rings]
    return {**feature, "geometry": {**feature["geometry"], "coordinates": placed}}


def _urn(crs: str) -> str:
    authority, _, code = crs.partition(":")
    return f"urn:ogc:def:crs:{authority.upper()}::{code}" if code.isdigit() else crs
