"""Pictures of what a network looked at, of how it learned, and of what a study found."""

from zoomkern.visual.attention import save_attention
from zoomkern.visual.curves import save_curves
from zoomkern.visual.histogram import count_magnitudes, save_histogram
from zoomkern.visual.lines import Point, save_lines
from zoomkern.visual.overlay import save_overlay
from zoomkern.visual.overview import area_mean, overview_size
from zoomkern.visual.sheet import save_sheet
from zoomkern.visual.tiles import Tiles
from zoomkern.visual.zoom import save_zoom

__all__ = [
    "Point",
    "Tiles",
    "area_mean",
    "count_magnitudes",
    "overview_size",
    "save_attention",
    "save_curves",
    "save_histogram",
    "save_lines",
    "save_overlay",
    "save_sheet",
    "save_zoom",
]
