"""``zoomkern data stats``."""

import re

import pytest

from zoomkern.cli import data
from zoomkern.cli.main import main
from zoomkern.data import ImageFolder, set_statistics

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def folder(tmp_path):
    """Three pictures of two classes."""
    for place in ("cats/a.png", "cats/b.png", "dogs/c.png"):
        (tmp_path / "set" / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 16)).save(tmp_path / "set" / place)
    return tmp_path / "set"


def stats(*words):
    return main(["data", "stats", *(str(word) for word in words)])


def test_the_table_of_a_set_is_printed(folder, capsys):
    assert stats("--set", "zoomkern.data.ImageFolder", "--root", folder) == 0
    assert capsys.readouterr().out == set_statistics(ImageFolder(folder)).table() + "\n"


def test_every_image_is_read_where_it_is_asked_for(folder, capsys):
    words = ("--set", "ImageFolder", "--root", folder, "--decode")
    assert stats(*words) == 0
    assert capsys.readouterr().out.endswith("\n3 channels of uint8  3\n")
    Image.new("L", (24, 16)).save(folder / "cats" / "b.png")
    whole = (folder / "dogs" / "c.png").read_bytes()
    (folder / "dogs" / "c.png").write_bytes(whole[:-20])
    (folder / "dogs" / "d.png").write_bytes(whole[:-30])
    assert stats(*words) == 1
    said = capsys.readouterr()
    assert said.out.endswith("\n3 channels of uint8  1\n1 channels of uint8  1\n")
    assert [line.partition(": path")[0] for line in said.err.splitlines()] == [
        "cannot be read: dogs/c.png",
        "cannot be read: dogs/d.png",
    ]


def test_every_damaged_image_is_named_though_one_has_no_size(folder, capsys):
    for name in ("cats/b.png", "dogs/c.png"):
        (folder / name).write_bytes(b"")
    assert stats("--set", "ImageFolder", "--root", folder) == 2
    assert "b.png" in capsys.readouterr().err
    assert stats("--set", "ImageFolder", "--root", folder, "--decode") == 1
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        f"cannot be read: {name}: {str(folder / name)!r} is empty. Fetch or export it again."
        for name in ("cats/b.png", "dogs/c.png")
    ]
    assert said.out == "3 channels of uint8  1\n"


def test_shares_are_printed_as_bars_and_drawn(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "boxed.py").write_text(
        "import torch\n"
        "from zoomkern.data import ImageSet\n"
        "class Boxed(ImageSet):\n"
        "    def __init__(self, sides, name):\n"
        "        super().__init__([name], [str(i) for i in range(len(sides))], [0] * len(sides))\n"
        "        self.sides = sides\n"
        "    def size(self, index):\n"
        "        return 100, 100\n"
        "    def objects(self, index):\n"
        "        return torch.tensor([[0, 0, self.sides[index], 10]], dtype=torch.float64)\n"
    )
    options = ("--option", "sides=[10, 10, 20, 40, 0]", "--option", "name=a=b")
    assert stats("--set", "boxed.Boxed", *options, "--picture", tmp_path / "out.png") == 0
    printed = capsys.readouterr().out
    assert "  a=b             5\n" in printed
    # four shares between 1 and 4 %: Rice's rule gives ceil(2 * 4^(1/3)) = 4 bins, each 4^(1/4) wide
    assert printed.endswith(
        "objects / image, in %\n"
        f"  1.0 to 1.4  {'#' * 40}  2\n"
        f"  1.4 to 2.0  {' ' * 40}  0\n"
        f"  2.0 to 2.8  {'#' * 20:<40}  1\n"
        f"  2.8 to 4.0  {'#' * 20:<40}  1\n"
        f"\nPicture: {tmp_path / 'out.png'}\n"
    )
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.format == "PNG"


def test_edges_are_written_with_two_digits():
    shown = data.bars([0.0012, 5.0, 250.0]).splitlines()
    assert shown[0].split()[:3] == ["0.0012", "to", "0.071"]
    assert shown[-1].split()[:3] == ["4.2", "to", "250"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "Nothing"], "--set must name an image set, BloodNeedles, Camelyon16"),
        (["--set", "os.path"], "--set must name an image set"),
        (["--set", "nowhere.Set"], "--set: there is no module 'nowhere'"),
        (["--set", "ImageFolder"], "ImageFolder takes root, .*missing a required argument: 'root'"),
        (["--set", "ImageFolder", "--root", "x", "--option", "y=1"], "unexpected keyword argument 'y'"),
        (["--set", "ImageFolder", "--root", "/no/where"], "'/no/where'"),
        (["--set", "ImageFolder", "--option", "root"], "--option must be KEY=VALUE; got 'root'"),
    ],
)
def test_bad_input_is_one_line(words, message, capsys):
    assert stats(*words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("zoomkern data: ")
    assert printed.err.count("\n") == 1
    assert re.search(message, printed.err)


def test_a_picture_of_no_shares_is_refused(folder, tmp_path, capsys):
    assert stats("--set", "ImageFolder", "--root", folder, "--picture", tmp_path / "out.png") == 2
    assert "no object of the set has an area" in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()


def test_a_set_whose_library_is_missing_is_one_sentence(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "needy.py").write_text("raise ImportError('needs this: pip install that')\n")
    with pytest.raises(SystemExit) as stop:
        stats("--set", "needy.Set")
    assert stop.value.code == 2
    assert capsys.readouterr().err == "zoomkern data: needs this: pip install that\n"
