"""resolve_images: whatever a caller may pass becomes what an op takes, or a sentence that ends with the cure."""

import numpy as np
import pytest
import torch

from zoomkern.images import ImageBank, PinnedImage, Pyramid, resolve_images

IMAGE = torch.zeros(3, 4, 5)
PYRAMID = Pyramid([torch.zeros(3, 8, 8), torch.zeros(3, 4, 4)])


@pytest.mark.parametrize("batch", [torch.zeros(2, 3, 4, 5), torch.zeros(0, 3, 4, 5, dtype=torch.uint8)])
def test_a_batch_tensor_passes_through(batch):
    assert resolve_images(batch) is batch


def test_the_batch_of_a_bank_passes_through():
    batch = ImageBank([IMAGE, torch.zeros(3, 9, 9, dtype=torch.uint8)])[[1, 0]]

    assert resolve_images(batch) is batch


def test_a_mixture_becomes_a_list_of_its_own_tensors():
    pinned = PinnedImage(torch.ones(3, 2, 2))

    resolved = resolve_images((IMAGE, pinned, PYRAMID))

    assert isinstance(resolved, list)
    assert [tensor.data_ptr() for tensor in resolved] == [t.data_ptr() for t in (IMAGE, pinned.tensor, PYRAMID[0])]


@pytest.mark.parametrize("level", [None, 0, 1])
def test_a_level_is_read_from_every_pyramid(level):
    for tensor in resolve_images([PYRAMID, PYRAMID], level):
        assert tensor.data_ptr() == PYRAMID[level or 0].data_ptr()


@pytest.mark.parametrize(
    ("images", "level", "error", "message"),
    [
        (
            IMAGE,
            None,
            ValueError,
            r"^images must be \[B, C, H, W\]; got shape \(3, 4, 5\). For one image pass images\[None\]",
        ),
        (IMAGE[0], None, ValueError, r"^images must be \[B, C, H, W\]; got shape \(4, 5\). Reshape it"),
        (IMAGE[None].long(), None, TypeError, "^images must be one of .*got torch.int64. Convert it"),
        (IMAGE[None].bool(), None, TypeError, "^images must be one of .*got torch.bool"),
        (PYRAMID, None, TypeError, "^images must be a batch; got one Pyramid. Wrap it in a list"),
        (PinnedImage(IMAGE), None, TypeError, "^images must be a batch; got one PinnedImage. Wrap it in a list"),
        (
            [],
            None,
            ValueError,
            r"^images must hold at least one image; got none. For an empty batch pass a \[0, C, H, W\]",
        ),
        (np.zeros((1, 3, 4, 5)), None, TypeError, "^images must be a .* got ndarray. Turn an array .*from_numpy"),
        ("slide.svs", None, TypeError, "^images must be a .* got str. Open a file with Pyramid.open"),
        (iter([IMAGE]), None, TypeError, "^images must be a .* got list_iterator. Convert"),
        (ImageBank([IMAGE]), None, TypeError, r"^images must be a .* got ImageBank. Of an ImageBank pass bank\[ids\]"),
        (None, None, TypeError, "^images must be a .* got NoneType"),
        (
            [IMAGE, np.zeros((3, 4, 5))],
            None,
            TypeError,
            r"^images\[1\] must be a \[C, H, W\] tensor.* got ndarray. Turn",
        ),
        ([IMAGE, "a.png"], None, TypeError, r"^images\[1\] must be a .* got str. Open a file"),
        (
            [IMAGE, IMAGE, IMAGE[0]],
            None,
            ValueError,
            r"^images\[2\] must be \[C, H, W\]; got shape \(4, 5\). Add the channels",
        ),
        (
            [IMAGE[None]],
            None,
            ValueError,
            r"^images\[0\] must be \[C, H, W\]; got shape \(1, 3, 4, 5\). Pass the batch itself",
        ),
        (
            [IMAGE, IMAGE[:1]],
            None,
            ValueError,
            r"^images\[1\] must have 3 channels as images\[0\]; got shape \(1, 4, 5\)",
        ),
        (
            [IMAGE, IMAGE.half()],
            None,
            TypeError,
            r"^images\[1\] must be torch.float32 as images\[0\]; got torch.float16",
        ),
        ([IMAGE, IMAGE.to("meta")], None, ValueError, r"^images\[1\] must be on cpu as images\[0\]; got meta. Move it"),
        ([IMAGE.int()], None, TypeError, r"^images\[0\] must be one of .*got torch.int32"),
        (IMAGE[None], 0, ValueError, "^level must be left out: .* got 0, and images is a tensor"),
        (ImageBank([IMAGE])[0], 1, ValueError, "^level must be left out: .* images is an ImageBatch"),
        ([PYRAMID, IMAGE], 1, ValueError, r"^level must be left out: .* got 1, and images\[1\] is a Tensor"),
        ([PinnedImage(IMAGE)], 1, ValueError, r"^level must be left out: .* images\[0\] is a PinnedImage"),
        ([PYRAMID], 2, ValueError, r"^level must be from 0 to 1 for images\[0\]; got 2. There are 0: 8 x 8, 1: 4 x 4"),
        ([PYRAMID], -1, ValueError, r"^level must be from 0 to 1 for images\[0\]; got -1"),
        ([PYRAMID], 1.0, TypeError, "^level must be an int; got float"),
        ([PYRAMID], True, TypeError, "^level must be an int; got bool"),
    ],
)
def test_what_is_no_batch_is_refused_with_a_cure(images, level, error, message):
    with pytest.raises(error, match=message):
        resolve_images(images, level)


def test_a_table_of_another_shape_is_refused():
    batch = ImageBank([IMAGE])[0]

    with pytest.raises(
        ValueError, match=r"^images.table must be int64 \[B, 8\]; got torch.int64 \(1, 7\). Make the batch"
    ):
        resolve_images(batch._replace(table=batch.table[:, 1:]))


@pytest.mark.parametrize("kind", ["tensor", "list", "bank", "pyramids"])
def test_it_compiles_into_one_graph(kind):
    bank = ImageBank([IMAGE + 1, IMAGE + 2])

    @torch.compile(backend="eager", fullgraph=True)
    def step(ids):
        if kind == "tensor":
            return resolve_images(ids.float().reshape(1, 1, 1, -1)).sum()
        if kind == "bank":
            return resolve_images(bank[ids]).table[:, 1:].sum()
        images = [PYRAMID, PYRAMID] if kind == "pyramids" else [IMAGE + ids[0], IMAGE + ids[1]]
        return sum(image.sum() for image in resolve_images(images, 1 if kind == "pyramids" else None))

    expected = {"tensor": 1.0, "list": 60.0, "bank": float(bank.table[:, 1:].sum()), "pyramids": 0.0}
    assert step(torch.tensor([0, 1])).item() == expected[kind]
