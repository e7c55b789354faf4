"""Image files of any size, read in windows: one protocol, a module per library."""

from zoomkern.images.readers.opening import open_image
from zoomkern.images.readers.reader import Header, Reader, ReadError

__all__ = ["Header", "ReadError", "Reader", "open_image"]
