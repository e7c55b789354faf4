"""Files that are there whole or not at all, as training writes its own."""

from zoomkern.images.files import alone, write_whole

__all__ = ["alone", "write_whole"]
