"""Modules that networks are made of."""

from zoomkern.nn.attention import AttentionNetwork
from zoomkern.nn.baseline import RunningMeanBaseline
from zoomkern.nn.features import FeatureNetwork

__all__ = ["AttentionNetwork", "FeatureNetwork", "RunningMeanBaseline"]
