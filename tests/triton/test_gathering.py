"""Gathering in Triton's interpreter: bit-equal to the CPU library, or to the reference where it was not built."""

import random

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from zoomkern import ImageBank
from zoomkern.ops.library import MISSING
from zoomkern.reference import gathering as reference
from zoomkern.typing import PADDED_OFFSET, PIXEL_DTYPES

interpreter = pytest.importorskip("triton.runtime.interpreter")
gathering = pytest.importorskip("zoomkern.triton.gathering")
tables = pytest.importorskip("zoomkern.triton.tables")

LAYOUTS = (
    "planar",
    "interleaved",
    "padded rows",
    "some channels",
    "strided columns",
    "transposed",
    "one row",
    "one column",
)
RESULTS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
FAR = (PADDED_OFFSET, PADDED_OFFSET + 1, -PADDED_OFFSET, -(1 << 63), (1 << 63) - 1)
BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
TILES = ((64, 128), (64, 128), (16, 128), (4, 128))


@pytest.fixture(autouse=True)
def quiet():
    """NumPy warns where a float16 overflows, which these pixels do."""
    with np.errstate(all="ignore"):
        yield


def noise(count, dtype, seed):
    """Pixels of any bits, or floats of an ordinary size."""
    bits = np.random.default_rng(seed).integers(0, 256, count * dtype.itemsize, np.uint8)
    pixels = torch.from_numpy(bits).view(dtype)
    return pixels if seed % 2 or not dtype.is_floating_point else torch.from_numpy(bits[:count] - 128.0).to(dtype) / 7


def make_image(rng, channels, height, width, dtype, layout):
    """``[C, H, W]`` somewhere in a larger storage, not aligned to more than its own pixels."""
    shape = {
        "planar": (channels, height, width),
        "interleaved": (height, width, channels),
        "padded rows": (height, width + 3, channels),
        "some channels": (height, width, channels + 2),
        "strided columns": (channels, height, 2 * width),
        "transposed": (channels, width, height),
        "one row": (channels, 1, width),
        "one column": (channels, height, 1),
    }[layout]
    size, skip = int(np.prod(shape)), rng.randrange(150)
    stored = noise(size + skip, dtype, rng.randrange(1 << 30))[skip:].view(shape)
    if layout == "interleaved":
        return stored.permute(2, 0, 1)
    if layout == "padded rows":
        return stored[:, 2:-1].permute(2, 0, 1)
    if layout == "some channels":
        return stored[:, :, 1:-1].permute(2, 0, 1)
    if layout == "strided columns":
        return stored[:, :, ::2]
    return stored.transpose(1, 2) if layout == "transposed" else stored.expand(channels, height, width)  # stride 0


def make_case(seed, kinds=PIXEL_DTYPES):
    rng = random.Random(seed)
    batch, channels, draws = rng.choice((1, 1, 2, 3)), rng.choice((1, 2, 3, 3, 4)), rng.choice((1, 2, 3))
    sizes = [(rng.randint(1, 14), rng.randint(1, 40)) for _ in range(batch)]
    images = [make_image(rng, channels, *size, rng.choice(kinds), rng.choice(LAYOUTS)) for size in sizes]
    if rng.random() < 0.25:
        stack = make_image(rng, batch * channels, *sizes[0], rng.choice(kinds), rng.choice(LAYOUTS))
        images = [stack.unflatten(0, (batch, channels))]
    height, width, step = rng.randint(1, 9), rng.choice((1, 5, 17, 40)), rng.choice((1, 1, 1, 2, 3))
    places = [rng.randint(-12, 45) if rng.random() < 0.95 else rng.choice(FAR) for _ in range(2 * batch * draws)]
    offsets = torch.tensor(places).view(batch, draws, 2)
    conversion = torch.tensor([[rng.uniform(-2, 2) for _ in range(channels)] for _ in range(3)], dtype=torch.float64)
    reading = (height, width, step, rng.random() < 0.3, PIXEL_DTYPES.index(rng.choice(RESULTS)), rng.random() < 0.5)
    return images, offsets, conversion, reading, rng


