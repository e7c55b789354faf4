"""What pictures of an attention are made of: a dark frame, panels, numbered boxes, heat, objects, rows of patches.

Places in a figure are ``(left, top, width, height)`` in inches from its upper left corner.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from zoomkern.visual.figures import new_figure, percent, printable
from zoomkern.visual.labels import place_labels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Place = tuple[float, float, float, float]

PAPER, INK, FAINT, ACCENT, SECOND = "#12161c", "#f2f4f8", "#98a2b3", "#4cc9f0", "#ffd166"
WIDTH, HEAD, FOOT = 14.0, 1.42, 0.25  # inches
HEADING = 0.55  # inches between what stands above and a row's labels
DPI = 110
#: Times the uniform probability of a cell at which the colours of an attention end at the earliest.
UNIFORM_TIMES = 16
_PER_ROW, _LABEL = 10, 0.42


class Boxes(NamedTuple):
    """Boxes of one size, as they are drawn.

    Args:
        offsets: ``[N, 2]`` top-left ``(y, x)`` in pixels.
        size: ``(h, w)`` in pixels.
        labels: one for each box.
        colour: of lines and labels.
        line: width of the lines in points.
    """

    offsets: Tensor
    size: tuple[int, int]
    labels: Sequence[str]
    colour: str = ACCENT
    line: float = 1.6

    @property
    def corners(self) -> NDArray[np.float64]:
        """``[N, 4]`` xyxy."""
        start = self.offsets.detach().cpu().double().numpy()[:, ::-1]
        return np.concatenate((start, start + np.array(self.size[::-1])), 1)


class Strip(NamedTuple):
    """Rows of equal pictures, each with a label above it.

    Args:
        number: of pictures.
        size: ``(h, w)`` of one, in pixels.
        below: inches for a second label below.
    """

    number: int
    size: tuple[int, int]
    below: float = 0.0

    @property
    def rows(self) -> int:
        """As few as can be."""
        return -(-self.number // _PER_ROW)

    @property
    def columns(self) -> int:
        """So many that rows are equally long."""
        return -(-self.number // self.rows) if self.rows else 1

    @property
    def side(self) -> float:
        """Inches from one picture to the next."""
        return (WIDTH - 0.6) / max(self.columns, 7)

    @property
    def row(self) -> float:
        """Inches from one row to the next."""
        return min(self.side * self.size[0] / self.size[1], 2 * self.side) + _LABEL + self.below

    @property
    def height(self) -> float:
        """Inches of all rows."""
        return self.rows * self.row

    def place(self, item: int, top: float) -> Place:
        """Where picture ``item`` stands in a strip that begins at ``top``; the last row is centred."""
        row, column = divmod(item, self.columns)
        shown = min(self.columns, self.number - row * self.columns)
        left = (WIDTH - shown * self.side) / 2 + column * self.side
        return left + 0.042, top + row * self.row + _LABEL, self.side - 0.084, self.row - _LABEL - self.below


def frame(title: str, subtitle: str, height: float) -> Figure:
    """An empty figure, ``height`` inches high, under a title of two lines."""
    figure = new_figure((WIDTH, height), PAPER)
    text: dict[str, Any] = {"ha": "center", "va": "center", "parse_math": False}
    figure.text(0.5, 1 - 0.48 / height, printable(title), color=INK, size=21, weight="bold", **text)
    figure.text(0.5, 1 - 0.86 / height, printable(subtitle), color=FAINT, size=12.5, **text)
    return figure


def panel_height(image_size: tuple[int, int]) -> float:
    """Inches for one of two panels side by side, which show an image of ``(H, W)`` pixels."""
    return min(max((WIDTH / 2 - 0.5) * image_size[0] / image_size[1], 2.5), 9.0)


def image_place(tall: float, *, alone: bool) -> Place:
    """Left, top, width and height of the image in inches: on the left, or in the middle where nothing is beside it."""
    return (3.675 if alone else 0.25, HEAD, 6.65, tall)


def axes_at(figure: Figure, place: Place) -> Any:
    """Axes at a place in inches."""
    left, top, width, height = place
    total = figure.get_figheight()
    box = (left / WIDTH, 1 - (top + height) / total, width / WIDTH, height / total)
    return figure.add_axes(box, facecolor=PAPER)


def panel(figure: Figure, place: Place, title: str, size: float = 12.5, loc: Any = "left") -> Any:
    """Axes without ticks, under a title."""
    axes = axes_at(figure, place)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, color=INK, size=size, pad=7, loc=loc)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def heading(figure: Figure, top: float, text: str) -> None:
    """A line of text over a strip that begins at ``top``."""
    figure.text(0.33 / WIDTH, 1 - (top - 0.02) / figure.get_figheight(), text, color=INK, size=12.5, va="bottom")


def outline(axes: Any, colour: str) -> None:
    """A thin line around a panel."""
    for spine in axes.spines.values():
        spine.set(visible=True, color=colour, linewidth=1.2)


def show(axes: Any, image: Tensor, size: tuple[int, int] | None = None, light: float = 1.0) -> None:
    """Show ``[C, h, w]``, uint8 or in [0, 1], as an image of ``size`` pixels; None for its own, pixel by pixel."""
    height, width = size or image.shape[1:]
    smooth = "nearest" if size is None else "antialiased"
    extent = (0, width, height, 0)
    axes.imshow(light * as_picture(image), cmap="gray", vmin=0, vmax=1, extent=extent, interpolation=smooth)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)


def draw_boxes(axes: Any, *groups: Boxes, size: float = 11.0) -> None:
    """Outline boxes and label them beside each other, with a thin line to the box where there is no room at it.

    Args:
        axes: limits must have been set.
        *groups: drawn one over the other; labels keep off the boxes of the last one.
        size: of the labels in points.
    """
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    halo: list[Any] = [withStroke(linewidth=3, foreground=PAPER)]
    x1, y1 = axes.get_xlim()[1], axes.get_ylim()[0]
    shown = axes.get_window_extent()
    point = max(x1 / shown.width, y1 / shown.height) * axes.figure.dpi / 72  # in pixels of the image
    for group in groups:
        for left, top, right, bottom in group.corners:
            box = Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=group.colour)
            box.set(linewidth=group.line, path_effects=halo)
            axes.add_patch(box)
    corners = np.concatenate([group.corners for group in groups[::-1]])
    labels = [(label, group.colour) for group in groups[::-1] for label in group.labels]
    sizes = np.array([(0.72 * len(label) + 0.3, 0.95) for label, _ in labels]).reshape(-1, 2) * size * point
    centres, led = place_labels(corners, sizes, groups[-1].corners, (0.0, 0.0, x1, y1))
    for (label, colour), (x, y), box, far in zip(labels, centres, corners, led, strict=True):
        if far:
            nearest = (min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3]))
            axes.plot((x, nearest[0]), (y, nearest[1]), color=colour, linewidth=0.9, path_effects=halo, zorder=2)
        style: dict[str, Any] = {"color": colour, "size": size, "weight": "bold", "clip_on": True}
        axes.text(x, y, label, ha="center", va="center_baseline", path_effects=halo, **style)


def scale_end(highest: float, uniform: float) -> float:
    """The probability of the last colour: ``max(highest, min(1, 16 uniform))``.

    Colours and opacity go by its square root. So on 16 cells or more an attention that is nowhere above twice the
    uniform one stays pale, below 36 % of the colours and half of the opacity, whatever its highest cell.

    Args:
        highest: probability of a cell.
        uniform: probability of a cell, were all alike.
    """
    return max(highest, min(1.0, UNIFORM_TIMES * uniform))


def draw_heat(axes: Any, attention: Tensor, size: tuple[int, int], highest: float, opacity: float = 0.85) -> Any:
    """Lay attention ``[Gh, Gw]`` over an image of ``size``, transparent where there is none; returns its colours.

    Colours go by the square root of the probability and end at :func:`scale_end`.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import PowerNorm

    values = attention.detach().double().cpu().numpy()
    norm = PowerNorm(0.5, vmin=0.0, vmax=scale_end(highest, 1 / values.size))
    alpha = np.clip(np.asarray(norm(values), dtype=float) * 1.4, 0, 1) * opacity
    extent = (0, size[1], size[0], 0)
    axes.imshow(values, cmap="inferno", norm=norm, alpha=alpha, extent=extent, interpolation="nearest")
    return ScalarMappable(norm=norm, cmap="inferno")


