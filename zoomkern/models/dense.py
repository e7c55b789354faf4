"""The plain rival: a convolutional network on the whole image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoomkern import checks
from zoomkern.models.arguments import PIXELS, checked_reading, linear_classifier
from zoomkern.models.network import Network, device_of
from zoomkern.models.whole_images import whole_images
from zoomkern.nn.resnet import ResNetFeatures
from zoomkern.typing import ImageBatch


class DenseNetworkOutput(NamedTuple):
    """What one forward pass concluded.

    Args:
        scores: ``[B, K]`` class scores before the softmax.
        pooled: ``[B, D]`` feature of the image.
    """

    scores: Tensor
    pooled: Tensor


class DenseNetwork(Network):
    """A feature network on every pixel of the image, and a linear classifier.

    What attention sampling saves is measured against it: time and memory grow with the image.

    Args:
        num_classes: number of classes ``K``.
        features: network from images ``[B, C, H, W]`` to features ``[B, D]`` with an attribute ``out_features``; None
            is :class:`~zoomkern.nn.ResNetFeatures` on ``in_channels``, eight layers of 32 channels.
        in_channels: image channels, for the network made here.
        image_scale: in (0, 1]; below 1 the network sees ``round(image_scale * size)`` pixels, anti-aliased.
        **reading: further arguments of :func:`zoomkern.gather_patches`, such as ``mean``, ``std`` and ``dtype``.

    Memory:
        Every pixel of the batch, and the network's maps.

    Source:
        The CNN that Katharopoulos & Fleuret, ICML 2019, and Kong & Henao, CVPR 2022, compare with.

    Example:
        >>> model = DenseNetwork(2, mean=0.5, std=0.5)
        >>> scores = model(images).scores
    """

    inputs = ("images",)

    def __init__(
        self,
        num_classes: int,
        *,
        features: nn.Module | None = None,
        in_channels: int = 3,
        image_scale: float = 1.0,
        **reading: Any,
    ) -> None:
        super().__init__()
        self.features = ResNetFeatures(in_channels) if features is None else features
        self.classifier = linear_classifier(self.features.out_features, num_classes)
        self.image_scale = checks.share("image_scale", image_scale)
        self.reading = checked_reading(reading, PIXELS + ("level",))

    def forward(
        self, images: Tensor | Sequence[Any] | ImageBatch, *, seed: int | Tensor | None = None
    ) -> DenseNetworkOutput:
        """Read everything, conclude.

        Args:
            images: ``B`` images of one size on the network's device, anything :func:`zoomkern.gather_patches` takes.
            seed: without effect, for nothing is drawn.

        Returns:
            Class scores and the feature they are made of.
        """
        whole = whole_images(images, device_of(self), **self.reading)  # [B, C, H, W]
        if self.image_scale < 1:
            height, width = (max(round(self.image_scale * side), 1) for side in whole.shape[2:])
            wide = whole.float() if whole.dtype in (torch.float16, torch.bfloat16) else whole
            whole = F.interpolate(wide, (height, width), mode="bilinear", antialias=True).to(whole.dtype)
        pooled: Tensor = self.features(whole)
        return DenseNetworkOutput(self.classifier(pooled), pooled)
