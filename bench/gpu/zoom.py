"""A whole training step of the two-stage network on a GPU: zoomkern's, and the published way with all batches batched.

Both look at the same pixels in host memory with the same networks. The published code crops on the host: it fetches the
drawn tiles' numbers, cuts the tiles there and copies them; then the same for sub-tiles. It does so image by image and
tile by tile; here the networks see all tiles, and all sub-tiles, in one batch each, so that what is compared is drawing
and reading rather than the overhead of small convolutions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from bench import networks
from bench.networks import CASES, CLASSES
from bench.workloads import MEAN, STD
from zoomkern import ImageBank, PinnedImage
from zoomkern.images.scaling import scaled, scaled_size
from zoomkern.nn import LeNet

CASE = CASES["colon"]
BATCH, RESIDENT, SIDE = 10, 40, CASE.size
TILE, PATCH, DRAWS = CASE.tiles[0], CASE.patch, CASE.draws


class Step:
    """zoomkern's step: images are chosen from banks on the device, so that a graph sees others at every replay.

    Attributes:
        nbytes: of tile views and sub-tiles that are read, at most.
    """

    def __init__(self, device: torch.device | str = "cuda") -> None:
        generator = torch.Generator().manual_seed(0)
        pixels = [
            torch.randint(0, 256, (SIDE, SIDE, 3), dtype=torch.uint8, generator=generator) for _ in range(RESIDENT)
        ]
        self.images = [image.permute(2, 0, 1) for image in pixels]
        first, second = (scaled_size((SIDE, SIDE), share) for share in (CASE.view_scale, CASE.tile_scale))
        self.small = [scaled(image, second) for image in self.images]
        self.views = networks.read_views([scaled(image, first) for image in self.images]).to(device)  # [n, 3, h, w]
        with torch.device(device):
            self.network = networks.two_stage(DRAWS, PATCH, TILE, CASE.tile_scale, LeNet())
            self.labels = torch.randint(0, CLASSES, (BATCH,))
            self.ids = torch.randint(0, RESIDENT, (BATCH,))
        capturable = torch.device(device).type == "cuda"
        self.optimizer = torch.optim.Adam(self.network.parameters(), 1e-4, capturable=capturable)
        self.banks = [ImageBank([PinnedImage(image) for image in level], device) for level in (self.images, self.small)]
        tile = self.network.view_size
        self.nbytes = BATCH * DRAWS * 3 * (tile[0] * tile[1] + PATCH * PATCH)

    def __call__(self) -> Tensor:
        self.ids.random_(RESIDENT)
        images, tiles = (bank[self.ids] for bank in self.banks)
        return self.learn(self.network(images, self.views[self.ids], tiles).scores)

    def learn(self, scores: Tensor) -> Tensor:
        """The loss; the network has learned from it."""
        loss = F.cross_entropy(scores, self.labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()


class PublishedStep(Step):
    """Numbers to the host, crops there, pixels to the device; the gradient is that of a weighted mean of features."""

    def __call__(self) -> Tensor:
        ids = torch.randint(0, RESIDENT, (BATCH,))
        view = self.views[ids.to(self.views.device)]
        alpha = self.network.attention(view)  # [B, Gh, Gw]
        grid, p = alpha.shape[1:], alpha.flatten(1).softmax(1)
        drawn = torch.multinomial(p.detach(), DRAWS, replacement=True)  # [B, N]
        owners, cells, counts = [], [], []
        for b, row in enumerate(drawn.tolist()):
            for cell in sorted(set(row)):
                owners.append(b)
                cells.append(cell)
                counts.append(row.count(cell))
        size = self.network.view_size
        corners = [place(cell, grid, self.small[0].shape[1:], size) for cell in cells]
        views = self.to_device([self.small[ids[b]] for b in owners], corners, size)
        beta = self.network.tile_attention(views)  # [M, gh, gw]
        inside, q = beta.shape[1:], beta.flatten(1).softmax(1)
        most = min(DRAWS, q.shape[1])
        noise = -torch.empty_like(q).exponential_().log()
        order = (q.detach().log() + noise).topk(most).indices.tolist()
        images, places, outer, inner, share = [], [], [], [], []
        for tile, (b, corner, count) in enumerate(zip(owners, corners, counts, strict=True)):
            count = min(count, most)
            start = [side * SIDE // self.small[0].shape[1] for side in corner]
            for item in order[tile][:count]:
                at = place(item, inside, (TILE, TILE), (PATCH, PATCH))
                images.append(self.images[ids[b]])
                places.append([start[0] + at[0], start[1] + at[1]])
                outer.append(b * p.shape[1] + cells[tile])
                inner.append(tile * q.shape[1] + item)
                share.append(counts[tile] / (DRAWS * count))
        features = self.network.features(self.to_device(images, places, (PATCH, PATCH)))  # [S, D]
        device = features.device
        chance = p.flatten()[torch.tensor(outer, device=device)] * q.flatten()[torch.tensor(inner, device=device)]
        weight = torch.tensor(share, device=device) * (chance / chance.detach())
        rows = torch.tensor([item // p.shape[1] for item in outer], device=device)
        pooled = features.new_zeros(BATCH, features.shape[1]).index_add(0, rows, weight[:, None] * features)
        return self.learn(self.network.classifier(pooled))

    def to_device(self, images: list[Tensor], places: list[list[int]], size: tuple[int, int]) -> Tensor:
        """``[M, 3, h, w]`` float32, normalised; windows are moved inside the images."""
        height, width = size
        crops = []
        for image, (y, x) in zip(images, places, strict=True):
            top, left = min(max(y, 0), image.shape[1] - height), min(max(x, 0), image.shape[2] - width)
            crops.append(image[:, top : top + height, left : left + width])
        device = self.views.device
        batch = torch.stack(crops)
        batch = batch.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else batch
        mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (MEAN, STD))
        return (batch.float() / 255 - mean) / std


def place(cell: int, grid: torch.Size, pixels: tuple[int, ...], size: tuple[int, int]) -> list[int]:
    """Where a window starts that is centred on a cell."""
    at = (cell // grid[1], cell % grid[1])
    return [((2 * c + 1) * s - g * w) // (2 * g) for c, g, s, w in zip(at, grid, pixels, size, strict=True)]
