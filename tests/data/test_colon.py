"""The colon cancer set: a miniature in its layout, and the real one."""

import shutil

import numpy as np
import pytest
import torch

from zoomkern.data.colon import NUCLEI, ColonCancer

scipy_io = pytest.importorskip("scipy.io")

CENTRES = np.array([[1.5, 2.0], [23.0, 15.5]])


@pytest.fixture
def colon(tmp_path, save_picture):
    """Two images under the set's own name; the second has epithelium."""
    root = tmp_path / "CRCHistoPhenotypes_2016_04_28" / "Classification"
    for number, suffix in ((1, "bmp"), (2, "png")):
        folder = root / f"img{number}"
        save_picture(folder / f"img{number}.{suffix}")
        for kind in NUCLEI:
            has = kind == "others" or (kind == "epithelial" and number == 2)
            scipy_io.savemat(folder / f"img{number}_{kind}.mat", {"detection": CENTRES if has else np.zeros((0, 2))})
    (root / "Thumbs.db").write_bytes(b"")
    return root


def test_every_layer_of_folders_is_a_root(colon):
    for root in (colon, colon.parent, colon.parent.parent):
        images = ColonCancer(root)
        assert (images.names, images.labels, images.groups) == (["img1", "img2"], [0, 1], ["img1", "img2"])


def test_objects_are_the_epithelial_centres(colon):
    images = ColonCancer(colon)

    assert images[0].objects.shape == (0, 4)
    assert images[-1].objects.tolist() == [[1.5, 2.0, 1.5, 2.0], [23.0, 15.5, 23.0, 15.5]]
    assert images[1].image.shape == (3, 16, 24)
    assert images.nuclei(0).keys() == set(NUCLEI)
    assert torch.equal(images.nuclei(0)["others"], torch.from_numpy(CENTRES))


def test_the_nuclei_that_are_handed_out_are_copies(colon):
    images = ColonCancer(colon)
    images.nuclei(1)["epithelial"].zero_()
    images.objects(1).zero_()
    assert images.objects(1)[0].tolist() == [1.5, 2.0, 1.5, 2.0]


def test_matlabs_ways_to_write_few_and_whole_numbers_are_read(colon):
    for kind, matrix in (("epithelial", np.zeros((0, 0))), ("others", CENTRES.astype(np.uint16))):
        scipy_io.savemat(colon / "img1" / f"img1_{kind}.mat", {"detection": matrix})
    nuclei = ColonCancer(colon).nuclei(0)
    assert nuclei["epithelial"].shape == (0, 2)
    assert nuclei["others"].tolist() == [[1, 2], [23, 15]]


def test_what_is_missing_is_named(colon):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ColonCancer(colon / "nowhere")
    with pytest.raises(FileNotFoundError, match="holds no Classification/img1"):
        ColonCancer(colon / "img1")
    (colon / "img2").rename(colon / "img3")
    with pytest.raises(FileNotFoundError, match=r"neither img2.bmp nor img2.png"):
        ColonCancer(colon)
    (colon / "img3").rename(colon / "img2")
    (colon / "img1" / "img1_fibroblast.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"img1_fibroblast.mat"):
        ColonCancer(colon)


def test_a_truncated_matrix_is_named(colon):
    path = colon / "img2" / "img2_epithelial.mat"
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(OSError, match=r"img2_epithelial.mat' is damaged"):
        ColonCancer(colon)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"detection": np.zeros((3, 4))}, r"\[n, 2\] numbers; got float64 \[3, 4\]"),
        ({"other": CENTRES}, "got none"),
        ({"detection": "text"}, "numbers; got"),
        ({"detection": np.array([[24.5, 3]])}, "outside of its image of 16 x 24"),
        ({"detection": np.array([[3, np.nan]])}, "outside of its image"),
        ({"detection": np.array([[-1, 3]])}, "outside of its image"),
    ],
)
def test_nuclei_that_do_not_belong_to_the_image_are_refused(colon, content, message):
    scipy_io.savemat(colon / "img1" / "img1_others.mat", content)
    with pytest.raises(ValueError, match=rf"img1_others.mat' .*{message}"):
        ColonCancer(colon)


def test_without_scipy_one_sentence_names_the_extra(colon, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)
    with pytest.raises(ImportError, match=r"needs SciPy: pip install 'zoomkern\[data\]'"):
        ColonCancer(colon)


def test_the_real_set_is_what_its_paper_says(real_data):
    images = ColonCancer(real_data("colon"))

    assert len(images) == 100
    assert sum(images.labels) == 51
    assert sum(len(centres) for index in range(100) for centres in images.nuclei(index).values()) == 22444
    assert sum(len(images.objects(index)) for index in range(100)) == 7722
    assert {images.size(index) for index in range(100)} == {(500, 500)}
    assert images[99].image.shape == (3, 500, 500)


def test_a_truncated_image_of_the_real_set_is_named(real_data, tmp_path):
    shutil.copytree(real_data("colon") / "Classification" / "img1", tmp_path / "img1")
    path = tmp_path / "img1" / "img1.png"
    path.write_bytes(path.read_bytes()[:20000])
    with pytest.raises(OSError, match=r"img1.png"):
        ColonCancer(tmp_path).image(0)
