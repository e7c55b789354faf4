"""``zoomkern convert``, killed and not."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from zoomkern.cli import convert as command
from zoomkern.images import Pyramid
from zoomkern.images.readers.opening import open_image
from zoomkern.images.writers import FORMATS, conversion


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "Bild für 图.npy"
    rng = np.random.default_rng(0)
    pixels = np.full((1500, 700, 3), 255, np.uint8)
    pixels[:900, :500] = rng.integers(0, 256, (900, 500, 3))
    np.save(path, pixels)
    return path


def run(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(word) for word in words]))


def test_the_copy_is_made_and_summed_up(source, tmp_path, capsys):
    output = tmp_path / "a copy.zoomkern"
    assert run(source, output, "--mpp", 0.25, "--levels", 3, "--threads", 2) == 0
    captured = capsys.readouterr()
    assert "a copy.zoomkern: 700 x 1500 pixels, 3 levels" in captured.out
    assert "convert" in captured.err  # the bar
    copy = open_image(output)
    assert copy.mpp == 0.25
    assert copy.level_dimensions == ((700, 1500), (350, 750), (175, 375))
    assert np.array_equal(copy.read_window(0, 0, 0, 1500, 700), np.load(source))


def test_formats_are_those_of_the_library(source):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    (option,) = [action for action in parser._actions if action.dest == "format"]
    assert option.choices == list(FORMATS)


def test_ome_zarr_is_what_its_name_says_and_has_the_same_pixels(source, tmp_path, capsys):
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    assert run(source, tmp_path / "copy.zarr", "--mpp", 0.5, "--quiet") == 0
    assert run(source, tmp_path / "copy.zoomkern", "--mpp", 0.5, "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    group = zarr.open_group(str(tmp_path / "copy.zarr"), mode="r")
    (image,) = group.attrs["multiscales"]
    assert image["version"] == "0.4"
    assert [axis["name"] for axis in image["axes"]] == ["c", "y", "x"]
    assert [data["coordinateTransformations"][0]["scale"] for data in image["datasets"]] == [[1, 0.5, 0.5], [1, 1, 1]]
    ours, theirs = open_image(tmp_path / "copy.zoomkern"), open_image(tmp_path / "copy.zarr")
    assert theirs.mpp == 0.5
    assert theirs.level_dimensions == ours.level_dimensions
    for level, (width, height) in enumerate(ours.level_dimensions):
        pixels = ours.read_window(level, 0, 0, height, width)
        assert np.array_equal(theirs.read_window(level, 0, 0, height, width), pixels)
        assert np.array_equal(np.asarray(group[str(level)][:]).transpose(1, 2, 0), pixels)
    assert not (tmp_path / "copy.zarr" / "0" / "0" / "5").exists()  # background


def test_a_copy_opens_as_a_pyramid(source, tmp_path):
    run(source, tmp_path / "copy", "--quiet")
    pyramid = Pyramid.open(tmp_path / "copy")
    assert pyramid.shape == (3, 1500, 700)


def test_what_a_killed_record_leaves_is_in_nobodys_way(source, tmp_path):
    work = tmp_path / ".copy.zoomkern.part"
    work.mkdir()
    (work / ".state.json.0123456789abcdef.part").touch()
    assert run(source, tmp_path / "copy.zoomkern", "--quiet") == 0
    assert not work.exists()


def test_without_zarr_nothing_is_begun(source, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    assert run(source, tmp_path / "copy.zarr") == 2
    assert "pip install 'zoomkern[slides]'" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_ome_zarr_is_replaced_whole(source, tmp_path):
    pytest.importorskip("zarr", reason="zarr is not installed")
    output = tmp_path / "copy.zarr"
    assert run(source, output, "--quiet") == 0
    assert run(source, output, "--quiet") == 2
    assert run(source, output, "--quiet", "--overwrite", "--levels", 1) == 0
    assert open_image(output).level_count == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name, "copy.zarr"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.npy", "copy"], "nowhere.npy"),
        (["{source}", "{source}"], "output must not be the image itself"),
        (["{source}", "copy", "--levels", "50"], "levels must be at most"),
        (["{source}", "copy", "--tile", "3"], "tile must be"),
        (["{source}", "copy", "--mpp", "-1"], "mpp must be positive"),
        (["{source}", "/proc/copy"], "/proc"),
        (["{source}", "there"], "pass overwrite"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(source, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").write_text("dear")
    assert run(*(word.format(source=source) for word in words), "--quiet") == 2
    error = capsys.readouterr().err
    assert error.startswith("zoomkern convert: ")
    assert said in error
    assert error.count("\n") == 1
    assert (tmp_path / "there").read_text() == "dear"


#: Runs the command in a forked child for each number of seconds on its input, kills the child after them, and tells how
#: it ended: libraries are imported once.
CODE = """
import importlib, os, signal, sys, time
from zoomkern.cli import main
from zoomkern.images.readers import opening
from zoomkern.images.writers import conversion
conversion._BLOCK, conversion.RECORD_SECONDS, conversion._RECORD_PART = 64, 0.0, 0
os.sync = lambda: None  # a kill loses nothing that the system has been given
if "ome-zarr" in sys.argv:
    importlib.import_module("zarr")
for line in sys.stdin:
    child = os.fork()
    if not child:
        os._exit(main.main(sys.argv[1:]))
    time.sleep(float(line))
    os.kill(child, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes")
@pytest.mark.parametrize("format", list(FORMATS))
def test_twenty_kills_lose_nothing(source, tmp_path, monkeypatch, format):
    """Each run is killed at a random time; what it did before that stays, and the last one ends with the same bytes."""
    if format == "ome-zarr":
        pytest.importorskip("zarr", reason="zarr is not installed")
    monkeypatch.setattr(conversion, "_BLOCK", 64)
    whole, output = tmp_path / "whole", tmp_path / "copy"
    words = ["--format", format, "--tile", "32", "--quiet"]
    start = time.monotonic()
    assert run(source, whole, *words) == 0
    seconds = time.monotonic() - start
    command = [sys.executable, "-c", CODE, "convert", str(source), str(output), *words]
    rng = np.random.default_rng(0)
    kills = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as runner:
        for _ in range(1000):
            print(rng.uniform(0, seconds), file=runner.stdin, flush=True)
            status = int(runner.stdout.readline())
            assert status in (0, -signal.SIGKILL) or output.exists()
            kills += status == -signal.SIGKILL
            if output.exists():
                assert bytes_of(output) == bytes_of(whole)  # what has the name is whole, whenever the run was killed
                if kills >= 20:
                    break
                conversion._remove(output)
            else:
                assert status == -signal.SIGKILL
        runner.stdin.close()
    assert kills >= 20
    assert bytes_of(output) == bytes_of(whole)


def bytes_of(path):
    if path.is_file():
        return path.read_bytes()
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}
