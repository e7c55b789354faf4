"""Where on the map the pixels of a TIFF file lie."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

Transform = tuple[float, float, float, float, float, float]

_SCALE, _TIEPOINT, _MATRIX, _KEYS, _NODATA = 33550, 33922, 34264, 34735, 42113

_RASTER_TYPE, _GEOGRAPHIC, _PROJECTED = 1025, 2048, 3072
_PIXEL_IS_POINT = 2
_USER_DEFINED = 32767


def transform_of(page: Any) -> Transform | None:
    """``(a, b, c, d, e, f)`` from pixel corners to the map; None for a file without one."""
    tags = page.tags
    matrix, scale, tie = tags.valueof(_MATRIX), tags.valueof(_SCALE), tags.valueof(_TIEPOINT)
    if matrix is not None and len(matrix) == 16:
        a, b, c, d, e, f = (float(matrix[i]) for i in (0, 1, 3, 4, 5, 7))
    elif scale is not None and tie is not None and len(scale) >= 2 and len(tie) >= 6:
        a, b, d, e = float(scale[0]), 0.0, 0.0, -float(scale[1])
        c, f = float(tie[3]) - float(tie[0]) * a, float(tie[4]) - float(tie[1]) * e
    else:
        return None
    if _geo_keys(page).get(_RASTER_TYPE) == _PIXEL_IS_POINT:  # the map names centres of pixels
        c, f = c - (a + b) / 2, f - (d + e) / 2
    found = (a, b, c, d, e, f)
    return found if all(map(math.isfinite, found)) else None


def crs_of(page: Any, path: Path) -> str | None:
    """``EPSG:<code>`` from the GeoKeys; what rasterio says of a system of the file's own, where it is installed."""
    keys = _geo_keys(page)
    for key in (_PROJECTED, _GEOGRAPHIC):
        code = keys.get(key)
        if code is not None and 0 < code < _USER_DEFINED:
            return f"EPSG:{code}"
        if code is not None:
            break
    if not keys:
        return None
    try:
        import rasterio
    except ImportError:
        return None
    with rasterio.open(path, driver="GTiff") as raster:
        return None if raster.crs is None else str(raster.crs.to_string())


def nodata_of(page: Any) -> float | None:
    """GDAL's no-data value, as the file's samples hold it; None where there is none, or they cannot."""
    text = page.tags.valueof(_NODATA)
    try:
        value = float(str(text).strip().rstrip("\0").replace(",", "."))
    except ValueError:
        return None
    if np.issubdtype(page.dtype, np.floating):
        with np.errstate(over="ignore"):
            return float(page.dtype.type(value))
    if page.dtype == np.bool_ or not value.is_integer():
        return None
    limits = np.iinfo(page.dtype)
    return value if limits.min <= value <= limits.max else None


def _geo_keys(page: Any) -> dict[int, int]:
    """The keys whose value is a number of 16 bits."""
    directory = page.tags.valueof(_KEYS)
    if not isinstance(directory, tuple) or len(directory) < 4:
        return {}
    entries = [directory[at : at + 4] for at in range(4, min(len(directory), 4 + 4 * directory[3]) - 3, 4)]
    return {int(key): int(value) for key, where, _, value in entries if where == 0}
