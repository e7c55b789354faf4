"""PinnedImage: the pixels it keeps, the memory it keeps them in, and the files it refuses."""

import gc
import os
import resource
import warnings
import weakref

import numpy as np
import pytest
import torch

from zoomkern.images import PinnedImage, host_module, memory

DTYPES = [torch.uint8, torch.uint16, torch.float16, torch.bfloat16, torch.float32, torch.float64]
NUMPY_DTYPES = [np.uint8, np.uint16, np.float16, np.float32, np.float64]

needs_host = pytest.mark.skipif(host_module() is None, reason="zoomkern._host is not built")


def random_pixels(shape, dtype=torch.uint8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=generator).to(dtype)


@pytest.fixture(params=["pages", "torch"])
def allocator(request, monkeypatch):
    """Both sources of memory: the compiled pages and torch's own."""
    if request.param == "torch":
        monkeypatch.setattr(memory, "host_module", lambda: None)
    elif host_module() is None:
        pytest.skip("zoomkern._host is not built")


@pytest.mark.usefixtures("allocator")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (64, 128), (131, 43)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_tensor_keeps_its_pixels_in_rows_that_start_on_a_line(dtype, size, channels):
    source = random_pixels((channels, *size), dtype)

    image = PinnedImage(source)

    assert torch.equal(image.tensor, source)
    assert (image.shape, image.dtype) == (source.shape, dtype)
    assert (image.channels, image.height, image.width) == (channels, *size)
    assert image.tensor.stride(1) * dtype.itemsize % 128 == 0
    assert image.tensor.stride(2) == 1


@pytest.mark.usefixtures("allocator")
def test_channels_that_are_neighbours_stay_so():
    source = random_pixels((11, 50, 3)).permute(2, 0, 1)

    image = PinnedImage(source)

    assert image.tensor.stride() == (1, 256, 3)
    assert image.nbytes == 11 * 256
    assert torch.equal(image.tensor, source)


def test_the_copy_is_independent_of_its_source():
    source = random_pixels((3, 4, 5)).float().requires_grad_()

    image = PinnedImage(source)
    with torch.no_grad():
        before = source.clone()
        source.zero_()

    assert torch.equal(image.tensor, before)
    assert not image.tensor.requires_grad


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
@pytest.mark.parametrize(
    ("layout", "shape", "axes"), [("HWC", (13, 9, 3), (2, 0, 1)), ("CHW", (3, 13, 9), (0, 1, 2)), ("HW", (13, 9), None)]
)
def test_an_array_of_any_layout_becomes_planes(dtype, layout, shape, axes):
    array = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)

    tensor = PinnedImage.from_numpy(array, layout).tensor

    assert np.array_equal(tensor.numpy(), array[None] if axes is None else array.transpose(axes))
    assert (tensor.stride(0) == 1) == (layout == "HWC")


def test_an_array_may_be_reversed_foreign_and_read_only():
    array = np.arange(2 * 301 * 5, dtype=">u2").reshape(301, 5, 2)[::-1, ::-1]
    array.flags.writeable = False

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = PinnedImage.from_numpy(array)

    assert np.array_equal(image.tensor.numpy(), array.transpose(2, 0, 1))


def test_copying_in_several_bands_leaves_no_row_out(monkeypatch):
    monkeypatch.setattr("zoomkern.images.arrays._BAND_BYTES", 7 * 40 * 3)
    array = np.random.default_rng(1).integers(0, 256, (101, 40, 3), dtype=np.uint8)

    assert np.array_equal(PinnedImage.from_numpy(array).tensor.numpy(), array.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: PinnedImage(np.zeros((4, 4, 3))),
            TypeError,
            "image must be a .* tensor; got ndarray. Use .*from_numpy",
        ),
        (lambda: PinnedImage(torch.zeros(5, 5)), ValueError, r"image must be \[C, H, W\]; got shape \(5, 5\)"),
        (lambda: PinnedImage(torch.zeros(3, 0, 5)), ValueError, "image must hold at least one pixel"),
        (lambda: PinnedImage(torch.zeros(3, 5, 5, dtype=torch.int64)), TypeError, "image must be one of .*int64"),
        (lambda: PinnedImage.from_numpy([[1]]), TypeError, "array must be a numpy.ndarray; got list"),
        (lambda: PinnedImage.from_numpy(np.zeros((4, 4, 3)), "WHC"), ValueError, "layout must be .*got 'WHC'"),
        (
            lambda: PinnedImage.from_numpy(np.zeros((4, 4))),
            ValueError,
            "array must have the dimensions HWC.*layout='HW'",
        ),
        (lambda: PinnedImage.from_numpy(np.zeros((4, 0, 3))), ValueError, "array must hold at least one pixel"),
        (lambda: PinnedImage.from_numpy(np.zeros((4, 4, 3), bool)), TypeError, "array must be one of .*got bool"),
        (lambda: PinnedImage.empty((3, 4)), ValueError, r"shape must be \[C, H, W\]"),
        (lambda: PinnedImage.empty((3, 4, 4), torch.int8), TypeError, "dtype must be one of .*int8"),
        (lambda: PinnedImage.empty((3, 4, 4), layout="HW"), ValueError, "layout must be 'HWC' or 'CHW'"),
    ],
)
def test_what_is_no_image_is_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.usefixtures("allocator")
@pytest.mark.parametrize("side", [1 << 24, (1 << 31) - 1])
def test_memory_that_is_not_there_is_a_memory_error(side):
    with pytest.raises(MemoryError, match="nbytes must fit in memory; got"):
        PinnedImage.empty((3, side, side))


