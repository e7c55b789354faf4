"""Small copies of sets that are too large to have here, in their true layout, for the recipes that name them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

#: Side of a slide, and corner and side of the lesion in it, which fills 0.4 % of a crop of 1024 x 1024.
SIDE, LESION = 2048, (700, 900, 64)


def camelyon16(root: Path) -> None:
    """Five slides of each class to learn from, one of each to test on; glass, tissue and in tumour slides a lesion."""
    slides = {f"training/{kind}/{kind}_{number:03d}": kind for kind in ("normal", "tumor") for number in range(5)}
    slides |= {"testing/images/test_001": "normal", "testing/images/test_002": "tumor"}
    (root / "annotations").mkdir(parents=True)
    y, x, side = LESION
    corners = enumerate([(x, y), (x + side, y), (x + side, y + side), (x, y + side)])
    points = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in corners)
    outline = f'<Annotation Name="a" PartOfGroup="_0"><Coordinates>{points}</Coordinates></Annotation>'
    for name, kind in slides.items():
        pixels = np.full((SIDE, SIDE, 3), 245, np.uint8)
        pixels[200:, 200:] = (220, 120, 160)
        if kind == "tumor":
            pixels[y : y + side, x : x + side] = (90, 30, 140)
            text = f"<ASAP_Annotations><Annotations>{outline}</Annotations></ASAP_Annotations>"
            (root / "annotations" / f"{Path(name).name}.xml").write_text(text)
        path = root / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        with tifffile.TiffWriter(path) as file:
            for level in range(6):
                kind_of_page = {"subfiletype": int(level > 0), "tile": (256, 256), "photometric": "rgb"}
                file.write(pixels[:: 1 << level, :: 1 << level], compression="zlib", **kind_of_page)
    (root / "testing" / "reference.csv").write_text("test_001,Normal,None,None\ntest_002,Tumor,IDC,Macro\n")


def fmow(root: Path) -> None:
    """62 purposes, six places each for training, one for validation; images of several sizes."""
    for purpose in range(62):
        name = f"purpose {purpose:02d}"
        for split, places in (("train", 6), ("val", 1)):
            for place in range(places):
                path = root / split / name / f"{name}_{place}" / f"{name}_{place}_0_rgb.jpg"
                path.parent.mkdir(parents=True)
                Image.new("RGB", (220 + 40 * place, 210)).save(path)
                box = {"category": name, "box": [10, 10, 50, 50]}
                path.with_suffix(".json").write_text(json.dumps({"bounding_boxes": [box]}))


def traffic_signs(root: Path) -> None:
    """Both sets, forty scenes each of ten drives, every fourth of which shows no sign."""
    for place, split in enumerate(("Set1", "Set2")):
        (root / split).mkdir(parents=True)
        lines = []
        for number in range(40):
            name = f"{place}{number // 4}Image{number:06d}.jpg"
            Image.new("RGB", (1280, 960), (90, 120, 90)).save(root / split / name)
            sign = f"VISIBLE, 660, 460, 620, 420, PROHIBITORY, {(50, 70, 80)[number % 3]}_SIGN;" if number % 4 else ""
            lines.append(f"{name}:{sign}")
        (root / split / "annotations.txt").write_text("\n".join(lines) + "\n")
