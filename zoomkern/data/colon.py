"""The colon cancer set: which tissue images show epithelial nuclei?"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zoomkern.data.files import FileImages, picture_size, require_file, require_folder

#: What :meth:`ColonCancer.nuclei` tells apart.
NUCLEI = ("epithelial", "fibroblast", "inflammatory", "others")

_NAME = "CRCHistoPhenotypes_2016_04_28"
_SUFFIXES = (".bmp", ".png")


class ColonCancer(FileImages):
    """100 images of stained colon tissue, 500 x 500, with the centre of every nucleus by kind.

    An image is positive where it has an epithelial nucleus, which is what the cancer comes from: 51 are, 49 are not.
    There are 22,444 nuclei in all. The set has no split of its own; it is used with folds. Its images were cut from
    ten slides of nine patients, but the set does not tell which from which, so each image is a group of its own.

    ::

        CRCHistoPhenotypes_2016_04_28/Classification/
            img1/
                img1.bmp                    or img1.png, as mirrors have it
                img1_epithelial.mat         detection: [n, 2], x and y in pixels
                img1_fibroblast.mat
                img1_inflammatory.mat
                img1_others.mat
            img2/ ...

    ``objects`` are the centres of the epithelial nuclei, as boxes without area.

    Args:
        root: ``Classification``, the folder that holds it, or the one above that.

    Raises:
        FileNotFoundError: the folder, or one of an image's five files, is missing.
        OSError: a file is damaged.
        ValueError: nuclei lie outside of their image, or are no points.
        ImportError: SciPy or Pillow is not installed.

    Source:
        Sirinukunwattana et al., IEEE Transactions on Medical Imaging 35(5), 2016; University of Warwick, for research.
        As a task for attention: Ilse et al., ICML 2018.

    Example:
        >>> colon = ColonCancer("CRCHistoPhenotypes_2016_04_28")
        >>> len(colon), sum(colon.labels), colon.size(0)
        (100, 51, (500, 500))
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        folder = _classification(require_folder(root, f"the colon cancer set {_NAME}"))
        found = [int(match[1]) for entry in folder.iterdir() if (match := re.fullmatch(r"img(\d+)", entry.name))]
        names = [f"img{number}" for number in range(1, max(found) + 1)]
        paths = [_picture(folder / name, name) for name in names]
        self._nuclei = [
            _nuclei(folder / name, name, picture_size(path)) for name, path in zip(names, paths, strict=True)
        ]
        labels = [int(len(nuclei["epithelial"]) > 0) for nuclei in self._nuclei]
        super().__init__(["no epithelium", "epithelium"], names, labels, paths)

    def nuclei(self, index: int) -> dict[str, Tensor]:
        """Centres of an image's nuclei by kind, ``[K, 2]`` float64 each: x and y in pixels as the set gives them."""
        return {kind: centres.clone() for kind, centres in self._nuclei[index].items()}

    def objects(self, index: int) -> Tensor:
        """``[K, 4]`` float64: centres of the epithelial nuclei as boxes ``x, y, x, y``."""
        return self._nuclei[index]["epithelial"].repeat(1, 2)


def _classification(root: Path) -> Path:
    """The folder that holds ``img1``, at ``root`` or below."""
    for folder in (root, root / "Classification", root / _NAME / "Classification"):
        if (folder / "img1").is_dir():
            return folder
    raise FileNotFoundError(
        f"{str(root)!r} holds no Classification/img1; root must be the folder {_NAME}, unpacked. Check root."
    )


def _picture(folder: Path, name: str) -> Path:
    """The image in an image's folder."""
    for suffix in _SUFFIXES:
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    raise FileNotFoundError(f"there is neither {name}.bmp nor {name}.png in {str(folder)!r}. Unpack the set again.")


def _nuclei(folder: Path, name: str, size: tuple[int, int]) -> dict[str, Tensor]:
    """The nuclei of one image, which is ``(H, W)`` large."""
    nuclei = {}
    for kind in NUCLEI:
        path = require_file(folder / f"{name}_{kind}.mat")
        centres = _detections(path)
        if centres.numel() and not (centres.min() >= 0 and (centres <= torch.tensor(size[::-1])).all()):
            raise ValueError(
                f"{str(path)!r} has nuclei outside of its image of {size[0]} x {size[1]} pixels. Do they belong "
                "together? Unpack the set again."
            )
        nuclei[kind] = centres
    return nuclei


def _detections(path: Path) -> Tensor:
    """``[K, 2]`` float64, the matrix ``detection`` of a MATLAB file."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ImportError("ColonCancer needs SciPy: pip install 'zoomkern[data]'") from error
    try:
        values = loadmat(path, variable_names=["detection"]).get("detection")
    except Exception as error:  # whatever a truncated or foreign file does to the parser
        raise OSError(f"{str(path)!r} is damaged or no MATLAB file: {error}. Unpack the set again.") from error
    if values is not None and values.size == 0:
        return torch.zeros(0, 2, dtype=torch.float64)
    if values is None or values.dtype.kind not in "fiu" or values.ndim != 2 or values.shape[1] != 2:
        given = "none" if values is None else f"{values.dtype} {list(values.shape)}"
        raise ValueError(f"{str(path)!r} must hold a matrix detection of [n, 2] numbers; got {given}. Unpack it again.")
    return torch.from_numpy(values.astype(np.float64))
