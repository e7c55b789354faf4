"""Copies out of memory maps: the same bytes as by reading, and no signal whatever happens to the file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

import zoomkern
from zoomkern.images import host_module
from zoomkern.images.readers import files, open_image
from zoomkern.images.readers.files import MappedFile, RawFile
from zoomkern.images.writers import convert

HOST = host_module()
needs_host = pytest.mark.skipif(HOST is None, reason="zoomkern._host is not built")


@pytest.fixture
def copy(tmp_path):
    """A copy of three channels and 900 x 700 pixels, four tiles of which are background."""
    pixels = np.random.default_rng(0).integers(0, 255, (700, 900, 3), dtype=np.uint8)
    pixels[256:512, :512] = 255
    np.save(tmp_path / "source.npy", pixels)
    convert(open_image(tmp_path / "source.npy"), tmp_path / "copy", levels=1, tile=256)
    return tmp_path / "copy", pixels


def windows(count):
    rng = np.random.default_rng(1)
    for _ in range(count):
        y, x = rng.integers(0, (690, 890))
        yield y, x, rng.integers(1, 701 - y), rng.integers(1, 901 - x)


@needs_host
def test_what_is_in_memory_is_copied_and_not_read(copy, monkeypatch):
    path, pixels = copy
    path.read_bytes()
    reader = open_image(path)
    reader.read_window(0, 0, 0, 1, 1)
    monkeypatch.setattr(RawFile, "read", None)
    monkeypatch.setattr(files, "MAPPED_BYTES", 1 << 20)  # pages are let go of now and then
    for y, x, height, width in windows(200):
        assert np.array_equal(reader.read_window(0, y, x, height, width), pixels[y : y + height, x : x + width])


def test_without_the_map_the_bytes_are_the_same(copy, monkeypatch):
    path, pixels = copy
    monkeypatch.setattr(files, "host_module", lambda: None)
    reader = open_image(path)
    for y, x, height, width in windows(50):
        assert np.array_equal(reader.read_window(0, y, x, height, width), pixels[y : y + height, x : x + width])


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system cannot be told to forget a file")
def test_what_is_not_in_memory_is_read(copy):
    path, pixels = copy
    reader = open_image(path)
    for y, x, height, width in windows(20):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
        assert np.array_equal(reader.read_window(0, y, x, height, width), pixels[y : y + height, x : x + width])


def run(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )


TRUNCATED_MEANWHILE = """
import os, shutil, sys, threading, time
import zoomkern
from zoomkern.images.readers import ReadError

path, errors = sys.argv[1], []

def read(reader):
    for _ in range(10_000):
        try:
            reader.read_window(0, 5, 5, 690, 890)
        except ReadError:
            errors.append(1)
            return

