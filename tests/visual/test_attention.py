"""The picture of an attention."""

import numpy as np
import pytest
import torch

from zoomkern.visual import save_attention

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("matplotlib")


def arguments(number=5, channels=1, size=(300, 400)):
    generator = torch.Generator().manual_seed(0)
    return {
        "overview": torch.rand(channels, size[0] // 2, size[1] // 2, generator=generator),
        "attention": torch.randn(6, 8, generator=generator).flatten().softmax(0).view(6, 8),
        "patches": torch.rand(number, channels, 32, 32, generator=generator),
        "offsets": torch.randint(-10, 300, (number, 2), generator=generator),
        "probabilities": torch.rand(number, generator=generator),
        "image_size": size,
        "title": "a title",
    }


@pytest.mark.parametrize(("number", "channels"), [(0, 1), (1, 3), (23, 1)])
def test_a_png_is_written_for_any_number_of_patches(tmp_path, number, channels):
    path = tmp_path / "picture.png"
    save_attention(path, **arguments(number, channels), objects=torch.tensor([[10, 20, 40, 50]]))
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[1] == 1540
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100
    assert [p.name for p in tmp_path.iterdir()] == ["picture.png"]


def test_without_an_attention_the_image_stands_in_the_middle_and_objects_are_on_it(tmp_path):
    pictures = []
    for objects in (None, torch.tensor([[100, 120, 200, 220]])):
        save_attention(tmp_path / "p.png", **{**arguments(0), "attention": None}, objects=objects)
        with Image.open(tmp_path / "p.png") as picture:
            pictures.append(np.asarray(picture.convert("L")).astype(int))
    without, marked = pictures
    columns = np.flatnonzero((without[without.shape[0] // 2 :] != without[0, 0]).any(0))
    assert abs(columns[0] + columns[-1] - (without.shape[1] - 1)) <= 4
    assert columns[0] > without.shape[1] // 4
    changed = np.argwhere(without != marked)
    assert len(changed) > 100
    assert columns[0] <= changed[:, 1].min() <= changed[:, 1].max() <= columns[-1]


@pytest.mark.parametrize("size", [(64, 6400), (6400, 64)])
def test_very_long_images_give_a_picture_of_ordinary_size(tmp_path, size):
    save_attention(tmp_path / "p.png", **arguments(size=size))
    with Image.open(tmp_path / "p.png") as picture:
        assert 400 < picture.height < 2000


def test_what_is_drawn_shows(tmp_path):
    """Attention on one cell is hot there and nowhere else."""
    given = arguments(1)
    given["overview"] = torch.zeros(1, 150, 200)
    given["offsets"] = torch.tensor([[280, 380]])
    pictures = []
    for cell in ((0, 0), (5, 7)):
        given["attention"] = torch.zeros(6, 8)
        given["attention"][cell] = 1
        save_attention(tmp_path / "p.png", **given)
        with Image.open(tmp_path / "p.png") as picture:
            pictures.append(np.asarray(picture.convert("L")).astype(int))
    changed = np.argwhere(np.abs(pictures[0] - pictures[1]) > 60)
    right = pictures[0].shape[1] // 2
    assert len(changed) > 1000
    assert (changed[:, 1] > right).all()


@pytest.mark.parametrize("title", ["$a_b$ and $", "猫 картина", "tab\tnew\nline", "\udcff.png"])
def test_any_file_name_can_be_a_title(tmp_path, title, recwarn):
    save_attention(tmp_path / "p.png", **{**arguments(), "title": title})
    assert (tmp_path / "p.png").exists()
    assert not [w for w in recwarn if "Glyph" in str(w.message)]


def test_a_failure_leaves_the_old_picture_and_nothing_beside_it(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    path = tmp_path / "p.png"
    path.write_bytes(b"old")

    def half(self, file, **_):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(OSError, match="disk full"):
        save_attention(path, **arguments())
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["p.png"]


def test_it_chooses_no_backend_for_the_rest_of_the_process(tmp_path):
    import matplotlib

    before = matplotlib.rcParams._get_backend_or_none()
    save_attention(tmp_path / "p.png", **arguments())
    assert matplotlib.rcParams._get_backend_or_none() == before
