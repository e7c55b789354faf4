"""Feature networks: from a patch to a vector."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from zoomkern import checks


class FeatureNetwork(nn.Module):
    """Convolutions with ReLU, a global max pool, unit length.

    Max pooling finds the object wherever it lies in the patch; unit length keeps one patch from outshouting the others.

    Args:
        in_channels: channels of a patch.
        channels: width of each layer; the last one is the feature size ``D``.
        kernel_sizes: odd size of each layer's kernel, in its input's pixels.
        strides: stride of each layer.
        normalise: scale features to unit length.

    Source:
        Katharopoulos & Fleuret, ICML 2019: kernels 7-3-3-3, 32 channels, GlobalMaxPool, L2.

    Example:
        >>> FeatureNetwork(1)(torch.rand(6, 1, 64, 64)).shape
        torch.Size([6, 32])
    """

    def __init__(
        self,
        in_channels: int = 3,
        channels: Sequence[int] = (32, 32, 32, 32),
        kernel_sizes: Sequence[int] = (7, 3, 3, 3),
        strides: Sequence[int] = (1, 1, 1, 1),
        normalise: bool = True,
    ) -> None:
        super().__init__()
        if not len(channels) == len(kernel_sizes) == len(strides) >= 1:
            raise ValueError(
                "FeatureNetwork: channels, kernel_sizes and strides must name the same number of layers, at least one; "
                f"got {len(channels)}, {len(kernel_sizes)} and {len(strides)}."
            )
        if any(kernel < 1 or kernel % 2 == 0 for kernel in kernel_sizes):
            raise ValueError(f"FeatureNetwork: kernel_sizes must be odd and positive; got {tuple(kernel_sizes)}.")
        layers: list[nn.Module] = []
        width = in_channels
        for hidden, kernel, stride in zip(channels, kernel_sizes, strides, strict=True):
            convolution = nn.Conv2d(width, hidden, kernel, stride, padding=kernel // 2)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            layers += [convolution, nn.ReLU()]
            width = hidden
        self.in_channels = checks.integer("in_channels", in_channels, 1)
        self.layers = nn.Sequential(*layers)
        self.out_features = width
        self.normalise = normalise

    def forward(self, patches: Tensor) -> Tensor:
        """Describe the patches.

        Args:
            patches: ``[M, C, Ph, Pw]`` floating point.

        Returns:
            ``[M, D]``, nonnegative, of unit length where ``normalise`` (a patch that excites nothing stays 0).

        Raises:
            TypeError: patches that are not floating point.
            ValueError: patches of other channels.
        """
        checks.pixels("patches", patches, self.in_channels)
        maps: Tensor = self.layers(patches)  # [M, D, h, w]
        features = maps.amax((2, 3))
        return F.normalize(features, dim=1, eps=1e-6) if self.normalise else features
