"""Whole networks."""

from zoomkern.models.attention_sampling import AttentionSampling, AttentionSamplingOutput

__all__ = ["AttentionSampling", "AttentionSamplingOutput"]
