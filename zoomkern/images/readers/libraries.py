"""Libraries that come with an extra, imported when a file needs them."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def library(name: str, extra: str) -> ModuleType:
    """The library of that name.

    Raises:
        ImportError: It is not installed; the message names the extra.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"Reading this image needs {name}: pip install 'zoomkern[{extra}]'") from error
