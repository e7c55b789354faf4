"""What the attributes of an OME-Zarr group say: NGFF 0.4 and 0.5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoomkern.images.readers.resolution import MICRONS, mean_mpp


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
