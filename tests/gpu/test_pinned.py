"""Page-locked images on a real device: the same bytes, never freed under a kernel, and clear words in a fork."""

import gc
import mmap
import subprocess
import sys
import textwrap
import weakref

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from zoomkern import ImageBank, PinnedImage, Pyramid, gather_patches, sample_patches
from zoomkern.images import registration
from zoomkern.typing import PIXEL_DTYPES

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

SHAPE = (3, 301, 203)


def random_pixels(dtype=torch.uint8, shape=SHAPE):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def read_by_a_kernel(view):
    """The pixels as float64 in host memory; the copy engine takes no part in reading the view."""
    return view.to(torch.float64).cpu()


@pytest.mark.parametrize("layout", ["HWC", "CHW"])
@pytest.mark.parametrize("dtype", PIXEL_DTYPES)
def test_a_view_shows_the_bytes_of_the_image(dtype, layout):
    image = PinnedImage.empty(SHAPE, dtype, layout)
    image.tensor.copy_(random_pixels(dtype))
    view = image.cuda_view()

    assert view.device == torch.device("cuda", torch.cuda.current_device())
    assert (view.dtype, view.shape, view.data_ptr()) == (dtype, image.shape, image.tensor.data_ptr())
    assert torch.equal(read_by_a_kernel(view), image.tensor.double())
    assert image.is_pinned
    assert image.registration in ("portable", "default")


def test_what_the_host_writes_after_a_fence_is_seen_by_the_next_kernel():
    image = PinnedImage(random_pixels())
    read_by_a_kernel(image.cuda_view())
    image.fence()
    image.tensor.add_(1)
    assert torch.equal(read_by_a_kernel(image.cuda_view()), image.tensor.double())


def test_a_view_costs_no_device_memory():
    image = PinnedImage.empty((1, 1 << 14, 1 << 14))
    before = torch.cuda.memory_allocated()
    view = image.cuda_view()
    assert view.nbytes == 1 << 28
    assert torch.cuda.memory_allocated() == before


def test_patches_of_a_gpu_are_those_of_the_host():
    image = PinnedImage(random_pixels())
    logits = torch.randn(1, 12, 9, generator=torch.Generator().manual_seed(1))
    here = sample_patches([image], logits, 8, 32, seed=5, mean=0.5, std=0.25)
    there = sample_patches([image], logits.cuda(), 8, 32, seed=5, mean=0.5, std=0.25)
    assert there.patches.is_cuda
    assert torch.equal(there.index.cpu(), here.index)
    assert torch.equal(there.patches.cpu(), here.patches)


def test_levels_of_a_pyramid_are_read_where_they_are():
    pyramid = Pyramid.build(PinnedImage(random_pixels()), levels=3)
    offsets = torch.tensor([[[-3, 5], [20, 11]]])
    for level in range(3):
        here = gather_patches([pyramid], offsets, 24, level=level)
        assert torch.equal(gather_patches([pyramid], offsets.cuda(), 24, level=level).cpu(), here)


def test_a_bank_of_page_locked_images_is_read_on_the_device():
    images = [PinnedImage(random_pixels(shape=(3, 80 + 7 * i, 60))) for i in range(3)]
    offsets = torch.tensor([[[0, 0]], [[30, 20]], [[70, 50]]])
    here = gather_patches(ImageBank(images)[[2, 0, 2]], offsets, 16)
    bank = ImageBank(images, device="cuda")
    assert bank.table.is_cuda
    assert torch.equal(gather_patches(bank[torch.tensor([2, 0, 2]).cuda()], offsets.cuda(), 16).cpu(), here)


def test_host_memory_that_is_not_page_locked_is_refused():
    with pytest.raises(ValueError, match="got cpu. Make them PinnedImage"):
        gather_patches([random_pixels()], torch.zeros(1, 1, 2, dtype=torch.int64).cuda(), 8)


@pytest.mark.parametrize("mode", ["r", "c", "r+", None])
def test_a_memory_map_is_read_however_it_was_registered(tmp_path, mode):
    pixels = random_pixels().permute(1, 2, 0).contiguous()
    np.save(tmp_path / "a.npy", pixels.numpy())
    image = PinnedImage.from_memmap(tmp_path / "a.npy" if mode is None else np.load(tmp_path / "a.npy", mmap_mode=mode))
    assert torch.equal(read_by_a_kernel(image.cuda_view()), pixels.permute(2, 0, 1).double())
    print(f"a map opened {mode!r} was registered as: {image.registration}")  # shown by -rP, for docs/backends.md


