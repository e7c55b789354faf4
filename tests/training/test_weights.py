"""Files that are there whole or not at all, and that run nothing."""

from __future__ import annotations

import errno
import os
import pickle
import random
import resource
import subprocess
import sys

import pytest
import torch
from torch import nn

from zoomkern.images.files import alone, write_whole
from zoomkern.training.checkpoints import WholeCheckpoints, load_checkpoint
from zoomkern.training.weights import load_weights, save_weights


def network(width=3):
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))


def checkpoint(**parts):
    """As a training run writes it."""
    loops = {"callbacks": {"a": {"b": [1, 2.0, "c"]}}, "loops": {}, "optimizer_states": [], "lr_schedulers": []}
    numbers = {"epoch": 3, "global_step": 9, "pytorch-lightning_version": "2.6"}
    return {"state_dict": network().state_dict(), **numbers, **loops, **parts}


class Evil:
    """Whoever unpickles this writes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_weights_come_back_as_they_were(tmp_path):
    one, other = network(), network()
    one(torch.randn(8, 2))  # moves the buffers
    save_weights(tmp_path / "deep" / "weights.safetensors", one)
    load_weights(tmp_path / "deep" / "weights.safetensors", other)
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_weights_of_another_network_are_refused_and_nothing_changes(tmp_path):
    save_weights(tmp_path / "weights", network(4))
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    message = r"weights of another network; this one is a Sequential. They differ in 6 entries, '0.bias' f"
    with pytest.raises(ValueError, match=message + r"irst: \[4\] instead of \[3\]"):
        load_weights(tmp_path / "weights", model)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    save_weights(tmp_path / "linear", nn.Linear(2, 3))
    with pytest.raises(ValueError, match="another network, a Linear; this one is a Sequential"):
        load_weights(tmp_path / "linear", model)


@pytest.mark.parametrize("length", [0, 4, 8, 100, -1])
def test_truncated_weights_are_refused(tmp_path, length):
    path = tmp_path / "weights"
    save_weights(path, network())
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match="weights' is truncated or no safetensors file"):
        load_weights(path, network())


def test_a_pickle_is_no_safetensors_file(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(pickle.dumps(Evil(tmp_path / "written")))
    with pytest.raises(ValueError, match="no safetensors file"):
        load_weights(path, network())
    assert not (tmp_path / "written").exists()
    with pytest.raises(FileNotFoundError, match="there is no file .*nowhere'. Training writes it when it ends"):
        load_weights(tmp_path / "nowhere", network())


@pytest.mark.parametrize("how", ["torch", "torch, old", "pickle"])
def test_a_malicious_checkpoint_runs_nothing(tmp_path, how):
    path, written = tmp_path / "last.ckpt", tmp_path / "written"
    evil = checkpoint(callbacks=Evil(written))
    if how == "pickle":
        path.write_bytes(pickle.dumps(evil))
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=how == "torch")
    for load in (load_checkpoint, lambda path: WholeCheckpoints().load_checkpoint(path, weights_only=False)):
        with pytest.raises(ValueError, match=r"last.ckpt' is truncated, no checkpoint, or one that could run code"):
            load(path)
    assert not written.exists()
    with open(path, "rb") as file:  # the file does what the test is about
        torch.load(file, weights_only=False) if how != "pickle" else pickle.load(file)
    assert written.exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_checkpoint_is_refused(tmp_path, share):
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint(checkpoint(), path)
    assert load_checkpoint(path)["epoch"] == 3
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"last.ckpt' is truncated"):
        load_checkpoint(path)


@pytest.mark.parametrize("old", [False, True])
def test_a_damaged_checkpoint_is_refused_or_whole(tmp_path, old):
    whole, path = tmp_path / "whole.ckpt", tmp_path / "last.ckpt"
    torch.save(checkpoint(), whole, _use_new_zipfile_serialization=not old)
    data, rng, said = whole.read_bytes(), random.Random(0), []
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 4, 16))):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            load_checkpoint(path)
        except ValueError as error:
            said.append(str(error))
    assert len(said) > 40
    assert all(f"{str(path)!r} " in message for message in said)


@pytest.mark.parametrize("content", [[1, 2], {"weights": 3}, {"state_dict": [1]}, checkpoint(state_dict={"a": "b"})])
def test_a_checkpoint_has_a_state(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other.pt' must be a training run's checkpoint; it has no state_dict"):
        load_checkpoint(tmp_path / "other.pt")


@pytest.mark.parametrize("when", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, when):
    path = tmp_path / "last.ckpt"
    write_whole(path, "old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if when == "write":
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))  # Python ignores the signal of it
    else:
        monkeypatch.setattr(os, when, full)
    try:
        with pytest.raises(OSError, match=r"last\.ckpt'") as caught:
            write_whole(path, b"x" * 5000)
    finally:
        if when == "write":
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert caught.value.errno == (errno.EFBIG if when == "write" else errno.ENOSPC)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["last.ckpt"]


def test_a_kill_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "last.ckpt"
    write_whole(path, "old")
    script = (
        "import os, signal, pathlib\n"
        "from zoomkern.images.files import write_whole\n"
        "os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"write_whole(pathlib.Path({str(path)!r}), 'new')\n"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    assert path.read_text() == "old"


def test_a_lock_in_a_file_is_an_error(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("")
    with pytest.raises(NotADirectoryError, match=r"config.yaml' must be a folder; it is a file"):
        alone(file / ".lock").__enter__()


def test_a_lock_keeps_others_out_until_its_process_ends(tmp_path):
    lock = tmp_path / "run" / ".lock"
    script = (
        "import pathlib, sys\nfrom zoomkern.images.files import alone\n"
        f"with alone(pathlib.Path({str(lock)!r})): print('locked', flush=True); sys.stdin.read()\n"
    )
    held = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert held.stdout.readline() == b"locked\n"
    with pytest.raises(OSError, match=r"another process works in .*run'. Wait for it"), alone(lock):
        pass
    held.kill()
    with alone(lock, wait=True):
        pass
    held.communicate()
