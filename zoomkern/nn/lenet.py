"""The small feature network of the published Zoom-In code."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from zoomkern import checks

#: Side of the smallest patch of which a pixel is left after two valid 5 x 5 convolutions and two halvings.
LEAST_SIDE = 16


class LeNet(nn.Module):
    """Two 5 x 5 convolutions with ReLU, each followed by a max pool that halves, a global average pool, unit length.

    The convolutions are valid, so nothing outside the patch takes part; a patch has at least 16 x 16 pixels.

    Args:
        in_channels: channels of a patch.
        normalise: scale features to unit length.
        batch_norm: normalise over the batch behind each convolution, which the original does not; on small sets of
            stained tissue nothing else helped training as much. Padding of a draw takes part.

    Attributes:
        out_features: feature size ``D = 48``.

    Source:
        Kong & Henao, CVPR 2022, official code: convolutions 3-36-48; after LeCun et al., Proc. IEEE 1998.

    Example:
        >>> LeNet()(torch.rand(6, 3, 27, 27)).shape
        torch.Size([6, 48])
    """

    out_features = 48

    def __init__(self, in_channels: int = 3, normalise: bool = True, batch_norm: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width, hidden in ((in_channels, 36), (36, self.out_features)):
            convolution = nn.Conv2d(width, hidden, 5)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            norm: list[nn.Module] = [nn.BatchNorm2d(hidden)] if batch_norm else []
            layers += [convolution, *norm, nn.ReLU(), nn.MaxPool2d(2)]
        self.in_channels = checks.integer("in_channels", in_channels, 1)
        self.layers = nn.Sequential(*layers)
        self.normalise = normalise

    def forward(self, patches: Tensor) -> Tensor:
        """Describe the patches.

        Args:
            patches: ``[M, C, Ph, Pw]`` floating point, at least 16 x 16 pixels.

        Returns:
            ``[M, 48]``, nonnegative, of unit length where ``normalise`` (a patch that excites nothing stays 0).

        Raises:
            TypeError: patches that are not floating point.
            ValueError: smaller patches, or patches of other channels.
        """
        checks.pixels("patches", patches, self.in_channels)
        if min(patches.shape[-2:]) < LEAST_SIDE:
            raise ValueError(
                f"patches must have at least {LEAST_SIDE} x {LEAST_SIDE} pixels for LeNet; got {list(patches.shape)}. "
                "Read larger ones, or use FeatureNetwork."
            )
        features: Tensor = self.layers(patches).mean((2, 3))
        return F.normalize(features, dim=1, eps=1e-6) if self.normalise else features
