"""Two processes do what one does with the joint batch."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("joint.py")
#: A filter's gradient sums the 2304 pixels of 4 x 4 patches of 12 x 12. In another order the rounding errors of such a
#: sum add like a random walk, to 48 units in the last place; twelve steps have twelve of them.
TOLERANCE = 12 * 48 * 2.0**-24


@pytest.fixture(scope="module")
def joint():
    """The script as a module; it imports its neighbour."""
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        yield importlib.import_module("joint")
    finally:
        sys.path.remove(str(SCRIPT.parent))


@pytest.fixture(scope="module")
def results(joint, tmp_path_factory):
    """Of one process; and of each of two."""
    folder = tmp_path_factory.mktemp("joint")
    threads = torch.get_num_threads()
    joint.main(folder, 1)
    torch.set_num_threads(threads)
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = [*launcher, str(SCRIPT), str(folder), "2"]
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return [torch.load(folder / f"{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1")]


def test_the_case_has_parts_and_whole_batches_without_an_object(joint):
    steps = joint.positives()
    assert len(steps) == 12
    later = steps[4:]  # the contrast begins in the second epoch
    assert any((one == 0) != (two == 0) for one, two in later)
    assert any(one == two == 0 for one, two in later)


def test_weights_and_running_means_are_those_of_one_process(results):
    alone, *ranks = (result["weights"] for result in results)
    assert float(alone["model.contrast_baseline.steps"]) > 0
    for name, value in alone.items():
        assert torch.equal(ranks[0][name], ranks[1][name]), name
        assert (value - ranks[0][name]).abs().max() <= TOLERANCE * value.abs().max().clamp(min=1), name


def test_curves_are_those_of_one_process(results):
    alone, *ranks = (result["curves"] for result in results)
    assert [set(row) for row in alone] == [set(row) for row in ranks[0]] == [set(row) for row in ranks[1]]
    assert "train_contrast" in alone[1]
    for epoch, row in enumerate(alone):
        for name, value in row.items():
            assert ranks[0][epoch][name] == pytest.approx(value, abs=10 * TOLERANCE), name
            assert ranks[0][epoch][name] == ranks[1][epoch][name], name


def test_every_test_image_is_looked_at_once(results):
    alone, *ranks = results
    assert int(alone["confusion"].sum()) == 5
    for rank in ranks:
        assert torch.equal(rank["confusion"], alone["confusion"])
        assert rank["figures"][0] == pytest.approx(alone["figures"][0], abs=10 * TOLERANCE)
        assert rank["probabilities"].keys() == alone["probabilities"].keys()
        for place, probability in rank["probabilities"].items():
            assert probability == pytest.approx(alone["probabilities"][place], abs=10 * TOLERANCE)
