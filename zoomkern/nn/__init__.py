"""Modules that networks are made of."""

from zoomkern.nn.attention import AttentionNetwork
from zoomkern.nn.baseline import RunningMeanBaseline
from zoomkern.nn.complement import complement_logits
from zoomkern.nn.features import FeatureNetwork

__all__ = ["AttentionNetwork", "FeatureNetwork", "RunningMeanBaseline", "complement_logits"]
