"""A set and a network small enough to train in a test; scripts that a test starts import it, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from zoomkern.data import ImageSet
from zoomkern.models import IterativePatchSelection, PerturbedTopK, ZoomIn
from zoomkern.nn import AttentionNetwork, FeatureNetwork
from zoomkern.training.data import ClassificationDataModule
from zoomkern.training.task import ClassificationTask

#: Two epochs of attention sampling on :func:`save_pictures`.
RECIPE = """
model:
  num_classes: 2
  model:
    class_path: zoomkern.models.AttentionSampling
    init_args:
      num_classes: 2
      num_samples: 9
      patch_size: [12, 12]
      attention:
        class_path: zoomkern.nn.AttentionNetwork
        init_args: {in_channels: 1, contrast: 1}
      features:
        class_path: zoomkern.nn.FeatureNetwork
        init_args: {in_channels: 1, channels: [8], kernel_sizes: [3], strides: [1]}
    dict_kwargs: {mean: 0.2, std: 0.2}
  optimizer:
    class_path: torch.optim.Adam
    init_args: {lr: 0.05}
  score_scale: 10
  warmup: 5
data:
  images:
    class_path: zoomkern.data.ImageFolder
    init_args: {root: ROOT}
  validation: 0.25
  view_scale: 0.25
  batch_size: 6
trainer:
  max_epochs: 2
  accelerator: cpu
  enable_progress_bar: false
"""


class Squares(ImageSet):
    """Noise of 48 x 48, with a bright square of 8 x 8 where the label is 1.

    Args:
        length: number of images.
        group_size: images of a group.
    """

    def __init__(self, length: int = 12, group_size: int = 1) -> None:
        names = [f"squares/{i}" for i in range(length)]
        groups = [f"{i // group_size}" for i in range(length)] if group_size > 1 else None
        super().__init__(["none", "square"], names, [i % 2 for i in range(length)], groups)
        self.made = 0

    def image(self, index: int) -> Tensor:
        self.made += 1
        image = torch.randint(0, 100, (1, 48, 48), generator=torch.Generator().manual_seed(index), dtype=torch.uint8)
        for x0, y0, x1, y1 in self.objects(index).long().tolist():
            image[:, y0:y1, x0:x1] += 150
        return image

    def size(self, index: int) -> tuple[int, int]:
        return 48, 48

    def objects(self, index: int) -> Tensor:
        corner = torch.randint(0, 41, (2,), generator=torch.Generator().manual_seed(~index % 2**63))
        return torch.cat((corner, corner + 8))[None].double()[: self.labels[index]]


class Large(Squares):
    """The same in a corner of a canvas.

    Args:
        length: number of images.
        side: of the canvas, in pixels.
    """

    def __init__(self, length: int, side: int) -> None:
        super().__init__(length)
        self.side = side

    def image(self, index: int) -> Tensor:
        canvas = torch.zeros(1, self.side, self.side, dtype=torch.uint8)
        canvas[:, :48, :48] = super().image(index)
        return canvas

    def size(self, index: int) -> tuple[int, int]:
        return self.side, self.side


class Noisy(nn.Module):
    """Features behind dropout, which a resumed run must repeat."""

    def __init__(self) -> None:
        super().__init__()
        self.features = FeatureNetwork(1, (8,), (3,), (1,))
        self.out_features = 8

    def forward(self, patches: Tensor) -> Tensor:
        return nn.functional.dropout(self.features(patches), 0.3, self.training)


def network(features: nn.Module | None = None) -> ZoomIn:
    """Two stages on 48 x 48 pixels."""
    return ZoomIn(
        2,
        4,
        (12, 12),
        (24, 24),
        tile_scale=0.5,
        attention=AttentionNetwork(1, (4,)),
        tile_attention=AttentionNetwork(1, (4,)),
        features=features or FeatureNetwork(1, (8,), (3,), (1,)),
        mean=0.2,
        std=0.2,
    )


def selection(number: int = 3, **reading: Any) -> IterativePatchSelection:
    """The best patches of 48 x 48 pixels, of the 16 there are."""
    features = FeatureNetwork(1, (8,), (3,), (1,))
    return IterativePatchSelection(2, number, 12, features=features, mean=0.2, std=0.2, **reading)


def perturbed() -> PerturbedTopK:
    """The best places of the view."""
    attention, features = AttentionNetwork(1, (4,), contrast=1.0), FeatureNetwork(1, (8,), (3,), (1,))
    return PerturbedTopK(2, 3, 12, num_noise=10, attention=attention, features=features, mean=0.2, std=0.2)


def parts(images: ImageSet | None = None, **options: Any) -> tuple[ClassificationTask, ClassificationDataModule]:
    """A task and its data, the same at every call."""
    torch.manual_seed(0)
    task = ClassificationTask(network(Noisy()), 2, contrast=1.0, contrast_from=1, score_scale=5.0)
    given = {"validation": 0.25, "view_scale": 0.25, "tile_scale": 0.5, "batch_size": 4, **options}
    return task, ClassificationDataModule(images or Squares(), **given)


def trainer(folder: Path, epochs: int = 3, **options: Any) -> L.Trainer:
    """A silent trainer on the processor."""
    given: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "callbacks": [], **options}
    return L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **given,
    )


def save_pictures(root: Path, length: int = 24) -> Path:
    """:class:`Squares` as PNG files, a folder per class."""
    from PIL import Image

    images = Squares(length)
    for index, label in enumerate(images.labels):
        path = root / images.classes[label] / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images.image(index)[0].numpy()).save(path)
    return root


def save_recipe(path: Path, root: Path) -> Path:
    """:data:`RECIPE` for the pictures in ``root``."""
    path.write_text(RECIPE.replace("ROOT", str(root)))
    return path
