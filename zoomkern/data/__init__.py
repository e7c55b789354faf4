"""Data sets and their miniature generators."""

from zoomkern.data.digits import Canvas, CanvasBatch, DigitCanvases

__all__ = ["Canvas", "CanvasBatch", "DigitCanvases"]
