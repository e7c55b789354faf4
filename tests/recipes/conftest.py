"""Fixtures of the recipes' tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def large_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data that holds miniatures of the sets which nobody has at hand."""
    pytest.importorskip("tifffile", reason="tifffile is not installed")
    spec = importlib.util.spec_from_file_location("miniatures", Path(__file__).with_name("miniatures.py"))
    assert spec is not None
    assert spec.loader is not None
    miniatures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(miniatures)
    root = tmp_path_factory.mktemp("large")
    miniatures.camelyon16(root / "camelyon16")
    miniatures.fmow(root / "fmow-rgb")
    return root
