"""Patches on a GPU are those of the CPU bit for bit, from device memory and from page-locked memory alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import zoomkern
from zoomkern import ImageBank, PinnedImage, Pyramid
from zoomkern.reference.sampling import SAMPLERS
from zoomkern.typing import PIXEL_DTYPES

from ..ops.test_gathering import FILLS, RESULTS, SCALES, VIEWS, bits, random_image, random_places
from .device import DEVICE, each_backend, moved, transplanted, without_waiting

FORMS = ("batch", "list", "bank", "pinned", "pinned bank", "pyramids")
READINGS = 40  # of each form
needs_gpu = pytest.mark.skipif(DEVICE.type != "cuda", reason="asks CUDA")
layouts = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])


def images_of(form: str, images: list[Tensor], ids: list[int]) -> tuple[Any, Any, dict[str, int]]:
    """The same images in host memory and as the device is given them, and the level to read."""
    if form == "batch":
        batch = images[0].expand(len(ids), *images[0].shape)
        return batch, transplanted(images[0]).expand(batch.shape), {}
    if form == "bank":
        return ImageBank(images)[ids], ImageBank([transplanted(image) for image in images])[ids], {}
    if form == "pinned bank":
        return ImageBank(images)[ids], ImageBank([PinnedImage(image) for image in images], DEVICE)[ids], {}
    chosen = [images[i] for i in ids]
    if form == "list":
        return chosen, [transplanted(image) for image in chosen], {}
    if form == "pinned":
        return chosen, [PinnedImage(image) for image in chosen], {}
    fine = [torch.ones((i.shape[0], 2 * i.shape[1], 2 * i.shape[2]), dtype=i.dtype) for i in chosen]
    levels = zip(fine, chosen, strict=True)
    pinned = [Pyramid([PinnedImage(large), PinnedImage(small)]) for large, small in levels]
    return [Pyramid([large, small]) for large, small in zip(fine, chosen, strict=True)], pinned, {"level": 1}


def random_reading(rng: np.random.Generator, form: str) -> tuple[list[Tensor], dict[str, Any]]:
    """Images, and how they are read."""

    def choose(options: Any) -> Any:
        return options[rng.integers(len(options))]

    channels, kind = choose([3, 3, 1, 2, 4, 17]), choose(PIXEL_DTYPES)
    images = [
        random_image(
            rng,
            (channels, int(rng.integers(1, 60)), int(rng.integers(1, 150))),
            choose(PIXEL_DTYPES) if "bank" in form else kind,
            choose(sorted(VIEWS)),
        )
        for _ in range(3)
    ]
    options = {
        "step": choose([1, 1, 2, 3, 7]),
        "padding_mode": choose(["constant", "shift"]),
        "fill": rng.choice(FILLS, channels),
        "scale": rng.choice(SCALES, channels),
        "shift": rng.choice(SCALES, channels),
        "dtype": choose(RESULTS),
        "memory_format": choose([torch.contiguous_format, torch.channels_last]),
    }
    return images, options


def places_of(rng: np.random.Generator, images: list[Tensor], size: tuple[int, int], step: int, count: int) -> Tensor:
    rows = [
        np.stack([random_places(rng, image.shape[1 + axis], step * size[axis], count) for axis in (0, 1)], -1)
        for image in images
    ]
    return torch.from_numpy(np.stack(rows))


def assert_equal_bits(given: Tensor, wanted: Tensor) -> None:
    assert given.device.type == DEVICE.type
    assert given.stride() == wanted.stride()
    assert torch.equal(bits(given.cpu()), bits(wanted))


@each_backend
@pytest.mark.parametrize("form", FORMS)
def test_random_readings_are_those_of_the_cpu(form: str, backend: str, native: str) -> None:
    rng = np.random.default_rng(FORMS.index(form))
    for number in range(READINGS):
        images, options = random_reading(rng, form)
        ids = rng.integers(0, 3, 4).tolist()
        size = (int(rng.integers(1, 20)), int(rng.choice([1, 5, 16, 31, 32, 33, 64, 100, 130])))
        read = [images[0] if form == "batch" else images[i] for i in ids]
        places = places_of(rng, read, size, options["step"], 25)
        host, device, level = images_of(form, images, ids)
        wanted = zoomkern.gather_patches(host, places, size, backend=native, **level, **options)
        given = zoomkern.gather_patches(device, places.to(DEVICE), size, backend=backend, **level, **options)
        try:
            assert_equal_bits(given, wanted)
        except AssertionError as error:
            raise AssertionError(f"reading {number}, {size}, {options}: {error}") from error


@each_backend
@layouts
@pytest.mark.parametrize("size", [27, 50, 100, 224, 256, 500])
def test_the_patch_sizes_of_papers(size: int, layout: torch.memory_format, backend: str, native: str) -> None:
    pixels = torch.randint(0, 256, (1200, 1300, 3), dtype=torch.uint8).permute(2, 0, 1)
    image = PinnedImage(pixels)
    places = torch.randint(-50, 1100, (1, 64, 2))
    options = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4), "memory_format": layout, "dtype": torch.float16}
    wanted = zoomkern.gather_patches([pixels], places, size, backend=native, **options)
    for images in ([image], [transplanted(pixels)]):
        assert_equal_bits(zoomkern.gather_patches(images, places.to(DEVICE), size, backend=backend, **options), wanted)


@each_backend
@pytest.mark.parametrize("count", [32, 33, 70, 300])
def test_a_list_of_many_images(count: int, backend: str, native: str) -> None:
    images = [torch.randint(0, 256, (3, 20 + i % 7, 30 + i % 11), dtype=torch.uint8) for i in range(count)]
    places = torch.randint(-9, 30, (count, 5, 2))
    wanted = zoomkern.gather_patches(images, places, 8, backend=native)
    given = zoomkern.gather_patches([i.to(DEVICE) for i in images], places.to(DEVICE), 8, backend=backend)
    assert_equal_bits(given, wanted)


@each_backend
@layouts
def test_out_holds_what_would_be_returned(layout: torch.memory_format, backend: str) -> None:
    images = torch.randint(0, 256, (2, 3, 70, 80), dtype=torch.uint8).to(DEVICE)
    logits = torch.randn(2, 5, 7).to(DEVICE).requires_grad_()
    options = {"memory_format": layout, "dtype": torch.float16, "seed": 3, "backend": backend}
    wanted = zoomkern.sample_patches(images, logits, 4, (6, 5), **options)
    out = torch.full_like(wanted.patches, torch.nan)
    given = zoomkern.sample_patches(images, logits, 4, (6, 5), out=out, **options)
    assert given.patches is out
    for part, known in zip(given, wanted, strict=True):
        assert torch.equal(part, known)
    out = torch.full_like(out, torch.nan)
    zoomkern.gather_patches(
        images, wanted.offsets, (6, 5), out=out, memory_format=layout, dtype=torch.float16, backend=backend
    )
    assert torch.equal(out, wanted.patches)


@each_backend
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_drawing_and_reading_in_one_op_is_that_of_the_cpu(sampler: str, form: str, backend: str, native: str) -> None:
    images = [torch.randint(0, 256, (3, 90 + 30 * i, 140 - 20 * i)).to(torch.uint8) for i in range(3)]
    host, device, level = images_of(form, images, [2, 0, 2])
    for run in range(4):
        options = {
            "sampler": sampler,
            "mask": torch.rand(3, 9, 8) > 0.3,
            "seed": torch.tensor([run, -run - 1, 1 << 40]),
            "align": ("center", "corners")[run % 2],
            "padding_mode": ("constant", "shift")[run // 2],
            "on_short": "pad",
            "fill": 7,
            "scale": (0.5, 2.0, -1.0),
            "step": 1 + run % 3,
        }
        logits = 2 * torch.randn(3, 9, 8)
        count = torch.tensor([6, 0, 2]) if run % 2 else 6
        most = {"max_samples": 6} if run % 2 else {}
        wanted = zoomkern.sample_patches(host, logits, count, (9, 33), backend=native, **options, **most, **level)
        given = zoomkern.sample_patches(
            device, logits.to(DEVICE), moved(count), (9, 33), backend=backend, **moved(options), **most, **level
        )
        for name in ("index", "offsets"):
            assert torch.equal(getattr(given, name).cpu(), getattr(wanted, name))
        assert_equal_bits(given.patches, wanted.patches)


@each_backend
def test_locations_are_where_the_items_of_a_list_lie(backend: str, native: str) -> None:
    images = torch.randint(0, 256, (2, 3, 60, 50), dtype=torch.uint8)
    locations, logits = torch.randint(-9, 60, (2, 40, 2)), torch.randn(2, 40)
    locations[0, 3] = torch.tensor([1 << 62, -(1 << 63)])
    for places in (locations, locations[0]):
        wanted = zoomkern.sample_patches(images, logits, 20, 9, locations=places, seed=1, backend=native)
        arguments = (images.to(DEVICE), logits.to(DEVICE), 20, 9)
        given = zoomkern.sample_patches(*arguments, locations=places.to(DEVICE), seed=1, backend=backend)
        assert torch.equal(given.offsets.cpu(), wanted.offsets)
        assert_equal_bits(given.patches, wanted.patches)


@each_backend
@layouts
@pytest.mark.parametrize("padding_mode", ["constant", "shift"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_gradients_towards_images_are_those_of_the_cpu_bit_for_bit(
    dtype: torch.dtype, padding_mode: str, layout: torch.memory_format, backend: str, native: str
) -> None:
    pixels = [torch.randn(3, 70, 90).to(dtype), torch.randn(3, 33, 120).to(dtype)]
    places = torch.randint(-20, 80, (2, 60, 2))  # windows that overlap
    upstream = torch.randn(2, 60, 3, 16, 21)
    grads = []
    for name, device in ((native, torch.device("cpu")), (backend, DEVICE)):
        images = [p.to(device, copy=True).requires_grad_() for p in pixels]
        options = {"scale": (0.3, -1.0, 2.0), "padding_mode": padding_mode, "memory_format": layout, "step": 2}
        patches = zoomkern.gather_patches(images, places.to(device), (16, 21), backend=name, **options)
        grads.append(torch.autograd.grad(patches, images, upstream.to(device)))
    for wanted, given in zip(*grads, strict=True):
        assert torch.equal(bits(given.cpu()), bits(wanted))


@needs_gpu
@each_backend
@pytest.mark.parametrize("where", ["device", "pinned"])
def test_beyond_two_to_the_31_and_32_bytes(where: str, backend: str) -> None:
    height, width = 45_007, 32_003  # 4.3e9 bytes
    if where == "device" and torch.cuda.get_device_properties(0).total_memory < 10 << 30:
        pytest.skip("needs 10 GB of GPU memory")
    pinned = PinnedImage.empty((3, height, width), torch.uint8) if where == "pinned" else None
    image = torch.zeros(3, height, width, dtype=torch.uint8, device=DEVICE) if pinned is None else pinned.tensor
    rows = [edge // image.stride(1) for edge in (1 << 31, 1 << 32)] if image.stride(0) == 1 else [100, height - 9]
    places = torch.tensor([[[row, x] for row in rows for x in (0, 17, width - 32)]])
    for y, x in places[0].tolist():
        image[:, y : y + 8, x : x + 32] = torch.randint(1, 256, (3, 8, 32), dtype=torch.uint8)
    given = zoomkern.gather_patches([pinned or image], places.to(DEVICE), (8, 32), backend=backend)
    for (y, x), patch in zip(places[0].tolist(), given[0], strict=True):
        assert torch.equal(patch.cpu(), image[:, y : y + 8, x : x + 32].cpu().float())


@needs_gpu
@each_backend
@pytest.mark.parametrize("form", FORMS)
def test_nobody_waits_for_patches(form: str, backend: str) -> None:
    images = [torch.randint(0, 256, (3, 90, 140)).to(torch.uint8) for _ in range(3)]
    _, device, level = images_of(form, images, [2, 0, 2])
    logits = torch.randn(3, 9, 8, device=DEVICE, requires_grad=True)
    out = torch.empty(3, 6, 3, 16, 16, device=DEVICE)

    def step(seed: int | None) -> Tensor:
        read = {"mean": 0.5, "std": 0.2, "backend": backend, **level}
        drawn = zoomkern.sample_patches(device, logits, 6, 16, seed=seed, **read)
        zoomkern.gather_patches(device, drawn.offsets, 16, out=out, **read)
        pooled = zoomkern.expectation(drawn.patches.flatten(2), drawn.sample, backend=backend)
        return torch.autograd.grad(pooled.sum(), logits)[0]

    for seed in (None, 7):
        without_waiting(lambda seed=seed: step(seed))
