"""Libraries that come with an extra, imported when a file needs them."""

from __future__ import annotations

import logging
from importlib import import_module
from types import ModuleType

# It tells a program without a log of each oddity on stderr; what matters becomes an error of the reader.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


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
