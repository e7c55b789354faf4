"""``zoomkern demo``."""

import argparse
import builtins
import importlib.util

import numpy as np
import pytest
import torch

from zoomkern.cli import demo

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")


def run(*words):
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    return demo.run(parser.parse_args([str(word) for word in words]))


@pytest.fixture
def photo(tmp_path):
    """A flat grey picture with one textured corner."""
    pixels = np.full((300, 400, 3), 90, np.uint8)
    pixels[200:, 300:] = np.random.default_rng(0).integers(0, 255, (100, 100, 3))
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


def test_training_prints_the_comparison_and_writes_the_picture(tmp_path, capsys):
    output = tmp_path / "picture.png"
    assert run("--seconds", 1, "--size", 512, "--samples", 4, "--output", output) == 0
    printed = capsys.readouterr().out
    for words in (
        "attention sampling",
        "dense CNN on the view",
        "chance",
        "10.0 %",
        "attention on digits",
        str(output),
    ):
        assert words in printed
    with Image.open(output) as picture:
        assert picture.format == "PNG"
        assert picture.width > 1000
    assert [p.name for p in tmp_path.iterdir()] == ["picture.png"]


def test_training_makes_the_loss_fall(monkeypatch):
    from zoomkern.cli import demo_digits
    from zoomkern.data import DigitCanvases

    losses = []
    monkeypatch.setattr(demo_digits.Progress, "update", lambda self, step, loss, accuracy: losses.append(loss))
    torch.manual_seed(0)
    canvases = DigitCanvases("train", length=16 * 5, size=512, num_backgrounds=16)
    model = demo_digits.build(6)
    losses_of_epochs = []
    for _ in range(5):  # the same few canvases again and again: easy to learn by heart
        losses.clear()
        steps = demo_digits.train(model, demo_digits.DenseNetwork(), canvases, seconds=1e9)
        assert steps == 5
        losses_of_epochs.append(sum(losses) / 5)
    assert losses_of_epochs[-1] < losses_of_epochs[0]


def test_training_stops_after_its_time_and_takes_at_least_one_step():
    from zoomkern.cli import demo_digits
    from zoomkern.data import DigitCanvases

    canvases = DigitCanvases("train", length=1 << 40, size=512, num_backgrounds=2)
    assert demo_digits.train(demo_digits.build(2), demo_digits.DenseNetwork(), canvases, seconds=1e-9) == 1


def test_a_patch_holds_the_digit_wherever_it_lies_in_a_cell():
    from zoomkern.cli.demo_digits import PATCH
    from zoomkern.data.digits import CELL, DIGIT_SIDES

    assert max(DIGIT_SIDES) + CELL <= PATCH


def test_hits_are_patches_centred_on_a_digit():
    from zoomkern.cli.demo_digits import PATCH, hits
    from zoomkern.data import CanvasBatch

    boxes = torch.tensor([[[100, 200, 140, 240]] * 5])  # xyxy
    batch = CanvasBatch([], torch.zeros(0), torch.zeros(0), boxes, torch.zeros(0))
    centres = torch.tensor([[[200, 100], [239, 139], [240, 100], [100, 200], [199, 120]]])  # (y, x)
    assert hits(centres - PATCH // 2, batch).tolist() == [[True, True, False, False, False]]


def test_a_picture_of_the_user_is_sampled_where_its_contrast_is(photo, tmp_path, monkeypatch, capsys):
    from zoomkern.cli import demo_picture

    given = {}
    real = demo_picture.save_attention
    monkeypatch.setattr(demo_picture, "save_attention", lambda path, **kw: (given.update(kw), real(path, **kw)))
    assert run("--image", photo, "--samples", 6, "--output", tmp_path / "out.png") == 0
    assert "photo.png: 300 x 400" in capsys.readouterr().out
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.format == "PNG"
    assert given["patches"].shape[:2] == (6, 3)
    centres = given["offsets"] + given["patches"].shape[-1] / 2
    assert ((centres[:, 0] > 190) & (centres[:, 1] > 290)).all()
    with Image.open(photo) as picture:  # full resolution, value for value
        pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1) / 255
    for patch, (y, x) in zip(given["patches"], given["offsets"].tolist(), strict=True):
        torch.testing.assert_close(patch, pixels[:, y : y + patch.shape[1], x : x + patch.shape[2]])


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "I;16", "F"])
def test_pictures_of_any_mode_are_taken(photo, tmp_path, mode):
    path = tmp_path / "other.tif"
    with Image.open(photo) as picture:
        if mode == "I;16":
            Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 100).save(path)
        else:
            picture.convert(mode).save(path)
    assert run("--image", path, "--samples", 3, "--output", tmp_path / "out.png") == 0
    assert (tmp_path / "out.png").stat().st_size > 10_000


def test_a_flat_picture_is_sampled_evenly():
    from zoomkern.cli.demo_picture import contrast_logits

    for image in (torch.full((3, 100, 90), 200, dtype=torch.uint8), torch.zeros(1, 64, 64)):
        logits = contrast_logits(image, (4, 3))
        torch.testing.assert_close(logits, logits[:1, :1].expand(4, 3))


