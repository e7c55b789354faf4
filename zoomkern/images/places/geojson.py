"""Polygons from GeoJSON, in pixels of level 0: the one place where its ``(x, y)`` becomes ``(y, x)``."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: A path, or what json.load makes of such a file.
Source = str | os.PathLike[str] | Mapping[str, Any] | Sequence[Any]
#: ``(a, b, c, d, e, f)``: map x = a column + b row + c, map y = d column + e row + f.
Transform = tuple[float, float, float, float, float, float]
IDENTITY: Transform = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
#: Outer ring and holes, each float64 ``[V, 2]`` of ``(y, x)``.
Polygon = list[NDArray[np.float64]]

#: Foreign member of the files that zoomkern writes: what their coordinates count.
SPACE, PIXELS, MAP = "coordinate_space", "pixels of level 0", "map"

_DEEPEST = 100
_NO_AREA = ("Point", "MultiPoint", "LineString", "MultiLineString")


def read_polygons(
    source: Source,
    *,
    transform: Transform | None = None,
    crs: str | None = None,
    classes: Sequence[str] | None = None,
) -> list[Polygon]:
    """The polygons of a GeoJSON file, as QuPath and GIS programs write it.

    A feature collection, a list of features, one feature or one geometry; points and lines enclose nothing and are
    left out. Rings need not be closed.

    Args:
        source: path of the file, or its content.
        transform: ``(a, b, c, d, e, f)`` of the raster, for a file in map coordinates: map x = a column + b row + c and
            map y = d column + e row + f. None for pixels of level 0.
        crs: coordinate reference system of the raster, to be compared with the file's where it has one.
        classes: take the features of these classes alone, by ``properties.classification`` as QuPath names them.

    Returns:
        For each polygon its outer ring and its holes, each float64 ``[V, 2]`` of ``(y, x)`` in pixels of level 0,
        without the closing point.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no JSON, no GeoJSON, no polygon in it, or coordinates of another kind; the message says where.
        TypeError: ``classes`` is one name.
    """
    if isinstance(classes, str):
        raise TypeError(f"classes must be a list of names; got {classes!r}. Pass [{classes!r}].")
    where, content = _load(source)
    if isinstance(content, list):
        content = {"type": "FeatureCollection", "features": content}
    if not isinstance(content, Mapping):
        raise ValueError(f"{where} must be GeoJSON, an object with a type; got {type(content).__name__}.")
    _check_space(where, content, transform, crs)
    found: list[Polygon] = []
    known: set[str] = set()
    for at, feature_class, geometry in _geometries(where, content):
        if feature_class is not None:
            known.add(feature_class)
        if classes is None or feature_class in classes:
            found.extend(_polygons(at, geometry))
    if not found:
        of = "" if classes is None else f" of the classes {list(classes)}; its classes are {sorted(known)}"
        raise ValueError(f"{where} must hold a polygon; there is none{of}. Draw one, or pass another file.")
    to_map = IDENTITY if transform is None else checked_transform(transform)
    return [[_turned(ring, to_map) for ring in polygon] for polygon in found]


def coordinate_space(source: Source) -> str | None:
    """What a file says that its coordinates count, :data:`PIXELS` or :data:`MAP`; None where it does not say.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON, or names a space that is neither.
    """
    where, content = _load(source)
    return _space(where, content) if isinstance(content, Mapping) else None


def same_crs(one: str, other: str) -> bool:
    """Whether two names mean the same system, as far as they can be compared: names without a code always do."""
    codes = [_code(name) for name in (one, other)]
    return None in codes or codes[0] == codes[1]


def _code(name: str) -> str | None:
    """``EPSG:32633`` of that name or of ``urn:ogc:def:crs:EPSG::32633``; None of what has no code, such as WKT."""
    if re.search(r"(^|:)CRS84$", name, re.IGNORECASE):
        return "EPSG:4326"  # the same map, and GeoJSON gives x, the longitude, first for both
    match = re.fullmatch(r"(?:urn:ogc:def:crs:)?(EPSG|ESRI):(?:[^:]*:)?(\d+)", name.strip(), re.IGNORECASE)
    return f"{match[1].upper()}:{match[2]}" if match else None


def _load(source: Source) -> tuple[str, Any]:
    """What an error calls the source, and its content."""
    if not isinstance(source, (str, os.PathLike)):
        return "source", source
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"source must name a GeoJSON file; got {str(path)!r}, which is none. Check the path.")
    try:
        return repr(str(path)), json.loads(path.read_bytes())
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} must be GeoJSON; it is no JSON: {error}. Export it again.") from error


def _check_space(where: str, content: Mapping[str, Any], transform: Transform | None, crs: str | None) -> None:
    """Map coordinates must not be taken for pixels, nor pixels for map coordinates."""
    name, space = _crs_name(content), _space(where, content)
    if space == MAP and transform is None:
        raise ValueError(
            f"{where} holds map coordinates ({name or 'of no named system'}). Pass the raster's transform=."
        )
    if space == PIXELS and transform is not None:
        raise ValueError(f"{where} holds pixels of level 0, which need no transform. Leave transform= out.")
    if name and crs and not same_crs(name, crs):
        raise ValueError(f"{where} is in {name}, the raster in {crs}. Reproject the file, such as by ogr2ogr -t_srs.")


def _space(where: str, content: Mapping[str, Any]) -> str | None:
    """The space that is named; that of a coordinate reference system is the map."""
    space = content.get(SPACE)
    if space not in (None, PIXELS, MAP):
        raise ValueError(f"{where} must have {PIXELS!r} or {MAP!r} as {SPACE}; got {_short(space)}.")
    return space or (MAP if _crs_name(content) else None)


def _crs_name(content: Mapping[str, Any]) -> str | None:
    """The name in a ``crs`` member as GeoJSON of 2008 has it."""
    member = content.get("crs")
    properties = member.get("properties") if isinstance(member, Mapping) else None
    name = properties.get("name") if isinstance(properties, Mapping) else None
    return name if isinstance(name, str) else None


def _geometries(where: str, content: Mapping[str, Any]) -> Iterator[tuple[str, str | None, Mapping[str, Any]]]:
    """Each geometry: where it stands, the class of its feature, and itself."""
    kind = content.get("type")
    if kind == "FeatureCollection":
        features = content.get("features")
        if not isinstance(features, list):
            raise ValueError(f"{where} must have a list of features; got {type(features).__name__}.")
        for number, feature in enumerate(features):
            at = f"{where}, features[{number}],"
            if not isinstance(feature, Mapping) or feature.get("type") != "Feature":
                raise ValueError(f"{at} must be a Feature; got {_short(feature)}.")
            yield from _geometries(at, feature)
    elif kind == "Feature":
        geometry = content.get("geometry")
        if geometry is None:
            return
        if not isinstance(geometry, Mapping):
            raise ValueError(f"{where} must have a geometry; got {_short(geometry)}.")
        yield where, _class(content.get("properties")), geometry
    else:
        yield where, None, content


def _class(properties: Any) -> str | None:
    """QuPath's class: a name, or the names of a class and its parts."""
    value = properties.get("classification") if isinstance(properties, Mapping) else None
    if isinstance(value, Mapping):
        names = value.get("names")
        value = ": ".join(map(str, names)) if isinstance(names, list) else value.get("name")
    return value if isinstance(value, str) else None


