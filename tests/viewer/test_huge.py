"""An image of 100,000 x 100,000 pixels: no tile reads much of it, and the server answers while some are slow."""

import re
import subprocess
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from zoomkern import open_image
from zoomkern.cli.main import main
from zoomkern.images.readers import Header
from zoomkern.images.readers.converted import Layout
from zoomkern.viewer import Picture
from zoomkern.viewer.picture import MOST_BYTES, WORKERS
from zoomkern.viewer.tiles import MOST_SHRINK, TILE

SIDE = 100_000
LEVELS = ((SIDE, SIDE), (SIDE // 16, SIDE // 16))
#: Bytes by which the memory of ``zoomkern view`` may grow; the image has 30 GB, its smaller level 117 MB.
MOST_GROWTH = 256 << 20


@pytest.fixture(scope="module")
def huge(tmp_path_factory):
    """In zoomkern's own format; all tiles of a level are one and the same place of the file: red, and blue."""
    path = tmp_path_factory.mktemp("huge") / "huge.zoomkern"
    layout = Layout.of(Header(LEVELS, 3, torch.uint8, ((TILE, TILE),) * 2), TILE)
    places = [layout.data_start + level * layout.tile_bytes for level in range(2)]
    tables = b"".join(np.full(layout.grid(level), place, "<i8").tobytes() for level, place in enumerate(places))
    tiles = b"".join(bytes(colour) * TILE**2 for colour in ((200, 0, 0), (0, 0, 200)))
    start = layout.head(layout.data_start + len(tiles), tables) + layout.text
    path.write_bytes((start.ljust(layout.table_start(0), b"\0") + tables).ljust(layout.data_start, b"\0") + tiles)
    assert path.stat().st_size < 4 << 20
    return path


def watched(monkeypatch, reader, before=lambda *_: None):
    """The windows that a reader reads from now on, ``(level, y, x, height, width)``."""
    windows, read = [], reader._read_window

    def note(handle, *window):
        windows.append(window)
        before(*window)
        return read(handle, *window)

    monkeypatch.setattr(reader, "_read_window", note)
    return windows


def some_tiles(zoom, level):
    """The first, one in the middle and the last of a level of the page."""
    columns, rows = (-(-side // TILE) for side in zoom.size(level))
    return [(level, column, row) for column, row in {(0, 0), (columns // 2, rows // 2), (columns - 1, rows - 1)}]


def bounded(monkeypatch, reader):
    """Whether no tile at any zoom reads more than its share, at once and in all; how many tiles show the whole."""
    picture = Picture(reader)
    windows = watched(monkeypatch, reader)
    for level in range(picture.zoom.least, picture.zoom.most + 1):
        for tile in some_tiles(picture.zoom, level):
            windows.clear()
            assert picture.tile(*tile)
            sizes = [height * width for *_, height, width in windows]
            assert sum(sizes) <= 1.05 * (MOST_SHRINK * TILE) ** 2
            assert max(sizes) * reader.header.channels <= MOST_BYTES
    width, height = picture.zoom.size(picture.zoom.least)
    return -(-width // TILE) * -(-height // TILE)


def test_no_tile_reads_much(huge, monkeypatch):
    assert bounded(monkeypatch, open_image(huge)) == 4


def test_each_zoom_shows_its_level(huge):
    picture = Picture(open_image(huge))
    for level in range(picture.zoom.least, picture.zoom.most + 1):
        source = picture.zoom.source(level, 0, 0)
        assert source.level == (picture.zoom.most - level >= 4)
        assert (picture.render(source) == ((200, 0, 0), (0, 0, 200))[source.level]).all()


@pytest.mark.parametrize("side", [1 << 14, SIDE])
def test_an_image_without_levels_is_read_in_parts_or_refused(tmp_path, monkeypatch, capsys, side):
    path = tmp_path / "image.npy"
    np.lib.format.open_memmap(path, "w+", np.uint8, (side, side, 3)).flush()  # sparse
    assert 512 * path.stat().st_blocks < 1 << 20
    if side == 1 << 14:
        assert bounded(monkeypatch, open_image(path)) == 16
        return
    reader = open_image(path)
    windows = watched(monkeypatch, reader)
    with pytest.raises(
        ValueError, match=r"100000 x 100000 pixels, .* at most 268,435,456 can be. Save it as a pyramid"
    ):
        Picture(reader)
    assert windows == []
    assert main(["view", str(path), "--no-browser"]) == 2
    assert "Save it as a pyramid" in capsys.readouterr().err


def test_slow_tiles_hold_up_nothing_else(huge, serve, monkeypatch):
    reader = open_image(huge)
    begun, go_on = threading.Semaphore(0), threading.Event()

    def slow(level, y, x, *_):
        if level == 0 and y >= TILE and x < TILE:  # the first column of the finest level, but for its first tile
            begun.release()
            assert go_on.wait(120)

    watched(monkeypatch, reader, slow)
    with serve(reader) as running, ThreadPoolExecutor(WORKERS) as pool:
        most = running.server.picture.zoom.most
        cached = running.ask(f"tiles/{most}/0_0").body
        try:
            waiting = [pool.submit(running.ask, f"tiles/{most}/0_{row}") for row in range(1, WORKERS)]
            assert all(begun.acquire(timeout=60) for _ in waiting)
            assert running.ask(f"tiles/{most}/1_0").status == 200  # a worker is left
            waiting.append(pool.submit(running.ask, f"tiles/{most}/0_{WORKERS}"))
            assert begun.acquire(timeout=60)
            assert running.ask(f"tiles/{most}/0_0").body == cached  # none is left
            for path in ("", "viewer.js", "view.json"):
                assert running.ask(path).status == 200
            assert not any(tile.done() for tile in waiting)
        finally:
            go_on.set()
        assert [tile.result(60).status for tile in waiting] == [200] * WORKERS


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_stays_bounded(huge):
    """Of the command, while four clients ask for tiles of all zooms."""
    words = [sys.executable, "-m", "zoomkern.cli.main", "view", str(huge), "--no-browser"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().split()[-1]

            def fetch(path):
                with urllib.request.urlopen(url + path, timeout=60) as answer:
                    return answer.status, len(answer.read()) > 0

            def peak():
                return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[1])

            assert fetch("view.json") == (200, True)
            before = peak()
            zoom = Picture(open_image(huge)).zoom
            tiles = [tile for level in range(zoom.least, zoom.most + 1) for tile in some_tiles(zoom, level)]
            with ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(fetch, ("tiles/{}/{}_{}".format(*tile) for tile in tiles)))
            assert answers == [(200, True)] * len(tiles)
            assert peak() - before < MOST_GROWTH
        finally:
            process.terminate()
            process.wait(30)