def draw_scale(figure: Figure, place: Place, colours: Any, cells: int) -> None:
    """The bar that says which colour is which probability, of one of so many cells; left of it, how it is scaled."""
    from matplotlib.ticker import FuncFormatter

    bar = figure.colorbar(colours, cax=axes_at(figure, place), orientation="horizontal")
    end = colours.norm.vmax
    bar.set_ticks([0.0, end / 4, end])
    bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
    bar.ax.tick_params(colors=FAINT, labelsize=9, length=2, pad=1, labeltop=True, labelbottom=False)
    bar.outline.set_visible(False)
    said = f"square-root scale\nuniform: {percent(1 / cells)}"
    bar.ax.text(-0.09, 0, said, transform=bar.ax.transAxes, color=FAINT, size=9, ha="right", va="bottom")


def draw_objects(axes: Any, objects: Tensor, side: int) -> None:
    """Circle what was there to find; a dot for what has no area."""
    from matplotlib.patches import Circle

    for x0, y0, x1, y1 in objects.tolist():
        centre = ((x0 + x1) / 2, (y0 + y1) / 2)
        if x1 > x0 or y1 > y0:
            radius = max(0.75 * max(x1 - x0, y1 - y0), 0.014 * side)
            axes.add_patch(Circle(centre, radius, fill=False, edgecolor=INK, linewidth=1.1, linestyle=(0, (2, 2))))
        else:
            axes.plot(*centre, "o", ms=3.4, mfc=INK, mec=PAPER, mew=0.7)


