"""A page on this machine that zooms into an image like a map, with what a network looked at above it."""

from zoomkern.viewer.overlays import Look, find_look
from zoomkern.viewer.picture import Picture
from zoomkern.viewer.server import ViewServer

__all__ = ["Look", "Picture", "ViewServer", "find_look"]
