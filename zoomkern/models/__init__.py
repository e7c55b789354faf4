"""Whole networks."""

from zoomkern.models.attention_sampling import AttentionSampling, AttentionSamplingOutput
from zoomkern.models.bagnet import BagNet, BagNetOutput
from zoomkern.models.dense import DenseNetwork, DenseNetworkOutput
from zoomkern.models.network import Network
from zoomkern.models.patch_selection import IterativePatchSelection, PatchSelectionOutput
from zoomkern.models.perturbed_topk import PerturbedTopK, PerturbedTopKOutput
from zoomkern.models.zoom_in import ExactOutput, ZoomIn, ZoomInOutput

__all__ = [
    "AttentionSampling",
    "AttentionSamplingOutput",
    "BagNet",
    "BagNetOutput",
    "DenseNetwork",
    "DenseNetworkOutput",
    "ExactOutput",
    "IterativePatchSelection",
    "Network",
    "PatchSelectionOutput",
    "PerturbedTopK",
    "PerturbedTopKOutput",
    "ZoomIn",
    "ZoomInOutput",
]
