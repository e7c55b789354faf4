"""MNIST's files: miniatures, damaged ones, and the real ones."""

import gzip
import struct

import numpy as np
import pytest

from zoomkern.data.idx import load_mnist, read_idx

ARRAY = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def encode(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(folder, part, count):
    """``count`` digits 0, 1, ... 9, 0, ...; the first pixel of each is its number."""
    images = np.zeros((count, 28, 28), np.uint8)
    images[:, 0, 0] = np.arange(count)
    (folder / f"{part}-images-idx3-ubyte").write_bytes(encode(images))
    (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(encode((np.arange(count) % 10).astype(np.uint8)))
    )


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gz"])
@pytest.mark.parametrize("array", [ARRAY, ARRAY[0, 0], ARRAY[:0]], ids=["3d", "1d", "empty"])
def test_an_array_is_read_as_it_was_written(tmp_path, pack, array):
    path = tmp_path / ("file" if pack is bytes else "file.gz")
    path.write_bytes(pack(encode(array)))
    np.testing.assert_array_equal(read_idx(path), array)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"", ValueError, "begins with nothing"),
        (b"\x89PNG....", ValueError, "begins 89 50 4e"),
        (b"\0\0\x0d\x01" + b"\0" * 8, ValueError, "unsigned bytes"),  # floats
        (encode(ARRAY)[:10], OSError, "truncated: it must give 3 dimensions"),
        (encode(ARRAY)[:-1], OSError, "truncated: it must hold 24 bytes"),
        (encode(ARRAY) + b"\0", ValueError, "goes on after the 24 bytes"),
        (b"\0\0\x08\x03" + b"\xff" * 12, ValueError, "at most"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gz"])
def test_what_is_wrong_with_a_file_is_said(tmp_path, pack, content, error, message):
    path = tmp_path / ("broken" if pack is bytes else "broken.gz")
    path.write_bytes(pack(content))
    with pytest.raises(error, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("damage", [lambda b: b[:-12], lambda b: b[:12] + b"\xff" * 8 + b[20:], lambda b: b"no" + b])
def test_a_damaged_archive_is_an_oserror_that_names_it(tmp_path, damage):
    path = tmp_path / "broken.gz"
    path.write_bytes(damage(gzip.compress(encode(ARRAY))))
    with pytest.raises(OSError, match="broken.gz"):
        read_idx(path)


def test_the_test_digits_alone_are_split_four_to_one(tmp_path):
    write(tmp_path, "t10k", 100)
    assert load_mnist(tmp_path, "train").images[:, 0, 0].tolist() == list(range(80))
    assert load_mnist(tmp_path, "test").images[:, 0, 0].tolist() == list(range(80, 100))
    assert load_mnist(tmp_path, "test").labels.tolist() == list(range(10)) * 2


def test_with_all_of_mnist_the_splits_are_its_own(tmp_path):
    write(tmp_path, "t10k", 20)
    write(tmp_path, "train", 60)
    assert len(load_mnist(tmp_path, "train").labels) == 60
    assert len(load_mnist(tmp_path, "test").labels) == 20


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_mnist(tmp_path / "nowhere", "train")
    with pytest.raises(FileNotFoundError, match="t10k-images-idx3-ubyte"):
        load_mnist(tmp_path, "train")
    write(tmp_path, "t10k", 100)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match="t10k-labels-idx1-ubyte"):
        load_mnist(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match="file"):
        read_idx(tmp_path / "file")
    with pytest.raises(ValueError, match="split"):
        load_mnist(tmp_path, "valid")


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    write(tmp_path, "t10k", 100)
    labels = tmp_path / "t10k-labels-idx1-ubyte.gz"
    for wrong, message in ((np.zeros(99, np.uint8), r"\[99\]"), (np.zeros(100, np.uint8), "1 is missing")):
        labels.write_bytes(gzip.compress(encode(wrong)))
        with pytest.raises(ValueError, match=message):
            load_mnist(tmp_path, "train")
    labels.write_bytes(gzip.compress(encode((np.arange(100) % 11).astype(np.uint8))))
    with pytest.raises(ValueError, match="10 occurs"):
        load_mnist(tmp_path, "train")


def test_the_real_files(real_data):
    train, test = (load_mnist(real_data("mnist"), split) for split in ("train", "test"))
    assert (train.images.shape, test.images.shape) == ((8000, 28, 28), (2000, 28, 28))
    assert test.labels.shape == (2000,)
    whole = np.concatenate([train.labels, test.labels])
    assert np.bincount(whole).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert whole[:5].tolist() == [7, 2, 1, 0, 4]
