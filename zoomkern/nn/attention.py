"""Attention networks: from a low-resolution view to the logits of a grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def local_contrast(view: Tensor, size: int = 5) -> Tensor:
    """Logarithm of how far each pixel lies from the mean of its neighbourhood.

    Invariant to a shift of the view's brightness, and a change of its scale adds one constant to the whole map, which
    a softmax does not see. A tenth of the view's mean contrast is added first, so that flat places stay finite.

    Args:
        view: ``[B, C, Vh, Vw]`` floating point.
        size: odd side of the neighbourhood in view pixels.

    Returns:
        ``[B, Vh, Vw]``.
    """
    margin = size // 2
    padded = F.pad(view, (margin,) * 4, mode="replicate")
    contrast = (view - F.avg_pool2d(padded, size, stride=1)).abs().mean(1)
    floor = 0.1 * contrast.mean((1, 2), keepdim=True) + torch.finfo(contrast.dtype).tiny
    return (contrast + floor).log()


class AttentionNetwork(nn.Module):
    """A small convolutional network that scores every cell of a low-resolution view.

    The last layer starts at zero, so training starts from uniform attention. Where objects are so small that uniform
    attention hardly ever meets one, nothing can be learnt from it; ``contrast`` then starts from attention proportional
    to the view's local contrast raised to that power, and this power is learnt along with the rest.

    Args:
        in_channels: channels of the view.
        channels: width of each hidden layer.
        kernel_size: odd size of every kernel, in view pixels.
        pool: a max pool of this size before the last layer makes the grid coarser than the view.
        contrast: power of local contrast that attention starts from; None leaves the term out.

    Source:
        Katharopoulos & Fleuret, ICML 2019: convolutions 8-8-1 with tanh, "same" borders.

    Example:
        >>> AttentionNetwork(1)(torch.rand(2, 1, 64, 64)).shape
        torch.Size([2, 64, 64])
    """

    def __init__(
        self,
        in_channels: int = 1,
        channels: Sequence[int] = (8, 8),
        kernel_size: int = 3,
        pool: int = 1,
        contrast: float | None = None,
    ) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"AttentionNetwork: kernel_size must be odd and positive; got {kernel_size}.")
        if pool < 1:
            raise ValueError(f"AttentionNetwork: pool must be at least 1; got {pool}.")
        layers: list[nn.Module] = []
        width = in_channels
        for hidden in channels:
            # replicated borders: a frame of zeros would look like an object to a 3 x 3 kernel
            layers += [nn.Conv2d(width, hidden, kernel_size, padding="same", padding_mode="replicate"), nn.Tanh()]
            width = hidden
        score = nn.Conv2d(width, 1, 1, bias=False)  # a softmax does not see a bias
        nn.init.zeros_(score.weight)
        self.hidden = nn.Sequential(*layers)
        self.pool = nn.MaxPool2d(pool) if pool > 1 else nn.Identity()
        self.score = score
        self.contrast = None if contrast is None else nn.Parameter(torch.tensor(float(contrast)))

    def forward(self, view: Tensor) -> Tensor:
        """Score the cells.

        Args:
            view: ``[B, C, Vh, Vw]`` low-resolution view.

        Returns:
            ``[B, Gh, Gw]`` logits, with ``Gh = Vh // pool`` and ``Gw = Vw // pool``.
        """
        logits: Tensor = self.score(self.pool(self.hidden(view))).squeeze(1)
        if self.contrast is not None:
            logits = logits + self.contrast * self.pool(local_contrast(view))
        return logits
