"""The kernels of gathering and patches as compiled for GPUs, none of which is needed: what their PTX holds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
HERE = Path(__file__).parent


@pytest.fixture(scope="module", params=[80, 90, 100, 120])
def kernels(request):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    program = [sys.executable, HERE / "compile_gathering.py", str(request.param)]
    run = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    rows = json.loads(run.stdout)
    assert {row["cc"] for row in rows} == {request.param}
    return {row["name"]: row for row in rows}


def gathering_of(kernels):
    rows = [row for name, row in kernels.items() if name.startswith("gather to")]
    assert len(rows) >= 2
    return rows


def test_images_are_read_in_words_of_at_least_32_bits(kernels):
    for row in gathering_of(kernels):
        assert set(row["loads"]) == {"b32", "b64"}, row["name"]


def test_the_lanes_of_a_warp_read_words_that_follow_each_other(kernels):
    for row in gathering_of(kernels):
        assert len(row["lanes"]) == 4  # packed pixels of one, two and four bytes, and single ones
        assert set(row["lanes"]) == {"[1, 32]"}, row["name"]


def test_nothing_is_fused(kernels):
    assert len(kernels) == (12 if kernels["place"]["cc"] == 90 else 5)
    for name, row in kernels.items():
        assert not row["fused"], name
