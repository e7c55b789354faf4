"""Microns per pixel: what files say of it, what of that can be, and a table for those that say nothing."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path

from zoomkern import checks

#: Microns per pixel between which a microscope's image can be; 72 and 96 dots per inch are beyond.
LEAST_MPP, MOST_MPP = 1e-4, 200.0

#: By which part the sides of a pixel may differ: beyond, no single mpp describes the image.
MOST_UNEQUAL = 0.05

#: Microns of a unit of length, as OME and NGFF spell it.
MICRONS = {
    "angstrom": 1e-4, "Å": 1e-4, "picometer": 1e-6, "pm": 1e-6, "nanometer": 1e-3, "nm": 1e-3, "micrometer": 1.0,
    "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "millimeter": 1e3, "mm": 1e3, "centimeter": 1e4, "cm": 1e4,
    "meter": 1e6, "m": 1e6, "inch": 25400.0, "in": 25400.0,
}  # fmt: skip


def mean_mpp(x: object, y: object) -> float | None:
    """The mean of both sides' microns per pixel; None where one is missing or beyond what can be, or they differ."""
    try:
        sides = [float(side) for side in (x, y)]  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    if not all(math.isfinite(side) and LEAST_MPP <= side <= MOST_MPP for side in sides):
        return None
    if abs(sides[0] - sides[1]) > MOST_UNEQUAL * max(sides):
        return None
    return sides[0] if sides[0] == sides[1] else sum(sides) / 2


def mpp_from_table(table: str | os.PathLike[str], image: Path) -> float | None:
    """The mpp of an image in a CSV file of the columns ``image`` and ``mpp``; None where it is not listed.

    Args:
        table: The file. Its column ``image`` holds paths, absolute or relative to the table, or mere file names.
        image: The absolute path of the image.

    Raises:
        FileNotFoundError: There is no such table.
        ValueError: It lacks a column, lists the image twice with different values, or its mpp is no positive number.
    """
    file = Path(table).absolute()
    with file.open(newline="", encoding="utf-8-sig") as lines:
        rows = csv.DictReader(lines)
        if not {"image", "mpp"} <= set(rows.fieldnames or ()):
            raise ValueError(
                f"mpp_table must have the columns image and mpp; {str(file)!r} has {', '.join(rows.fieldnames or ())}."
            )
        listed = {row["mpp"] or "" for row in rows if _names(row["image"] or "", image, file.parent)}
    if not listed:
        return None
    try:
        (text,) = listed
        return checks.number("mpp", float(text))
    except ValueError:
        raise ValueError(
            f"mpp_table must give one positive mpp for each image; {str(file)!r} gives {', '.join(sorted(listed))} for "
            f"{image.name!r}. Correct it."
        ) from None


def _names(entry: str, image: Path, folder: Path) -> bool:
    listed = Path(entry)
    return listed.name == image.name and (len(listed.parts) == 1 or folder / listed == image)
