"""Fixtures of the training tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_SMALL = _load("small")


@pytest.fixture
def small() -> ModuleType:
    """The module of small sets and networks beside this file."""
    return _SMALL


@pytest.fixture(scope="module")
def small_module() -> ModuleType:
    """The same, for fixtures that outlive a test."""
    return _SMALL


@pytest.fixture(scope="module")
def pictures(small_module: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures, a folder in it for each class."""
    return small_module.save_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def recipe(small_module: ModuleType, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe for them."""
    return small_module.save_recipe(tmp_path_factory.mktemp("recipe") / "recipe.yaml", pictures)


@pytest.fixture(scope="session")
def folders() -> ModuleType:
    """The module of trained networks and folders of images beside this file."""
    return _load("folders")


@pytest.fixture(scope="session")
def run(folders: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one stage."""
    return folders.save_run(tmp_path_factory.mktemp("runs") / "one")


@pytest.fixture(scope="session")
def run_of_two(folders: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two stages."""
    return folders.save_run(tmp_path_factory.mktemp("runs") / "two", two_stages=True)
