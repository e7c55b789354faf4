"""Gathering: bit-equal to slicing with NumPy, whatever the image, the window and the result look like."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from zoomkern import ImageBank, PinnedImage, Pyramid, gather_patches
from zoomkern.typing import PADDED_OFFSET, PIXEL_DTYPES

LOWEST, HIGHEST = -(1 << 63), (1 << 63) - 1
BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
RESULTS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
DIVISORS = {torch.uint8: 255.0, torch.uint16: 65535.0}


def as_array(image):
    """The pixels of a tensor as NumPy shows them, in the same memory but for bfloat16, which NumPy does not know."""
    if image.dtype == torch.bfloat16:
        return (image.view(torch.uint16).numpy().astype(np.uint32) << 16).view(np.float32)
    return image.detach().numpy()


def cut(pixels, offset, size, step):
    """The part of an axis that a window covers: positions in the patch, and where they lie in the image."""
    read = range(offset, offset + size * step, step)
    first, stop = (min(max(-(-(edge - offset) // step), 0), size) for edge in (0, pixels))
    return slice(first, stop), slice(read[first], read[stop - 1] + 1, step) if first < stop else slice(0, 0)


def moved(pixels, offset, size, step):
    """Where a window starts that is to lie inside the image, or to cover all of it."""
    room = pixels - ((size - 1) * step + 1)
    return offset if offset == PADDED_OFFSET else min(max(offset, min(room, 0)), max(room, 0))


def slice_patches(image, places, size, step, mode, scale, shift, fill, dtype):
    """``[N, C, Ph, Pw]`` by slicing: the arithmetic is float64 for a float64 image, float32 for any other."""
    kind = np.float64 if image.dtype == torch.float64 else np.float32
    array = as_array(image)
    scale, shift, fill = (np.asarray(row, np.float64).astype(kind)[:, None, None] for row in (scale, shift, fill))
    out = np.empty((len(places), image.shape[0], *size), kind)
    out[:] = fill
    for patch, offset in zip(out, places, strict=True):
        if mode == "shift":
            offset = [moved(array.shape[1 + axis], offset[axis], size[axis], step) for axis in (0, 1)]
        (to_y, y), (to_x, x) = (cut(array.shape[1 + axis], offset[axis], size[axis], step) for axis in (0, 1))
        patch[:, to_y, to_x] = array[:, y, x]
    return torch.from_numpy(out * scale + shift).to(dtype)


def bits(tensor):
    return tensor.view(BITS[tensor.itemsize])


VIEWS = {
    "contiguous": lambda base: base,
    "interleaved": lambda base: base.movedim(-3, -1).contiguous().movedim(-1, -3),
    "transposed": lambda base: base.transpose(-1, -2).contiguous().transpose(-1, -2),
    "cropped": lambda base: torch.nn.functional.pad(base.double(), (3, 2, 1, 4)).to(base.dtype)[..., 1:-4, 3:-2],
    "every other": lambda base: base.repeat_interleave(2, -1).repeat_interleave(3, -2)[..., 1::3, ::2],
    "one channel expanded": lambda base: base[..., :1, :, :].expand(base.shape),
    "one row expanded": lambda base: base[..., :1, :].expand(base.shape),
    "one column expanded": lambda base: base[..., :1].expand(base.shape),
    "one pixel": lambda base: base[..., :1, :1, :1].expand(base.shape),
}


def random_image(rng, shape, dtype, view):
    if dtype.is_floating_point:
        values = torch.from_numpy(rng.normal(size=shape) * 10.0 ** rng.integers(-6, 4))
    else:
        values = torch.from_numpy(rng.integers(0, 1 << 8 * dtype.itemsize, shape))
    return VIEWS[view](values.to(dtype))


def random_places(rng, size, extent, count):
    """``[count]`` starts along one axis: inside, over the edges, just outside, and as far as int64 reaches."""
    near = rng.integers(-extent - 2, size + extent + 3, count)
    far = rng.choice(
        [LOWEST, LOWEST + 1, PADDED_OFFSET, PADDED_OFFSET - 1, 1 << 62, HIGHEST, -(1 << 31), 1 << 32], count
    )
    return np.where(rng.random(count) < 0.03, far, near)


SCALES = [1.0, -0.5, 1 / 255, 2.0**-20, 3.0, 0.1]
FILLS = [0, 1, 255, -3.5, 1e3]


def reading(choose, patches):
    """One call: images, where and how they are read; ``choose`` takes one of a sequence."""
    form, kind = choose(["batch", "list", "bank", "pinned", "pyramid"]), choose(PIXEL_DTYPES)
    return {
        "form": form,
        "dtypes": [choose(PIXEL_DTYPES) if form == "bank" else kind for _ in range(2)],
        "channels": choose([3, 3, 1, 2, 4, 16, 17]),
        "sizes": [(choose(range(1, 41)), choose(range(1, 71))) for _ in range(2)],
        "views": [choose(sorted(VIEWS)) for _ in range(2)],
        "patch": (choose(range(1, 10)), choose([*range(1, 10), 16, 17, 33, 40])),
        "patches": patches,
        "step": choose([1, 1, 2, 3, 7]),
        "mode": choose(["constant", "shift"]),
        "shorthand": form != "bank" and choose([False, True]),
        "dtype": choose(RESULTS),
        "last": choose([False, True]),
        "out": choose([False, True]),
        "level": choose(range(10)),
        "seed": choose(range(1 << 30)),
    }


@st.composite
def readings(draw, patches):
    """A call of so many patches."""
    return reading(lambda options: draw(st.sampled_from(options)), patches)


def check_reading(case, backend):
    """One call against slicing; returns how many patches were compared."""
    rng = np.random.default_rng(case["seed"])
    channels, form = case["channels"], case["form"]
    if form == "batch":
        images = random_image(rng, (2, channels, *case["sizes"][0]), case["dtypes"][0], case["views"][0])
        read = list(images)
    else:
        forms = zip(case["sizes"], case["dtypes"], case["views"], strict=True)
        images = read = [random_image(rng, (channels, *size), dtype, view) for size, dtype, view in forms]
    options = {}
    if form == "bank":
        ids = rng.integers(0, 2, 2).tolist()
        images, read = ImageBank(images)[ids], [read[i] for i in ids]
    elif form == "pinned":
        images = [PinnedImage(image) for image in read]
    elif form == "pyramid":
        larger = [torch.ones((channels, image.shape[1] * 2, image.shape[2] * 2), dtype=image.dtype) for image in read]
        images = [Pyramid([fine, coarse]) for fine, coarse in zip(larger, read, strict=True)]
        options["level"] = 1
    scale, shift, fill = (rng.choice(known, channels) for known in (SCALES, SCALES, FILLS))
    if case["shorthand"]:
        std, divisor = np.abs(scale), DIVISORS.get(case["dtypes"][0], 1.0)
        shift = np.minimum(shift, 1.0)  # a mean above 1 is an error of integers
        options |= {"mean": shift, "std": std}
        scale, shift = 1 / (divisor * std), -np.array(shift) / std
    else:
        options |= {"scale": scale, "shift": shift}
    size, step, half = case["patch"], case["step"], case["patches"] // 2
    extents = [step * s for s in size]
    places = np.stack(
        [np.stack([random_places(rng, image.shape[1 + a], extents[a], half) for a in (0, 1)], -1) for image in read]
    )
    if case["out"]:
        shape = (2, half, *size, channels) if case["last"] else (2, half, channels, *size)
        out = torch.full(shape, torch.nan, dtype=case["dtype"])
        options["out"] = out.permute(0, 1, 4, 2, 3) if case["last"] else out

    result = gather_patches(
        images,
        torch.from_numpy(places),
        size,
        step=step,
        padding_mode=case["mode"],
        fill=fill,
        dtype=case["dtype"],
        memory_format=torch.channels_last if case["last"] else torch.contiguous_format,
        backend=backend,
        **options,
    )

    assert result.shape == (2, half, channels, *size)
    assert (result.permute(0, 1, 3, 4, 2) if case["last"] else result).is_contiguous()
    if case["out"]:
        assert result.data_ptr() == out.data_ptr()
    for image, where, patches in zip(read, places.tolist(), result, strict=True):
        expected = slice_patches(image, where, size, step, case["mode"], scale, shift, fill, case["dtype"])
        assert torch.equal(bits(patches), bits(expected))
    return 2 * half


@pytest.fixture
def levels(native):
    """Every SIMD level of this processor, the best of which is restored."""
    names = torch.ops.zoomkern.cpu_features().split()
    before = torch.ops.zoomkern.simd_level()
    yield names
    torch.ops.zoomkern.set_simd_level(before)


def search(strategy, examples, check, part=0):
    """Runs a check on that many examples, others for each part, on one thread; returns the sum of what it counts."""
    counted, threads = 0, torch.get_num_threads()

    @seed(part)
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def run(case):
        nonlocal counted
        counted += check(case)

    torch.set_num_threads(1)
    try:
        run()
    finally:
        torch.set_num_threads(threads)
    return counted


def check_on_its_level(case, native, levels):
    torch.ops.zoomkern.set_simd_level(levels[case["level"] % len(levels)])
    return check_reading(case, native)


def test_1_000_readings_of_100_patches_equal_numpy_slices_bit_for_bit(native, levels):
    assert search(readings(100), 1000, lambda case: check_on_its_level(case, native, levels)) >= 100_000


@pytest.mark.parametrize("width", [128, 120, 100])  # rows that start at vectors of 16 floats, of 8, and of neither
def test_a_result_beyond_the_caches_equals_a_new_one(native, levels, width):
    image = torch.randint(0, 256, (700, 700, 3), dtype=torch.uint8).permute(2, 0, 1)[None]
    offsets = torch.randint(-20, 620, (1, 240, 2))
    case = {"patch_size": (128, width), "fill": 7, "mean": (0.4, 0.5, 0.6), "std": 0.2, "backend": native}
    out = torch.empty(1, 240, 3, 128, width)
    assert out.nbytes > 32 << 20
    for level in levels:
        torch.ops.zoomkern.set_simd_level(level)
        read = gather_patches(image, offsets, out=out.fill_(-1), **case)
        assert torch.equal(read, gather_patches(image, offsets, **case))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_100_000_readings_equal_numpy_slices_bit_for_bit(native, levels, part):
    def check(case):
        check_on_its_level(case, native, levels)
        return 1

    assert search(readings(4), 10_000, check, part) >= 10_000


def test_5_000_patches_of_the_reference_equal_numpy_slices():
    assert search(readings(100), 50, lambda case: check_reading(case, "reference")) >= 5_000


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("channels_last", [False, True])
def test_bands_of_a_large_patch_are_those_of_numpy_on_any_number_of_threads(native, levels, threads, channels_last):
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 700, 900), np.uint8))
    places = [[-3, 5], [100, 300]]
    ones, zeros = [1 / 255] * 3, [-0.5] * 3
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        for level in levels:
            torch.ops.zoomkern.set_simd_level(level)
            layout = torch.channels_last if channels_last else torch.contiguous_format
            read = gather_patches(
                [image],
                torch.tensor([places]),
                (601, 599),
                scale=1 / 255,
                shift=-0.5,
                memory_format=layout,
                backend=native,
            )
            expected = slice_patches(image, places, (601, 599), 1, "constant", ones, zeros, [0] * 3, torch.float32)
            assert torch.equal(read[0], expected)
    finally:
        torch.set_num_threads(before)


# Far places.

FAR = [
    LOWEST,
    LOWEST + 1,
    -(1 << 62) - 1,
    -(1 << 62),
    -(1 << 62) + 1,
    -(1 << 32),
    1 << 31,
    1 << 62,
    (1 << 62) + 1,
    HIGHEST,
]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("far", FAR)
def test_a_window_wholly_outside_is_fill_and_nothing_else(backend, far, axis):
    image = torch.arange(1.0, 31.0).reshape(1, 5, 6)
    place = [2, 3]
    place[axis] = far

    read = gather_patches([image], torch.tensor([[place]]), 4, fill=-2, scale=3, shift=1, step=2, backend=backend)

    assert (read == -5).all()


@pytest.mark.parametrize("far", [f for f in FAR if f != PADDED_OFFSET])
def test_a_window_that_is_moved_inside_lies_at_the_nearest_edge(backend, far):
    image = torch.arange(30.0).reshape(1, 5, 6)
    expected = image[:, :3, :2] if far < 0 else image[:, -3:, -2:]

    read = gather_patches([image], torch.tensor([[[far, far]]]), (3, 2), padding_mode="shift", backend=backend)

    assert torch.equal(read[0, 0], expected)


def test_a_padded_draw_is_fill_in_either_mode(backend):
    image = torch.ones(1, 5, 6)
    place = torch.full((1, 1, 2), PADDED_OFFSET)

    for mode in ("constant", "shift"):
        assert (gather_patches([image], place, 3, padding_mode=mode, fill=7, backend=backend) == 7).all()


@pytest.mark.parametrize("place", [[-2, -3], [0, 0], [-9, 4], [1000, -1000]])
def test_a_window_larger_than_the_image_is_moved_to_cover_all_of_it(backend, place):
    image = torch.arange(1.0, 13.0).reshape(1, 3, 4)
    expected = torch.zeros(6, 9)
    top, left = max(min(-place[0], 3), 0), max(min(-place[1], 5), 0)
    expected[top : top + 3, left : left + 4] = image[0]

    read = gather_patches([image], torch.tensor([[place]]), (6, 9), padding_mode="shift", backend=backend)

    assert torch.equal(read[0, 0, 0], expected)


# Large images.


def sparse_file(path, size, rows, row_bytes):
    """A file of zeros that takes no disk, but for some rows of random pixels."""
    rng = np.random.default_rng(1)
    with path.open("wb") as file:
        file.truncate(size)
        for row in rows:
            file.seek(row * row_bytes)
            file.write(rng.integers(0, 256, row_bytes, np.uint8).tobytes())
    return path


@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_beyond_two_to_the_31_and_32_bytes(tmp_path, backend, layout):
    height, width, channels = 45_007, 40_009, 3  # 5.4e9 bytes
    shape = (channels, height, width) if layout == "CHW" else (height, width, channels)
    row_bytes = width if layout == "CHW" else width * channels
    total = height * width * channels
    edges = [edge // row_bytes for edge in (1 << 31, 1 << 32, total)]
    rows = [row + i for row in edges for i in range(-9, 10) if 0 <= row + i < total // row_bytes]
    path = sparse_file(tmp_path / "pixels.raw", total, rows, row_bytes)
    image = PinnedImage.from_memmap(path, shape=shape, dtype=np.uint8, layout=layout).tensor
    pixels = np.memmap(path, np.uint8, "r", shape=shape)
    array = pixels if layout == "CHW" else pixels.transpose(2, 0, 1)
    places = []
    for edge in (1 << 31, 1 << 32, total - 1):
        pixel = edge if layout == "CHW" else edge // channels
        y, x = pixel % (height * width) // width, pixel % width
        places += [[y - 4, x - 20], [y, x], [y - 7, width - 11], [y - 2, -5], [y - 8, x - 60]]
    read = gather_patches([image], torch.tensor([places]), (8, 32), backend=backend)[0]

    bright = 0
    for (y, x), patch in zip(places, read, strict=True):
        (to_y, at_y), (to_x, at_x) = cut(height, y, 8, 1), cut(width, x, 32, 1)
        expected = np.zeros((channels, 8, 32), np.float32)
        expected[:, to_y, to_x] = array[:, at_y, at_x]
        assert np.array_equal(patch.numpy(), expected)
        bright += bool(expected.any())
    assert bright == len(places)  # the random rows are what was compared
    batch = ImageBank([image])[[0]]
    assert torch.equal(gather_patches(batch, torch.tensor([places]), (8, 32), backend=backend)[0], read)


def test_strides_beyond_32_bits(tmp_path, backend):
    path = sparse_file(tmp_path / "pixels.raw", (1 << 33) + 4096, [0, (1 << 33) >> 12], 4096)
    pixels = torch.from_file(str(path), shared=False, size=(1 << 33) + 4096, dtype=torch.uint8)
    images = pixels.as_strided((2, 2, 8, 16), (1 << 32, 1 << 32, 16, 1))  # the last channel starts at 2^33

    read = gather_patches(images, torch.zeros(2, 1, 2, dtype=torch.int64), (8, 16), backend=backend)[:, 0]

    assert torch.equal(read, images.float())
    assert read[0, 0].any()
    assert read[1, 1].any()


# Forms of a batch.


def test_a_bank_mixes_sizes_types_and_repeats(backend):
    bank = ImageBank(
        [
            torch.full((1, 4, 5), 7, dtype=torch.uint8),
            torch.full((1, 9, 3), 60_000, dtype=torch.int32).to(torch.uint16),
            torch.full((1, 2, 2), 1 / 3, dtype=torch.float64),
            torch.full((1, 6, 6), 0.5, dtype=torch.bfloat16),
        ]
    )
    ids = [1, 3, 0, 2, 2]

    read = gather_patches(
        bank[ids], torch.zeros(5, 1, 2, dtype=torch.int64), 2, scale=0.1, dtype=torch.float64, backend=backend
    )

    tenth = np.float32(0.1)
    expected = [np.float32(60_000) * tenth, np.float32(0.5) * tenth, np.float32(7) * tenth, 0.1 / 3, 0.1 / 3]
    assert read.flatten(1)[:, 0].tolist() == pytest.approx(expected, rel=1e-15)
    assert (read.flatten(1) == read.flatten(1)[:, :1]).all()


@pytest.mark.parametrize("level", [None, 0, 1, 2])
def test_a_level_of_a_pyramid_is_read_in_its_own_pixels(backend, level):
    image = torch.from_numpy(np.random.default_rng(3).integers(0, 256, (3, 64, 48), np.uint8))
    pyramid = Pyramid.build(image, levels=3)
    place = torch.tensor([[[3, 5], [9, -2]]])

    read = gather_patches([pyramid], place, (6, 4), level=level, backend=backend)

    assert torch.equal(read, gather_patches([pyramid[level or 0]], place, (6, 4), backend=backend))


def test_out_is_what_is_returned_and_all_of_it_is_written(backend):
    image = torch.arange(60, dtype=torch.uint8).reshape(1, 3, 4, 5)
    out = torch.full((1, 2, 3, 2, 2), torch.nan)

    read = gather_patches(image, torch.tensor([[[0, 1], [90, 90]]]), 2, fill=4, out=out, backend=backend)

    assert read is out
    assert torch.equal(out[0, 0], image[0, :, :2, 1:3].float())
    assert (out[0, 1] == 4).all()


def test_images_of_integers_need_no_gradient_and_floats_get_the_sum_over_patches(backend):
    images = torch.rand(1, 2, 6, 7, dtype=torch.float64, requires_grad=True)
    places = torch.tensor([[[0, 0], [1, 2], [1, 2], [-1, 5], [50, 50]]])

    gather_patches(images, places, 3, scale=(2.0, -3.0), dtype=torch.float64, backend=backend).sum().backward()

    counts = np.zeros((6, 7))
    for y, x in places[0].tolist():
        counts[max(y, 0) : y + 3, max(x, 0) : x + 3] += 1
    assert np.array_equal(images.grad[0].numpy(), counts * np.array([2.0, -3.0])[:, None, None])
    assert not gather_patches(images.detach().to(torch.uint8), places, 3, backend=backend).requires_grad


@pytest.mark.parametrize("deterministic", [False, True])
def test_the_gradient_of_overlapping_patches_is_the_same_every_time(backend, deterministic):
    before = torch.get_num_threads()
    torch.use_deterministic_algorithms(deterministic)
    try:
        images = torch.rand(2, 3, 30, 30, requires_grad=True)
        places = torch.randint(-5, 30, (2, 40, 2))
        weights = torch.rand(2, 40, 3, 9, 9)
        grads = []
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            (grad,) = torch.autograd.grad((gather_patches(images, places, 9, backend=backend) * weights).sum(), images)
            grads.append(grad)
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(before)
    assert torch.equal(grads[1], grads[2])
    if backend == "cpu":
        assert torch.equal(grads[0], grads[1])


def test_gradients_of_every_form_agree_with_the_reference(native):
    generator = torch.Generator().manual_seed(4)
    images = [torch.rand(2, 11, 13, generator=generator), torch.rand(2, 9, 8, generator=generator)]
    places = torch.randint(-6, 12, (2, 30, 2), generator=generator)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        for options in ({}, {"padding_mode": "shift", "step": 2}, {"memory_format": torch.channels_last}):
            grads = []
            for backend in ("reference", native):
                leaves = [image.to(dtype).requires_grad_() for image in images]
                read = gather_patches(leaves, places, (4, 3), scale=(0.5, 2.0), backend=backend, **options)
                grads.append(torch.autograd.grad(read.cos().sum(), leaves))
            for expected, grad in zip(*grads, strict=True):
                torch.testing.assert_close(grad, expected)
