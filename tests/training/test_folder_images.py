import os
import sys

import numpy as np
import pytest

from zoomkern.training.folder.images import find_images


def names(*given):
    return [image.name for image in find_images(given)]


def test_a_folder_is_searched_whole(tmp_path):
    for name in ("b.svs", "a/b.tif", "a/b.png", "a/notes.md", ".hidden.tif", ".cache/x.tif", "a/ü 1.TIFF"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * len(name))
    images = find_images([tmp_path])
    assert [image.name for image in images] == ["a/b.png", "a/b.tif", "a/ü 1.TIFF", "b.svs"]
    assert [image.nbytes for image in images] == [7, 7, 10, 5]
    assert all(image.path.is_absolute() and image.modified for image in images)


def test_folders_that_are_images_and_folders_beside_images(tmp_path):
    (tmp_path / "x.zarr" / "0").mkdir(parents=True)
    (tmp_path / "x.zarr" / "0" / "c.png").write_bytes(b"12345")
    (tmp_path / "s.mrxs").write_bytes(b"1")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "Data0001.dat").write_bytes(b"1234")
    assert [(image.name, image.nbytes) for image in find_images([tmp_path])] == [("s.mrxs", 5), ("x.zarr", 5)]
    assert names(tmp_path / "x.zarr") == [str(tmp_path / "x.zarr")]


@pytest.mark.parametrize("name", ["a.npy", "a.zoomkern"])
def test_every_ending_is_one_that_opens(tmp_path, name):
    (tmp_path / name).write_bytes(b"1")
    (tmp_path / "a.jp2").write_bytes(b"1")  # no reader opens it
    assert names(tmp_path) == [name]


def test_links_are_followed_but_not_in_circles(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.png").write_bytes(b"1")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to(tmp_path / "there")
    (tmp_path / "there" / "back").symlink_to(tmp_path / "here")
    (tmp_path / "here" / "gone.png").symlink_to("/nowhere.png")
    images = {image.name: image.nbytes for image in find_images([tmp_path / "here"])}
    assert images == {"gone.png": 0, "link/a.png": 1}  # what is gone fails by its name


def test_files_and_lists_are_called_as_they_are_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("one/a.png", "two/a.png", "b.png"):
        os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    (tmp_path / "list.txt").write_text("# slides\none/a.png\n\n  two/a.png \nmissing.png\n")
    assert names("list.txt", "b.png") == ["b.png", "missing.png", "one/a.png", "two/a.png"]
    assert names("one", "two") == ["one/a.png", "two/a.png"]
    assert names("one") == ["a.png"]
    assert names("b.png", "b.png") == ["b.png"]


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no '.*nowhere'"):
        find_images([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match=r"has none. Their names end in .svs"):
        find_images([tmp_path])


@pytest.fixture
def slides(dicoms, tmp_path):
    """Two slides of three files each in one folder, one of them once more in another, and two files that are none."""
    pixels = np.random.default_rng(0).integers(0, 256, (128, 192, 3), np.uint8)
    for folder, series in (("case", "1.2.30"), ("case", "1.2.4"), ("other", "1.2.4")):
        dicoms.write_series(tmp_path / folder, pixels, series)
    (tmp_path / "case" / "damaged.dcm").write_bytes((tmp_path / "case" / "1.2.4-1.dcm").read_bytes()[:300])
    (tmp_path / "case" / "none.DCM").write_bytes(b"none")
    (tmp_path / "case" / "gone.dcm").symlink_to("/nowhere.dcm")
    return tmp_path


def test_the_files_of_a_dicom_series_are_one_image(slides):
    images = {image.name: image for image in find_images([slides])}
    assert list(images) == [
        *("case/1.2.30-1.dcm", "case/1.2.4-1.dcm", "case/damaged.dcm", "case/gone.dcm", "case/none.DCM"),
        "other/1.2.4-1.dcm",
    ]
    one, files = images["case/1.2.4-1.dcm"], sorted((slides / "case").glob("1.2.4-*"))
    assert (one.path, len(files)) == (files[0], 3)
    assert one.nbytes == sum(file.stat().st_size for file in files)
    os.utime(files[2], ns=(0, one.modified + 1))
    again = {image.name: image for image in find_images([slides])}["case/1.2.4-1.dcm"]
    assert again.modified == one.modified + 1
    assert names(files[0], files[1]) == [str(files[0]), str(files[1])]  # as they are named, one by one


def test_a_series_of_labels_is_no_slide(slides):
    import pydicom

    for name, seen in (("label", "LABEL"), ("overview", "OVERVIEW")):
        data = pydicom.dcmread(slides / "case" / "1.2.4-1.dcm")
        data.SeriesInstanceUID, data.ImageType = "1.2.5", ["ORIGINAL", "PRIMARY", seen, "NONE"]
        data.save_as(slides / "case" / f"{name}.dcm")
    assert [name for name in names(slides / "case") if "label" in name or "overview" in name] == []
    data.SeriesInstanceUID = "1.2.4"  # beside a slide's own files it is one of them
    data.save_as(slides / "case" / "0.dcm")
    assert "0.dcm" in names(slides / "case")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_not_waited_for(slides):
    os.mkfifo(slides / "case" / "pipe.dcm")
    assert "pipe.dcm" in names(slides / "case")


def test_dicom_without_pydicom(slides, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom.filereader", None)
    with pytest.raises(ImportError, match=r"read with pydicom: pip install 'zoomkern\[slides\]'\. Or name one file"):
        find_images([slides])
    for file in (slides / "other").glob("*-[23].dcm"):
        file.unlink()
    assert names(slides / "other") == ["1.2.4-1.dcm"]  # one that has none beside it is not looked into
