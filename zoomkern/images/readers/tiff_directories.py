"""The directories of a TIFF file as bytes, looked at before any of their values is read."""

from __future__ import annotations

import struct

from zoomkern.images.readers.files import RawFile

#: The first bytes of a TIFF: its byte order, and whether its offsets have 64 bits.
MAGIC = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}

#: Directories that are looked at: a pyramid has a dozen, an OME file one for each channel.
MOST_DIRECTORIES = 4096

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_SUB_DIRECTORIES = 330


def check_directories(file: RawFile) -> None:
    """Values of all directories together must fit in the file, whose parts they are.

    A directory may point to another's values: thousands that share one table take no room in a file, and any amount
    in memory.

    Raises:
        ValueError: They do not fit.
    """
    form = MAGIC.get(file.read(0, min(file.size, 4)))
    if form is None:
        return
    order, wide = form
    offset, number = (order + "Q", order + "Q") if wide else (order + "I", order + "H")
    link, head = struct.calcsize(offset), struct.calcsize(number)
    entry = struct.Struct(order + "HH" + 2 * offset[1])
    waiting, seen, total = _values(file, offset, link, 1), set[int](), 0
    while waiting and len(seen) < MOST_DIRECTORIES:
        place = waiting.pop()
        if place in seen or not 0 < place <= file.size - head:
            continue
        seen.add(place)
        first = place + head
        count = min(_values(file, number, place, 1)[0], (file.size - first) // entry.size)
        for code, kind, values, value in entry.iter_unpack(file.read(first, count * entry.size)):
            size = _SIZES.get(kind, 1)
            total += values * size
            if total > file.size:
                raise ValueError(f"its directories list more than the {file.size} bytes that it has")
            if code == _SUB_DIRECTORIES:
                below = order + ("Q" if size == 8 else "I")
                waiting += [value] if values * size <= link else _values(file, below, value, MOST_DIRECTORIES)[:values]
        waiting += _values(file, offset, first + count * entry.size, 1)


def _values(file: RawFile, kind: str, place: int, count: int) -> list[int]:
    size = struct.calcsize(kind)
    count = min(count, (file.size - place) // size)
    return [value for (value,) in struct.iter_unpack(kind, file.read(place, count * size))] if count > 0 else []
