"""Whole-slide DICOM files of the uncompressed kind, for the tests of readers and of folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

TILE = 64


def write_dicom(path: Path, pixels: np.ndarray, series: str = "1.2.3.4", number: int = 5, reduction: int = 1) -> Path:
    """A level of a slide in tiles of 64 x 64; level 0 has 0.25 microns per pixel."""
    height, width = pixels.shape[:2]
    rows, columns = -(-height // TILE), -(-width // TILE)
    whole = np.pad(pixels, ((0, rows * TILE - height), (0, columns * TILE - width), (0, 0)))
    tiles = whole.reshape(rows, TILE, columns, TILE, 3).transpose(0, 2, 1, 3, 4)
    whole_slide, explicit = "1.2.840.10008.5.1.4.1.1.77.1.6", "1.2.840.10008.1.2.1"
    measures, shared, path_of_light, colour = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [0.00025 * reduction, 0.00025 * reduction]
    shared.PixelMeasuresSequence = Sequence([measures])
    colour.CodeValue, colour.CodingSchemeDesignator, colour.CodeMeaning = "414298005", "SCT", "Full spectrum"
    path_of_light.OpticalPathIdentifier = "1"
    path_of_light.IlluminationColorCodeSequence = Sequence([colour])
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = whole_slide
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = f"{series}.{number}"
    data.file_meta.TransferSyntaxUID = explicit
    data.SeriesInstanceUID, data.StudyInstanceUID, data.FrameOfReferenceUID = series, "1.2.3", "1.2"
    data.Modality = "SM"
    kind, resampled = ("ORIGINAL", "NONE") if reduction == 1 else ("DERIVED", "RESAMPLED")
    data.ImageType = [kind, "PRIMARY", "VOLUME", resampled]
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.Rows = data.Columns = TILE
    data.NumberOfFrames = rows * columns
    data.TotalPixelMatrixRows, data.TotalPixelMatrixColumns = height, width
    data.DimensionOrganizationType = "TILED_FULL"
    data.NumberOfOpticalPaths, data.TotalPixelMatrixFocalPlanes = 1, 1
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    data.OpticalPathSequence = Sequence([path_of_light])
    data.PixelData = np.ascontiguousarray(tiles).tobytes()
    data["PixelData"].VR = "OB"
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, data, enforce_file_format=True)
    return path


def write_series(folder: Path, pixels: np.ndarray, series: str = "1.2.3.4", levels: int = 3) -> list[Path]:
    """A file for each level, of half the size of the one before; the coarsest has the first name."""
    return [
        write_dicom(
            folder / f"{series}-{levels - level}.dcm", pixels[:: 2**level, :: 2**level], series, level, 2**level
        )
        for level in range(levels)
    ]
