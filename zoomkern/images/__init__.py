"""Images where they live: page memory, pyramids, banks of many, and what a caller may pass for them."""

from zoomkern.images.bank import ImageBank
from zoomkern.images.memory import host_module
from zoomkern.images.pinned import PinnedImage
from zoomkern.images.pyramid import Pyramid
from zoomkern.images.readers import open_image
from zoomkern.images.resolve import resolve_images

__all__ = ["ImageBank", "PinnedImage", "Pyramid", "host_module", "open_image", "resolve_images"]