@pytest.mark.usefixtures("allocator")
def test_a_tensor_keeps_the_memory_alive_after_its_image():
    tensor = PinnedImage(random_pixels((3, 300, 300))).tensor
    gc.collect()
    torch.empty(1 << 20).fill_(1.0)

    assert torch.equal(tensor, random_pixels((3, 300, 300)))


@needs_host
def test_pages_are_zero_and_go_with_their_last_user():
    pages = host_module().Pages(10_000)
    gone = weakref.ref(pages)
    address, tensor = pages.address, torch.frombuffer(pages, dtype=torch.float32)
    del pages

    assert (tensor.data_ptr(), tensor.numel()) == (address, 2500)
    assert not tensor.any()
    assert gone() is not None
    del tensor
    assert gone() is None


@needs_host
@pytest.mark.parametrize("huge", [True, False])
@pytest.mark.parametrize("nbytes", [1, 4096, 4097, (2 << 20) + 1, (48 << 20) + 5])
def test_pages_have_the_exact_size_and_are_resident_and_writable(huge, nbytes):
    pages = host_module().Pages(nbytes, huge=huge, threads=3)
    flat = torch.frombuffer(pages, dtype=torch.uint8)

    assert len(pages) == pages.nbytes == flat.numel() == nbytes
    assert int(flat.fill_(7).sum(dtype=torch.int64)) == 7 * nbytes
    assert not (pages.huge and (nbytes < 2 << 20 or not huge))


@needs_host
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"nbytes": 0}, ValueError, "nbytes must be positive; got 0"),
        ({"nbytes": -3}, ValueError, "nbytes must be positive; got -3"),
        ({"nbytes": 1, "threads": -1}, ValueError, "threads must be 0 .* or more; got -1"),
        ({"nbytes": 1 << 62}, MemoryError, "nbytes must fit in memory"),
    ],
)
def test_pages_refuse_bad_sizes(arguments, error, message):
    with pytest.raises(error, match=message):
        host_module().Pages(**arguments)


@needs_host
def test_limits_describe_this_machine():
    limits = host_module().limits()

    assert limits["page_size"] == os.sysconf("SC_PAGESIZE")
    assert limits["huge_pages"] in ("always", "madvise", "never", "unknown")
    soft, hard = (
        None if value == resource.RLIM_INFINITY else value for value in resource.getrlimit(resource.RLIMIT_MEMLOCK)
    )
    assert (limits["memlock_soft"], limits["memlock_hard"]) == (soft, hard)
    assert limits["page_locked"] is False


def test_a_forked_child_reads_and_drops_the_image_and_leaves_it_whole():
    image = PinnedImage(random_pixels((3, 200, 200)))
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:  # torch's threads do not live here: bytes only
        first = image.tensor.numpy()[:, 0, 0].tobytes()
        image.tensor.numpy()[:] = 0
        del image
        os.write(write_end, first)
        os._exit(0)
    os.waitpid(child, 0)
    seen = os.read(read_end, 3)
    os.close(read_end)
    os.close(write_end)

    assert seen == random_pixels((3, 200, 200))[:, 0, 0].numpy().tobytes()
    assert torch.equal(image.tensor, random_pixels((3, 200, 200)))


def test_without_a_gpu_the_memory_is_plain():
    image = PinnedImage(random_pixels((3, 4, 50)))

    assert image.is_pinned == image.tensor.is_pinned()
    assert repr(image) == f"PinnedImage(shape=(3, 4, 50), dtype=uint8, nbytes=1536, is_pinned={image.is_pinned})"
