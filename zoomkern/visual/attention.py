"""One picture: an overview, the attention over it, and the patches that were drawn."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAPER, _INK, _FAINT, _ACCENT = "#12161c", "#f2f4f8", "#98a2b3", "#4cc9f0"
_WIDTH = 14.0  # inches
_TILES_PER_ROW = 10


def save_attention(
    path: str | os.PathLike[str],
    *,
    overview: Tensor,
    attention: Tensor,
    patches: Tensor,
    offsets: Tensor,
    probabilities: Tensor,
    image_size: tuple[int, int],
    title: str,
    subtitle: str = "",
    objects: Tensor | None = None,
) -> None:
    """Write one PNG of an image, the attention over it, and the drawn patches with their probabilities.

    Left, the image with the patches as numbered boxes; right, the attention over the dimmed image; below, every
    patch at its own resolution, in the order of drawing. The file is written beside its place and then renamed, so
    that a crash leaves either the old picture or the new one.

    Args:
        path: file to write; always a PNG.
        overview: ``[C, h, w]`` the image made small, uint8, or floating point in [0, 1]; 1, 3 or 4 channels.
        attention: ``[Gh, Gw]`` probability of every cell.
        patches: ``[N, C, Ph, Pw]`` in the same range as ``overview``.
        offsets: ``[N, 2]`` int64, top-left ``(y, x)`` of every patch in image pixels.
        probabilities: ``[N]`` probability of the cell that each patch was drawn for.
        image_size: ``(H, W)`` of the image in pixels.
        title: first line.
        subtitle: second line, smaller.
        objects: ``[K, 4]`` xyxy in image pixels, circled on the attention as what was there to find.

    Raises:
        ImportError: matplotlib is missing.
        OSError: the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("save_attention needs matplotlib: pip install 'zoomkern[demo]'") from error
    height, width = image_size
    number = patches.shape[0]
    rows = -(-number // _TILES_PER_ROW)
    columns = -(-number // rows) if rows else 1  # rows of equal length
    panel = min(max((_WIDTH / 2 - 0.5) * height / width, 2.5), 9.0)
    tile = (_WIDTH - 0.6) / max(columns, 7)
    tile_height = min(tile * patches.shape[2] / patches.shape[3], 2 * tile) + 0.42
    head, foot = 1.42, 0.25
    total = head + panel + 0.15 + rows * tile_height + foot
    figure = Figure(figsize=(_WIDTH, total), facecolor=_PAPER)
    FigureCanvasAgg(figure)
    figure.text(
        0.5,
        1 - 0.48 / total,
        _printable(title),
        color=_INK,
        size=21,
        weight="bold",
        ha="center",
        va="center",
        parse_math=False,
    )
    figure.text(
        0.5, 1 - 0.86 / total, _printable(subtitle), color=_FAINT, size=12.5, ha="center", va="center", parse_math=False
    )

    picture = _as_picture(overview)
    bottom, share = (total - head - panel) / total, panel / total
    extent = (0, width, height, 0)
    left = _panel(figure, (0.018, bottom, 0.475, share), f"{height} × {width} pixels, and the patches that were read")
    left.imshow(picture, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation="antialiased")
    _draw_boxes(left, offsets, (patches.shape[2], patches.shape[3]), max(height, width))
    right = _panel(figure, (0.507, bottom, 0.475, share), "attention, probability of a cell")
    right.imshow(picture * 0.45, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation="antialiased")
    _draw_heat(figure, right, attention, extent, (0.822, 1 - (head - 0.1) / total, 0.145, 0.09 / total))
    if objects is not None:
        _draw_objects(right, objects, max(height, width))
    for axes in (left, right):
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)

    for place in range(number):
        row, column = divmod(place, columns)
        shown = min(columns, number - row * columns)
        start = (1 - shown * tile / _WIDTH) / 2 + column * tile / _WIDTH
        top = (foot + (rows - row) * tile_height) / total
        box = (start + 0.003, top - tile_height / total, tile / _WIDTH - 0.006, (tile_height - 0.42) / total)
        label = f"{place + 1}    {_percent(float(probabilities[place]))}"
        axes = _panel(figure, box, label, size=11.5, loc="center")
        axes.imshow(_as_picture(patches[place]), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        for spine in axes.spines.values():
            spine.set(visible=True, color=_ACCENT, linewidth=1.2)
    _write(figure, Path(path))


def _panel(
    figure: Figure, box: tuple[float, float, float, float], title: str, size: float = 12.5, loc: Any = "left"
) -> Any:
    """Axes without ticks at ``(left, bottom, width, height)`` of the figure."""
    axes = figure.add_axes(box, facecolor=_PAPER)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, color=_INK, size=size, pad=7, loc=loc)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _draw_boxes(axes: Any, offsets: Tensor, patch_size: tuple[int, int], side: int) -> None:
    """Outline every patch and number it, at a size that can be seen however large the image is."""
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    halo: list[Any] = [withStroke(linewidth=3, foreground=_PAPER)]
    for place, (y, x) in enumerate(offsets.tolist()):
        box = Rectangle((x, y), patch_size[1], patch_size[0], fill=False, edgecolor=_ACCENT, linewidth=1.6)
        box.set_path_effects(halo)
        axes.add_patch(box)
        inside = max(y - 0.004 * side, 0.03 * side)
        text = axes.text(x, inside, str(place + 1), color=_ACCENT, size=11, weight="bold", va="bottom", clip_on=True)
        text.set_path_effects(halo)


def _draw_heat(
    figure: Figure,
    axes: Any,
    attention: Tensor,
    extent: tuple[int, int, int, int],
    place: tuple[float, float, float, float],
) -> None:
    """Lay attention over the image, transparent where there is none, with a bar that gives its scale."""
    from matplotlib.colors import PowerNorm
    from matplotlib.ticker import FuncFormatter

    values = attention.detach().double().cpu().numpy()
    highest = max(float(values.max(initial=0.0)), 1e-12)
    norm = PowerNorm(0.5, vmin=0.0, vmax=highest)
    opacity = np.clip(np.asarray(norm(values), dtype=float) * 1.4, 0, 0.85)
    heat = axes.imshow(values, cmap="inferno", norm=norm, alpha=opacity, extent=extent, interpolation="nearest")
    bar = figure.colorbar(_opaque(heat), cax=figure.add_axes(place), orientation="horizontal")
    bar.set_ticks([0.0, highest / 4, highest])
    bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _percent(value)))
    bar.ax.tick_params(colors=_FAINT, labelsize=9, length=2, pad=1, labeltop=True, labelbottom=False)
    bar.outline.set_visible(False)


