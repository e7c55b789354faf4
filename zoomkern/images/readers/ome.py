"""What the XML of an OME-TIFF says: which directories are the channels, and the size of a pixel."""

from __future__ import annotations

from typing import NamedTuple
from xml.etree import ElementTree

from zoomkern.images.readers.resolution import MICRONS, mean_mpp

_MOST_CHANNELS = 1024


class Ome(NamedTuple):
    """The first image of the file.

    Args:
        pages: the directory of each channel; one for all where its pixels hold several samples.
        mpp: microns per pixel, None where unknown.
    """

    pages: tuple[int, ...]
    mpp: float | None


def parse_ome(description: str, samples: int) -> Ome | None:
    """The first image of an OME description; None for a description of another kind.

    Args:
        description: of the file's first directory.
        samples: of a pixel of that directory.

    Raises:
        ValueError: It has several planes in depth or time, or they lie in other files.
    """
    if "<OME" not in description[:2000] and ":OME" not in description[:2000]:
        return None
    try:
        root = ElementTree.fromstring(description.strip().rstrip("\0").encode())
    except ElementTree.ParseError as error:
        raise ValueError(f"its OME description is no XML: {error}") from error
    pixels = root.find("{*}Image/{*}Pixels")
    if pixels is None:
        return None
    sizes = {axis: int(pixels.get(f"Size{axis}", "1")) for axis in "CZT"}
    if sizes["Z"] != 1 or sizes["T"] != 1:
        raise ValueError(f"it has {sizes['Z']} planes in depth and {sizes['T']} in time; export one of them")
    count = 1 if samples > 1 else sizes["C"]
    if not 1 <= count <= _MOST_CHANNELS:
        raise ValueError(f"it says that it has {count} channels")
    pages = list(range(count))
    for entry in pixels.findall("{*}TiffData"):
        if entry.find("{*}UUID[@FileName]") is not None and len(root.findall(".//{*}UUID[@FileName]")) > 1:
            names = {uuid.get("FileName") for uuid in root.findall(".//{*}UUID[@FileName]")}
            if len(names) > 1:
                raise ValueError(f"its channels lie in {len(names)} files; join them in one")
        channel, first = int(entry.get("FirstC", "0")), int(entry.get("IFD", "0"))
        planes = int(entry.get("PlaneCount", "1" if "IFD" in entry.attrib else str(count)))
        for plane in range(min(planes, count)):
            if 0 <= channel + plane < count:
                pages[channel + plane] = first + plane
    sides = [
        float(pixels.get(f"PhysicalSize{axis}", "nan")) * MICRONS.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"), 0.0)
        for axis in "XY"
    ]
    return Ome(tuple(pages), mean_mpp(*sides))
