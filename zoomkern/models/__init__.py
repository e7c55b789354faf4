"""Whole networks."""

from zoomkern.models.attention_sampling import AttentionSampling, AttentionSamplingOutput
from zoomkern.models.zoom_in import ExactOutput, ZoomIn, ZoomInOutput

__all__ = ["AttentionSampling", "AttentionSamplingOutput", "ExactOutput", "ZoomIn", "ZoomInOutput"]
