"""What is in an image set: how many, how large, how much of them the objects fill."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from zoomkern.data.dataset import ImageSet


class Spread(NamedTuple):
    """Least, median and largest of some numbers.

    Args:
        least: of them.
        median: of an even number, the mean of the middle two.
        most: of them.
    """

    least: float
    median: float
    most: float


class SetStatistics(NamedTuple):
    """Numbers that describe an image set.

    Args:
        num_images: how many images.
        num_groups: how many groups; as many as images where each is one of its own.
        class_counts: images of every class.
        heights: of the images, in pixels.
        widths: of the images, in pixels.
        num_objects: objects in all images.
        objects_per_image: among all images.
        ratios: sum of the areas of an image's objects over the image's area, for every image whose objects have an
            area; what overlaps counts twice.
    """

    num_images: int
    num_groups: int
    class_counts: dict[str, int]
    heights: Spread
    widths: Spread
    num_objects: int
    objects_per_image: Spread
    ratios: list[float]

    def table(self) -> str:
        """The numbers as lines of text."""
        rows = [("images", f"{self.num_images:,}")]
        if self.num_groups < self.num_images:
            rows.append(("groups", f"{self.num_groups:,}"))
        rows += [(f"  {name}", f"{count:,}") for name, count in self.class_counts.items()]
        rows += [("height", _line(self.heights)), ("width", _line(self.widths))]
        if self.num_objects:
            rows += [("objects", f"{self.num_objects:,}"), ("  per image", _line(self.objects_per_image))]
        if self.ratios:
            percent = _line(_spread([100 * ratio for ratio in self.ratios]))
            rows += [("  % of the image", f"{percent}  (of {len(self.ratios):,} images)")]
        wide = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{wide}}  {value}" for name, value in rows)


def set_statistics(image_set: ImageSet) -> SetStatistics:
    """Count and measure an image set, without decoding an image.

    Args:
        image_set: with one image at least; ``size`` and ``objects`` of every image are asked for.

    Raises:
        ValueError: the set is empty.

    Example:
        >>> print(set_statistics(ColonCancer("CRCHistoPhenotypes_2016_04_28")).table())
        images           100
          no epithelium  49
          epithelium     51
        height           500
        width            500
        objects          7,722
          per image      0 to 377, median 23.5
    """
    if len(image_set) == 0:
        raise ValueError("image_set must have an image; it is empty.")
    sizes = [image_set.size(index) for index in range(len(image_set))]
    numbers, ratios = [], []
    for index, (height, width) in enumerate(sizes):
        boxes = image_set.objects(index)
        numbers.append(len(boxes))
        area = float((boxes[:, 2:] - boxes[:, :2]).prod(1).sum())
        if area > 0:
            ratios.append(area / (height * width))
    counts = {name: image_set.labels.count(label) for label, name in enumerate(image_set.classes)}
    return SetStatistics(
        num_images=len(image_set),
        num_groups=len(set(image_set.groups)),
        class_counts=counts,
        heights=_spread([height for height, _ in sizes]),
        widths=_spread([width for _, width in sizes]),
        num_objects=sum(numbers),
        objects_per_image=_spread(numbers),
        ratios=ratios,
    )


def _spread(values: Sequence[float]) -> Spread:
    return Spread(min(values), median(values), max(values))


def _line(spread: Spread) -> str:
    least, middle, most = (f"{value:.3g}" if value < 1000 else f"{value:,.0f}" for value in spread)
    return most if spread.least == spread.most else f"{least} to {most}, median {middle}"
