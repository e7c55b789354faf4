"""Images in other processes: what is sent arrives whole, and what stays behind stays right."""

import copy
import pickle
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from zoomkern import ImageBank, PinnedImage, gather_patches

CORNER = torch.zeros(1, 1, 2, dtype=torch.int64)


class Corners(Dataset):
    """The first pixel of each image of a bank."""

    def __init__(self, bank):
        self.bank = bank

    def __len__(self):
        return len(self.bank)

    def __getitem__(self, i):
        return gather_patches(self.bank[[i]], CORNER, 1).flatten()[0]


@pytest.fixture
def bank(tmp_path):
    """Plain, pinned and mapped images, each filled with a number of its own."""
    np.save(tmp_path / "map.npy", np.full((50, 60, 3), 3, np.uint8))
    mapped = PinnedImage.from_memmap(tmp_path / "map.npy")
    return ImageBank([torch.full((3, 40, 30), 7.0), PinnedImage(torch.full((3, 900, 800), 5.0)), mapped])


@pytest.mark.parametrize("start", ["spawn", "forkserver", "fork"])
def test_a_bank_serves_workers_and_its_own_process(bank, start):
    torch.set_num_threads(1)  # a fork after parallel work would hang, as torch itself does
    pointer = bank.images[2].data_ptr()
    loader = DataLoader(Corners(bank), batch_size=3, num_workers=1, multiprocessing_context=start)

    assert next(iter(loader)).tolist() == [7.0, 5.0, 3.0]
    assert [row[0] for row in bank.table.tolist()] == [image.data_ptr() for image in bank.images]
    assert bank.images[2].data_ptr() == pointer  # the map was not copied
    assert [float(corner) for corner in Corners(bank)] == [7.0, 5.0, 3.0]


@pytest.fixture(autouse=True)
def _threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda image: pickle.loads(pickle.dumps(image))])
@pytest.mark.parametrize("form", ["npy", "raw", "memmap", "part of a memmap", "pinned"])
def test_a_copy_of_an_image_shows_the_same_pixels(tmp_path, form, again):
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    if form == "npy":
        np.save(tmp_path / "a.npy", pixels)
        image = PinnedImage.from_memmap(tmp_path / "a.npy")
    elif form == "raw":
        pixels.tofile(tmp_path / "a.raw")
        image = PinnedImage.from_memmap(tmp_path / "a.raw", (4, 5, 3), np.uint8)
    elif form == "pinned":
        image = PinnedImage.from_numpy(pixels)
    else:
        (tmp_path / "a.raw").write_bytes(bytes(7) + pixels.tobytes())
        array = np.memmap(tmp_path / "a.raw", np.uint8, "r", 7, (4, 5, 3))
        image = PinnedImage.from_memmap(array[1:] if form.startswith("part") else array)
        pixels = pixels[1:] if form.startswith("part") else pixels

    other = again(image)
    assert other.shape == image.shape
    assert torch.equal(other.tensor, torch.from_numpy(pixels).permute(2, 0, 1))


def test_a_part_of_an_npy_file_that_was_mapped_raw_is_copied(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(40 * 50 * 3, dtype=np.uint16).astype(np.uint8).reshape(40, 50, 3))
    header = np.load(tmp_path / "a.npy", mmap_mode="r").offset
    array = np.memmap(tmp_path / "a.npy", np.uint8, "r", header + 1500, (20, 50, 3))
    image = PinnedImage.from_memmap(array)
    assert torch.equal(copy.deepcopy(image).tensor, image.tensor)


def test_a_bank_made_in_inference_mode_can_be_sent():
    with torch.inference_mode():
        bank = ImageBank([torch.full((3, 4, 5), 2.0)])
    other = pickle.loads(bytes(ForkingPickler.dumps(bank)))
    assert other.images[0].unique().tolist() == [2.0]
    assert bank.table[0, 0] == bank.images[0].data_ptr()
