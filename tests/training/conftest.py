"""Fixtures of the training tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("small", Path(__file__).with_name("small.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_SMALL = _load()


@pytest.fixture
def small() -> ModuleType:
    """The module of small sets and networks beside this file."""
    return _SMALL


@pytest.fixture(scope="module")
def small_module() -> ModuleType:
    """The same, for fixtures that outlive a test."""
    return _SMALL
