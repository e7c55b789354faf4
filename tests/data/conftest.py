"""Fixtures of the data sets' tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """The folder of a real data set, by its name; where there is none the test is skipped."""

    def folder(name: str) -> Path:
        root = os.environ.get("ZOOMKERN_DATA")
        if not root:
            pytest.skip("ZOOMKERN_DATA is not set; it names the folder of the real data sets")
        if not (Path(root) / name).is_dir():
            pytest.skip(f"ZOOMKERN_DATA has no folder {name}")
        return Path(root) / name

    return folder


@pytest.fixture
def save_picture() -> Callable[..., Path]:
    """Writes a picture of one colour, or of the given pixels, and makes the folders for it."""
    image = pytest.importorskip("PIL.Image")

    def save(path: Path, size: tuple[int, int] = (16, 24), colour: tuple[int, int, int] = (9, 8, 7), **options) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.new("RGB", size[::-1], colour).save(path, **options)
        return path

    return save