def _opaque(heat: Any) -> Any:
    """The colours of an image without its transparency."""
    from matplotlib.cm import ScalarMappable

    return ScalarMappable(norm=heat.norm, cmap=heat.cmap)


def _draw_objects(axes: Any, objects: Tensor, side: int) -> None:
    """Circle what was there to find."""
    from matplotlib.patches import Circle

    for x0, y0, x1, y1 in objects.tolist():
        radius = max(0.75 * max(x1 - x0, y1 - y0), 0.014 * side)
        centre = ((x0 + x1) / 2, (y0 + y1) / 2)
        axes.add_patch(Circle(centre, radius, fill=False, edgecolor=_INK, linewidth=1.1, linestyle=(0, (2, 2))))


def _printable(text: str) -> str:
    """A text without what no font can show: control characters and halves of surrogate pairs."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _percent(value: float) -> str:
    """A probability with two digits that count."""
    percent = 100 * value
    if percent == 0 or percent >= 9.95:
        return f"{percent:.0f} %"
    if percent < 0.001:
        return "< 0.001 %"
    return f"{percent:.{1 if percent >= 0.995 else 2 if percent >= 0.0995 else 3}f} %"


def _as_picture(image: Tensor) -> NDArray[np.float64]:
    """``[C, h, w]`` to what imshow takes: ``[h, w]`` or ``[h, w, 3]`` in [0, 1]."""
    planes = image.detach().cpu()
    planes = planes[:1] if planes.shape[0] < 3 else planes[:3]
    pixels = planes.double() / 255 if not planes.is_floating_point() else planes.double()
    shown: NDArray[np.float64] = pixels.clamp(0, 1).movedim(0, -1).squeeze(-1).numpy()
    return shown


def _write(figure: Figure, path: Path) -> None:
    """Write beside the file, then rename."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(beside, "xb") as file, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a title in a script the font lacks
            figure.savefig(file, format="png", dpi=110, facecolor=figure.get_facecolor())
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
