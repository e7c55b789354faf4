"""Modules that networks are made of."""

from zoomkern.nn.attention import AttentionNetwork
from zoomkern.nn.baseline import RunningMeanBaseline
from zoomkern.nn.complement import complement_logits
from zoomkern.nn.cross_attention import CrossAttentionPooling
from zoomkern.nn.features import FeatureNetwork
from zoomkern.nn.lenet import LeNet
from zoomkern.nn.perturbation import PerturbedTopKSelection, perturbed_topk
from zoomkern.nn.pooling import GatedAttentionPooling, LogSumExpPooling, MaxPooling, MeanPooling, SoftAttentionPooling
from zoomkern.nn.resnet import ResNetFeatures
from zoomkern.nn.timm_features import TimmFeatures

__all__ = [
    "AttentionNetwork",
    "CrossAttentionPooling",
    "FeatureNetwork",
    "GatedAttentionPooling",
    "LeNet",
    "LogSumExpPooling",
    "MaxPooling",
    "MeanPooling",
    "PerturbedTopKSelection",
    "ResNetFeatures",
    "RunningMeanBaseline",
    "SoftAttentionPooling",
    "TimmFeatures",
    "complement_logits",
    "perturbed_topk",
]