def _polygons(where: str, geometry: Mapping[str, Any], depth: int = 0) -> Iterator[Polygon]:
    kind = geometry.get("type")
    if kind == "GeometryCollection":
        if depth == _DEEPEST:
            raise ValueError(f"{where} must not have collections nested deeper than {_DEEPEST}. Export it again.")
        parts = geometry.get("geometries")
        if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in parts):
            raise ValueError(f"{where} must have a list of geometries; got {_short(parts)}.")
        for part in parts:
            yield from _polygons(where, part, depth + 1)
    elif kind in ("Polygon", "MultiPolygon"):
        rings = geometry.get("coordinates")
        for polygon in [rings] if kind == "Polygon" else _list(where, rings):
            yield [_ring(where, ring) for ring in _list(where, polygon)]
    elif kind not in _NO_AREA:
        raise ValueError(f"{where} must be of a type that GeoJSON knows; got {_short(kind)}. Export it again.")


def _list(where: str, value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{where} must have coordinates, rings of positions; got {_short(value)}.")
    return value


def _ring(where: str, positions: Any) -> NDArray[np.float64]:
    """``[V, 2]`` of ``(x, y)``, open."""
    flat = [position[:2] if isinstance(position, list) else position for position in _list(where, positions)]
    try:
        ring = np.array(flat)
    except ValueError:
        ring = np.array("ragged")
    if ring.ndim != 2 or ring.shape[1] != 2 or ring.dtype.kind not in "iuf" or not np.isfinite(ring).all():
        raise ValueError(f"{where} must have positions of two finite numbers, x and y; got {_short(positions)}.")
    ring = ring.astype(np.float64)
    if (ring[0] == ring[-1]).all():
        ring = ring[:-1]
    if len(ring) < 3:
        raise ValueError(f"{where} must have rings of three corners or more; got {_short(positions)}.")
    return ring


def checked_transform(transform: Transform) -> Transform:
    """Six finite numbers that map no area to none."""
    values = tuple(float(value) for value in transform)[:6]  # an Affine of rasterio has nine, the last 0, 0 and 1
    if len(values) != 6 or not np.isfinite(values).all() or values[0] * values[4] == values[1] * values[3]:
        raise ValueError(
            f"transform must be (a, b, c, d, e, f), finite and invertible; got {tuple(transform)}. "
            "Pass that of the raster's header."
        )
    return values[0], values[1], values[2], values[3], values[4], values[5]


def _turned(ring: NDArray[np.float64], transform: Transform) -> NDArray[np.float64]:
    """``(x, y)`` of the map to ``(y, x)`` of pixels."""
    a, b, c, d, e, f = transform
    x, y = ring[:, 0] - c, ring[:, 1] - f
    return np.stack([a * y - d * x, e * x - b * y], axis=1) / (a * e - b * d)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
