"""All tests in this folder are marked ``gpu``; where there is no device they are skipped, and say so."""

from pathlib import Path

import pytest

from .device import THERE


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if not THERE:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
