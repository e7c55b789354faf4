"""ImageBank: a table that tells the truth about its images, and batches that a compiled step can choose."""

import copy
import ctypes
import gc
import os
import pickle

import numpy as np
import pytest
import torch

from zoomkern import gather_patches
from zoomkern.images import ImageBank, PinnedImage, Pyramid
from zoomkern.typing import PIXEL_DTYPES, TABLE_COLUMNS, ImageBatch


def random_image(shape, dtype=torch.float32):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


@pytest.fixture
def images():
    return [
        random_image((3, 8, 9)),
        random_image((6, 20, 12), torch.uint8)[1:6:2, ::2, 3:],
        PinnedImage(random_image((5, 7, 3), torch.uint16).permute(2, 0, 1)),
        random_image((3, 4, 4), torch.bfloat16),
    ]


def read_pixel(row, c, y, x):
    """The bytes of one pixel, found from a row of the table alone."""
    fields = dict(zip(TABLE_COLUMNS, row.tolist(), strict=True))
    size = PIXEL_DTYPES[fields["dtype"]].itemsize
    place = c * fields["stride_c"] + y * fields["stride_h"] + x * fields["stride_w"]
    return ctypes.string_at(fields["pointer"] + place * size, size)


def test_each_row_leads_to_every_pixel_of_its_image(images):
    bank = ImageBank(images)

    assert bank.table.dtype == torch.int64
    assert bank.table.shape == (4, len(TABLE_COLUMNS))
    for row, image in zip(bank.table, bank.images, strict=True):
        assert row[1:4].tolist() == list(image.shape)
        for place in np.ndindex(tuple(image.shape)):
            assert read_pixel(row, *place) == image[place].reshape(1).view(torch.uint8).numpy().tobytes()


def test_sizes_are_heights_and_widths(images):
    assert ImageBank(images).sizes.tolist() == [[8, 9], [10, 9], [5, 7], [4, 4]]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (2, [2]),
        (slice(1, None), [1, 2, 3]),
        (slice(None, None, -2), [3, 1]),
        ([3, 0, 3], [3, 0, 3]),
        (range(2), [0, 1]),
        ([], []),
        (torch.tensor([1, 1]), [1, 1]),
        (torch.tensor([3], dtype=torch.int32), [3]),
        (torch.empty(0, dtype=torch.int64), []),
    ],
)
def test_a_batch_is_chosen_as_a_list_is(images, ids, expected):
    bank = ImageBank(images)

    batch = bank[ids]

    assert isinstance(batch, ImageBatch)
    assert batch.ids.dtype == torch.int64
    assert batch.ids.tolist() == expected
    assert torch.equal(batch.table, bank.table[expected])
    assert batch.images is bank.images


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        (4, IndexError, "ids must be from 0 to 3; got 4"),
        (-1, IndexError, "ids must be from 0 to 3; got -1"),
        ([0, 9], IndexError, "ids must be from 0 to 3; got 9"),
        (torch.tensor([0, -2]), IndexError, "ids must be from 0 to 3; got -2"),
        (torch.tensor([0.0]), TypeError, "ids must be an integer tensor; got torch.float32"),
        (torch.tensor([True, False, True, False]), TypeError, "ids must be an integer tensor; got torch.bool"),
        (torch.tensor([[0]]), ValueError, r"ids must be \[B\]; got shape \(1, 1\)"),
        (torch.tensor(0), ValueError, r"ids must be \[B\]; got shape \(\)"),
        ("0", TypeError, "ids must be an int, a slice"),
        ([True], TypeError, "ids must be an int, a slice"),
        (1.0, TypeError, "ids must be an int, a slice"),
        (None, TypeError, "ids must be an int, a slice"),
    ],
)
def test_an_id_that_is_not_there_is_refused(images, ids, error, message):
    with pytest.raises(error, match=message):
        ImageBank(images)[ids]


def test_a_batch_keeps_the_pixels_alive_after_bank_and_images():
    batch = ImageBank([PinnedImage(random_image((3, 30, 40), torch.uint8)), random_image((3, 5, 5))])[[0]]
    gc.collect()

    assert read_pixel(batch.table[0], 2, 29, 39) == bytes([int(random_image((3, 30, 40), torch.uint8)[2, 29, 39])])


