"""Attention networks: from a low-resolution view to the logits of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoomkern import checks

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}
POOLINGS = ("max", "mean")
PADDING_MODES = ("replicate", "zeros")


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
    if size < 1 or size % 2 == 0:
        raise ValueError(f"local_contrast: size must be odd and positive; got {size}.")
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
        kernel_size: odd size of every hidden layer's kernel, in view pixels.
        pool: pooling over squares of this size makes the grid coarser than the view. Where the view has no multiple of
            it, the squares are larger and share pixels, so that each cell sees its share of the view; then a GPU adds
            gradients in any order.
        contrast: power of local contrast that attention starts from; None leaves the term out.
        activation: behind each hidden layer, "tanh" or "relu".
        score_kernel_size: odd size of the last layer's kernel.
        pooling: "max" of what the hidden layers say, before the last layer; or "mean" of the scores, behind it.
        padding_mode: what lies outside the view, "replicate" or "zeros".

    Source:
        Katharopoulos & Fleuret, ICML 2019: convolutions 8-8-1 with tanh, "same" borders. Kong & Henao, CVPR 2022,
        official code: 3 x 3 convolutions 8-8-1 with ReLU and zeros outside; in the first stage each tile goes through
        them alone, with zeros around it, and its scores are averaged. Here tiles lie side by side and see each other.

    Example:
        >>> AttentionNetwork(1)(torch.rand(2, 1, 64, 64)).shape
        torch.Size([2, 64, 64])

        Both stages of Kong & Henao on colon cancer, tiles of 25 x 25 view pixels in the first one:

        >>> published = {"activation": "relu", "score_kernel_size": 3, "padding_mode": "zeros"}
        >>> AttentionNetwork(3, **published, pool=25, pooling="mean")(torch.rand(2, 3, 50, 50)).shape
        torch.Size([2, 2, 2])
        >>> AttentionNetwork(3, **published)(torch.rand(2, 3, 50, 50)).shape
        torch.Size([2, 50, 50])
    """

    def __init__(
        self,
        in_channels: int = 3,
        channels: Sequence[int] = (8, 8),
        kernel_size: int = 3,
        pool: int = 1,
        contrast: float | None = None,
        activation: str = "tanh",
        score_kernel_size: int = 1,
        pooling: str = "max",
        padding_mode: str = "replicate",
    ) -> None:
        super().__init__()
        for name, size in (("kernel_size", kernel_size), ("score_kernel_size", score_kernel_size)):
            if size < 1 or size % 2 == 0:
                raise ValueError(f"AttentionNetwork: {name} must be odd and positive; got {size}.")
        if pool < 1:
            raise ValueError(f"AttentionNetwork: pool must be at least 1; got {pool}.")
        bend = ACTIVATIONS[checks.choice("activation", activation, tuple(ACTIVATIONS))]
        self.pooling = checks.choice("pooling", pooling, POOLINGS)
        # replicated borders: a frame of zeros would look like an object to a 3 x 3 kernel
        borders: Any = {"padding": "same", "padding_mode": checks.choice("padding_mode", padding_mode, PADDING_MODES)}
        layers: list[nn.Module] = []
        width = in_channels
        for hidden in channels:
            layers += [nn.Conv2d(width, hidden, kernel_size, **borders), bend()]
            width = hidden
        # a softmax does not see a bias; one pixel has no border, and is not copied to be given one
        score = nn.Conv2d(width, 1, score_kernel_size, bias=False, **(borders if score_kernel_size > 1 else {}))
        nn.init.zeros_(score.weight)
        self.in_channels = checks.integer("in_channels", in_channels, 1)
        self.hidden = nn.Sequential(*layers)
        self.pool = pool
        self.score = score
        self.contrast = None if contrast is None else nn.Parameter(torch.tensor(float(contrast)))

    def forward(self, view: Tensor) -> Tensor:
        """Score the cells.

        Args:
            view: ``[B, C, Vh, Vw]`` low-resolution view.

        Returns:
            ``[B, Gh, Gw]`` logits, with ``Gh = Vh // pool`` and ``Gw = Vw // pool``.

        Raises:
            TypeError: a view that is not floating point.
            ValueError: one of other channels, or smaller than ``pool``.
        """
        checks.pixels("view", view, self.in_channels)
        if min(view.shape[-2:]) < self.pool:
            raise ValueError(
                f"view must have at least pool = {self.pool} pixels each way; got {list(view.shape)}. Make it "
                "larger, or pool less."
            )
        hidden = self.hidden(view)
        scores: Tensor = self.score(self._pooled(hidden)) if self.pooling == "max" else self._pooled(self.score(hidden))
        logits = scores.squeeze(1)
        if self.contrast is not None:
            logits = logits + self.contrast * self._pooled(local_contrast(view)[:, None]).squeeze(1)
        return logits

    def _pooled(self, maps: Tensor) -> Tensor:
        """``[B, C, Gh, Gw]``, each cell of the pixels in its share of ``maps [B, C, Vh, Vw]``."""
        if self.pool == 1:
            return maps
        height, width = maps.shape[2:]
        largest = self.pooling == "max"
        if height % self.pool == 0 and width % self.pool == 0:
            return F.max_pool2d(maps, self.pool) if largest else F.avg_pool2d(maps, self.pool)
        grid = (height // self.pool, width // self.pool)
        return F.adaptive_max_pool2d(maps, grid) if largest else F.adaptive_avg_pool2d(maps, grid)
