"""Data sets and their miniature generators."""

from zoomkern.data.blood import BloodNeedles
from zoomkern.data.camelyon import Camelyon16
from zoomkern.data.colon import ColonCancer
from zoomkern.data.dataset import Example, ImageSet
from zoomkern.data.digits import Canvas, CanvasBatch, DigitCanvases
from zoomkern.data.fmow import FMoW
from zoomkern.data.folder import ImageFolder, ImageTable
from zoomkern.data.folds import fixed_folds, grouped_folds, holdout, stratified_folds
from zoomkern.data.idx import load_mnist
from zoomkern.data.megapixel import MegapixelMNIST
from zoomkern.data.needle_camelyon import NeedleCamelyon
from zoomkern.data.needle_mnist import NeedleMNIST
from zoomkern.data.outlines import Outline
from zoomkern.data.stats import SetStatistics, set_statistics
from zoomkern.data.traffic import TrafficScenes, TrafficSigns

__all__ = [
    "BloodNeedles",
    "Camelyon16",
    "Canvas",
    "CanvasBatch",
    "ColonCancer",
    "DigitCanvases",
    "Example",
    "FMoW",
    "ImageFolder",
    "ImageSet",
    "ImageTable",
    "MegapixelMNIST",
    "NeedleCamelyon",
    "NeedleMNIST",
    "Outline",
    "SetStatistics",
    "TrafficScenes",
    "TrafficSigns",
    "fixed_folds",
    "grouped_folds",
    "holdout",
    "load_mnist",
    "set_statistics",
    "stratified_folds",
]
