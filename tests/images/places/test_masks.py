"""data_mask and user_mask: what is True is where one may look."""

import numpy as np
import pytest
import torch

from zoomkern.images import data_mask, user_mask

Image = pytest.importorskip("PIL.Image")


@pytest.mark.parametrize("kind", [torch.uint8, torch.uint16, torch.float16, torch.bfloat16, torch.float32])
def test_no_data_is_where_every_channel_has_the_value(kind):
    image = torch.tensor([[[0, 0, 7]], [[0, 5, 0]]]).to(kind)

    assert data_mask(image, 0).tolist() == [[False, True, True]]
    assert data_mask(image, (0, 5)).tolist() == [[True, False, True]]


def test_a_value_that_pixels_cannot_have_marks_nothing():
    image = torch.tensor([[[241, 0, 255]]], dtype=torch.uint8)

    assert data_mask(image, -9999).all()  # which is 241 modulo 256
    assert data_mask(image, 0.5).all()
    assert data_mask(image, float("nan")).all()
    assert data_mask(image, float("inf")).all()


def test_nan_and_the_smallest_float_are_values():
    image = torch.tensor([[[torch.nan, 1.0, -3.4028234663852886e38]]])

    assert data_mask(image, float("nan")).tolist() == [[False, True, True]]
    assert data_mask(image, -3.4028234663852886e38).tolist() == [[True, True, False]]


@pytest.mark.parametrize(
    ("nodata", "error", "message"),
    [
        ((0, 0, 0), ValueError, "for each of 2 channels; got 3"),
        (("a", "b"), TypeError, "nodata must be a number"),
        (True, TypeError, "nodata must be a number"),
    ],
)
def test_bad_values_are_answered(nodata, error, message):
    with pytest.raises(error, match=message):
        data_mask(torch.zeros(2, 3, 3), nodata)


def test_an_image_of_another_shape_is_answered():
    with pytest.raises(ValueError, match=r"image must be \[C, h, w\]"):
        data_mask(torch.zeros(3, 3), 0)


DRAWN = np.random.default_rng(0).random((31, 23)) < 0.4


def pictures():
    rgba = np.zeros((31, 23, 4), np.uint8)
    rgba[..., 1] = 9
    rgba[..., 3] = DRAWN * 200
    colour = np.zeros((31, 23, 3), np.uint8)
    colour[..., 2] = DRAWN * 3
    return {
        "gray": Image.fromarray(DRAWN.astype(np.uint8) * 255),
        "labels": Image.fromarray(DRAWN.astype(np.uint8)),
        "bits": Image.fromarray(DRAWN),
        "sixteen": Image.fromarray(DRAWN.astype(np.uint16) * 300),
        "colour": Image.fromarray(colour),
        "palette": Image.fromarray(colour).quantize(4),
        "transparent": Image.fromarray(rgba),
    }


@pytest.mark.parametrize("name", list(pictures()))
def test_a_drawn_mask_is_true_where_it_is_not_black(tmp_path, name):
    path = tmp_path / "mask.png"
    pictures()[name].save(path)

    mask = user_mask(path)

    assert mask.dtype == torch.bool
    assert np.array_equal(mask.numpy(), DRAWN)


def test_a_mask_in_jpeg_needs_a_higher_bar(tmp_path):
    blocks = np.kron(np.random.default_rng(1).random((6, 6)) < 0.5, np.ones((16, 16), bool))
    Image.fromarray(blocks.astype(np.uint8) * 255).save(tmp_path / "mask.jpg", quality=60)

    assert np.array_equal(user_mask(tmp_path / "mask.jpg", above=127).numpy(), blocks)


def test_bad_files_are_answered(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.png"):
        user_mask(tmp_path / "nothing.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match="does not know"):
        user_mask(tmp_path / "text.png")
    pictures()["gray"].save(tmp_path / "mask.png")
    whole = (tmp_path / "mask.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"half\.png"):
        user_mask(tmp_path / "half.png")
    with pytest.raises(ValueError, match="max_pixels must be at least 713"):
        user_mask(tmp_path / "mask.png", max_pixels=712)
