"""Maps as OME-TIFF."""

import io
import sys

import numpy as np
import pytest
import tifffile

from zoomkern.images.writers.maps import ome_map

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4) / 66


def test_values_and_sizes_come_back():
    with tifffile.TiffFile(io.BytesIO(ome_map(VALUES, "attention", (16.0, 8.5)))) as file:
        assert file.is_ome
        assert (file.asarray() == VALUES).all()
        for words in ('PhysicalSizeY="16.0"', 'PhysicalSizeX="8.5"', 'PhysicalSizeXUnit="µm"', 'Name="attention"'):
            assert words in file.ome_metadata


def test_a_size_that_is_unknown_is_left_out():
    with tifffile.TiffFile(io.BytesIO(ome_map(VALUES, "attention"))) as file:
        assert "PhysicalSize" not in file.ome_metadata


def test_equal_maps_are_equal_files_and_others_are_others():
    assert ome_map(VALUES, "a", (1.0, 1.0)) == ome_map(VALUES.copy(), "a", (1.0, 1.0))
    identities = {
        tifffile.TiffFile(io.BytesIO(content)).ome_metadata.split('UUID="')[1][:45]
        for content in (ome_map(VALUES, "a"), ome_map(VALUES + 1, "a"), ome_map(VALUES, "b"), ome_map(VALUES.T, "a"))
    }
    assert len(identities) == 4


def test_without_tifffile_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(ImportError, match=r"pip install 'zoomkern\[slides\]'"):
        ome_map(VALUES, "a")
