"""One picture, written in every format that is read back without loss, and in some that lose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoomkern.images.readers import open_image
from zoomkern.images.writers import convert

HEIGHT, WIDTH, TILE = 150, 203, 64

Writer = Callable[[Path, np.ndarray], None]


def _npy(path: Path, image: np.ndarray) -> None:
    np.save(path, image)


def _picture(**options: Any) -> Writer:
    return lambda path, image: pytest.importorskip("PIL.Image").fromarray(image).save(path, **options)


def _tiff(planar: bool = False, **options: Any) -> Writer:
    def write(path: Path, image: np.ndarray) -> None:
        planes = np.ascontiguousarray(image.transpose(2, 0, 1)) if planar else image
        layout = {"planarconfig": "separate"} if planar else {}
        pytest.importorskip("tifffile").imwrite(path, planes, photometric="rgb", **layout, **options)

    return write


def _pyramid(subifds: bool = False, **options: Any) -> Writer:
    def write(path: Path, image: np.ndarray) -> None:
        centimetre = {"resolutionunit": "CENTIMETER", "resolution": (40_000, 40_000)}
        with pytest.importorskip("tifffile").TiffWriter(path) as file:
            for level, pixels in enumerate((image, image[::2, ::2], image[::4, ::4])):
                below = {"subifds": 2} if subifds and not level else {}
                kind = {"subfiletype": int(level > 0), "tile": (TILE, TILE), "photometric": "rgb"}
                file.write(pixels, **kind, **below, **centimetre, **options)

    return write


def _ome(path: Path, image: np.ndarray) -> None:
    size = {"PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.25}
    with pytest.importorskip("tifffile").TiffWriter(path, ome=True) as file:
        tiles = {"tile": (TILE, TILE), "photometric": "minisblack", "compression": "zlib"}
        planes = image.transpose(2, 0, 1)
        file.write(planes, subifds=1, metadata={"axes": "CYX", **size}, **tiles)
        file.write(planes[:, ::2, ::2], subfiletype=1, **tiles)


def _aperio(path: Path, image: np.ndarray) -> None:
    said = f"Aperio Image Library v12\r\n{image.shape[1]}x{image.shape[0]} (64x64) |AppMag = 40|MPP = 0.25"
    with pytest.importorskip("tifffile").TiffWriter(path) as file:
        for pixels in (image, image[::2, ::2]):
            kind = {"photometric": "rgb", "compression": "zlib", "description": said, "metadata": None}
            file.write(np.ascontiguousarray(pixels), tile=(TILE, TILE), **kind)


def _dicom(path: Path, image: np.ndarray) -> None:
    pytest.importorskip("pydicom")
    pytest.importorskip("openslide")
    from tests.dicoms import write_dicom

    write_dicom(path, image)


def _converted(path: Path, image: np.ndarray) -> None:
    np.save(path.with_suffix(".npy"), image)
    convert(open_image(path.with_suffix(".npy")), path, tile=TILE)
    path.with_suffix(".npy").unlink()


def _zarr(version: int, **options: Any) -> Writer:
    def write(path: Path, image: np.ndarray) -> None:
        zarr = pytest.importorskip("zarr")
        settings = {"chunks": (TILE, TILE, 3), **options}
        zarr.create_array(path, shape=image.shape, dtype=image.dtype, zarr_format=version, **settings)[:] = image

    return write


def _ome_zarr(version: int) -> Writer:
    def write(path: Path, image: np.ndarray) -> None:
        zarr = pytest.importorskip("zarr")
        group = zarr.open_group(path, mode="w", zarr_format=version)
        planes = image.transpose(2, 0, 1)[None, :, None]
        datasets = []
        for level, pixels in enumerate((planes, planes[..., ::2, ::2])):
            array = group.create_array(str(level), shape=pixels.shape, chunks=(1, 1, 1, TILE, TILE), dtype=pixels.dtype)
            array[:] = pixels
            scale = {"type": "scale", "scale": [1, 1, 1, 250 << level, 250 << level]}
            datasets.append({"path": str(level), "coordinateTransformations": [scale]})
        kinds = {"t": "time", "c": "channel"}
        axes = [{"name": axis, "type": kinds.get(axis, "space"), "unit": "nanometer"} for axis in "tczyx"]
        image_of = {"multiscales": [{"version": "0.4", "axes": axes, "datasets": datasets}]}
        group.attrs.update(image_of if version == 2 else {"ome": {"version": "0.5", **image_of}})

    return write


TILES = {"tile": (TILE, TILE)}

#: Suffix and writer of what keeps every byte, by name.
LOSSLESS: dict[str, tuple[str, Writer]] = {
    "npy": (".npy", _npy),
    "npy, planes first": (".npy", lambda path, image: _npy(path, image.transpose(2, 0, 1).copy())),
    "npy, Fortran's order": (".npy", lambda path, image: _npy(path, np.asfortranarray(image))),
    "png": (".png", _picture()),
    "bmp": (".bmp", _picture()),
    "webp": (".webp", _picture(lossless=True)),
    "tiff, one raw strip": (".tif", _tiff()),
    "tiff, raw strips": (".tif", _tiff(rowsperstrip=7)),
    "tiff, strips": (".tif", _tiff(rowsperstrip=7, compression="zlib", predictor=True)),
    "tiff, tiles": (".tif", _tiff(**TILES)),
    "tiff, lzw": (".tif", _tiff(**TILES, compression="lzw", predictor=True)),
    "tiff, zstd, big": (".tif", _tiff(**TILES, compression="zstd", bigtiff=True, byteorder=">")),
    "tiff, jpeg 2000": (".tif", _tiff(**TILES, compression="jpeg2000", compressionargs={"level": 0})),
    "tiff, webp": (".tif", _tiff(**TILES, compression="webp", compressionargs={"lossless": True})),
    "tiff, planar tiles": (".tif", _tiff(planar=True, **TILES, compression="zlib")),
    "tiff, planar strips": (".tif", _tiff(planar=True)),
    "tiff, pages": (".tif", _pyramid(compression="zlib")),
    "tiff, sub-directories": (".tif", _pyramid(subifds=True, compression="lzw")),
    "ome-tiff": (".ome.tif", _ome),
    "aperio": (".svs", _aperio),
    "dicom": (".dcm", _dicom),
    "converted": (".zoomkern", _converted),
    "zarr 2": (".zarr", _zarr(2)),
    "zarr 3": (".zarr", _zarr(3)),
    "zarr 3, shards": (".zarr", _zarr(3, shards=(128, 128, 3))),
    "zarr 3, no compression": (".zarr", _zarr(3, compressors=None)),
    "ome-zarr 0.4": (".zarr", _ome_zarr(2)),
    "ome-zarr 0.5": (".zarr", _ome_zarr(3)),
}

#: What loses a little: the name, and the largest mean difference that its quality of 95 leaves.
LOSSY: dict[str, tuple[str, Writer, float]] = {
    "jpeg": (".jpg", _picture(quality=95), 4.0),
    "tiff, jpeg, RGB": (".tif", _tiff(**TILES, compression="jpeg", compressionargs={"level": 95}), 4.0),
    "tiff, jpeg, YCbCr": (
        ".tif",
        _tiff(**TILES, compression="jpeg", compressionargs={"level": 95, "outcolorspace": "ycbcr"}),
        4.0,
    ),
    "tiff, jpeg, strips": (".tif", _tiff(rowsperstrip=16, compression="jpeg", compressionargs={"level": 95}), 4.0),
    "tiff, webp": (".tif", _tiff(**TILES, compression="webp", compressionargs={"level": 95}), 4.0),
}


@pytest.fixture(scope="session")
def image() -> np.ndarray:
    """``[HEIGHT, WIDTH, 3]`` uint8: slopes, an edge and noise, so that neither shifts nor swaps go unseen."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    noise = np.random.default_rng(0).integers(0, 12, (HEIGHT, WIDTH, 3))
    slopes = np.stack([x, y, (x + 2 * y) % 200], axis=2) + 40 * (x > 100)[..., None]
    return np.clip(slopes + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def written(tmp_path: Path, image: np.ndarray) -> Callable[..., Path]:
    """Writes the picture in the format of a name; gives the path."""

    def write(name: str, stem: str = "the image ü") -> Path:
        suffix, writer = (LOSSLESS.get(name) or LOSSY[name])[:2]
        path = tmp_path / f"{stem}{suffix}"
        writer(path, image)
        return path

    return write


@pytest.fixture(params=LOSSLESS)
def lossless(request: pytest.FixtureRequest, written: Callable[[str], Path]) -> Path:
    """The picture in each format that keeps every byte."""
    return written(request.param)


@pytest.fixture(params=LOSSY)
def lossy(request: pytest.FixtureRequest, written: Callable[[str], Path]) -> tuple[Path, float]:
    """The picture in each format that loses a little, and how much."""
    return written(request.param), LOSSY[request.param][2]
