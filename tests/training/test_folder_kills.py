"""What is left of predictions that are killed, and of several that work in one folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

SCRIPT = Path(__file__).with_name("killed.py")


def words(run, images, output, *more):
    given = ["--run", run, "--images", images, "--output", output, "--quiet", *more]
    return [str(word) for word in given]


def start(*arguments, **options):
    """A process, with nothing of a launcher in its environment."""
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    return subprocess.Popen([sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, text=True, **options)


def command(*arguments):
    return start("-m", "zoomkern.cli.main", "predict", *arguments)


def test_twenty_kills_lose_nothing_and_leave_nothing_half_written(run_of_two, folders, tmp_path):
    images, out = folders.save_images(tmp_path / "images", 36), tmp_path / "out"
    script = start(str(SCRIPT), "20", "3", *words(run_of_two, images, out, "--top", "1", "--max-starts", "99"))
    said, _ = script.communicate(timeout=600)
    assert script.returncode == 0
    done = said.split("\n")[:-1]
    assert len(done) == 20
    assert "ended by itself" not in done  # every kill met work
    assert 0 < int(done[-1]) < 36

    whole = 0
    for path in (out / "state").glob("[!.]*.json"):
        state = json.loads(path.read_bytes())
        assert state["status"] == "done"
        whole += 1
        files = {kind: out / file for kind, file in state["files"].items()}
        assert set(files) == {"look", "attention", "overlay", "sheet", "outlines"}
        with np.load(files["look"], allow_pickle=False) as look:
            assert look["attention"].shape == tifffile.imread(files["attention"]).shape
        json.loads(files["outlines"].read_bytes())
        for kind in ("overlay", "sheet"):
            with Image.open(files[kind]) as picture:
                picture.load()
    assert whole == int(done[-1])

    again = command(*words(run_of_two, images, out, "--top", "1", "--max-starts", "99"))
    unbroken = command(*words(run_of_two, images, tmp_path / "unbroken", "--top", "1"))
    assert (again.wait(600), unbroken.wait(600)) == (0, 0)
    assert folders.contents(out) == folders.contents(tmp_path / "unbroken")


def test_an_image_that_ends_the_process_is_given_up_and_blames_no_other(run, folders, tmp_path):
    """001 ends the process while it is opened, as a codec that aborts does; once is no reason yet."""
    images, out = folders.save_images(tmp_path / "images", 4), tmp_path / "out"
    script = (
        "import os, sys\n"
        "from zoomkern.cli import predict_folder\n"
        "from zoomkern.training.folder import predict\n"
        "prepare = predict.prepare\n"
        "predict.prepare = lambda image, *more: os._exit(9) if image.name == '001.png' else prepare(image, *more)\n"
        "sys.exit(predict_folder.main(['predict', *sys.argv[1:]]))\n"
    )
    given = words(run, images, out, "--top=0")
    assert [start("-c", script, *given).wait(300) for _ in range(3)] == [9, 9, 1]
    summary = json.loads((out / "summary.json").read_bytes())
    assert (summary["done"], summary["missing"]) == (3, [])
    (failed,) = summary["failed"]
    assert failed["image"] == "001.png"
    assert failed["error"].startswith("2 processes ended while they worked at it")
    assert "--max-starts 3 tries once more." in failed["error"]
    assert start("-c", script, *given).wait(300) == 1  # it is not opened again
    assert command(*given, "--max-starts=3").wait(300) == 0
    assert not list((out / "started").iterdir())


@pytest.mark.parametrize(("sent", "status", "said"), [("SIGTERM", 143, "terminated"), ("SIGINT", 130, "interrupted")])
def test_a_process_that_is_told_to_end_blames_no_image(run, folders, tmp_path, sent, status, said):
    """Twice, during 001: a batch system that needs the machine is no reason to give an image up."""
    images, out = folders.save_images(tmp_path / "images", 3), tmp_path / "out"
    script = (
        "import signal, sys, time\n"
        "from zoomkern.cli import predict_folder\n"
        "from zoomkern.training.folder import predict\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job ignores it
        "keep = predict._keep\n"
        "def slow(task, *more):\n"
        "    if task.image.name == '001.png':\n"
        "        print('here', flush=True)\n"
        "        time.sleep(60)\n"
        "    return keep(task, *more)\n"
        "predict._keep = slow\n"
        "sys.exit(predict_folder.main(['predict', *sys.argv[1:]]))\n"
    )
    given = words(run, images, out, "--top=0")
    for _ in range(2):
        process = start("-c", script, *given, stderr=subprocess.PIPE)
        assert process.stdout.readline() == "here\n"
        process.send_signal(getattr(signal, sent))
        _, error = process.communicate(timeout=60)
        assert (process.returncode, error.splitlines()[-1]) == (
            status,
            f"zoomkern predict: {said}; the same command goes on.",
        )
        assert "Traceback" not in error
    assert command(*given).wait(300) == 0
    assert json.loads((out / "summary.json").read_bytes())["done"] == 3


def test_torchrun_goes_on_behind_an_image_that_fails(run, folders, tmp_path):
    """One process would end the other by a status that is not 0."""
    images = folders.save_images(tmp_path / "images", 20)
    (images / "002.png").write_bytes(b"")  # the smallest, so that either part has others
    options = ["--standalone", "--nproc-per-node", "2", "-m", "--", "zoomkern.cli.main", "predict"]
    given = words(run, images, tmp_path / "out", "--top=0")
    assert start("-m", "torch.distributed.run", *options, *given).wait(600) == 1
    summary = json.loads((tmp_path / "out" / "summary.json").read_bytes())
    assert (summary["done"], len(summary["failed"]), summary["missing"]) == (19, 1, [])


def test_two_shards_at_once_in_one_folder(run, folders, tmp_path):
    images = folders.save_images(tmp_path / "images", 20)
    shards = [command(*words(run, images, tmp_path / "out", "--top=0", "--shard", f"{i}/2")) for i in (1, 2)]
    whole = command(*words(run, images, tmp_path / "whole", "--top=0"))
    said = [shard.communicate(timeout=600)[0] for shard in shards]
    assert [shard.returncode for shard in (*shards, whole)][:2] == [0, 0]
    assert whole.wait(600) == 0
    assert any("20 of 20 images are done" in text for text in said)
    assert folders.contents(tmp_path / "out") == folders.contents(tmp_path / "whole")
