"""Values that nothing can be drawn from are told, now or at the next call; no kernel reads where it may not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import zoomkern
from zoomkern import PinnedImage
from zoomkern.ops import backends
from zoomkern.reference.sampling import SAMPLERS
from zoomkern.typing import PADDED_OFFSET

from .device import COMPILED, each_backend

LOWEST, HIGHEST = -(1 << 63), (1 << 63) - 1
SIZES = (9, 3000, 300_000)
samplers = pytest.mark.parametrize("sampler", SAMPLERS)


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """The device still works after each test, and no fault of one is told to the next."""
    for backend in COMPILED:
        told(backend)
    yield
    torch.cuda.synchronize()
    assert float(torch.ones(5, device="cuda").sum()) == 5


def told(backend: str) -> str | None:
    """What was noted on the device, if anything: the next draw tells."""
    if not backends.explain()[backend][0]:
        return None
    torch.cuda.synchronize()
    try:
        zoomkern.sample(torch.zeros(1, 4, device="cuda"), 1, seed=0, backend=backend)
    except (RuntimeError, ValueError) as error:
        return str(error)
    return None


@each_backend
@samplers
@pytest.mark.parametrize("items", SIZES)
@pytest.mark.parametrize(("value", "word"), [(torch.nan, "nan"), (torch.inf, "inf")], ids=["nan", "inf"])
def test_a_value_that_is_no_logit_is_told_and_spoils_its_row_alone(
    sampler: str, items: int, value: float, word: str, backend: str
) -> None:
    logits = torch.randn(3, items, device="cuda")
    wanted = zoomkern.sample(logits, 5, sampler=sampler, seed=1, backend=backend)
    logits[1, items // 2] = value
    given = zoomkern.sample(logits, 5, sampler=sampler, seed=1, backend=backend)
    message = told(backend)
    assert message is not None
    assert f"got {word} in row 1, item {items // 2}" in message
    assert told(backend) is None
    assert torch.equal(given.index[[0, 2]], wanted.index[[0, 2]])
    assert bool((given.index[1] == -1).all())
    assert not given.weight[1].any()


@each_backend
@samplers
@pytest.mark.parametrize("items", SIZES)
@pytest.mark.parametrize("left", [0, 2])
def test_too_few_drawable_items_are_told(sampler: str, items: int, left: int, backend: str) -> None:
    mask = torch.ones(2, items, dtype=torch.bool, device="cuda")
    mask[1, left:] = False
    call: dict[str, Any] = {"sampler": sampler, "mask": mask, "seed": 1, "backend": backend}
    given = zoomkern.sample(torch.zeros(2, items, device="cuda"), 5, **call)
    message = told(backend)
    if sampler == "replacement" and left:
        assert message is None
        return
    assert message is not None
    assert "items that may be drawn in every row; row 1" in message
    assert bool((given.index[0] >= 0).all())
    padded = zoomkern.sample(torch.zeros(2, items, device="cuda"), 5, on_short="pad", **call)
    assert told(backend) is None
    assert int((padded.index[1] >= 0).sum()) == left


@each_backend
def test_patches_of_a_row_at_fault_are_fill(backend: str) -> None:
    logits = torch.zeros(2, 4, 5, device="cuda")
    logits[0, 1, 1] = torch.nan
    images = torch.ones(2, 3, 40, 40, device="cuda")
    drawn = zoomkern.sample_patches(images, logits, 3, 8, fill=7, seed=0, backend=backend)
    assert told(backend) is not None
    assert bool((drawn.offsets[0] == PADDED_OFFSET).all())
    assert bool((drawn.patches[0] == 7).all())
    assert bool((drawn.patches[1] <= 7).all())


@each_backend
@pytest.mark.parametrize("pinned", [False, True], ids=["device", "pinned"])
@pytest.mark.parametrize("padding_mode", ["constant", "shift"])
def test_offsets_far_outside_read_nothing_or_the_nearest_edge(padding_mode: str, pinned: bool, backend: str) -> None:
    pixels = torch.arange(1, 31, dtype=torch.uint8).reshape(1, 5, 6)
    image = PinnedImage(pixels) if pinned else pixels.cuda()
    far = [LOWEST, LOWEST + 1, PADDED_OFFSET - 1, PADDED_OFFSET + 1, -(1 << 32), 1 << 31, 1 << 62, HIGHEST]
    places = torch.tensor([[[y, x] for y in far for x in far]])
    given = zoomkern.gather_patches([image], places.cuda(), (3, 2), padding_mode=padding_mode, fill=-2, backend=backend)
    for (y, x), patch in zip(places[0].tolist(), given[0].cpu(), strict=True):
        rows, columns = (slice(0, size) if at < 0 else slice(-size, None) for at, size in ((y, 3), (x, 2)))
        wanted = pixels[:, rows, columns].float() if padding_mode == "shift" else torch.full((1, 3, 2), -2.0)
        assert torch.equal(patch, wanted)


@each_backend
def test_nothing_to_draw_or_to_read_is_an_empty_result(backend: str) -> None:
    images = torch.ones(2, 3, 20, 20, device="cuda")
    places = torch.zeros(2, 0, 2, dtype=torch.int64, device="cuda")
    assert zoomkern.gather_patches(images, places, 4, backend=backend).shape == (2, 0, 3, 4, 4)
    assert zoomkern.gather_patches(images[:0], places[:0], 4, backend=backend).shape == (0, 0, 3, 4, 4)
    drawn = zoomkern.sample_patches(images[:0], torch.zeros(0, 3, 3, device="cuda"), 2, 4, seed=0, backend=backend)
    assert drawn.patches.shape == (0, 2, 3, 4, 4)
    assert zoomkern.sample(torch.zeros(0, 5, device="cuda"), 2, seed=0, backend=backend).index.shape == (0, 2)
    none = torch.zeros(2, dtype=torch.int64, device="cuda")
    zero = zoomkern.sample(torch.zeros(2, 5, device="cuda"), none, max_samples=3, seed=0, backend=backend)
    assert bool((zero.index == -1).all())
    grid = torch.zeros(2, 0, 0, device="cuda")
    padded = zoomkern.sample_patches(images, grid, 2, 4, on_short="pad", fill=9, seed=0, backend=backend)
    assert bool((padded.patches == 9).all())


def mixed() -> dict[str, tuple[Callable[[str], Any], str]]:
    """Calls whose tensors lie on two devices, and what the complaint must say."""
    host, device = torch.ones(1, 3, 20, 20), torch.ones(1, 3, 20, 20, device="cuda")
    logits, places = torch.zeros(1, 3, 3, device="cuda"), torch.zeros(1, 2, 2, dtype=torch.int64)
    mask, out = torch.ones(1, 3, 3, dtype=torch.bool), torch.empty(1, 2, 3, 4, 4)
    draw = {"seed": 0}
    return {
        "pageable images": (lambda b: zoomkern.gather_patches(host, places.cuda(), 4, backend=b), "PinnedImage"),
        "pageable list": (lambda b: zoomkern.sample_patches([host[0]], logits, 2, 4, backend=b, **draw), "PinnedImage"),
        "places": (lambda b: zoomkern.gather_patches(device, places, 4, backend=b), "images must be on cpu"),
        "mask": (lambda b: zoomkern.sample(logits, 2, mask=mask, backend=b, **draw), "mask must be on cuda"),
        "seed": (lambda b: zoomkern.sample(logits, 2, seed=torch.tensor(1), backend=b), "seed must be on cuda"),
        "counts": (
            lambda b: zoomkern.sample(logits, torch.tensor([2]), max_samples=2, backend=b, **draw),
            "num_samples must be on cuda",
        ),
        "out": (
            lambda b: zoomkern.gather_patches(device, places.cuda(), 4, out=out, backend=b),
            "out must be on cuda",
        ),
        "logits": (lambda b: zoomkern.sample(logits.cpu(), 2, backend=b, **draw), "takes cuda tensors"),
    }


@each_backend
@pytest.mark.parametrize(
    "name", ["pageable images", "pageable list", "places", "mask", "seed", "counts", "out", "logits"]
)
def test_tensors_on_two_devices_are_refused_before_anything_runs(name: str, backend: str) -> None:
    call, words = mixed()[name]
    with pytest.raises(ValueError, match=words):
        call(backend)


AT_ONCE = """
import sys, torch, zoomkern
backend = sys.argv[1]
logits = torch.zeros(2, 300, device="cuda")
logits[1, 7] = torch.nan
try:
    zoomkern.sample(logits, 3, seed=0, backend=backend)
