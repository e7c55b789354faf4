"""Whole networks to be measured, at the shapes of papers and on one image far larger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.workloads import MEAN, STD
from zoomkern import gather_patches
from zoomkern.images.scaling import scaled, scaled_size
from zoomkern.models import (
    AttentionSampling,
    BagNet,
    DenseNetwork,
    IterativePatchSelection,
    Network,
    PerturbedTopK,
    ZoomIn,
)
from zoomkern.models.network import device_of
from zoomkern.nn import AttentionNetwork, LeNet

READING = {"mean": MEAN, "std": STD}
CLASSES = 2


class Case(NamedTuple):
    """Shapes of one comparison.

    Args:
        size: side of the square image in pixels.
        view_scale: of the two-stage network's view.
        tile_scale: of its tiles, and of the one-stage networks' view.
        draws: patches read per image.
        patch: their side in pixels.
        tiles: sides of the two-stage network's tiles in pixels; a network each.
    """

    size: int
    view_scale: float
    tile_scale: float
    draws: int
    patch: int
    tiles: tuple[int, ...]

    @property
    def work(self) -> str:
        return (
            f"One image of {self.size} x {self.size} x 3 uint8, s1 = {self.view_scale:g}, s2 = {self.tile_scale:g}, "
            f"N = {self.draws}, {self.patch} x {self.patch}, tiles of {self.tiles[0]} x {self.tiles[0]}"
        )


#: Scales, draws and patches of Kong & Henao for colon cancer (tiles as in their code), NeedleCamelyon and Camelyon16;
#: the tiles of the latter two are not published.
CASES = {
    "colon": Case(500, 0.1, 0.2, 10, 27, (250, 100)),
    "needle": Case(1024, 0.25, 0.5, 30, 32, (128,)),
    "huge": Case(8192, 0.03125, 0.125, 100, 50, (256,)),
}
REFERENCE = "ZoomIn"
#: These look at every pixel, so their cost can be told from shapes, and can be too much.
DENSE = ("CNN", "BagNet")


def networks(case: Case) -> dict[str, Callable[[], Network]]:
    """How to make each network of a case; with the same features wherever patches are drawn."""

    def zoom_in(tile: int) -> Network:
        return two_stage(case.draws, case.patch, tile, case.tile_scale, LeNet())

    def patchwise(kind: Any) -> Network:
        return kind(CLASSES, case.draws, (case.patch,) * 2, in_channels=3, features=LeNet(), **READING)

    first, *others = case.tiles
    return {
        REFERENCE: lambda: zoom_in(first),
        **{f"{REFERENCE}, tiles of {tile}": lambda tile=tile: zoom_in(tile) for tile in others},
        "ATS": lambda: patchwise(AttentionSampling),
        "TopK": lambda: patchwise(PerturbedTopK),
        "IPS": lambda: patchwise(IterativePatchSelection),
        "CNN": lambda: DenseNetwork(CLASSES, **READING),
        "BagNet": lambda: BagNet(CLASSES, **READING),
    }


def two_stage(draws: int, patch: int, tile: int, scale: float, features: nn.Module) -> ZoomIn:
    attentions = {"attention": AttentionNetwork(3), "tile_attention": AttentionNetwork(3)}
    reading = {**attentions, **READING}
    return ZoomIn(CLASSES, draws, (patch, patch), (tile, tile), tile_scale=scale, features=features, **reading)


class Subject:
    """A network, what it looks at, and its optimiser.

    Args:
        network: to be measured; pixels go where it is.
        images: ``[3, H, W]`` uint8.
        views: ``B`` low-resolution views, uint8.
        tile_views: ``B`` images at the tiles' scale.
    """

    def __init__(
        self,
        network: Network,
        images: Sequence[Any],
        views: Sequence[Tensor] = (),
        tile_views: Sequence[Tensor] = (),
    ) -> None:
        device = device_of(network)
        self.network = network
        self.optimizer = torch.optim.Adam(network.parameters(), 1e-4)
        self.labels = torch.ones(len(images), dtype=torch.int64, device=device)
        self.pixels = {"images": images, "view": views, "tile_view": tile_views}
        self.pixels = {name: [part.to(device) for part in parts] for name, parts in self.pixels.items()}

    def scores(self) -> Tensor:
        """Reads the views as training does, and looks."""
        given = {**self.pixels, "view": read_views(self.pixels["view"])}
        return self.network(*(given[name] for name in self.network.inputs), seed=0).scores

    @torch.no_grad()
    def forward(self) -> Tensor:
        """One look, as at inference."""
        self.network.eval()
        return self.scores()

    def step(self) -> None:
        """One step of training; its gradients are gone afterwards."""
        self.network.train()
        F.cross_entropy(self.scores(), self.labels).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def subject(case: Case, name: str, image: Tensor, device: torch.device | str = "cpu") -> Subject:
    """A network of a case before ``image``; views are made beforehand, once per image as in training."""
    with torch.device(device):
        network = networks(case)[name]()
    if name in DENSE:
        return Subject(network, [image])
    size, scale = (case.size, case.size), case.view_scale if name.startswith(REFERENCE) else case.tile_scale
    view, tile_view = (scaled(image, scaled_size(size, share)) for share in (scale, case.tile_scale))
    return Subject(network, [image], [view], [tile_view])


def read_views(views: Sequence[Tensor]) -> Tensor | None:
    """``[B, 3, h, w]``, converted as patches are; None where there are none."""
    if not views:
        return None
    corner = torch.zeros(len(views), 1, 2, dtype=torch.int64, device=views[0].device)
    return gather_patches(list(views), corner, (views[0].shape[1], views[0].shape[2]), **READING).squeeze(1)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions beside a shortcut, the second with the stride."""

    def __init__(self, inputs: int, width: int, outputs: int, stride: int) -> None:
        super().__init__()
        middle = _normalised(width, width, 3, stride)
        self.layers = nn.Sequential(
            _normalised(inputs, width, 1), nn.ReLU(), middle, nn.ReLU(), _normalised(width, outputs, 1)
        )
        self.shortcut = nn.Identity() if inputs == outputs else _normalised(inputs, outputs, 1, stride)

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = F.relu(self.layers(features) + self.shortcut(features))
        return result


class ResNet50(nn.Module):
    """ResNet-50 without its classifier: 23.5 million weights, 4.1 billion multiplications for 224 x 224.

    Source:
        He, Zhang, Ren & Sun, Deep Residual Learning for Image Recognition, CVPR 2016; the stride in the 3 x 3
        convolutions, as libraries have it.
    """

    out_features = 2048

    def __init__(self) -> None:
        super().__init__()
        parts: list[nn.Module] = [_normalised(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        inputs = 64
        for stage, blocks in enumerate((3, 4, 6, 3)):
            width = 64 << stage
            for block in range(blocks):
                parts.append(Bottleneck(inputs, width, 4 * width, 2 if stage and not block else 1))
                inputs = 4 * width
        self.layers = nn.Sequential(*parts)

    def forward(self, patches: Tensor) -> Tensor:
        features: Tensor = self.layers(patches).mean((2, 3))
        return features


def _normalised(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))
