"""PinnedImage.from_file: every kind of picture in its own channels, upright, or a sentence that says why not."""

import io
import sys

import numpy as np
import pytest
import torch

from zoomkern.images import PinnedImage

Image = pytest.importorskip("PIL.Image")

RGB = np.random.default_rng(0).integers(0, 256, (31, 23, 3), dtype=np.uint8)


def saved(tmp_path, picture, name="picture.png", **options):
    picture.save(tmp_path / name, **options)
    return tmp_path / name


def test_a_photograph_arrives_as_pillow_decodes_it():
    datasets = pytest.importorskip("sklearn.datasets")
    from importlib.resources import as_file, files

    with as_file(files("sklearn.datasets") / "images" / "china.jpg") as path:
        image = PinnedImage.from_file(path)

    assert (image.shape, image.dtype) == ((3, 427, 640), torch.uint8)
    assert image.tensor.stride() == (1, 640 * 3, 3)
    assert np.array_equal(image.tensor.numpy(), datasets.load_sample_image("china.jpg").transpose(2, 0, 1))


def test_a_picture_decoded_in_several_bands_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("zoomkern.images.decode._BAND_PIXELS", 23 * 4)

    tensor = PinnedImage.from_file(saved(tmp_path, Image.fromarray(RGB))).tensor

    assert np.array_equal(tensor.numpy(), RGB.transpose(2, 0, 1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_the_camera_is_applied(tmp_path, orientation):
    upright = Image.fromarray(RGB)
    turned = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(turned[orientation]) if orientation in turned else upright
    exif = Image.Exif()
    exif[0x0112] = orientation

    tensor = PinnedImage.from_file(saved(tmp_path, stored, exif=exif)).tensor

    assert np.array_equal(tensor.numpy(), RGB.transpose(2, 0, 1))


@pytest.mark.parametrize("name", ["picture.png", "picture.tif"])
def test_sixteen_bit_gray_keeps_its_bits(tmp_path, name):
    gray = np.random.default_rng(1).integers(0, 65536, (31, 23), dtype=np.uint16)

    image = PinnedImage.from_file(saved(tmp_path, Image.fromarray(gray), name))

    assert image.dtype == torch.uint16
    assert np.array_equal(image.tensor.numpy(), gray[None])


def test_gray_float_and_two_level_pictures_have_one_channel(tmp_path):
    gray, real = RGB[..., 0], RGB[..., 0].astype(np.float32) / 7
    two = Image.fromarray(gray).convert("1")

    assert np.array_equal(PinnedImage.from_file(saved(tmp_path, Image.fromarray(gray))).tensor[0].numpy(), gray)
    assert np.array_equal(
        PinnedImage.from_file(saved(tmp_path, Image.fromarray(real), "a.tif")).tensor[0].numpy(), real
    )
    assert np.array_equal(
        PinnedImage.from_file(saved(tmp_path, two)).tensor[0].numpy(), np.asarray(two).astype(np.uint8) * 255
    )


def test_palettes_and_print_colours_become_rgb(tmp_path):
    palette = Image.fromarray(RGB).quantize(16)
    cmyk = Image.fromarray(RGB).convert("CMYK")

    for picture, name in [(palette, "a.png"), (cmyk, "a.tif")]:
        tensor = PinnedImage.from_file(saved(tmp_path, picture, name)).tensor
        assert np.array_equal(tensor.numpy(), np.asarray(picture.convert("RGB")).transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_lies_on_white(tmp_path, mode):
    alpha = np.random.default_rng(2).integers(0, 256, RGB.shape[:2] + (1,), dtype=np.uint8)
    alpha[0, :2, 0] = 0, 255
    picture = Image.fromarray(np.concatenate([RGB, alpha], axis=2)).convert(mode)
    options = {"transparency": 0} if mode == "P" else {}
    path = saved(tmp_path, picture, **options)
    rgba = np.asarray(Image.open(path).convert("RGBA")).astype(np.float64)
    opacity = rgba[..., 3:] / 255

    image = PinnedImage.from_file(path)

    expected = np.floor(rgba[..., :3] * opacity + 255 * (1 - opacity) + 0.5)
    assert image.channels == 3
    assert np.abs(image.tensor.numpy().transpose(1, 2, 0) - expected).max() == 0
    assert opacity.min() == 0


def test_a_bomb_is_refused_from_its_header(tmp_path):
    path = saved(tmp_path, Image.fromarray(RGB))

    assert PinnedImage.from_file(path, max_pixels=31 * 23).height == 31
    with pytest.raises(ValueError, match=r"max_pixels must be at least 713 for .*picture.png' \(23 x 31\); got 712"):
        PinnedImage.from_file(path, max_pixels=712)


def test_our_limit_replaces_pillows_and_leaves_it_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)

    assert PinnedImage.from_file(saved(tmp_path, Image.fromarray(RGB))).height == 31
    assert Image.MAX_IMAGE_PIXELS == 10


def test_damaged_and_foreign_files_are_named_with_a_cure(tmp_path):
    whole = io.BytesIO()
    Image.fromarray(RGB).save(whole, "jpeg")
    cases = {
        "empty.png": (b"", ValueError, "empty.png' is empty. Fetch or export it again"),
        "text.jpg": (b"not a picture", ValueError, "that Pillow reads; got .*text.jpg"),
        "cut.jpg": (whole.getvalue()[:-200], ValueError, "decoding .*cut.jpg' failed: .*Fetch or export it again"),
    }
    for name, (content, error, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(error, match=message):
            PinnedImage.from_file(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="path must name an image file; got .*missing.png"):
        PinnedImage.from_file(tmp_path / "missing.png")
    with pytest.raises(FileNotFoundError, match="path must name an image file"):
        PinnedImage.from_file(tmp_path)
    with pytest.raises(TypeError, match="path must be a path; got int"):
        PinnedImage.from_file(3)


def test_pixels_that_are_no_image_type_are_refused(tmp_path):
    wide = saved(tmp_path, Image.fromarray(np.array([[70000, 3]], dtype=np.int32)), "wide.tif")
    with pytest.raises(ValueError, match="pixels from 0 to 65535; .*wide.tif' has 3 to 70000"):
        PinnedImage.from_file(wide)
    lab = saved(tmp_path, Image.new("LAB", (4, 4)), "lab.tif")
    with pytest.raises(ValueError, match="path must hold gray, RGB.*lab.tif' has LAB"):
        PinnedImage.from_file(lab)


def test_without_pillow_one_sentence_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)

    with pytest.raises(ImportError, match=r"needs Pillow: pip install 'zoomkern\[data\]'"):
        PinnedImage.from_file(tmp_path / "any.png")