def on(device, image):
    """The image with its strides, in a copy of its storage."""
    stored = torch.empty(0, dtype=image.dtype).set_(image.untyped_storage()).to(device)
    return stored.as_strided(image.shape, image.stride(), image.storage_offset())


def members(images):
    return list(images[0]) if images[0].ndim == 4 else images


def expected(images, offsets, conversion, height, width, step, shift, dtype, channels_last):
    reading = (height, width, step, shift, dtype, channels_last)
    if MISSING["cpu"] is None:
        return torch.ops.zoomkern.gather_patches(images, None, offsets, conversion, *reading)
    size, kind = (height, width), PIXEL_DTYPES[dtype]
    patches = reference.gather_patches(members(images), offsets, conversion, size, step, shift, kind)
    return (patches.permute(0, 1, 3, 4, 2) if channels_last else patches).contiguous()


def assert_same(given, wanted, case=None):
    """Equal to the bit, but for the bits of what is no number."""
    assert given.shape == wanted.shape, case
    assert given.dtype == wanted.dtype, case
    bits = BITS[given.dtype.itemsize]
    alike = (given.contiguous().view(bits) == wanted.contiguous().view(bits)) | (given.isnan() & wanted.isnan())
    assert alike.all(), (case, (~alike).nonzero()[:5].tolist())


@pytest.mark.parametrize("block", range(26))
def test_patches_are_those_of_the_cpu(monkeypatch, device, block):
    for seed in range(20 * block, 20 * block + 20):
        images, offsets, conversion, reading, rng = make_case(seed)
        lines, run = rng.choice(TILES)
        monkeypatch.setattr(gathering, "LINES", lines)
        monkeypatch.setattr(gathering, "RUN", run)
        wanted = expected(images, offsets, conversion, *reading)
        images, offsets, table = [on(device, image) for image in images], offsets.to(device), None
        bank = ImageBank(members(images))
        if rng.random() < 0.3:
            table, images = bank.table, []
        if rng.random() < 0.3:
            out = torch.full_like(wanted, torch.nan, device=device)
            assert gathering.gather_patches_out(out, images, table, offsets, conversion, *reading) is None
        else:
            out = gathering.gather_patches(images, table, offsets, conversion, *reading)
        assert_same(out.cpu(), wanted, seed)


@pytest.mark.parametrize("block", range(6))
def test_gradients_are_those_of_the_cpu(device, block):
    if MISSING["cpu"]:
        pytest.skip(MISSING["cpu"])
    for seed in range(10 * block, 10 * block + 10):
        images, offsets, conversion, reading, _ = make_case(seed, PIXEL_DTYPES if seed % 3 else PIXEL_DTYPES[2:])
        offsets = torch.where(offsets.abs() < 100, offsets // 4, offsets)  # so that windows overlap
        height, width, step, *_ = reading
        corner = torch.tensor([step * (height - 1), step * (width - 1)])  # the last pixel of one is another's first
        offsets = torch.cat([offsets, offsets[:, :1], offsets + 1, offsets[:, :1] + corner], dim=1)
        wanted = torch.ops.zoomkern.gather_patches(images, None, offsets, conversion, *reading)
        grad = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(seed)).to(wanted.dtype)
        wanted = torch.ops.zoomkern.gather_patches_backward(grad, images, offsets, conversion, *reading)
        read = [on(device, image) for image in images]
        given = gathering.gather_patches_backward(grad.to(device), read, offsets.to(device), conversion, *reading)
        for mine, theirs in zip(given, wanted, strict=True):
            assert mine.is_contiguous()
            if mine.is_floating_point():  # others have none
                assert_same(mine.cpu(), theirs, seed)