def test_pieces_of_one_image_are_read_as_one(monkeypatch):
    monkeypatch.setattr(registration, "CHUNK_BYTES", 2 * mmap.PAGESIZE)
    image = PinnedImage(random_pixels())
    assert torch.equal(read_by_a_kernel(image.cuda_view()), image.tensor.double())


def test_an_image_that_is_dropped_while_a_kernel_reads_it_is_waited_for():
    pixels = random_pixels(shape=(3, 2000, 2000))
    image, stream = PinnedImage(pixels), torch.cuda.Stream()
    freed = []
    weakref.finalize(image._memory.owner(), lambda: freed.append(stream.query()))
    view = image.cuda_view()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(1_000_000_000)
        seen = view.to(torch.float32)
    assert not stream.query()
    del image, view
    gc.collect()
    assert freed == [True]  # the memory went, and not before the kernel was through

    others = [PinnedImage.empty((3, 2000, 2000)) for _ in range(3)]
    for other in others:
        other.tensor.fill_(1)
    assert torch.equal(seen.cpu(), pixels.float())


def test_a_refusal_is_told_and_not_blamed_on_the_next_kernel():
    image = PinnedImage(random_pixels())
    cudart = torch.cuda.cudart()
    assert int(cudart.cudaHostRegister(image.tensor.data_ptr(), mmap.PAGESIZE, 0)) == 0
    try:
        with pytest.raises(RuntimeError, match="already.*RLIMIT_MEMLOCK"):
            image.pin()
        assert float(torch.ones(3, device="cuda").sum()) == 3
    finally:
        assert int(cudart.cudaHostUnregister(image.tensor.data_ptr())) == 0
    assert torch.equal(read_by_a_kernel(image.cuda_view()), image.tensor.double())


def test_an_image_that_moves_to_shared_memory_is_registered_there():
    image = PinnedImage(random_pixels())
    before = image.cuda_view()
    image.tensor.share_memory_()
    after = image.cuda_view()
    assert after.data_ptr() == image.tensor.data_ptr() != before.data_ptr()
    assert torch.equal(read_by_a_kernel(before), read_by_a_kernel(after))


class Corner(Dataset):
    """The first pixel, and what a request for a view says."""

    def __init__(self, image):
        self.image = image

    def __len__(self):
        return 1

    def __getitem__(self, i):
        try:
            self.image.cuda_view()
            said = "nothing"
        except RuntimeError as error:
            said = str(error)
        return int(self.image.tensor[0, 0, 0]), said


def test_a_forked_worker_reads_the_host_memory_and_is_told_how_to_get_a_view():
    image = PinnedImage(random_pixels())
    view = image.cuda_view()
    loader = DataLoader(Corner(image), batch_size=None, num_workers=1, multiprocessing_context="fork")
    for _ in range(2):  # a worker that has ended has unregistered nothing
        ((corner, said),) = list(loader)
        assert corner == int(image.tensor[0, 0, 0])
        assert "multiprocessing_context='spawn'" in said
        assert torch.equal(read_by_a_kernel(view), image.tensor.double())


@pytest.mark.parametrize(
    "end", ["", "sys.exit(0)", "view.itself = view", "atexit.register(lambda: view.float().sum())"]
)
def test_a_process_ends_in_peace_while_a_kernel_reads(end):
    code = f"""
        import atexit, sys, torch
        from zoomkern import PinnedImage

        image = PinnedImage(torch.ones(3, 3000, 3000, dtype=torch.uint8))
        view = image.cuda_view()
        torch.cuda._sleep(500_000_000)
        total = view.float()
        {end}
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")


def test_several_gpus_read_one_image():
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    image = PinnedImage(random_pixels())
    for index in range(torch.cuda.device_count()):
        view = image.cuda_view(index)
        assert (view.device.index, view.data_ptr()) == (index, image.tensor.data_ptr())
        assert torch.equal(read_by_a_kernel(view), image.tensor.double())
