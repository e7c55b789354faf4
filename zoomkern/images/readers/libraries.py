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
        version = " under Python 3.11 or later" if name == "zarr" else ""
        raise ImportError(f"This image needs {name}: pip install 'zoomkern[{extra}]'{version}") from error
