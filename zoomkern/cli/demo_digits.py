"""The part of ``zoomkern demo`` that trains on megapixel digits."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoomkern.cli.demo import InputError
from zoomkern.data.digits import CELL, NUM_CLASSES, CanvasBatch, DigitCanvases
from zoomkern.losses import entropy_regulariser
from zoomkern.models import AttentionSampling
from zoomkern.nn import AttentionNetwork, FeatureNetwork
from zoomkern.visual import area_mean, overview_size, save_attention

#: Holds a digit of 40 pixels wherever in the cell of 32 its middle lies.
PATCH = 72
BATCH = 16
TEST_CANVASES = 320
FEW_STEPS = 1200  # below which more time would have shown
LEARNING_RATE = 7e-3
ENTROPY = 1e-3
#: Bytes of background that training keeps; larger canvases mean smaller batches.
CANVAS_BYTES = 1 << 29


class Result(NamedTuple):
    """Shares of the test canvases, and of the attention on them.

    Args:
        sampling: classified rightly by attention sampling.
        dense: classified rightly by the dense network on the view.
        on_digits: estimated share of the attention in cells whose patch is centred on a digit.
    """

    sampling: float
    dense: float
    on_digits: float


class DenseNetwork(nn.Sequential):
    """What the view alone can tell: a dense convolutional network on it, ``[B, 1, h, w]`` to ``[B, K]``."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for width, hidden in ((1, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(width, hidden, 3, stride=2, padding=1), nn.BatchNorm2d(hidden), nn.ReLU()]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64 * 4, NUM_CLASSES))