CONVERSION = torch.tensor([[0.5, 2.0, -1.0], [0.25, 0.0, 1.0], [7.0, 8.0, 9.0]], dtype=torch.float64)
FLOAT32 = PIXEL_DTYPES.index(torch.float32)


class Spy:
    """The interpreter's memory, which notes the words that are loaded."""

    def __init__(self, native):
        self.native, self.words = native, []

    def __getattr__(self, name):
        return getattr(self.native, name)

    def load(self, addresses, mask, other, dtype):
        if dtype == np.int32:
            self.words.append((addresses.astype(np.int64), np.broadcast_to(mask, addresses.shape)))
        return self.native.load(addresses, mask, other, dtype)


def wanted_words(image, y, x, height, width):
    """The words that hold pixels of a window, line for line."""
    part = image[:, max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)]
    if part.numel() == 0:
        return []
    size = part.element_size()
    at = part.data_ptr() + sum(
        np.ix_(*(np.arange(n) * s * size for n, s in zip(part.shape, part.stride(), strict=True)))
    )
    lines = at.transpose(1, 0, 2).reshape(at.shape[1], -1) if image.stride(0) == 1 else at.reshape(-1, at.shape[2])
    return sorted(word for line in lines for word in {*(line // 4 * 4), *((line + size - 1) // 4 * 4)})


@pytest.mark.parametrize("layout", ["planar", "interleaved", "padded rows"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.bfloat16, torch.float32])
def test_the_words_that_hold_wanted_pixels_are_read_once_by_aligned_requests(monkeypatch, device, dtype, layout):
    if device.type != "cpu":
        pytest.skip("the interpreter alone shows what is read")
    image = make_image(random.Random(1), 3, 11, 90, dtype, layout)
    height, width = 7, 60
    for y, x in ((2, 3), (-2, 41), (6, -30), (0, -200), (-60, 0), (0, 90), (4, 29)):
        spy = Spy(interpreter._interpreter)
        with monkeypatch.context() as patch:
            patch.setattr(interpreter, "_interpreter", spy)
            offsets = torch.tensor([[[y, x]]])
            gathering.gather_patches([image], None, offsets, CONVERSION, height, width, 1, False, FLOAT32, False)
        assert spy.words
        for addresses, _ in spy.words:
            assert not (addresses[:, 0] % 128).any()
            assert (np.diff(addresses) == 4).all()
        read = np.concatenate([addresses[mask] for addresses, mask in spy.words])
        assert sorted(read.tolist()) == wanted_words(image, y, x, height, width), (y, x)


def test_single_pixels_are_read_as_the_words_that_hold_them(monkeypatch, device):
    if device.type != "cpu":
        pytest.skip("the interpreter alone shows what is read")
    image = make_image(random.Random(2), 3, 11, 50, torch.uint8, "interleaved")
    spy = Spy(interpreter._interpreter)
    monkeypatch.setattr(interpreter, "_interpreter", spy)
    gathering.gather_patches([image], None, torch.tensor([[[-2, 30]]]), CONVERSION, 5, 20, 2, False, FLOAT32, False)
    read = np.concatenate([addresses[mask] for addresses, mask in spy.words])
    pixels = image[:, 0:8:2, 30::2]
    first = image.data_ptr()
    at = {first + c + i * image.stride(1) + j * 3 for c in range(3) for i in range(0, 8, 2) for j in range(30, 50, 2)}
    assert len(read) == pixels.numel()
    assert {a // 4 * 4 for a in at} == set(read.tolist())


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("result", RESULTS)
def test_results_are_rounded_to_nearest_even(device, kind, result):
    high = torch.from_numpy(np.random.default_rng(0).integers(-(1 << 31), 1 << 31, 1000, np.int64)).to(torch.int32)
    middle = ((high & 0x07FFFFFF) | 0x38000000) >> 13 << 13  # where float16 is normal
    ties = [(high >> 16 << 16) + 0x8000 + d for d in (-1, 0, 1)] + [middle + 0x1000 + d for d in (-1, 0, 1)]
    pixels = torch.cat(ties).view(torch.float32).to(kind).view(1, 60, 100)
    conversion = torch.tensor([[1.0], [0.0], [0.0]], dtype=torch.float64)
    offsets = torch.zeros(1, 1, 2, dtype=torch.int64, device=device)
    reading = (60, 100, 1, False, PIXEL_DTYPES.index(result), False)
    patches = gathering.gather_patches([pixels.to(device)], None, offsets, conversion, *reading)
    assert_same(patches[0, 0].cpu(), (pixels + 0.0).to(torch.float32).to(result))  # -0 + 0 is 0


def test_a_table_is_written_as_a_bank_describes_its_images():
    images = [torch.zeros(3, 5, 7), torch.zeros(9, 4, 3, dtype=torch.uint16).permute(2, 0, 1)[:, 1:]]
    offsets = torch.zeros(2, 1, 2, dtype=torch.int64)
    assert torch.equal(tables.describe(images, None, offsets), ImageBank(images).table)
    stack = torch.zeros(2, 3, 5, 7, dtype=torch.bfloat16)[:, :, 1:, ::2]
    assert torch.equal(tables.describe([stack], None, offsets), ImageBank(list(stack)).table)
    assert torch.equal(tables.describe([], ImageBank(images).table, offsets), ImageBank(images).table)
    with pytest.raises(ValueError, match="images must be on cpu, where the places are; got meta"):
        tables.describe([images[0], torch.zeros(3, 5, 7, device="meta")], None, offsets)


@pytest.mark.parametrize("channels", [1, 3, 8])
def test_a_conversion_of_the_host_arrives_on_another_device(channels):
    conversion = torch.randn(3, channels, dtype=torch.float64)
    written = tables.constants_on(torch.device("cpu", 0), conversion)  # another name of the same memory
    assert torch.equal(written.flatten()[: 3 * channels].view(3, channels), conversion)


def test_an_image_larger_than_two_gigabytes_is_read_at_its_end():
    image = torch.empty((1, 60_000, 40_000), dtype=torch.uint8)  # untouched pages cost nothing
    image[0, -4:, -9:] = torch.arange(36).view(4, 9)
    offsets = torch.tensor([[[59_996, 39_991], [59_998, 39_995]]])
    rows = torch.tensor([[1.0], [0.0], [99.0]], dtype=torch.float64)
    patches = gathering.gather_patches([image], None, offsets, rows, 4, 9, 1, False, FLOAT32, False)
    assert torch.equal(patches[0, 0, 0], torch.arange(36.0).view(4, 9))
    assert torch.equal(patches[0, 1, 0, :2, :5], torch.arange(36.0).view(4, 9)[2:, 4:])
    assert (patches[0, 1, 0, 2:] == 99).all()
    assert (patches[0, 1, 0, :, 5:] == 99).all()


@pytest.mark.parametrize(("row", "column", "value"), [(0, 1, 2), (1, 7, 6), (2, 7, -1), (1, 0, None)])
def test_a_row_of_the_table_that_does_not_fit_is_told_and_read_as_fill(row, column, value):
    bank = ImageBank([torch.ones(3, 8, 8), torch.ones(3, 8, 8), torch.ones(3, 8, 8)])
    table = bank.table.clone()
    table[row, column] = table[row, column] + 1 if value is None else value  # an address that floats cannot have
    offsets, out = torch.zeros(3, 1, 2, dtype=torch.int64), torch.zeros(3, 1, 4, 4, 3)
    with pytest.raises(RuntimeError, match=f"known pixel types, .* aligned addresses; not so in row {row}$"):
        gathering.gather_patches_out(out, [], table, offsets, CONVERSION, 4, 4, 1, False, FLOAT32, True)
    assert torch.equal(out[row, 0], (CONVERSION[2] * CONVERSION[0] + CONVERSION[1]).float().expand(4, 4, 3))
    torch.testing.assert_close(out[(row + 1) % 3, 0], (CONVERSION[0] + CONVERSION[1]).float().expand(4, 4, 3))


@pytest.mark.parametrize(("batch", "draws"), [(0, 2), (2, 0), (0, 0)])
def test_nothing_to_read_is_an_empty_result(batch, draws):
    offsets = torch.zeros(batch, draws, 2, dtype=torch.int64)
    for images in ([torch.zeros(3, 8, 8)] * batch, [torch.zeros(batch, 3, 8, 8)]):
        patches = gathering.gather_patches(images, None, offsets, CONVERSION, 4, 5, 1, False, FLOAT32, False)
        assert patches.shape == (batch, draws, 3, 4, 5)
        grads = gathering.gather_patches_backward(patches, images, offsets, CONVERSION, 4, 5, 1, False, FLOAT32, False)
        assert [g.shape for g in grads] == [i.shape for i in images]
        assert not any(g.any() for g in grads)


def test_an_image_without_pixels_is_all_fill():
    for shape in ((3, 0, 8), (3, 8, 0)):
        image, offsets = torch.zeros(shape), torch.zeros(1, 1, 2, dtype=torch.int64)
        for shift in (False, True):
            patches = gathering.gather_patches([image], None, offsets, CONVERSION, 2, 2, 1, shift, FLOAT32, True)
            assert torch.equal(patches, (CONVERSION[2] * CONVERSION[0] + CONVERSION[1]).float().expand(1, 1, 2, 2, 3))


def test_nothing_is_told_to_the_host():
    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            names.append(func.name())
            return func(*args, **(kwargs or {}))

    names: list[str] = []
    images, offsets = [torch.rand(3, 20, 20), torch.rand(3, 9, 30)], torch.zeros(2, 2, 2, dtype=torch.int64)
    with Watch():
        patches = gathering.gather_patches(images, None, offsets, CONVERSION, 4, 4, 1, True, FLOAT32, False)
        gathering.gather_patches_backward(patches, images, offsets, CONVERSION, 4, 4, 1, True, FLOAT32, False)
    assert "aten::empty.memory_format" in names
    assert not {name for name in names if "local_scalar" in name or "_to_copy" in name or "nonzero" in name}


def test_bad_operands_are_refused():
    image, offsets = torch.zeros(3, 8, 8), torch.zeros(1, 2, 2, dtype=torch.int64)

    def call(images=(image,), table=None, offsets=offsets, size=(4, 4), step=1, out=None):
        reading = (*size, step, False, FLOAT32, False)
        out = torch.empty(1, 2, 3, *size) if out is None else out
        gathering.gather_patches_out(out, list(images), table, offsets, CONVERSION, *reading)

    call()
    table = ImageBank([image]).table
    for wrong, needed in (
        ({"images": ()}, "images must be 1"),
        ({"images": (image[0],)}, "images must be 1"),
        ({"images": (torch.zeros(2, 3, 8, 8),)}, "images must be 1"),
        ({"table": table}, "table must be"),
        ({"images": (), "table": table.int()}, "table must be"),
        ({"images": (), "table": table.expand(2, 8)}, "table must be"),
        ({"offsets": offsets.int()}, "offsets must be"),
        ({"offsets": offsets[..., :1]}, "offsets must be"),
        ({"step": 1 << 30}, "2\\^31"),
        ({"size": (0, 4)}, "span 1"),
        ({"out": torch.empty(1, 2, 3, 4, 3)}, "contiguous"),
        ({"out": torch.empty(1, 2, 3, 4, 8)[..., ::2]}, "contiguous"),
        ({"out": torch.empty(1, 2, 3, 4, 4, dtype=torch.float64)}, "out must be"),
    ):
        with pytest.raises(ValueError, match=needed):
            call(**wrong)
