"""Small maps over huge images, as other programs read them."""

from __future__ import annotations

import io
import uuid
from typing import Any

import numpy as np

#: Of OME files that are equal byte for byte when their content is.
_NAMESPACE = uuid.UUID("5f2b1a0e-9d5c-4c58-8a0e-0b6f6f0f7a11")


def require_tifffile() -> Any:
    """The library that writes.

    Raises:
        ImportError: it is not installed; the message names the extra.
    """
    try:
        import tifffile
    except ImportError as error:
        raise ImportError("writing OME-TIFF needs tifffile: pip install 'zoomkern[slides]'") from error
    return tifffile


def ome_map(values: np.ndarray[Any, Any], name: str, cell_size: tuple[float, float] | None = None) -> bytes:
    """An OME-TIFF file of one channel.

    Args:
        values: float32 ``[h, w]``.
        name: of the channel.
        cell_size: ``(height, width)`` of a value in microns; None where it is unknown.

    Returns:
        The file's bytes, the same for the same arguments.

    Raises:
        ImportError: tifffile is not installed.
    """
    tifffile = require_tifffile()
    metadata: dict[str, Any] = {"axes": "YX", "Channel": {"Name": name}}
    if cell_size is not None:
        for axis, size in zip("YX", cell_size, strict=True):
            metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "µm"}
    content = values.tobytes() + repr((values.shape, name, cell_size)).encode()
    metadata["UUID"] = f"urn:uuid:{uuid.uuid5(_NAMESPACE, content.hex())}"
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer, np.ascontiguousarray(values, np.float32), ome=True, metadata=metadata, photometric="minisblack"
    )
    return buffer.getvalue()
