"""Fixtures of the recipes' tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def large_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data that holds miniatures of the sets which nobody has at hand."""
    pytest.importorskip("tifffile", reason="tifffile is not installed")
    from tests.recipes import miniatures

    root = tmp_path_factory.mktemp("large")
    miniatures.camelyon16(root / "camelyon16")
    miniatures.fmow(root / "fmow-rgb")
    miniatures.traffic_signs(root / "traffic-signs")
    return root
