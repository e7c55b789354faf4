"""Files of image sets: sizes from headers, paths that stay inside, XML that cannot expand."""

import pickle

import pytest
import torch

from zoomkern.data.files import FileImages, picture_size, pictures_below, read_xml, require_folder, require_inside

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def images(tmp_path, save_picture):
    def make(name="a.png", **options):
        return FileImages(["none"], [name], [0], [save_picture(tmp_path / name)], **options)

    return make


def test_an_example_holds_image_label_name_and_no_objects(images):
    example = images()[0]

    assert (example.image.shape, example.label, example.name) == ((3, 16, 24), 0, "a.png")
    assert example.image.tensor[:, 3, 4].tolist() == [9, 8, 7]
    assert (example.objects.shape, example.objects.dtype) == ((0, 4), torch.float64)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.jpg", "a.tif", "a.webp"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_size_is_that_of_the_decoded_image(tmp_path, save_picture, name, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save_picture(tmp_path / name, **({} if name == "a.bmp" else {"exif": exif}))
    images = FileImages(["none"], [name], [0], [path])

    assert images.size(0) == tuple(images.image(0).shape[1:])


def test_the_size_needs_no_pixels(tmp_path, save_picture, monkeypatch):
    path = save_picture(tmp_path / "a.png")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)

    assert picture_size(path) == (16, 24)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_a_damaged_missing_or_too_large_image_is_an_os_error_that_names_it(tmp_path, images):
    cut = images("cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    with pytest.raises(OSError, match=r"cut.png"):
        cut.image(0)
    (tmp_path / "cut.png").write_bytes(b"no picture")
    for read in (cut.image, cut.size):
        with pytest.raises(OSError, match=r"cut.png"):
            read(0)
    (tmp_path / "cut.png").unlink()
    for read in (cut.image, cut.size):
        with pytest.raises(FileNotFoundError, match=r"cut.png"):
            read(0)
    with pytest.raises(OSError, match=r"max_pixels must be at least 384 .*b.png"):
        images("b.png", max_pixels=383).image(0)
    with pytest.raises(ValueError, match="max_pixels"):
        images("b.png", max_pixels=0)


def test_a_set_can_be_sent_to_another_process(images):
    assert pickle.loads(pickle.dumps(images()))[0].name == "a.png"


def test_pictures_are_found_by_name_and_loops_of_links_are_cut(tmp_path, save_picture):
    for name in ("b/c/2.PNG", "b/1.png", "a.jpg", ".hidden/3.png", "b/.4.png"):
        save_picture(tmp_path / name)
    (tmp_path / "b" / "notes.txt").write_text("no picture")
    (tmp_path / "b" / "c" / "up").symlink_to(tmp_path)
    (tmp_path / "b" / "self").symlink_to("self")

    assert [path.relative_to(tmp_path).as_posix() for path in pictures_below(tmp_path)] == [
        "a.jpg",
        "b/1.png",
        "b/c/2.PNG",
    ]


def test_a_picture_that_is_a_link_to_nowhere_is_named(tmp_path):
    (tmp_path / "a.png").symlink_to("a.png")
    with pytest.raises(FileNotFoundError, match=r"a.png"):
        pictures_below(tmp_path)


def test_a_path_must_stay_inside_its_folder(tmp_path, save_picture):
    root, other = tmp_path / "root", save_picture(tmp_path / "other.png")
    inside = save_picture(root / "a" / "b.png")
    (root / "link.png").symlink_to(inside)
    (root / "out.png").symlink_to(other)

    for good in (inside, root / "link.png", root / "a" / ".." / "link.png"):
        assert require_inside(root, good, "line 1") == good
    for bad in (root / ".." / "other.png", root / "out.png", root / other, tmp_path / "root2" / "a.png"):
        with pytest.raises(ValueError, match=r"line 1 names .* leads out of"):
            require_inside(root, bad, "line 1")
    assert require_inside(root, root / "out.png", "line 1", follow_links=True)
    with pytest.raises(ValueError, match="leads out"):
        require_inside(root, root / ".." / "other.png", "line 1", follow_links=True)


def test_a_folder_may_be_named_by_a_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("THE_SLIDES", str(tmp_path))
    assert require_folder("$THE_SLIDES", "slides") == tmp_path


def test_a_folder_must_be_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing.* should hold slides"):
        require_folder(tmp_path / "missing", "slides")
    with pytest.raises(FileNotFoundError, match="Set NO_SUCH_VARIABLE, which is not set"):
        require_folder("$NO_SUCH_VARIABLE/slides", "slides")
    with pytest.raises(TypeError, match="root must be a path; got int"):
        require_folder(3, "slides")


def test_xml_is_read_with_attributes_and_text(tmp_path):
    (tmp_path / "a.xml").write_text('<?xml version="1.0"?><a x="1"><b>two &amp; three</b></a>')
    root = read_xml(tmp_path / "a.xml")
    assert (root.tag, root.get("x"), root.findtext("b")) == ("a", "1", "two & three")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_that_could_expand_or_read_files_is_refused(tmp_path, encoding):
    entity = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>'
    (tmp_path / "a.xml").write_text(entity, encoding=encoding)
    with pytest.raises(ValueError, match=r"a.xml' declares a document type"):
        read_xml(tmp_path / "a.xml")


@pytest.mark.parametrize("text", ["", "<a><b></a>", "<a>", "<a>&unknown;</a>"])
def test_broken_xml_is_named(tmp_path, text):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(ValueError, match=r"a.xml' is no XML or truncated"):
        read_xml(tmp_path / "a.xml")