def draw_looked_at(
    figure: Figure,
    overview: Tensor,
    attention: Tensor | None,
    image_size: tuple[int, int],
    boxes: Sequence[Boxes],
    titles: tuple[str, str],
    objects: Tensor | None = None,
) -> Any:
    """Under the title, left, an image of ``(H, W)`` pixels with boxes; right, the attention over the dimmed image.

    Args:
        figure: :func:`panel_height` of it belongs to this.
        overview: ``[C, h, w]`` the image made small.
        attention: ``[Gh, Gw]`` probability of every cell; None puts the image in the middle.
        image_size: ``(H, W)``.
        boxes: as :func:`draw_boxes` takes them.
        titles: behind the image's size, and over the attention.
        objects: as :func:`draw_objects` takes them, marked on the attention, or on the image where there is none.

    Returns:
        The axes of the image.
    """
    height, width = image_size
    tall = panel_height(image_size)
    left = marked = panel(figure, image_place(tall, alone=attention is None), f"{height} × {width} pixels, {titles[0]}")
    show(left, overview, image_size)
    draw_boxes(left, *boxes)
    if attention is not None:
        marked = panel(figure, (7.1, HEAD, 6.65, tall), f"{titles[1]}, probability of a cell")
        show(marked, overview, image_size, light=0.45)
        colours = draw_heat(marked, attention, image_size, float(attention.max()))
        draw_scale(figure, (11.5, HEAD - 0.19, 2.03, 0.09), colours, attention.numel())
    if objects is not None:
        draw_objects(marked, objects, max(height, width))
    return left


def as_picture(image: Tensor) -> NDArray[np.float64]:
    """``[C, h, w]`` to what imshow takes: ``[h, w]`` or ``[h, w, 3]`` in [0, 1]."""
    planes = image.detach().cpu()
    planes = planes[:1] if planes.shape[0] < 3 else planes[:3]
    pixels = planes.double() / 255 if not planes.is_floating_point() else planes.double()
    shown: NDArray[np.float64] = pixels.clamp(0, 1).movedim(0, -1).squeeze(-1).numpy()
    return shown
