"""The part of ``zoomkern demo`` that reads slides of gigapixels."""

from __future__ import annotations

import resource
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoomkern.cli.demo_digits import Progress
from zoomkern.data.gigapixel import FRAGMENT, Slide, write_slide
from zoomkern.functional import cell_offsets
from zoomkern.images import Pyramid
from zoomkern.images.readers.converted import ConvertedReader
from zoomkern.images.tiles import TileCache
from zoomkern.images.writers import convert
from zoomkern.losses import supervised_attention
from zoomkern.models import AttentionSampling
from zoomkern.models.attention_sampling import AttentionSamplingOutput
from zoomkern.nn import AttentionNetwork, FeatureNetwork
from zoomkern.visual import area_mean, overview_size, save_attention

#: Side of the slides that are trained and tested on, and how many there are of each kind.
SMALL, TRAINING, TESTING = 2048, 32, 16
#: Level whose pixels are the cells of attention, 64 x 64 pixels of the slide each.
VIEW_LEVEL = 6
#: Holds most of a fragment wherever in the cell its middle lies.
PATCH = 128
BATCH = 8
DRAWS = 8
LEARNING_RATE = 5e-3
#: Training ends before its time at this loss, smoothed, after so many steps.
ENOUGH, FEWEST = 0.02, 500
#: What a nat of attention off the fragments costs beside a nat of the class.
SUPERVISION = 1.0
#: Pieces of tissue and fragments of a slide, small and gigantic.
SMALL_CONTENT = {"pieces": 1, "fragments": 10}
CONTENT = {"pieces": 16, "fragments": 48}
#: Of the patches' pixels in [0, 1].
MEAN, STD = (0.7, 0.6, 0.5), 0.2
#: Brightness from which a cell is glass, and the attention logit of one.
WHITE, NOWHERE = 0.99, -1e4
#: Bytes of decoded tiles that all slides share.
CACHE = 1 << 26


class Case(NamedTuple):
    """A slide, as the network meets it.

    Args:
        slide: what it was made from, with the truth.
        pyramid: its levels, on disk.
        view: ``[3, Vh, Vw]`` float32 in [0, 1].
        path: of the copy.
    """

    slide: Slide
    pyramid: Pyramid
    view: Tensor
    path: Path


