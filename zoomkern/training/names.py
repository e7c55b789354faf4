"""Names of files that are made from the names of images."""

from __future__ import annotations

import hashlib
import os

_KEPT = "._=-"
#: Bytes of a key, at most: file systems take 255, and an ending and a mark of what is being written come on top.
_LONGEST, _HEAD = 180, 140


def output_key(name: str) -> str:
    """The name of an image as one of a file: different names stay different, and none leads out of a folder.

    Letters of any script, digits and ``._=-`` stay, ``/`` becomes ``+``, all else ``%`` and its bytes. A leading dot is
    escaped, too. The end of a very long one becomes ``%~`` and a hash.

    Raises:
        ValueError: the name is empty.
    """
    if not name:
        raise ValueError("an image must have a name; got an empty one.")
    key = "".join(map(_letter, name))
    if key.startswith("."):
        key = "%2E" + key[1:]
    if len(key.encode()) <= _LONGEST:
        return key
    head = key.encode()[:_HEAD].decode(errors="ignore")
    return f"{head}%~{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}"


def _letter(letter: str) -> str:
    if letter.isalnum() or letter in _KEPT:
        return letter
    return "+" if letter == "/" else "".join(f"%{byte:02X}" for byte in os.fsencode(letter))


def legible(name: str) -> str:
    """A name for people and for tables: what cannot be printed is written as an escape."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)