def test_a_compiled_step_sees_other_images_without_compiling_again(images):
    bank = ImageBank(images)
    compiled = []

    def count(graph, example_inputs):
        compiled.append(graph)
        return graph.forward

    @torch.compile(backend=count, fullgraph=True, dynamic=False)
    def step(ids):
        batch = bank[ids]
        return ImageBatch(batch.table * 2, batch.ids, batch.images), bank.sizes.index_select(0, ids)

    for ids in (torch.tensor([0, 3]), torch.tensor([2, 1]), torch.tensor([1, 1])):
        batch, sizes = step(ids)
        assert torch.equal(batch.table, bank.table[ids] * 2)
        assert torch.equal(batch.ids, ids)
        assert torch.equal(sizes, bank.sizes[ids])
        assert all(a is b for a, b in zip(batch.images, bank.images, strict=True))
    assert len(compiled) == 1


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.zeros(2, 3, 4, 4), TypeError, "images must be a list of images; got Tensor. Wrap it in a list"),
        ([], ValueError, "images must hold at least one image"),
        ([np.zeros((3, 4, 4))], TypeError, r"images\[0\] must be a \[C, H, W\] tensor .* got ndarray.*from_numpy"),
        ([Pyramid([torch.zeros(3, 4, 4)])], TypeError, r"got Pyramid. Of a Pyramid pass one level, pyramid\[0\]"),
        ([torch.zeros(4, 4)], ValueError, r"images\[0\] must be \[C, H, W\]; got shape \(4, 4\)"),
        (
            [torch.zeros(3, 4, 4), torch.zeros(1, 4, 4)],
            ValueError,
            r"images\[1\] must have 3 channels on cpu .* got 1 on cpu",
        ),
        (
            [torch.zeros(3, 4, 4), torch.zeros(3, 4, 4, device="meta")],
            ValueError,
            r"images\[1\] must have .* got 3 on meta",
        ),
        ([torch.zeros(3, 4, 4, dtype=torch.int32)], TypeError, r"images\[0\] must be one of .*int32"),
        ([torch.zeros(3, 4, 4, requires_grad=True)], ValueError, r"images\[0\] must not require a gradient"),
    ],
)
def test_what_cannot_be_banked_is_refused_by_name(images, error, message):
    with pytest.raises(error, match=message):
        ImageBank(images)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda bank: pickle.loads(pickle.dumps(bank))])
def test_a_copy_describes_its_own_images(images, again):
    bank = ImageBank(images[:2])  # torch itself pickles no uint16
    pixels = [image.clone() for image in bank.images]
    other = again(bank)
    del bank
    images.clear()
    gc.collect()

    assert [row[0] for row in other.table.tolist()] == [image.data_ptr() for image in other.images]
    for row, image in zip(other.table, pixels, strict=True):
        assert read_pixel(row, 2, 1, 3) == image[2, 1, 3].numpy().tobytes()


@pytest.mark.parametrize("column", range(len(TABLE_COLUMNS)))
def test_a_batch_whose_table_describes_something_else_is_refused(images, column):
    batch = ImageBank(images)[[1, 3]]
    batch.table[1, column] += 1
    with pytest.raises(ValueError, match=r"images.table must describe images.images\[3\] in row 1"):
        gather_patches(batch, torch.zeros(2, 1, 2, dtype=torch.int64), 2)


def test_a_batch_that_was_pickled_is_refused(images):
    batch = pickle.loads(pickle.dumps(ImageBank(images[:2])[[0]]))
    with pytest.raises(ValueError, match="Send the bank and the ids"):
        gather_patches(batch, torch.zeros(1, 1, 2, dtype=torch.int64), 2)


def test_a_negated_view_is_refused():
    negated = torch.ones(3, 4, 4, dtype=torch.complex64).conj().imag
    assert negated.is_neg()
    with pytest.raises(ValueError, match="resolve_neg"):
        ImageBank([negated])


def test_a_map_that_became_shorter_is_told(tmp_path):
    path = tmp_path / "image.npy"
    np.save(path, np.zeros((300, 200, 3), np.uint8))
    bank = ImageBank([PinnedImage.from_memmap(path), torch.zeros(3, 4, 4, dtype=torch.uint8)])
    bank[[0, 1]]
    os.truncate(path, 5000)
    bank[[1]]
    with pytest.raises(ValueError, match="images must keep their files: 180128 bytes were mapped"):
        bank[[1, 0]]