class TissueAttention(nn.Module):
    """Attention to whatever is not white glass.

    Args:
        network: from ``[B, 3, h, w]`` to logits ``[B, h, w]``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, view: Tensor) -> Tensor:
        """Logits ``[B, h, w]`` of a view in [0, 1]."""
        logits: Tensor = self.network((view - 0.8) / 0.2)
        return logits.masked_fill((view > WHITE).all(1), NOWHERE)


def build() -> AttentionSampling:
    """The network of the demo."""
    model = AttentionSampling(
        2,
        DRAWS,
        (PATCH, PATCH),
        attention=TissueAttention(AttentionNetwork(3, (8, 8), contrast=1.0)),
        features=FeatureNetwork(3, (8, 16, 32), (7, 3, 3), (4, 2, 2)),
        in_channels=3,
        mean=MEAN,
        std=(STD, STD, STD),
        fill=255.0,
    )
    with torch.no_grad():
        model.classifier.weight.mul_(10)  # features have unit length; scores need more range than that
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def train_and_read(seconds: float, size: int, num_samples: int, seed: int, folder: Path) -> Path:
    """Train on small slides, then tell apart two gigantic ones, and draw one of them.

    Args:
        seconds: time to train.
        size: side of the two slides in pixels; rounded up to whole cells of attention, so that all are alike.
        num_samples: patches to read of each of them.
        seed: of everything.
        folder: for the slides and the picture; made if it is not there.

    Returns:
        The picture.
    """
    start = time.monotonic()
    cell = 1 << VIEW_LEVEL
    size = -(-size // cell) * cell
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    cache = TileCache(CACHE)
    small = folder / "small"
    print(
        "Task: do thick vessels cross the fragments of retina in the tissue? A fragment is "
        f"{FRAGMENT} pixels wide, {FRAGMENT / (1 << VIEW_LEVEL):g} in the view.\n"
        f"Writing {TRAINING + TESTING} slides of {SMALL} x {SMALL} pixels to learn from and to test on; in the first, "
        "where fragments are is known ...",
        flush=True,
    )
    training = [_case(small, f"train-{i}", SMALL, i % 2, "train", seed + i, cache) for i in range(TRAINING)]
    testing = [_case(small, f"test-{i}", SMALL, i % 2, "test", seed + i, cache) for i in range(TESTING)]
    model = build()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the steps are so small that more threads wait for each other
    steps = train(model, training, seconds)
    torch.set_num_threads(threads)
    right = sum(classify(model, case, num_samples, seed)[0] == case.slide.label for case in testing)
    print(f"Trained {steps} steps. Of {TESTING} test slides with unseen fragments {right} are classified rightly.")
    pictures = []
    for label in (0, 1):
        name = ("negative", "positive")[label]
        written = time.monotonic()
        case = _case(folder, name, size, label, "test", seed + 1000, cache)
        disk = 512 * case.path.stat().st_blocks
        print(
            f"{name}: {size} x {size} pixels = {size * size / 1e9:.3g} gigapixels, {3 * size * size / 1e9:.3g} GB of "
            f"colour; {disk / 1e6:.0f} MB on disk without the glass, written in {time.monotonic() - written:.0f} s",
            flush=True,
        )
        pictures.append(read(model, case, num_samples, seed, folder / f"{name}.png"))
    shutil.rmtree(small)
    peak = peak_bytes()
    print(f"Peak memory of the process: {peak / 1e9:.2f} GB. Time: {time.monotonic() - start:.0f} s.")
    return pictures[1]


def read(model: AttentionSampling, case: Case, num_samples: int, seed: int, picture: Path) -> Path:
    """Classify one slide, print what was read of it, and draw it."""
    start = time.monotonic()
    predicted, probability, out = classify(model, case, num_samples, seed)
    seconds = time.monotonic() - start
    slide, sampled = case.slide, out.sampled
    width, height = slide.dimensions
    seen = hits(sampled.offsets[0], slide.fragments)  # [N, K]
    chance = chance_of(slide.fragments, (case.view.shape[1], case.view.shape[2]), (height, width))
    in_tissue = chance * case.view[0].numel() / max(int((case.view < WHITE).any(0).sum()), 1)
    share = num_samples * PATCH**2 / (height * width)
    name = ("no vessel", "vessels")
    print(
        f"  {num_samples} patches of {PATCH} x {PATCH}, {100 * share:.2g} % of the pixels, read and classified in "
        f"{seconds:.1f} s\n"
        f"  {100 * float(seen.any(1).double().mean()):.0f} % of them on a fragment (by chance {100 * chance:.2g} %, in "
        f"tissue {100 * in_tissue:.2g} %); {int(seen.any(0).sum())} of "
        f"{len(slide.fragments)} fragments seen, {int(seen[:, : len(slide.needles)].any(0).sum())} of "
        f"{len(slide.needles)} needles\n"
        f"  class: {name[predicted]} ({100 * probability:.1f} %), truth: {name[slide.label]}",
        flush=True,
    )
    attention = out.attention[0].flatten().softmax(0).view_as(out.attention[0])
    best = sampled.log_prob[0].argsort(descending=True)[:DRAWS]
    save_attention(
        picture,
        overview=area_mean(case.view, overview_size((case.view.shape[1], case.view.shape[2]))),
        attention=attention,
        patches=sampled.patches[0, best] * STD + torch.tensor(MEAN)[:, None, None],
        offsets=sampled.offsets[0, best],
        probabilities=sampled.log_prob[0, best].exp(),
        image_size=(height, width),
        title=f"Do thick vessels cross the fragments?   true: {name[slide.label]}    predicted: {name[predicted]} "
        f"({100 * probability:.0f} %)",
        subtitle=f"{height * width / 1e9:.3g} gigapixels on disk; the {len(best)} most probable of {num_samples} "
        "patches; circles mark the needles",
        objects=slide.needles if len(slide.needles) else None,
    )
    return picture


def train(model: AttentionSampling, cases: Sequence[Case], seconds: float) -> int:
    """Train on small slides, whose patches come from the disk; where fragments are is known there, needles or not.

    Returns:
        The number of steps taken, at least one.
    """
    optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    model.train()
    views = torch.stack([case.view for case in cases])
    labels = torch.tensor([case.slide.label for case in cases])
    places = torch.stack([shares(case) for case in cases])
    progress = Progress(seconds)
    taken = 0
    while not taken or (progress.elapsed() < seconds and (taken < FEWEST or progress.loss > ENOUGH)):
        share = progress.elapsed() / seconds
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (taken + 1) / 20, 2 * max(1 - share, 0.0))
        chosen = torch.randperm(len(cases))[:BATCH]
        out = model([cases[i].pyramid for i in chosen.tolist()], views[chosen])
        task = F.cross_entropy(out.scores, labels[chosen])
        optimiser.zero_grad()
        (task + SUPERVISION * supervised_attention(out.attention, places[chosen])).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        taken += 1
        progress.update(taken, task.item(), float((out.scores.argmax(1) == labels[chosen]).float().mean()))
    progress.close()
    return taken


@torch.no_grad()
def classify(
    model: AttentionSampling, case: Case, num_samples: int, seed: int
) -> tuple[int, float, AttentionSamplingOutput]:
    """The class, its probability, and all that the network says."""
    model.eval()
    model.inference_samples = num_samples
    out = model([case.pyramid], case.view.unsqueeze(0), seed=seed)
    probability, predicted = out.scores[0].softmax(0).max(0)
    return int(predicted), float(probability), out


def hits(offsets: Tensor, boxes: Tensor) -> Tensor:
    """Which patch's centre lies in which box, ``[N, K]``."""
    y, x = (offsets.unsqueeze(1) + PATCH // 2).unbind(-1)  # [N, 1]
    x0, y0, x1, y1 = boxes.unsqueeze(0).unbind(-1)  # [1, K]
    return (x >= x0) & (x < x1) & (y >= y0) & (y < y1)


def shares(case: Case) -> Tensor:
    """How much of each cell of a small slide fragments cover, ``[Vh, Vw]``, in pixels."""
    cell = 1 << VIEW_LEVEL
    covered = torch.zeros(case.view.shape[1:])
    rows, columns = (cell * torch.arange(count) for count in covered.shape)
    for x0, y0, x1, y1 in case.slide.fragments.tolist():
        down = ((rows + cell).clamp(max=y1) - rows.clamp(min=y0)).clamp(min=0)
        right = ((columns + cell).clamp(max=x1) - columns.clamp(min=x0)).clamp(min=0)
        covered += down[:, None] * right[None]
    return covered


def chance_of(boxes: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> float:
    """Share of the grid's cells whose patch has its centre in one of the boxes, which do not overlap."""
    rows, columns = (torch.arange(cells) for cells in grid)
    down = cell_offsets(rows[None] * grid[1], grid, size, PATCH)[0]
    right = cell_offsets(columns[None], grid, size, PATCH)[0]
    inside = 0
    for x0, y0, x1, y1 in (boxes - PATCH // 2).tolist():
        inside += int(((down[:, 0] >= y0) & (down[:, 0] < y1)).sum()) * int(
            ((right[:, 1] >= x0) & (right[:, 1] < x1)).sum()
        )
    return inside / (grid[0] * grid[1])


def _case(folder: Path, name: str, size: int, label: int, split: str, seed: int, cache: TileCache) -> Case:
    """Write a slide and open its copy."""
    folder.mkdir(exist_ok=True)
    content = SMALL_CONTENT if size == SMALL else CONTENT
    slide = write_slide(folder / f"{name}.json", size, label, split=split, seed=seed, **content)
    path = convert(slide, folder / f"{name}.zoomkern", levels=VIEW_LEVEL + 1, overwrite=True)
    pyramid = Pyramid.open(ConvertedReader(path), where="disk", cache=cache)
    return Case(slide, pyramid, pyramid[VIEW_LEVEL].float() / 255, path)


def peak_bytes() -> int:
    """The most memory that this process has had resident."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
