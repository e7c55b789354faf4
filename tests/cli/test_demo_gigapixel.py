"""``zoomkern demo --gigapixel`` and the slides that it makes."""

from __future__ import annotations

import argparse
import itertools
import pickle

import numpy as np
import pytest
import torch

from zoomkern.cli import demo
from zoomkern.images import Pyramid
from zoomkern.images.writers import convert

pytest.importorskip("skimage", reason="scikit-image is not installed")
pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from zoomkern.cli import demo_gigapixel
from zoomkern.data import gigapixel
from zoomkern.data.gigapixel import FRAGMENT, write_slide


def run(*words):
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    return demo.run(parser.parse_args([str(word) for word in words]))


@pytest.fixture
def few(monkeypatch):
    """Two small slides of each kind, one step of training."""
    monkeypatch.setattr(demo_gigapixel, "TRAINING", 2)
    monkeypatch.setattr(demo_gigapixel, "TESTING", 2)
    monkeypatch.setattr(demo_gigapixel, "FEWEST", 1)


def test_it_prints_what_it_read_and_writes_two_pictures(few, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ZOOMKERN_DEMO_SECONDS", "0.1")
    folder = tmp_path / "Größe und Bild"
    assert run("--gigapixel", "--size", 2100, "--samples", 5, "--output", folder) == 0
    printed = capsys.readouterr().out
    for words in (
        "2112 x 2112 pixels",
        "MB on disk",
        "5 patches of 128 x 128, 1.8 % of the pixels",
        "by chance",
        "needles",
        "truth: no vessel",
        "truth: vessels",
        "Peak memory of the process",
        f"Picture: {folder / 'positive.png'}",
    ):
        assert words in printed
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{name}.{suffix}" for name in ("negative", "positive") for suffix in ("json", "png", "zoomkern")
    ]
    assert demo_gigapixel.peak_bytes() < 1 << 40


def test_it_learns(monkeypatch, tmp_path):
    monkeypatch.setattr(demo_gigapixel, "FEWEST", 1 << 40)
    torch.manual_seed(0)
    cache = demo_gigapixel.TileCache(1 << 26)
    cases = [demo_gigapixel._case(tmp_path, str(i), 2048, i % 2, "train", i, cache) for i in range(4)]
    model = demo_gigapixel.build()
    looks = itertools.count()  # at the clock, two a step: the time of this test is counted in steps
    monkeypatch.setattr(demo_gigapixel.Progress, "elapsed", lambda self: next(looks) / 119)
    places = torch.stack([demo_gigapixel.shares(case) for case in cases])
    views = torch.stack([case.view for case in cases])
    before = attention_on(model, views, places)
    assert demo_gigapixel.train(model, cases, 1.0) == 60
    assert attention_on(model, views, places) > 1.5 * before


@torch.no_grad()
def attention_on(model, views, places):
    probability = model.attention(views).flatten(1).softmax(1)
    return float((probability * (places.flatten(1) > 0)).sum(1).mean())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--size", 1000], "--size must lie between 2048"),
        (["--size", 10**7], "--size must lie between 2048"),
        (["--image", "picture.png"], "leave --image out"),
        (["--seconds", 0], "--seconds must be a positive number"),
        (["--samples", 0], "--samples must lie"),
        (["--output", __file__], "must be a folder"),
        (["--output", "/proc/there"], "cannot write"),
    ],
)
def test_what_cannot_be_done_is_said_first(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("--gigapixel", *words) == 2
    assert said in capsys.readouterr().err


def test_slides_are_functions_of_their_recipe(tmp_path):
    slides = [write_slide(tmp_path / f"{i}.json", 4096, 1, pieces=2, fragments=5, seed=3) for i in range(2)]
    windows = [slide.read_window(0, 700, 500, 900, 1100) for slide in (*slides, pickle.loads(pickle.dumps(slides[0])))]
    assert all(np.array_equal(window, windows[0]) for window in windows)
    whole = slides[0].read_window(0, 0, 0, 4096, 4096)
    assert np.array_equal(windows[0], whole[700:1600, 500:1600])
    for y in range(0, 4096, 512):
        for x in range(0, 4096, 512):
            if slides[0].is_empty(0, y, x, 512, 512):
                assert (whole[y : y + 512, x : x + 512] == 255).all()
    assert any(slides[0].is_empty(0, y, 0, 512, 512) for y in range(0, 4096, 512))


@pytest.mark.parametrize("label", [0, 1])
def test_fragments_lie_in_tissue_and_have_one_mean_colour(tmp_path, label):
    slide = write_slide(tmp_path / "slide.json", 4096, label, pieces=2, fragments=5, split="test")
    assert slide.label == label
    assert len(slide.needles) == (5 if label else 0)
    for x0, y0, x1, y1 in slide.fragments.tolist():
        pixels = slide.read_window(0, y0, x0, y1 - y0, x1 - x0)
        assert pixels.shape == (FRAGMENT, FRAGMENT, 3)
        assert np.abs(pixels[gigapixel._disk()].mean(0) - gigapixel._COLOUR).max() < 3
        assert not slide.is_empty(0, y0, x0, 1, 1)


def test_training_and_test_share_no_crop():
    halves = [
        {tuple(corner) for crops in gigapixel._crops(split) for corner in crops.tolist()} for split in gigapixel.SPLITS
    ]
    assert max(x for _, x in halves[0]) + FRAGMENT <= min(x for _, x in halves[1])


def test_a_slide_too_small_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 1200"):
        write_slide(tmp_path / "slide.json", 100, 0, pieces=1, fragments=1)


def test_the_copy_of_a_gigantic_slide_stores_tissue_alone(tmp_path):
    slide = write_slide(tmp_path / "slide.json", 40000, 1, pieces=1, fragments=3)
    path = convert(slide, tmp_path / "copy", levels=7)
    assert path.stat().st_size < 40e6
    pyramid = Pyramid.open(path)
    x0, y0, x1, y1 = slide.fragments[0].tolist()
    given = pyramid.levels[0].read(y0, x0, y1 - y0, x1 - x0)
    assert np.array_equal(given, slide.read_window(0, y0, x0, y1 - y0, x1 - x0))


def test_chance_is_the_share_of_cells_that_hit():
    from zoomkern import cell_offsets

    boxes = torch.tensor([[100, 200, 260, 300], [500, 500, 700, 640]])
    grid, size = (40, 30), (1280, 960)
    offsets = cell_offsets(torch.arange(40 * 30)[None], grid, size, demo_gigapixel.PATCH)[0]
    wanted = float(demo_gigapixel.hits(offsets, boxes).any(1).double().mean())
    assert demo_gigapixel.chance_of(boxes, grid, size) == pytest.approx(wanted)