def test_contrast_is_the_deviation_of_every_cell():
    from zoomkern.cli.demo_picture import POWER, contrast_logits

    image = torch.randint(256, (3, 40, 60), dtype=torch.uint8)
    cells = image.double().mean(0).unflatten(1, (3, 20)).unflatten(0, (4, 10))  # [4, 10, 3, 20]
    deviation = cells.std((1, 3), correction=0)
    expected = POWER * (deviation + 0.05 * deviation.mean() + 1e-6).log()
    torch.testing.assert_close(contrast_logits(image, (4, 3)), expected.float())


def damaged(folder):
    path = folder / "damaged.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:4000])
    return path


def text(folder):
    path = folder / "text.png"
    path.write_text("not a picture")
    return path


def small(folder):
    path = folder / "small.png"
    Image.new("L", (400, 20)).save(path)
    return path


def not_finite(folder):
    path = folder / "nan.tif"
    Image.fromarray(np.full((100, 100), np.nan, np.float32)).save(path)
    return path


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (lambda f: ["--image", f / "none.png"], "no file"),
        (lambda f: ["--image", f], "directory"),
        (lambda f: ["--image", text(f)], "text.png"),
        (lambda f: ["--image", damaged(f)], "damaged.png"),
        (lambda f: ["--image", small(f)], "20 x 400"),
        (lambda f: ["--image", not_finite(f)], "NaN"),
        (lambda f: ["--seconds", 0], "--seconds"),
        (lambda f: ["--seconds", -3], "--seconds"),
        (lambda f: ["--seconds", "nan"], "--seconds"),
        (lambda f: ["--seconds", "inf"], "--seconds"),
        (lambda f: ["--size", 480], "--size"),
        (lambda f: ["--size", 2050], "--size"),
        (lambda f: ["--size", 10**9], "--size"),
        (lambda f: ["--samples", 0], "--samples"),
        (lambda f: ["--samples", 1000], "--samples"),
        (lambda f: ["--seed", -1], "--seed"),
        (lambda f: ["--output", f / "none" / "p.png"], "none"),
        (lambda f: ["--output", f], "directory"),
        (lambda f: ["--output", text(f) / "p.png"], "cannot write"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_one_sentence_and_exit_code_two(tmp_path, capsys, words, told):
    given = words(tmp_path)
    before = sorted(tmp_path.iterdir())
    if "--output" not in given:
        given += ["--output", tmp_path / "out.png"]
    assert run(*given) == 2
    printed = capsys.readouterr()
    assert told in printed.err
    assert printed.err.startswith("zoomkern demo: ")
    assert printed.err.count("\n") == 1
    assert "Traceback" not in printed.err
    assert sorted(tmp_path.iterdir()) == before


def test_the_users_picture_is_not_overwritten(photo, capsys):
    before = photo.read_bytes()
    assert run("--image", photo, "--output", photo) == 2
    assert "--output must not be the picture itself" in capsys.readouterr().err
    assert photo.read_bytes() == before


def test_more_samples_than_places_are_refused(tmp_path, capsys):
    path = tmp_path / "p.png"
    Image.new("L", (70, 70)).save(path)
    assert run("--image", path, "--samples", 10, "--output", tmp_path / "out.png") == 2
    assert "at most 9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "module", "name"), [((), "sklearn", "scikit-learn"), (("--image", "x"), "PIL", "Pillow")]
)
def test_a_missing_library_is_one_sentence_that_names_the_extra(monkeypatch, capsys, words, module, name):
    real = importlib.util.find_spec
    monkeypatch.setattr(demo, "find_spec", lambda wanted: None if wanted == module else real(wanted))
    assert run(*words) == 2
    assert capsys.readouterr().err == f"zoomkern demo: {name} missing; install with: pip install 'zoomkern[demo]'\n"


def test_an_interruption_leaves_no_picture(tmp_path, monkeypatch, capsys):
    from zoomkern.cli import demo_digits

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_digits, "train", interrupt)
    assert run("--size", 512, "--output", tmp_path / "p.png") == 130
    assert "no picture" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_asking_for_help_imports_no_heavy_library(monkeypatch, capsys):
    real = builtins.__import__

    def light(name, *rest):
        assert name.split(".")[0] not in {"sklearn", "matplotlib", "PIL", "tqdm"}
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", light)
    with pytest.raises(SystemExit, match="0"):
        run("--help")
    assert "--image" in capsys.readouterr().out


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch, capsys, terminal):
    from zoomkern.cli import demo_digits

    now = [0.0]
    monkeypatch.setattr(demo_digits.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(demo_digits.sys.stderr, "isatty", lambda: terminal, raising=False)
    progress = demo_digits.Progress(30)
    for step in range(1, 31):
        now[0] += 1
        progress.update(step, 2.0, 0.5)
    progress.close()
    printed = capsys.readouterr()
    if terminal:
        assert "30/30 s" in printed.err
        assert "loss 2.00, training accuracy 50 %" in printed.err
    else:
        assert printed.err == ""
        assert printed.out.splitlines() == [
            f"  {seconds:4d} s: step {seconds}, loss 2.00, training accuracy 50 %" for seconds in (10, 20, 30)
        ]
