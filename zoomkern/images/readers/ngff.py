"""What the attributes of an OME-Zarr group say: NGFF 0.4 and 0.5."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from zoomkern.images.readers.reader import Header, numpy_type
from zoomkern.images.readers.resolution import MICRONS, mean_mpp

#: Numbers that JSON does not have, as Zarr spells them.
_SPELT = ("NaN", "Infinity", "-Infinity")


def multiscale_of(attributes: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The first image of a group; None where there is none."""
    attributes = attributes.get("ome", attributes)
    multiscales = attributes.get("multiscales")
    return multiscales[0] if multiscales else None


def axes_of_multiscale(multiscale: Mapping[str, Any]) -> str:
    """A letter for each dimension, of ``tczyx``.

    Raises:
        ValueError: There are other ones, or height or width is missing.
    """
    named = multiscale.get("axes", "tczyx")
    axes = "".join(str(axis["name"] if isinstance(axis, Mapping) else axis) for axis in named)
    if not set("yx") <= set(axes) <= set("tczyx") or len(set(axes)) != len(axes):
        raise ValueError(f"its axes are {axes!r}; those of an image are among 'tczyx', with y and x")
    return axes


def mpp_of_multiscale(multiscale: Mapping[str, Any]) -> float | None:
    """Microns per pixel of the finest level: its scales and those of the whole image, by the axes' units."""
    axes = axes_of_multiscale(multiscale)
    units = [axis.get("unit") if isinstance(axis, Mapping) else None for axis in multiscale.get("axes", ())]
    if len(units) != len(axes):
        return None
    sides = []
    for letter in "xy":
        at = axes.index(letter)
        size = MICRONS.get(str(units[at]), 0.0)
        for transforms in (multiscale["datasets"][0], multiscale):
            for transform in transforms.get("coordinateTransformations", ()):
                if transform.get("type") == "scale":
                    size *= float(transform["scale"][at])
        sides.append(size)
    return mean_mpp(*sides)


def with_own(header: Header, attributes: Mapping[str, Any]) -> Header:
    """The header with what ``zoomkern convert`` wrote beside the multiscales, which NGFF has no names for.

    Raises:
        ValueError: It is not what that writes.
    """
    said = attributes.get("zoomkern")
    if said is None:
        return header
    if not isinstance(said, Mapping):
        raise ValueError(f"its attribute 'zoomkern' must be an object; it is {type(said).__name__}")
    found: dict[str, Any] = {}
    if "background" in said:
        found["background"] = _background(said["background"], header.dtype)
    if "mpp" in said:
        found["mpp"] = None if said["mpp"] is None else _number("mpp", said["mpp"])
        if found["mpp"] is not None and not 0 < found["mpp"] < math.inf:
            raise ValueError(f"its mpp must be positive; it is {found['mpp']}")
    if "nodata" in said:
        found["nodata"] = None if said["nodata"] is None else _number("nodata", said["nodata"])
    transform, crs, properties = said.get("transform"), said.get("crs"), said.get("properties", {})
    if transform is not None:
        if not isinstance(transform, (list, tuple)) or len(transform) != 6:
            raise ValueError(f"its transform must be six numbers; it is {transform!r:.100}")
        found["transform"] = tuple(_number("transform", value) for value in transform)
        if not all(map(math.isfinite, found["transform"])):
            raise ValueError(f"its transform must be finite; it is {found['transform']}")
    if crs is not None and not isinstance(crs, str):
        raise ValueError(f"its crs must be a text; it is {type(crs).__name__}")
    if not isinstance(properties, Mapping) or not all(isinstance(value, str) for value in properties.values()):
        raise ValueError("its properties must be texts by name")
    return header._replace(crs=crs, properties=dict(properties), **found)


def _number(name: str, value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and value in _SPELT:
        return float(value)
    raise ValueError(f"its {name} must be a number; it is {value!r:.100}")


def _background(value: object, dtype: torch.dtype) -> float:
    """A background, which pixels of the type must hold."""
    found = _number("background", value)
    kind = numpy_type(dtype)
    if kind.kind != "f" and not (found.is_integer() and np.iinfo(kind).min <= found <= np.iinfo(kind).max):
        raise ValueError(f"its background must be a {kind}; it is {found}")
    return found
