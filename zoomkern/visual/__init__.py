"""Pictures of what a network looked at."""

from zoomkern.visual.attention import save_attention
from zoomkern.visual.overview import area_mean, overview_size

__all__ = ["area_mean", "overview_size", "save_attention"]
