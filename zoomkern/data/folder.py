"""Image sets of one's own: a folder per class, or a table."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from pathlib import Path

from zoomkern.data.files import (
    STORED_SUFFIXES,
    SUFFIXES,
    FileImages,
    pictures_below,
    require_file,
    require_folder,
    require_inside,
)
from zoomkern.images.pinned import MAX_PIXELS


class ImageFolder(FileImages):
    r"""Images sorted into one folder per class.

    Folders inside a class's folder are part of it. Hidden files, and files that are no BMP, JPEG, PNG, TIFF or WebP by
    their name (``stored``: nor a slide, Zarr, NumPy array or copy of ``zoomkern convert``), are left out. Links are
    followed as long as they stay below ``root``, and loops of them are cut. DICOM slides are several files each, of
    which an :class:`ImageTable` names one.

    ::

        root/
            cat/a.jpg, cat/b/c.png ...
            dog/...

    ``objects`` are empty: a folder does not tell where.

    Args:
        root: folder whose subfolders are the classes, in the order of their names.
        group: regular expression, searched in an image's name (its path below ``root`` with ``/``); what its first
            group matches, or all of it where it has none, is the image's group. None puts each into one of its own.
        follow_links: follow links out of ``root`` too. Only for folders that you linked yourself.
        max_pixels: larger images are refused before they are decoded.
        stored: for slides and other images that do not fit in memory: they stay in their files, from which the patches
            are read that are drawn.

    Raises:
        FileNotFoundError: the folder is missing, or an image is a link to nowhere.
        ValueError: there are no classes, one is empty, an image lies outside of ``root``, or ``group`` matches
            nothing in a name.

    Example:
        >>> ImageFolder("scenes", group=r"(drive\d+)_").classes
        ['cat', 'dog']
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        group: str | None = None,
        follow_links: bool = False,
        max_pixels: int = MAX_PIXELS,
        stored: bool = False,
    ) -> None:
        folder = require_folder(root, "one folder of images per class")
        classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")
        if not classes:
            raise ValueError(f"{str(folder)!r} holds no folder; it must have one per class. Move the images into some.")
        labels: list[int] = []
        paths: list[Path] = []
        for label, name in enumerate(classes):
            kinds = STORED_SUFFIXES if stored else SUFFIXES
            found = pictures_below(folder / name, kinds)
            if not found:
                cure = (
                    ", or name DICOM slides in an ImageTable"
                    if stored
                    else ", or give stored=True where it holds slides"
                )
                raise ValueError(
                    f"{str(folder / name)!r} must hold images ({' '.join(kinds)}), as each folder is a class; it holds "
                    f"none. Remove it{cure}."
                )
            paths += [require_inside(folder, path, f"a link in {str(folder)!r}", follow_links) for path in found]
            labels += [label] * len(found)
        names = [path.relative_to(folder).as_posix() for path in paths]
        groups = None if group is None else [_group(group, name) for name in names]
        super().__init__(classes, names, labels, paths, groups, max_pixels, stored)


class ImageTable(FileImages):
    """Images listed in a table.

    The table is a CSV file with a heading and the columns ``image`` (a path below ``root``) and ``label``, and where
    wanted ``group`` and ``split``; other columns are left alone.

    ::

        image,label,group,split
        a/1.png,tumour,patient 7,train

    ``objects`` are empty: a table does not tell where.

    Args:
        table: the CSV file, in UTF-8.
        root: folder that paths start from; None is the folder of the table. A path that leads out of it is refused.
        split: take the rows whose ``split`` is this; None takes all.
        group_column: column of the groups; None is ``group`` where there is such a column, and else puts each image
            into a group of its own.
        classes: names of the classes in their order; None takes all labels of the table, of every split, sorted (as
            numbers where all are whole numbers).
        follow_links: links may lead out of ``root``. Only for folders that you linked yourself.
        max_pixels: larger images are refused before they are decoded.
        stored: for slides and other images that do not fit in memory: they stay in their files, from which the patches
            are read that are drawn.

    Raises:
        FileNotFoundError: the table, the folder or an image is missing.
        ValueError: a column is missing, a row is not like the heading, a label is unknown, a path leaves ``root``, or
            no row is left.

    Example:
        >>> ImageTable("slides.csv", root="slides", split="train").classes
        ['normal', 'tumour']
    """

    def __init__(
        self,
        table: str | os.PathLike[str],
        *,
        root: str | os.PathLike[str] | None = None,
        split: str | None = None,
        group_column: str | None = None,
        classes: Sequence[str] | None = None,
        follow_links: bool = False,
        max_pixels: int = MAX_PIXELS,
        stored: bool = False,
    ) -> None:
        path = require_file(Path(table))
        folder = require_folder(path.parent if root is None else root, "the images of the table")
        columns, rows = _read(path)
        for wanted in ("image", "label", None if split is None else "split", group_column):
            if wanted is not None and wanted not in columns:
                cure = "Separate columns by commas" if any(";" in name for name in columns) else "Add it"
                raise ValueError(f"{str(path)!r} must have a column {wanted!r}; it has {', '.join(columns)}. {cure}.")
        order = _sorted_labels({row["label"] for _, row in rows}) if classes is None else list(classes)
        chosen = [(number, row) for number, row in rows if split is None or row["split"] == split]
        if not chosen:
            found = sorted({row["split"] for _, row in rows}) if split is not None else []
            cure = f"no row of split {split!r}; there are {', '.join(map(repr, found))}" if found else "no row"
            raise ValueError(f"{str(path)!r} has {cure}. Check the table.")
        column = group_column or ("group" if "group" in columns else None)
        labels, paths = [], []
        for number, row in chosen:
            where = f"line {number} of {str(path)!r}"
            if row["label"] not in order:
                raise ValueError(f"{where} has the label {row['label']!r}; classes are {', '.join(map(repr, order))}.")
            if column is not None and not row[column]:
                raise ValueError(f"{where} has no {column}, which other rows have. Give each image one.")
            labels.append(order.index(row["label"]))
            inside = require_inside(folder, folder / row["image"], where, follow_links)
            paths.append(inside if stored and inside.is_dir() else require_file(inside, where))
        names = [row["image"] for _, row in chosen]
        groups = None if column is None else [row[column] for _, row in chosen]
        super().__init__(order, names, labels, paths, groups, max_pixels, stored)


def _group(pattern: str, name: str) -> str:
    match = re.search(pattern, name)
    found = match and (match[1] if match.re.groups else match[0])
    if not found:
        raise ValueError(f"group must match in every image's name; {pattern!r} finds none in {name!r}. Widen it.")
    return found


def _sorted_labels(labels: set[str]) -> list[str]:
    whole = all(re.fullmatch(r"-?\d+", label) for label in labels)
    return sorted(labels, key=int) if whole else sorted(labels)


def _read(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Columns and rows of a table, each row with the number of its line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{str(path)!r} is no table in UTF-8: {error}. Export it as CSV.") from error
    for number, row in rows:
        if None in row or None in row.values() or not row.get("image", "x") or not row.get("label", "x"):
            raise ValueError(
                f"line {number} of {str(path)!r} must have {', '.join(columns)}, image and label not empty; got "
                f"{list(row.values())}. Mend the row."
            )
    return columns, rows