for turn in range(20):
    shutil.copy(path, path + str(turn))
    reader = zoomkern.open_image(path + str(turn))
    threads = [threading.Thread(target=read, args=(reader,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.02 + turn / 1000)
    os.truncate(path + str(turn), (1 + turn) * 50_000)
    for thread in threads:
        thread.join()
    reader.close()
    os.remove(path + str(turn))
print(len(errors))
"""


def test_a_file_that_is_truncated_while_it_is_copied_gives_an_error_and_no_signal(copy):
    done = run(TRUNCATED_MEANWHILE, copy[0])
    assert (done.returncode, done.stdout.strip()) == (0, "60"), done.stderr


FORKED = """
import faulthandler, os, shutil, sys, threading, time
import torch
from torch.utils.data import DataLoader, Dataset
import zoomkern
from zoomkern.images.readers import ReadError

path = sys.argv[1]
reader = zoomkern.open_image(path)
reader.read_window(0, 0, 0, 690, 890)  # the handler of this process is installed
if sys.argv[2] == "faulthandler":
    faulthandler.enable()

class Windows(Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, turn):
        mine = path + str(turn)
        shutil.copy(path, mine)
        reader = zoomkern.open_image(mine)
        cut = threading.Timer(0.02 + turn / 500, os.truncate, (mine, 50_000))
        cut.start()
        for _ in range(100_000):
            try:
                reader.read_window(0, 5, 5, 690, 890)
            except ReadError:
                cut.join()
                return turn
        return -1

turns = DataLoader(Windows(), batch_size=None, num_workers=2 if sys.argv[2] == "workers" else 0, timeout=0)
print(sorted(int(turn) for turn in turns))
"""


@pytest.mark.parametrize("way", ["workers", "faulthandler"])
def test_a_handler_that_came_later_does_not_matter(copy, way):
    """torch installs its own in the workers of a DataLoader, Python's faulthandler whenever it is asked to."""
    done = run(FORKED, copy[0], way)
    assert (done.returncode, done.stdout.strip()) == (0, "[0, 1, 2, 3, 4, 5]"), done.stderr


LOST_ELSEWHERE = """
import mmap, os, signal, sys
import numpy as np
import zoomkern
{first}
reader = zoomkern.open_image(sys.argv[1])
reader.read_window(0, 0, 0, 700, 900)
path = sys.argv[1] + ".other"
open(path, "wb").write(bytes(1 << 16))
with open(path, "rb") as file:
    other = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
{then}
print("went on", flush=True)
"""
TOUCH = "os.truncate(path, 0)\nother[5000]"


@needs_host
@pytest.mark.parametrize(
    ("first", "then", "said"),
    [
        ("", TOUCH, ""),
        ("import faulthandler; faulthandler.enable()", TOUCH, "Fatal Python error: Bus error"),
        ("", "os.kill(os.getpid(), signal.SIGBUS)", ""),
        ("", "import faulthandler; faulthandler.enable()\nreader.read_window(0, 0, 0, 9, 9)\n" + TOUCH, "Bus error"),
    ],
    ids=["fault", "fault-that-is-told", "signal", "fault-that-is-told-later"],
)
def test_a_bus_error_elsewhere_ends_the_process_as_ever(copy, first, then, said):
    done = run(LOST_ELSEWHERE.format(first=first, then=then), copy[0])
    assert (done.returncode, done.stdout) == (-signal.SIGBUS, "")
    assert said in done.stderr


@needs_host
def test_a_handler_of_the_users_is_still_called(copy):
    first = "signal.signal(signal.SIGBUS, lambda *_: print('theirs'))"
    done = run(LOST_ELSEWHERE.format(first=first, then="os.kill(os.getpid(), signal.SIGBUS)"), copy[0])
    assert (done.returncode, done.stdout) == (0, "theirs\nwent on\n")


@needs_host
@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"starts": np.array([[1 << 40]])}, IndexError, "lie in the map"),
        ({"starts": np.array([[-1]])}, IndexError, "lie in the map"),
        ({"starts": np.array([[1]])}, IndexError, "lie in the map"),
        ({"starts": np.zeros((0, 1), np.int64)}, ValueError, "starts"),
        ({"starts": np.array([0])}, ValueError, "starts"),
        ({"starts": np.zeros((1, 1), np.int32)}, ValueError, "starts"),
        ({"top": 5}, ValueError, "starts"),
        ({"left": 8}, ValueError, "tile"),
        ({"side": 0}, ValueError, "tile"),
        ({"window": np.zeros((4, 8, 3), np.uint8)[:, ::2]}, ValueError, "window"),
        ({"window": np.zeros((4, 4), np.uint8)}, ValueError, "window"),
    ],
)
def test_nothing_is_copied_from_beside_the_map(changed, error, said):
    given = {"window": np.zeros((4, 4, 3), np.uint8), "map": bytes(8 * 8 * 3), "starts": np.array([[0]])}
    given |= {"side": 8, "top": 0, "left": 0}
    assert HOST.copy_tiles(**given)
    with pytest.raises(error, match=said):
        HOST.copy_tiles(**given | changed)


def test_a_converted_image_is_read_by_the_map_and_keeps_no_tiles(copy, monkeypatch):
    path, pixels = copy
    path.read_bytes()
    slide = zoomkern.Pyramid.open(path, where="disk", cache=0)
    patch = zoomkern.gather_patches([slide], torch.tensor([[[100, 200]]]), 300)[0, 0]
    assert np.array_equal(patch.permute(1, 2, 0).numpy(), pixels[100:400, 200:500])
    if HOST is not None:
        monkeypatch.setattr(RawFile, "read", None)
        zoomkern.gather_patches([slide], torch.tensor([[[100, 200]]]), 300)


def test_an_empty_file_is_no_map(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    assert MappedFile(tmp_path / "empty").size == 0
