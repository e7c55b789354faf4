"""The kernels that read patches give the reference's bits, wherever pixels lie in memory and under any schedule.

They run in the emulation of tests/csrc/emulation, which takes the place of the CPU's ops.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import zoomkern
from zoomkern import ImageBank
from zoomkern.typing import PADDED_OFFSET, PIXEL_DTYPES

ops = torch.ops.zoomkern

BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
RESULTS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
FORMATS = (torch.contiguous_format, torch.channels_last)
VIEWS = 32  # of csrc/cuda/images.cuh
STAGE, CHANNELS = 32 << 10, 128  # of csrc/cuda/reading.cuh
CARRIED = 448 // 3  # channels whose conversion one launch carries: csrc/cuda/gathering.cu
LINE = 128

formats = pytest.mark.parametrize("layout", FORMATS, ids=["planes", "interleaved"])


@pytest.fixture(autouse=True)
def emulation() -> ctypes.CDLL:
    """The library that holds the kernels."""
    emulated = [path for path in torch.ops.loaded_libraries if "emulated" in str(path)]
    if not emulated:
        pytest.skip("the kernels are not emulated in this process")
    library = ctypes.CDLL(emulated[0])
    library.zoomkern_reseed_emulation.argtypes = [ctypes.c_uint64]
    library.zoomkern_fence_emulation.argtypes = [ctypes.c_uint64, ctypes.c_uint64]
    library.zoomkern_emulated_widest_grid.restype = ctypes.c_uint64
    return library


@pytest.fixture
def reseed(emulation: ctypes.CDLL) -> Iterator[Callable[[int], None]]:
    """Draws another schedule of threads and blocks."""
    yield emulation.zoomkern_reseed_emulation
    emulation.zoomkern_reseed_emulation(1)


def pixels(shape: tuple[int, ...], dtype: torch.dtype = torch.uint8, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if dtype.is_floating_point:
        return (torch.randn(shape, generator=generator) * 100).to(dtype)
    return torch.randint(0, 1 << 8 * dtype.itemsize, shape, generator=generator, dtype=torch.int32).to(dtype)


def interleaved(image: Tensor) -> Tensor:
    return image.movedim(-3, -1).contiguous().movedim(-1, -3)


def constants(channels: int) -> dict[str, list[float]]:
    """A conversion that differs from channel to channel, and whose products and sums are rounded."""
    return {
        "scale": [(1 + c % 7) / 3 for c in range(channels)],
        "shift": [(c % 11 - 5) / 7 for c in range(channels)],
        "fill": [c % 5 - 1.3 for c in range(channels)],
    }


def channels_of(images: Any) -> int:
    if isinstance(images, Tensor):
        return images.shape[1]
    return (images.images if isinstance(images, zoomkern.typing.ImageBatch) else images)[0].shape[0]


def equal(given: Tensor, wanted: Tensor) -> bool:
    return torch.equal(given.view(BITS[given.itemsize]), wanted.view(BITS[wanted.itemsize]))


def assert_same(images: Any, offsets: Tensor, size: Any, **options: Any) -> Tensor:
    options = constants(channels_of(images)) | options
    given, wanted = (
        zoomkern.gather_patches(images, offsets, size, backend=backend, **options) for backend in ("cpu", "reference")
    )
    assert equal(given, wanted)
    return given


def around(image: Tensor, size: tuple[int, int]) -> Tensor:
    """``[1, N, 2]`` places at the corners of an image and over its edges."""
    starts = [[1 - size[axis], -1, 0, image.shape[1 + axis] - size[axis], image.shape[1 + axis] - 2] for axis in (0, 1)]
    return torch.cartesian_prod(*map(torch.tensor, starts))[None]


class TestPlacesInMemory:
    @pytest.mark.parametrize("channels", [1, 3, 4])
    @pytest.mark.parametrize("width", [5, 41])
    def test_a_row_may_start_at_any_byte_of_a_line(self, channels: int, width: int) -> None:
        height, across = 9, 60
        memory = pixels((height * across * channels + 2 * LINE,))
        first = -memory.data_ptr() % LINE
        for residue in range(LINE):
            flat = memory[first + residue :][: height * across * channels]
            image = flat.view(height, across, channels).permute(2, 0, 1)  # rows of 60, 180 and 240 bytes
            assert_same([image], torch.tensor([[[0, 0], [2, residue % 19], [-1, across - 3]]]), (8, width))

    @pytest.mark.parametrize("dtype", PIXEL_DTYPES[1:], ids=str)
    def test_a_row_may_start_at_any_value_of_a_line(self, dtype: torch.dtype) -> None:
        height, across = 5, 37
        memory = pixels((3 * height * across + LINE,), dtype)
        for residue in range(LINE // dtype.itemsize):
            flat = memory[residue:][: 3 * height * across]
            for image in (flat.view(3, height, across), flat.view(height, across, 3).permute(2, 0, 1)):
                assert_same([image], torch.tensor([[[0, residue % 9], [1, 30]]]), (4, 11))

    @formats
    @pytest.mark.parametrize("dtype", PIXEL_DTYPES, ids=str)
    @pytest.mark.parametrize("step", [1, 2, 7, 50])
    def test_every_type_of_pixel_becomes_every_type_of_result(
        self, dtype: torch.dtype, layout: torch.memory_format, step: int
    ) -> None:
        image = pixels((3, 12, 70), dtype)
        rgbx = interleaved(pixels((4, 12, 70), dtype))[:3]
        views = [image, interleaved(image), rgbx, image.transpose(1, 2), image[:, 1:-1, 3:], image[..., ::2]]
        views += [image[:, :1].expand(3, 9, 70), image[..., :1].expand(3, 12, 66), image[:1].expand(3, 12, 70)]
        views += [image[:1, :1, :1].expand(3, 8, 9), image[:, :, :1], image[:, :1]]
        views += [image.flatten().as_strided((3, 9, 40), (1, 70, 1))]
        places = torch.tensor([[[0, 0], [-2, 3], [1, -5], [7, 31]]]).expand(len(views), -1, -1)
        for result in RESULTS:
            for size in ((4, 16), (3, 13)):
                assert_same(views, places, size, dtype=result, memory_format=layout, step=step)

    @formats
    def test_a_result_may_start_at_any_value(self, layout: torch.memory_format) -> None:
        image = pixels((3, 20, 30))
        places = torch.tensor([[[0, 0], [3, 5]]])
        wanted = assert_same([image], places, (4, 16), memory_format=layout)
        for first in range(9):
            stored = torch.full((wanted.numel() + 9,), torch.nan)[first : first + wanted.numel()]
            last = layout == torch.channels_last
            out = stored.view(1, 2, 4, 16, 3).permute(0, 1, 4, 2, 3) if last else stored.view(wanted.shape)
            zoomkern.gather_patches(
                [image], places, (4, 16), out=out, memory_format=layout, backend="cpu", **constants(3)
            )
            assert equal(out, wanted)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="a crash must be another process's")
    @pytest.mark.parametrize("place", ["begin", "end", "between"])
    def test_no_byte_beyond_an_image_is_touched(self, place: str, emulation: ctypes.CDLL) -> None:
        cases = []
        for dtype in PIXEL_DTYPES:
            for shape in ((3, 7, 11), (1, 1, 1), (1, 3, 129), (4, 2, 5), (2, 16, 64)):
                for step in (1, 3):
                    image = pixels(shape, dtype)
                    for view in (image, interleaved(image)):
                        size = (min(shape[1], 5), min(shape[2], 40))
                        wanted = zoomkern.gather_patches(
                            [view], around(view, size), size, step=step, backend="reference"
                        )
                        cases.append((view, size, step, wanted))
        child = os.fork()
        if child == 0:
            status = 1
            try:
                guarded = Guarded(place, emulation)
                status = 0 if all(guarded.check(*case) for case in cases) else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0

    @pytest.mark.parametrize("mirrored", [False, True])
    def test_descriptors_may_count_downwards_as_tensors_cannot(self, mirrored: bool) -> None:
        memory = pixels((2, 30, 40))
        first = memory.data_ptr() + memory.numel() - (1 if mirrored else 40)
        table = torch.tensor([[first, 2, 30, 40, -1200, -40, -1 if mirrored else 1, 0]])
        places, size = torch.tensor([[[0, 0], [3, 7], [-2, -5]]]), (4, 40)
        rows = torch.tensor([[1.0] * 2, [0.0] * 2, [9.0] * 2])
        given = ops.gather_patches([], table, places, rows, *size, *READ[2:])
        image = memory.flip((0, 1, 2) if mirrored else (0, 1))
        wanted = zoomkern.gather_patches([image], places, size, fill=9, backend="reference")
        assert equal(given, wanted)


READ = (4, 16, 1, False, PIXEL_DTYPES.index(torch.float32), False)


class Guarded:
    """Memory of a few pages between two that must not be touched, and in it an image across whose ends no load goes."""

    def __init__(self, place: str, emulation: ctypes.CDLL) -> None:
        self.place, self.fence, self.bytes = place, emulation.zoomkern_fence_emulation, 8 * mmap.PAGESIZE
        self.map = mmap.mmap(-1, self.bytes + 2 * mmap.PAGESIZE)
        self.first = ctypes.addressof(ctypes.c_char.from_buffer(self.map)) + mmap.PAGESIZE
        libc = ctypes.CDLL(None, use_errno=True)
        for page in (self.first - mmap.PAGESIZE, self.first + self.bytes):
            assert libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
        self.memory = torch.frombuffer(self.map, dtype=torch.uint8)[mmap.PAGESIZE : -mmap.PAGESIZE]

    def check(self, image: Tensor, size: tuple[int, int], step: int, wanted: Tensor) -> bool:
        """Whether the patches of a copy are right that begins, or ends, where the memory does, or lies between."""
        length = image.numel() * image.itemsize
        start = {"begin": 0, "end": self.bytes - length, "between": 13 * image.itemsize}[self.place]
        copy = self.memory[start : start + length].view(image.dtype).as_strided(image.shape, image.stride())
        copy.copy_(image)
        self.fence(self.first + start, self.first + start + length)
        given = zoomkern.gather_patches([copy], around(copy, size), size, step=step, backend="cpu")
        return equal(given, wanted)


class TestWindows:
    @pytest.mark.parametrize("mode", ["constant", "shift"])
    @pytest.mark.parametrize("step", [1, 3])
    def test_windows_over_every_edge(self, mode: str, step: int) -> None:
        for image in (pixels((3, 10, 12)), interleaved(pixels((3, 10, 12)))):
            assert_same([image], around(image, (6, 8)), (6, 8), padding_mode=mode, step=step)
            assert_same([image], around(image, (14, 20)), (14, 20), padding_mode=mode, step=step)

    @pytest.mark.parametrize("mode", ["constant", "shift"])
    def test_windows_as_far_out_as_numbers_go(self, mode: str) -> None:
        far = [-(1 << 63), PADDED_OFFSET - 1, PADDED_OFFSET, -(1 << 32), 0, 1 << 31, 1 << 62, (1 << 63) - 1]
        places = torch.cartesian_prod(torch.tensor(far), torch.tensor(far))[None]
        assert_same([pixels((2, 9, 9))], places, (3, 4), padding_mode=mode)

    @formats
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float64], ids=str)
    @pytest.mark.parametrize("width", [STAGE + 1000, STAGE + 1003])
    def test_rows_longer_than_shared_memory_come_in_parts(
        self, dtype: torch.dtype, width: int, layout: torch.memory_format
    ) -> None:
        image = pixels((3, 3, width + 20), dtype)
        for view in (image, interleaved(image)):
            for result in (torch.float32, torch.float16):
                assert_same(
                    [view], torch.tensor([[[0, 7], [1, -9], [2, 900]]]), (2, width), dtype=result, memory_format=layout
                )

    def test_bands_of_a_tall_patch(self) -> None:
        image = interleaved(pixels((3, 900, 80)))
        assert_same([image], torch.tensor([[[-5, 3], [50, -7]]]), (901, 70))


class TestChannels:
    @formats
    @pytest.mark.parametrize("count", [2, 5, 31, 32, 33, CHANNELS, CHANNELS + 1, CARRIED, CARRIED + 1, 2 * CARRIED + 9])
    def test_any_number_of_channels(self, count: int, layout: torch.memory_format) -> None:
        image = pixels((count, 6, 9))
        for view in (image, interleaved(image), interleaved(image.double())):
            assert_same([view], torch.tensor([[[0, 0], [-1, 2]]]), (3, 8), memory_format=layout)

    def test_a_conversion_on_the_device_is_read_there(self) -> None:
        image, places = pixels((2, 9, 30)), torch.tensor([[[0, 0], [4, 5]]])
        rows = torch.tensor([[0.3, 2.0], [1.0, -0.1], [0.0, 5.0]])  # float32, which the op widens
        given = ops.gather_patches([image], None, places, rows, *READ)
        wide = rows.double().tolist()
        wanted = zoomkern.gather_patches(
            [image], places, READ[:2], scale=wide[0], shift=wide[1], fill=wide[2], backend="reference"
        )
        assert equal(given, wanted)


class TestBatches:
    def images(self, count: int) -> list[Tensor]:
        made = [pixels((3, 5 + b % 7, 8 + b % 11), seed=b) for b in range(count)]
        return [interleaved(image) if b % 2 else image for b, image in enumerate(made)]

    @pytest.mark.parametrize("count", [1, VIEWS - 1, VIEWS, VIEWS + 1, 2 * VIEWS + 6])
    def test_lists_and_tables_of_any_length(self, count: int) -> None:
        images = self.images(count)
        places = torch.randint(-3, 9, (count, 2, 2))
        read = assert_same(images, places, (4, 5))
        ids = torch.randperm(count)
        assert equal(assert_same(ImageBank(images)[ids], places[ids], (4, 5)), read[ids])

    def test_one_tensor_of_many_images(self) -> None:
        for images in (pixels((70, 3, 8, 9)), interleaved(pixels((70, 3, 8, 9))), pixels((140, 3, 8, 9))[::2]):
            assert_same(images, torch.randint(-3, 9, (70, 2, 2)), (4, 5))

    def test_a_table_mixes_types(self) -> None:
        images = [pixels((2, 6, 40 + i), dtype, seed=i) for i, dtype in enumerate(PIXEL_DTYPES)]
        bank = ImageBank(images)[torch.tensor([5, 0, 1, 4, 2, 3, 0])]
        assert_same(bank, torch.randint(-3, 9, (7, 3, 2)), (6, 33), dtype=torch.float64)

    @pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
    def test_nothing_to_read(self, shape: tuple[int, int]) -> None:
        images = pixels((shape[0], 3, 8, 8)).float().requires_grad_()
        places = torch.zeros((*shape, 2), dtype=torch.int64)
        read = zoomkern.gather_patches(images, places, 4, backend="cpu")
        assert read.shape == (*shape, 3, 4, 4)
        read.sum().backward()
        assert images.grad is not None
        assert not images.grad.any()

    @pytest.mark.parametrize("blocks", ["1", "3", "1000000"])
    def test_fewer_multiprocessors_read_the_same(self, monkeypatch: pytest.MonkeyPatch, blocks: str) -> None:
        monkeypatch.setenv("ZOOMKERN_GATHER_MULTIPROCESSORS", blocks)
        assert_same(self.images(40), torch.randint(-3, 9, (40, 3, 2)), (4, 5))
        assert_same([interleaved(pixels((3, 300, 200)))], torch.tensor([[[0, 0], [9, 99]]]), (280, 150))

    def test_no_more_blocks_than_multiprocessors_are_launched(
        self, emulation: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        places = torch.randint(-3, 9, (2, 40, 2))
        monkeypatch.delenv("ZOOMKERN_GATHER_MULTIPROCESSORS", raising=False)
        for given, launched in ((None, 80), ("100", 80), ("16", 16), ("1", 1)):
            if given is not None:
                monkeypatch.setenv("ZOOMKERN_GATHER_MULTIPROCESSORS", given)
            emulation.zoomkern_emulated_widest_grid()
            assert_same(self.images(2), places, (4, 5))
            assert emulation.zoomkern_emulated_widest_grid() == launched
            drawn = zoomkern.sample_patches(self.images(2), torch.randn(2, 9, 9), 40, (4, 5), backend="cpu")
            assert drawn.patches.shape[:2] == (2, 40)
            assert emulation.zoomkern_emulated_widest_grid() == launched

    @pytest.mark.parametrize("word", ["0", "-1", "few", "", "16 "])
    def test_a_wrong_number_of_multiprocessors_is_refused(self, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
        monkeypatch.setenv("ZOOMKERN_GATHER_MULTIPROCESSORS", word)
        with pytest.raises(RuntimeError, match="must be a positive number"):
            assert_same([pixels((3, 8, 8))], torch.zeros(1, 1, 2, dtype=torch.int64), 4)


class TestFaults:
    IMAGES = tuple(pixels((2, 3, 8, 8), torch.float32))

    def table(self, column: int, value: int) -> Tensor:
        table = ImageBank(list(self.IMAGES)).table.clone()
        table[1, column] = value if column else table[1, column] + value
        return table

    @pytest.mark.parametrize(
        ("column", "value"), [(7, 6), (7, -1), (1, 2), (1, 4), (0, 2)], ids=["type", "type", "few", "many", "address"]
    )
    def test_a_descriptor_that_cannot_be_read(self, monkeypatch: pytest.MonkeyPatch, column: int, value: int) -> None:
        table, conversion = self.table(column, value), torch.tensor([[2.0] * 3, [1.0] * 3, [3.0] * 3])
        places = torch.zeros(2, 2, 2, dtype=torch.int64)
        with pytest.raises(RuntimeError, match="row 1"):
            ops.gather_patches([], table, places, conversion, *READ)

        monkeypatch.setenv("ZOOMKERN_CHECK", "0")
        read = ops.gather_patches([], table, places, conversion, *READ)
        assert (read[1] == 7).all()
        with pytest.raises(RuntimeError, match="row 1.*earlier call"):
            ops.gather_patches([], table[:1], places[:1], conversion, *READ)
        assert equal(ops.gather_patches([], table[:1], places[:1], conversion, *READ), read[:1])


def gradient(image: Tensor, places: list[list[int]], grad: Tensor, step: int, scale: list[float]) -> Tensor:
    """The sum over patches in their order, in the type of the arithmetic, rounded once."""
    kind = torch.float64 if image.dtype == torch.float64 else torch.float32
    total = torch.zeros(image.shape, dtype=kind)
    addends = grad.to(kind) * torch.tensor(scale, dtype=torch.float64).to(kind)[:, None, None]
    size = grad.shape[2:]
    for place, addend in zip(places, addends, strict=True):
        spans = []
        for axis in (0, 1):
            at = [(i, place[axis] + i * step) for i in range(size[axis])]
            spans.append([(i, pixel) for i, pixel in at if 0 <= pixel < image.shape[1 + axis]])
        if all(spans):
            (i, y), (j, x) = (torch.tensor(span).unbind(1) for span in spans)
            total[:, y[:, None], x] += addend[:, i[:, None], j]
    return total.to(image.dtype)


class TestGradients:
    def check(
        self,
        images: list[Tensor],
        places: Tensor,
        size: tuple[int, int],
        step: int = 1,
        layout: torch.memory_format = torch.contiguous_format,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        channels, last = images[0].shape[0], layout == torch.channels_last
        rates = constants(channels)
        conversion = torch.tensor([rates["scale"], rates["shift"], rates["fill"]], dtype=torch.float64)
        grad = pixels((*places.shape[:2], channels, *size), dtype, seed=1)
        stored = grad.permute(0, 1, 3, 4, 2).contiguous() if last else grad
        reading = (*size, step, False, PIXEL_DTYPES.index(dtype), last)
        given = ops.gather_patches_backward(stored, images, places, conversion, *reading)
        for b, image in enumerate(images):
            if image.is_floating_point():
                assert equal(given[b], gradient(image, places[b].tolist(), grad[b], step, rates["scale"]))

    @formats
    @pytest.mark.parametrize("step", [1, 2, 5])
    @pytest.mark.parametrize("dtype", RESULTS, ids=str)
    def test_patches_are_added_in_their_order(self, dtype: torch.dtype, layout: torch.memory_format, step: int) -> None:
        images = [pixels((3, 20, 24), dtype), pixels((3, 9, 31), dtype), pixels((3, 9, 31))]
        places = torch.randint(-7, 24, (3, 30, 2), generator=torch.Generator().manual_seed(2))
        places[:, 4] = places[:, 9] = places[:, 3]
        places[0, 5] = PADDED_OFFSET
        places[1, 6] = torch.tensor([-(1 << 63), (1 << 63) - 1])
        self.check(images, places, (6, 7), step, layout)

    def test_more_patches_than_a_block_has_threads(self) -> None:
        places = torch.randint(-3, 20, (1, 600, 2), generator=torch.Generator().manual_seed(3))
        self.check([pixels((2, 18, 18), torch.float32)], places, (5, 5))

    def test_patches_of_several_tiles(self) -> None:
        places = torch.randint(-20, 30, (1, 7, 2), generator=torch.Generator().manual_seed(3))
        self.check([pixels((1, 50, 50), torch.float32)], places, (41, 37))

    @pytest.mark.parametrize("channels", [4, 5, 33])
    def test_any_number_of_channels(self, channels: int) -> None:
        places = torch.randint(-3, 9, (1, 9, 2), generator=torch.Generator().manual_seed(4))
        self.check([pixels((channels, 12, 12), torch.float32)], places, (5, 4))

    def test_more_images_than_one_launch_names(self) -> None:
        dtypes = [torch.float32, torch.float64, torch.uint8, torch.float16]
        images = [pixels((2, 6 + b % 3, 9), dtypes[b % 4], seed=b) for b in range(VIEWS + 9)]
        self.check(images, torch.randint(-3, 6, (len(images), 4, 2)), (4, 4), dtype=torch.float16)


class TestDraws:
    @pytest.mark.parametrize("align", ["center", "corners"])
    @pytest.mark.parametrize("mode", ["constant", "shift"])
    def test_drawn_cells_are_read_from_many_images(self, align: str, mode: str) -> None:
        images = [pixels((33, 20 + b % 5, 30 - b % 9), seed=b) for b in range(VIEWS + 3)]
        logits = torch.randn(len(images), 4, 6)
        mask = torch.rand(len(images), 4, 6) < 0.4
        options = {"align": align, "padding_mode": mode, "mask": mask, "on_short": "pad", "seed": 5, "step": 2}
        given, wanted = (
            zoomkern.sample_patches(
                images, logits, 12, (5, 7), estimator="desraj", backend=backend, **options, **constants(33)
            )
            for backend in ("cpu", "reference")
        )
        assert (wanted.index == -1).any()
        assert torch.equal(given.index, wanted.index)
        assert torch.equal(given.offsets, wanted.offsets)
        assert equal(given.patches, wanted.patches)

    @pytest.mark.parametrize("per_image", [False, True])
    def test_drawn_places_are_read_from_a_table(self, per_image: bool) -> None:
        bank = ImageBank([pixels((2, 30, 20 + b), seed=b) for b in range(3)])[torch.tensor([2, 0, 0, 1])]
        locations = torch.randint(-9, 40, (4, 50, 2) if per_image else (50, 2))
        logits = torch.randn(4, 50)
        given, wanted = (
            zoomkern.sample_patches(bank, logits, 9, 6, locations=locations, sampler="topk", seed=1, backend=backend)
            for backend in ("cpu", "reference")
        )
        assert torch.equal(given.offsets, wanted.offsets)
        assert equal(given.patches, wanted.patches)


def test_any_schedule_reads_and_adds_the_same(reseed: Callable[[int], None]) -> None:
    images = [interleaved(pixels((3, 60, 50), torch.float32, seed=b)).requires_grad_() for b in range(3)]
    places = torch.randint(-9, 50, (3, 12, 2))
    wanted = zoomkern.gather_patches(images, places, (33, 40), backend="reference", **constants(3)).detach()
    grads = []
    for seed in range(12):
        reseed(seed)
        read = zoomkern.gather_patches(images, places, (33, 40), backend="cpu", **constants(3))
        assert equal(read, wanted)
        grads.append(torch.autograd.grad((read * wanted).sum(), images))
    for others in grads[1:]:
        assert all(equal(one, other) for one, other in zip(grads[0], others, strict=True))