def build(num_samples: int) -> AttentionSampling:
    """The one-stage network of the demo."""
    model = AttentionSampling(
        NUM_CLASSES,
        num_samples,
        (PATCH, PATCH),
        # digits fill one cell in a thousand: uniform attention would hardly ever meet one
        attention=AttentionNetwork(1, (16, 16), contrast=3.0),
        features=FeatureNetwork(1, (16, 32, 64), (7, 3, 3), (4, 2, 1)),
        mean=(0.1,),
        std=(0.3,),
    )
    with torch.no_grad():
        model.classifier.weight.mul_(10)  # features have unit length; scores need more range than that
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def train_and_draw(seconds: float, size: int, num_samples: int, seed: int, output: Path) -> None:
    """Train both networks, print how they compare, draw the first test canvas.

    Args:
        seconds: time to train.
        size: side of the canvases in pixels.
        num_samples: patches to read per canvas.
        seed: of everything.
        output: PNG to write.
    """
    cells = size // CELL
    torch.manual_seed(seed)
    model, dense = build(num_samples), DenseNetwork()
    batch_size = min(max(CANVAS_BYTES // size**2, 2), BATCH)
    print(f"Drawing {2 * batch_size} sheets of clutter, {size} x {size} pixels each ...", flush=True)
    try:
        training = DigitCanvases("train", length=1 << 40, size=size, num_backgrounds=batch_size, seed=seed)
        test = DigitCanvases("test", length=TEST_CANVASES, size=size, num_backgrounds=batch_size, seed=seed)
    except (MemoryError, RuntimeError) as error:
        raise InputError(f"--size {size} needs more memory than there is; choose a smaller one.") from error
    print(
        f"Task: which digit occurs three times among five? The view has {cells} x {cells} pixels, and a digit fills "
        f"about one of them;\n{num_samples} patches of {PATCH} x {PATCH} are read per canvas, "
        f"{100 * num_samples * PATCH**2 / size**2:.2g} % of its pixels. Training takes {seconds:g} s.",
        flush=True,
    )
    before = evaluate(model, dense, test, limit=4 * batch_size)
    steps = train(model, dense, training, seconds)
    after = evaluate(model, dense, test)
    deviation = (after.sampling * (1 - after.sampling) / len(test)) ** 0.5
    print(
        f"Trained {steps} steps on {steps * batch_size} canvases. On {len(test)} test canvases with unseen digits:\n"
        f"  attention sampling       {100 * after.sampling:5.1f} %  (standard error {100 * deviation:.1f})\n"
        f"  dense CNN on the view    {100 * after.dense:5.1f} %  (same canvases, same steps)\n"
        f"  chance                   {100 / NUM_CLASSES:5.1f} %\n"
        f"  attention on digits      {100 * before.on_digits:5.1f} %  before, "
        f"{100 * after.on_digits:.1f} % after training"
    )
    if steps < FEW_STEPS:
        print(
            f"{steps} steps are few; accuracy grows with them. On a slow or busy machine try --seconds {4 * seconds:g}."
        )
    draw(model, test, output, f"{steps * batch_size} training canvases, {100 * after.sampling:.0f} % right on test")


def train(
    model: AttentionSampling, dense: nn.Module, canvases: DigitCanvases, seconds: float, steps: int | None = None
) -> int:
    """Train both networks side by side on the same canvases.

    Args:
        model: attention sampling.
        dense: the network that sees the view alone.
        canvases: training canvases.
        seconds: when to stop; the learning rate falls to zero over the last half.
        steps: stop after this many, too.

    Returns:
        The number of steps taken, at least one.
    """
    optimisers = [
        torch.optim.Adam(model.parameters(), lr=LEARNING_RATE),
        torch.optim.Adam(dense.parameters(), lr=LEARNING_RATE),
    ]
    model.train()
    dense.train()
    progress = Progress(seconds)
    taken = 0
    for batch in canvases.batches(canvases.num_backgrounds):
        share = max(progress.elapsed() / seconds, taken / steps if steps else 0.0)
        if taken and share >= 1:
            break
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = LEARNING_RATE * min(1.0, (taken + 1) / 20, 2 * max(1 - share, 0.0))
            optimiser.zero_grad()
        view = standardise(batch.view)
        out = model(batch.images, view)
        task = F.cross_entropy(out.scores, batch.labels)
        (task + entropy_regulariser(out.attention, ENTROPY)).backward()
        F.cross_entropy(dense(view), batch.labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        taken += 1
        progress.update(taken, task.item(), float((out.scores.argmax(1) == batch.labels).float().mean()))
    progress.close()
    return taken


@torch.no_grad()
def evaluate(model: AttentionSampling, dense: nn.Module, canvases: DigitCanvases, limit: int | None = None) -> Result:
    """Test both networks on the first ``limit`` canvases, all by default."""
    model.eval()
    dense.eval()
    right, dense_right, on_digits, seen = 0, 0, 0.0, 0
    for number, batch in enumerate(canvases.batches(canvases.num_backgrounds)):
        if limit is not None and seen >= limit:
            break
        view = standardise(batch.view)
        out = model(batch.images, view, seed=number)
        right += int((out.scores.argmax(1) == batch.labels).sum())
        dense_right += int((dense(view).argmax(1) == batch.labels).sum())
        on_digits += float((out.sampled.weight * hits(out.sampled.offsets, batch)).sum())
        seen += len(batch.images)
    return Result(right / seen, dense_right / seen, on_digits / seen)


def standardise(view: Tensor) -> Tensor:
    """A view in [0, 1] to the range that networks like."""
    return (view - 0.1) / 0.1


def hits(offsets: Tensor, batch: CanvasBatch) -> Tensor:
    """Whether each patch's centre lies in a digit's box, ``[B, N]``."""
    y, x = (offsets.unsqueeze(2) + PATCH // 2).unbind(-1)  # [B, N, 1]
    x0, y0, x1, y1 = batch.boxes.unsqueeze(1).unbind(-1)  # [B, 1, 5]
    return ((x >= x0) & (x < x1) & (y >= y0) & (y < y1)).any(2)


@torch.no_grad()
def draw(model: AttentionSampling, canvases: DigitCanvases, output: Path, remark: str) -> None:
    """Draw where the network looked on the first canvas."""
    model.eval()
    canvas = canvases[0]
    out = model([canvas.image], standardise(canvas.view.unsqueeze(0)), seed=0)
    sampled = out.sampled
    probability = out.scores[0].softmax(0)
    predicted = int(probability.argmax())
    save_attention(
        output,
        overview=area_mean(canvas.image, overview_size(canvas.image.shape[1:])) / 255,  # type: ignore[arg-type]
        attention=out.attention[0].flatten().softmax(0).view_as(out.attention[0]),
        patches=sampled.patches[0] * 0.3 + 0.1,
        offsets=sampled.offsets[0],
        probabilities=sampled.log_prob[0].exp(),
        image_size=(canvases.size, canvases.size),
        title=f"Which digit occurs three times?   true: {canvas.label}    predicted: {predicted} "
        f"({100 * float(probability[predicted]):.0f} %)",
        subtitle=f"first test canvas; dotted circles mark its digits; {remark}",
        objects=canvas.boxes,
    )


class Progress:
    """A bar on a terminal; elsewhere a line every ten seconds.

    Args:
        seconds: what makes a whole.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.start = self.last = time.monotonic()
        self.loss, self.accuracy = 0.0, 0.0
        self.bar: Any = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            form = "{l_bar}{bar}| {n:.0f}/{total:.0f} s{postfix}"
            self.bar = tqdm(total=seconds, desc="training", bar_format=form)

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    def update(self, step: int, loss: float, accuracy: float) -> None:
        """Report a step; loss and accuracy are smoothed over the last fifty or so."""
        rate = max(1 / step, 0.02)
        self.loss += rate * (loss - self.loss)
        self.accuracy += rate * (accuracy - self.accuracy)
        now = time.monotonic()
        if self.bar is not None:
            self.bar.set_postfix_str(f"step {step}, {self.figures()}", refresh=False)
            self.bar.update(min(now - self.start, self.seconds) - self.bar.n)
        elif now - self.last >= 10:
            print(f"  {now - self.start:4.0f} s: step {step}, {self.figures()}", flush=True)
            self.last = now

    def figures(self) -> str:
        """Loss and accuracy as text."""
        return f"loss {self.loss:.2f}, training accuracy {100 * self.accuracy:.0f} %"

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.close()