except ValueError as error:
    print(error)
images = torch.ones(1, 3, 40, 40, device="cuda")
mask = torch.zeros(1, 4, 4, dtype=torch.bool, device="cuda")
try:
    zoomkern.sample_patches(images, torch.zeros(1, 4, 4, device="cuda"), 3, 8, mask=mask, seed=0, backend=backend)
except ValueError as error:
    print(error)
print(zoomkern.sample(logits[:1], 3, seed=0, backend=backend).index.shape)
"""

#: The ops themselves, whose callers may have checked nothing: an unknown pixel type, and numbers that are too large.
UNCHECKED = """
import sys, torch
from zoomkern.ops.library import namespace
op = namespace(sys.argv[1])
cuda = {"device": "cuda"}
conversion = torch.tensor([[1.0], [0.0], [5.0]], dtype=torch.float64)
places = torch.zeros(1, 1, 2, dtype=torch.int64, **cuda)
logits, seed = torch.zeros(1, 6, **cuda), torch.zeros((), dtype=torch.int64, **cuda)
one, lse = torch.ones(1, 1, **cuda), torch.ones(1, 2, dtype=torch.float64, **cuda)
table = torch.tensor([[one.data_ptr(), 1, 1, 1, 1, 1, 1, 77]], **cuda)
far = torch.tensor([[1 << 40]], **cuda)
said = []
for call in (
    lambda: op.gather_patches([], table, places, conversion, 4, 4, 1, False, 4, False),
    lambda: op.sample(logits, None, seed, far[0], 2, 0, 1, True, 0),
    lambda: op.draw_weights(logits, None, far, 0, 1),
    lambda: op.sample_backward(one, logits, None, far, lse),
):
    try:
        call()
        torch.cuda.synchronize()
    except (RuntimeError, ValueError) as error:
        if "CUDA error" in str(error):
            raise
        said.append(str(error))
