"""Slides of gigapixels, made as they are read: tissue on white glass, with fragments of retina in it."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from zoomkern.images.readers import Header, Reader

#: Side of a fragment of retina in pixels of the slide.
FRAGMENT = 96
SPLITS = ("train", "test")
#: Diameters of the pieces of tissue, in pixels.
_PIECES = (1200, 2400)
#: Mean colour of every fragment.
_COLOUR = (188.0, 84.0, 40.0)
#: Share of the retina's places that count as crossed by a vessel, and as free of any.
_VESSELS, _PLAIN = 0.2, 0.3
#: Part of a piece's radius within which its fragments lie.
_INNER = 0.6

_Pixels = NDArray[np.uint8]


class _Piece(NamedTuple):
    y: int
    x: int
    radius: float
    waves: list[float]  # of its outline: amplitude and phase by turns
    shift: tuple[int, int]  # of the texture


class _Fragment(NamedTuple):
    y: int
    x: int
    crop: tuple[int, int]  # top-left in the retina


class Slide(Reader):
    """A slide that a recipe describes; its pixels are drawn when they are read.

    Tissue is scikit-image's immunohistochemistry, mirrored at its borders. In it lie fragments of its retina, all of
    one mean colour. In a slide of class 1 a thick blood vessel crosses each of them (the needles), in one of class 0
    none. At a 64th of the size a fragment of either class is an orange speck of a pixel or two. Fragments of training
    slides come from the left half of the retina, those of test slides from its right half.

    Args:
        path: recipe that :func:`write_slide` wrote.
        mpp: microns per pixel, if any.

    Attributes:
        label: 1 where vessels cross the fragments.
        fragments: ``[K, 4]`` int64 xyxy, where all fragments are.
        needles: ``[n, 4]`` int64 xyxy, where those with a vessel are: all or none.

    Raises:
        ImportError: scikit-image is missing.
    """

    def __init__(self, path: str | Path, *, mpp: float | None = None) -> None:
        super().__init__(path, mpp=mpp)
        recipe = json.loads(self.path.read_text())
        self.label = int(recipe["label"])
        self.fragments = _boxes(recipe["fragments"])
        self.needles = self.fragments[: int(recipe["needles"])]

    def is_empty(self, level: int, y: int, x: int, height: int, width: int) -> bool:
        """Whether a window is glass alone."""
        with self._reading():
            pieces, _ = self._handle()
        return not any(_meets(piece, y, x, height, width) for piece in pieces)

    def _open(self) -> tuple[list[_Piece], list[_Fragment]]:
        recipe = json.loads(self.path.read_text())
        return [_Piece(*piece) for piece in recipe["pieces"]], [_Fragment(*one) for one in recipe["fragments"]]

    def _read_header(self, handle: Any) -> Header:
        size = int(json.loads(self.path.read_text())["size"])
        return Header(((size, size),), 3, torch.uint8, (None,), background=255.0)

    def _read_window(self, handle: Any, level: int, y: int, x: int, height: int, width: int) -> _Pixels:
        pieces, fragments = handle
        window = np.full((height, width, 3), 255, np.uint8)
        for piece in pieces:
            if _meets(piece, y, x, height, width):
                _draw_piece(window, piece, y, x)
        for fragment in fragments:
            _draw_fragment(window, fragment, y, x)
        return window


def write_slide(
    path: Path, size: int, label: int, *, pieces: int, fragments: int, split: str = "train", seed: int = 0
) -> Slide:
    """Write the recipe of a slide, a few kilobytes whatever its size.

    Args:
        path: file to write.
        size: side of the slide in pixels.
        label: 1 for one with needles.
        pieces: of tissue; fewer where there is no room.
        fragments: of retina; needles in a slide of class 1.
        split: "train" or "test", the half of the retina.
        seed: of everything.

    Returns:
        The slide.

    Raises:
        ValueError: the slide is too small for a piece of tissue.
    """
    rng = np.random.default_rng((seed, label, SPLITS.index(split), size))
    if size < _PIECES[0]:
        raise ValueError(f"size must be at least {_PIECES[0]} for a piece of tissue; got {size}.")
    placed = _place_pieces(rng, size, pieces)
    places = _place_fragments(rng, placed, fragments)
    needles = len(places) if label else 0
    vessels, plain = _crops(split)
    crops = [
        (vessels if i < needles else plain)[rng.integers(len(vessels if i < needles else plain))]
        for i in range(len(places))
    ]
    recipe = {
        "size": size,
        "label": label,
        "needles": needles,
        "pieces": placed,
        "fragments": [(y, x, tuple(crop.tolist())) for (y, x), crop in zip(places, crops, strict=True)],
    }
    path.write_text(json.dumps(recipe))
    return Slide(path)


def _place_pieces(rng: np.random.Generator, size: int, count: int) -> list[_Piece]:
    """Pieces that do not touch; after many vain tries no more."""
    placed: list[_Piece] = []
    for _ in range(200 * count):
        if len(placed) == count:
            break
        radius = float(rng.uniform(*_PIECES)) / 2
        radius = min(radius, 0.45 * size)
        y, x = (int(value) for value in rng.uniform(1.1 * radius, size - 1.1 * radius, 2))
        if any(math.hypot(y - other.y, x - other.x) < 1.2 * (radius + other.radius) for other in placed):
            continue
        waves = [
            float(value) for pair in zip(rng.uniform(0, 0.08, 3), rng.uniform(0, 6.3, 3), strict=True) for value in pair
        ]
        placed.append(_Piece(y, x, radius, waves, (int(rng.integers(1024)), int(rng.integers(1024)))))
    return placed


def _place_fragments(rng: np.random.Generator, pieces: list[_Piece], count: int) -> list[tuple[int, int]]:
    """Centres of fragments that do not overlap, each well inside a piece."""
    places: list[tuple[int, int]] = []
    for _ in range(200 * count):
        if len(places) == count:
            break
        piece = pieces[int(rng.integers(len(pieces)))]
        radius, angle = _INNER * piece.radius * math.sqrt(rng.uniform()), rng.uniform(0, 2 * math.pi)
        y, x = int(piece.y + radius * math.sin(angle)), int(piece.x + radius * math.cos(angle))
        if all(math.hypot(y - v, x - u) > 2 * FRAGMENT for v, u in places):
            places.append((y, x))
    return places


def _boxes(fragments: list[Any]) -> torch.Tensor:
    corners = [(x - FRAGMENT // 2, y - FRAGMENT // 2) for y, x, _ in fragments]
    return torch.tensor([(x, y, x + FRAGMENT, y + FRAGMENT) for x, y in corners], dtype=torch.int64).reshape(-1, 4)


def _meets(piece: _Piece, y: int, x: int, height: int, width: int) -> bool:
    """Whether a window may hold some of a piece."""
    reach = 1.25 * piece.radius
    near_y, near_x = min(max(piece.y, y), y + height), min(max(piece.x, x), x + width)
    return math.hypot(near_y - piece.y, near_x - piece.x) < reach


def _draw_piece(window: _Pixels, piece: _Piece, y: int, x: int) -> None:
    rows = np.arange(y, y + window.shape[0], dtype=np.float32)[:, None] - piece.y
    columns = np.arange(x, x + window.shape[1], dtype=np.float32)[None] - piece.x
    angle = np.arctan2(rows, columns)
    outline = np.float32(1)
    for number, (amplitude, phase) in enumerate(zip(piece.waves[::2], piece.waves[1::2], strict=True), 2):
        outline = outline + np.float32(amplitude) * np.sin(number * angle + np.float32(phase))
    inside = np.hypot(rows, columns) < piece.radius * outline
    texture = _tissue()
    down = (np.arange(y, y + window.shape[0]) + piece.shift[0]) % texture.shape[0]
    right = (np.arange(x, x + window.shape[1]) + piece.shift[1]) % texture.shape[1]
    window[inside] = texture[down[:, None], right[None]][inside]


def _draw_fragment(window: _Pixels, fragment: _Fragment, y: int, x: int) -> None:
    top, left = fragment.y - FRAGMENT // 2 - y, fragment.x - FRAGMENT // 2 - x
    rows = slice(max(top, 0), min(top + FRAGMENT, window.shape[0]))
    columns = slice(max(left, 0), min(left + FRAGMENT, window.shape[1]))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    part = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    disk = _disk()[part]
    window[rows, columns][disk] = _fragment_pixels(*fragment.crop)[part][disk]


@cache
def _tissue() -> _Pixels:
    """``[1024, 1024, 3]`` that goes on at its own borders: the picture and its mirror images."""
    half = _scikit_image().immunohistochemistry()
    half = np.concatenate((half, half[::-1]))
    return np.concatenate((half, half[:, ::-1]), 1)


@cache
def _disk() -> NDArray[np.bool_]:
    away = np.arange(FRAGMENT) - (FRAGMENT - 1) / 2
    return np.hypot(away[:, None], away[None]) < FRAGMENT / 2


@cache
def _retina() -> _Pixels:
    pixels: _Pixels = _scikit_image().retina()
    return pixels


@cache
def _fragment_pixels(top: int, left: int) -> _Pixels:
    """A crop of the retina, brought to the mean colour of all."""
    crop = _retina()[top : top + FRAGMENT, left : left + FRAGMENT].astype(np.float32)
    return np.clip(np.rint(crop - crop[_disk()].mean(0) + _COLOUR), 0, 255).astype(np.uint8)


@cache
def _crops(split: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Corners ``[n, 2]`` of crops that a vessel crosses, and of crops without any, in a half of the retina.

    Vessels are dark in green: the measure is how far a crop's darkest tenth lies below its median, once the plane that
    fits it best is taken off.
    """
    green = _retina()[..., 1].astype(np.float32)
    size, step = green.shape[0], FRAGMENT // 4
    middle, reach = size / 2, 0.42 * size
    first, last = (0, size // 2 - FRAGMENT) if split == "train" else (size // 2, size - FRAGMENT)
    y, x = np.nonzero(_disk())
    plane = np.stack((np.ones(len(y)), y, x), 1)
    fit = np.linalg.pinv(plane)
    corners, depths = [], []
    for top in range(0, size - FRAGMENT, step):
        for left in range(first, last, step):
            if math.hypot(top + FRAGMENT / 2 - middle, left + FRAGMENT / 2 - middle) + FRAGMENT / 2 < reach:
                values = green[top : top + FRAGMENT, left : left + FRAGMENT][_disk()]
                low, half = np.quantile(values - plane @ (fit @ values), (0.1, 0.5))
                corners.append((top, left))
                depths.append(half - low)
    order = np.argsort(depths)
    places = np.array(corners)[order]
    return places[-int(_VESSELS * len(places)) :], places[: int(_PLAIN * len(places))]


def _scikit_image() -> Any:
    try:
        from skimage import data
    except ImportError as error:
        raise ImportError("These slides need scikit-image: pip install 'zoomkern[demo]'") from error
    return data
