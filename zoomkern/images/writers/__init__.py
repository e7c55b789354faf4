"""Copies of images that are quick to read, or that other tools read."""

from zoomkern.images.writers.conversion import FORMATS, convert

__all__ = ["FORMATS", "convert"]