try:
    op.sample(logits, None, seed, None, 2, 0, 1, True, 0)
except RuntimeError as error:
    said.append(str(error))
print(" | ".join(said))
print(int(torch.ones(7, **cuda).sum()))
"""


def output_of(program: str, backend: str, **environment: str) -> list[str]:
    """The lines that a program of its own prints: after an illegal access a process is lost."""
    paths = {"PYTHONPATH": str(Path(zoomkern.__file__).parents[1])}
    words = [sys.executable, "-c", program, backend]
    given = {**os.environ, **paths, **environment}
    done = subprocess.run(words, env=given, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@each_backend
def test_faults_are_raised_at_once_where_that_is_asked_for(backend: str) -> None:
    nan, few, shape = output_of(AT_ONCE, backend, ZOOMKERN_CHECK="1")
    assert "got nan in row 1, item 7" in nan
    assert "row 0 has 0" in few
    assert shape == "torch.Size([1, 3])"


@each_backend
def test_an_op_that_is_called_itself_never_reads_what_is_not_there(backend: str) -> None:
    said, seven = output_of(UNCHECKED, backend)
    assert "must" in said
    assert seven == "7"


@each_backend
def test_a_number_of_no_item_is_told_at_once_where_that_is_asked_for(backend: str) -> None:
    said, _ = output_of(UNCHECKED, backend, ZOOMKERN_CHECK="1")
    for words in (
        "counts must lie between 0 and num_samples; got 1099511627776 in row 0",
        "index must be -1 or an item",
    ):
        assert words in said
