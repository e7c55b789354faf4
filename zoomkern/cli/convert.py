"""``zoomkern convert``: an image copied into a format that is quick to read in patches."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``zoomkern convert``."""
    parser.description = (
        "Copy an image, with its coarser levels, into zoomkern's own format, from which patches are read without "
        "decoding, or into OME-Zarr. A run that was killed goes on when it is called again."
    )
    parser.add_argument("input", help="a slide, TIFF, Zarr, .npy or picture: whatever zoomkern opens")
    parser.add_argument("output", help="file to write, SLIDE.zoomkern say; a folder SLIDE.zarr for ome-zarr")
    parser.add_argument(
        "--format",
        choices=["pyramid", "ome-zarr"],
        help="pyramid: zoomkern's own, uncompressed; default by the name: ome-zarr for *.zarr, else pyramid",
    )
    parser.add_argument("--levels", type=int, help="how many, the finest included (default: to 256 pixels)")
    parser.add_argument("--mpp", type=float, help="microns per pixel of the input, where it does not tell or is wrong")
    parser.add_argument("--tile", type=int, default=256, help="side of the copy's tiles in pixels (%(default)s)")
    parser.add_argument("--threads", type=int, help="that decode (default: one for each processor)")
    parser.add_argument("--overwrite", action="store_true", help="replace the output, once the copy is whole")
    parser.add_argument("--quiet", action="store_true", help="no bar and no summary")


def run(args: argparse.Namespace) -> int:
    """Makes the copy.

    Returns:
        0; 2 where the input is bad or the output cannot be written; 130 where it was interrupted.
    """
    from zoomkern.images.readers.opening import open_image
    from zoomkern.images.writers import convert

    start = time.monotonic()
    format = args.format or ("ome-zarr" if Path(args.output).suffix.lower() == ".zarr" else "pyramid")
    try:
        source = open_image(args.input, mpp=args.mpp)
        output = convert(
            source,
            args.output,
            format,
            levels=args.levels,
            tile=args.tile,
            threads=args.threads,
            overwrite=args.overwrite,
            progress=not args.quiet,
        )
        if not args.quiet:
            print(_summary(args.output, output, time.monotonic() - start))
    except (ImportError, OSError, TypeError, ValueError) as error:
        print(f"zoomkern convert: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("zoomkern convert: interrupted; the same command goes on.", file=sys.stderr)
        return 130
    return 0


def _summary(name: str, path: Path, seconds: float) -> str:
    from zoomkern.images.readers.opening import open_image

    copy = open_image(path)
    width, height = copy.dimensions
    sizes = f"{width} x {height} pixels, {copy.level_count} levels"
    return f"{name}: {sizes}, {disk_bytes(path) / 1e6:,.0f} MB on disk, {seconds:.0f} s"


def disk_bytes(path: Path) -> int:
    """What a file, or all files of a folder, take on the disk."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(512 * file.stat().st_blocks for file in files)
