"""Which backend a call gets."""

import json

import pytest
import torch

from zoomkern.ops import backends


@pytest.fixture
def built(monkeypatch, tmp_path):
    """Pretends that both GPU backends are there, the CUDA library compiled for the architectures that are named."""

    def build(architectures):
        (tmp_path / "_build.json").write_text(json.dumps({"cuda": f"on: {architectures}"}))
        monkeypatch.setattr(backends, "DIRECTORY", tmp_path / "lib")
        monkeypatch.setattr(backends, "_ABSENT", dict.fromkeys(backends.BACKENDS))
        backends._compiled_for.cache_clear()

    yield build
    backends._compiled_for.cache_clear()


@pytest.mark.parametrize(
    ("architectures", "capability", "chosen"),
    [
        ("8.0 9.0 12.0+PTX", (9, 0), "cuda"),
        ("8.0 9.0 12.0+PTX", (8, 9), "cuda"),
        ("8.0 9.0 12.0+PTX", (13, 0), "cuda"),
        ("8.0 9.0 12.0+PTX", (7, 5), "triton"),
        ("8.6 9.0", (8, 0), "triton"),
        ("9.0", (10, 0), "triton"),
    ],
)
def test_a_gpu_gets_the_library_that_has_code_for_it(built, monkeypatch, architectures, capability, chosen):
    built(architectures)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)

    assert backends.choose(None, torch.device("cuda", 0)) == chosen


def test_without_kernels_a_gpu_gets_the_reference(built, monkeypatch):
    built("9.0")
    monkeypatch.setattr(backends, "_ABSENT", {**dict.fromkeys(backends.BACKENDS, "not there"), "reference": None})
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))

    assert backends.choose(None, torch.device("cuda", 0)) == "reference"


def test_a_device_without_kernels_gets_the_reference():
    assert backends.choose(None, torch.device("meta")) == "reference"


def test_a_library_without_code_for_the_gpu_is_refused(built, monkeypatch):
    built("9.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (8, 9))

    with pytest.raises(ValueError, match=r"no code for compute capability 8\.9; build .*_LIST=8\.9"):
        backends.choose("cuda", torch.device("cuda", 0))


def test_an_error_names_the_variable_that_asks(built, monkeypatch):
    monkeypatch.setattr(backends, "_FORCED", "numpy")
    with pytest.raises(ValueError, match="ZOOMKERN_BACKEND must be one of .*; got 'numpy'"):
        backends.choose(None, torch.device("cpu"))

    built("9.0")
    monkeypatch.setattr(backends, "_FORCED", "cuda")
    with pytest.raises(ValueError, match="'cuda', which ZOOMKERN_BACKEND asks for, cannot .* got cpu"):
        backends.choose(None, torch.device("cpu"))
