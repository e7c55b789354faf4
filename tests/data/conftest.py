"""Fixtures of the data sets' tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def save_picture() -> Callable[..., Path]:
    """Writes a picture of one colour, or of the given pixels, and makes the folders for it."""
    image = pytest.importorskip("PIL.Image")

    def save(path: Path, size: tuple[int, int] = (16, 24), colour: tuple[int, int, int] = (9, 8, 7), **options) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.new("RGB", size[::-1], colour).save(path, **options)
        return path

    return save
