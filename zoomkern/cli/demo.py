"""``zoomkern demo``: the library's main job on real input, and a picture of it."""

from __future__ import annotations

import argparse
import math
import os
import sys
from importlib.util import find_spec
from pathlib import Path

#: Side of the largest canvas; one is a quarter of a gigabyte.
MAX_SIZE = 16384
MAX_SAMPLES = 100
#: Sides of the two slides of gigapixels.
SLIDE_SIZES = (2048, 1_000_000)
#: What an option is that was not given, without ``--gigapixel`` and with it.
DEFAULTS = {"output": ("zoomkern-demo.png", "zoomkern-gigapixel"), "size": (2048, 100_000), "samples": (10, 48)}


class InputError(Exception):
    """The user asked for something that cannot be done; the message is one sentence that says what."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``zoomkern demo``."""
    parser.description = (
        "Train a one-stage attention-sampling classifier on megapixel canvases of handwritten digits, compare it with "
        "a dense network on the same low-resolution view, and draw where it looked; or, with --image, sample your own "
        "picture; or, with --gigapixel, train on small slides and tell apart two of 10 gigapixels, read from the disk."
    )
    parser.add_argument("--image", metavar="FILE", help="sample this picture by its local contrast instead of training")
    parser.add_argument(
        "--gigapixel",
        action="store_true",
        help="two slides of 100,000 x 100,000 pixels, of which tissue alone is stored",
    )
    parser.add_argument(
        "--output",
        metavar="PATH",
        help="picture to write (zoomkern-demo.png); with --gigapixel a folder (zoomkern-gigapixel)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=os.environ.get("ZOOMKERN_DEMO_SECONDS", "120"),
        help="time to train (%(default)s; the variable ZOOMKERN_DEMO_SECONDS sets another default)",
    )
    parser.add_argument("--size", type=int, help="side of the canvases, or of the two slides, in pixels (2048; 100000)")
    parser.add_argument("--samples", type=int, help="patches to read per image (10; of a gigapixel slide 48)")
    parser.add_argument("--seed", type=int, default=0, help="of canvases, networks and draws (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Run the demo.

    Returns:
        0; 2 where the input is bad or a library is missing; 130 where it was interrupted.
    """
    for name, (usual, of_gigapixels) in DEFAULTS.items():
        if getattr(args, name) is None:
            setattr(args, name, of_gigapixels if args.gigapixel else usual)
    picture = Path(args.output)
    try:
        _check(args)
        if args.gigapixel:
            from zoomkern.cli.demo_gigapixel import train_and_read

            picture = train_and_read(args.seconds, args.size, args.samples, args.seed, picture)
        elif args.image is None:
            from zoomkern.cli.demo_digits import train_and_draw

            train_and_draw(args.seconds, args.size, args.samples, args.seed, picture)
        else:
            from zoomkern.cli.demo_picture import draw_picture

            draw_picture(Path(args.image), args.samples, args.seed, picture)
    except (InputError, ImportError) as error:
        print(f"zoomkern demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("zoomkern demo: interrupted; no picture was written.", file=sys.stderr)
        return 130
    print(f"Picture: {picture}")
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot work before any time is spent."""
    needed = {"matplotlib": "matplotlib"}
    if args.gigapixel:
        needed |= {"skimage": "scikit-image", "tqdm": "tqdm"}
    else:
        needed |= {"PIL": "Pillow"} if args.image is not None else {"sklearn": "scikit-learn", "tqdm": "tqdm"}
    missing = [name for module, name in needed.items() if find_spec(module) is None]
    if missing:
        raise InputError(f"{' and '.join(missing)} missing; install with: pip install 'zoomkern[demo]'")
    if not 1 <= args.samples <= MAX_SAMPLES:
        raise InputError(f"--samples must lie between 1 and {MAX_SAMPLES}; got {args.samples}.")
    if not 0 <= args.seed < 2**63:
        raise InputError(f"--seed must lie between 0 and 2**63 - 1; got {args.seed}.")
    if args.gigapixel:
        _check_slides(args)
        return
    if args.image is not None:
        _check_picture(args.image)
    else:
        _check_training(args.seconds, args.size)
    _check_output(Path(args.output))
    if args.image is not None and Path(args.output).exists() and Path(args.output).samefile(args.image):
        raise InputError(f"--output must not be the picture itself; got {args.output!r} for both.")


def _check_picture(name: str) -> None:
    path = Path(name)
    if path.is_dir():
        raise InputError(f"--image must be a picture; {name!r} is a directory.")
    if not path.exists():
        raise InputError(f"--image: there is no file {name!r}.")


def _check_slides(args: argparse.Namespace) -> None:
    if args.image is not None:
        raise InputError("--gigapixel makes its own slides; leave --image out.")
    _check_seconds(args.seconds)
    least, most = SLIDE_SIZES
    if not least <= args.size <= most:
        raise InputError(f"--size must lie between {least} and {most} with --gigapixel; got {args.size}.")
    folder = Path(args.output)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output must be a folder with --gigapixel; {args.output!r} is a file.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output: cannot write {args.output!r}: {error.strerror}.") from error
    _check_output(folder / "positive.png")


def _check_seconds(seconds: float) -> None:
    if not (math.isfinite(seconds) and seconds > 0):
        raise InputError(f"--seconds must be a positive number; got {seconds:g}.")


def _check_training(seconds: float, size: int) -> None:
    from zoomkern.data.digits import CELL, MIN_SIZE

    _check_seconds(seconds)
    if not MIN_SIZE <= size <= MAX_SIZE or size % CELL:
        raise InputError(f"--size must be a multiple of {CELL} between {MIN_SIZE} and {MAX_SIZE}; got {size}.")


def _check_output(path: Path) -> None:
    """Try the folder out with a file that is gone at once."""
    if path.is_dir() or not path.name:
        raise InputError(f"--output must be a file; {str(path)!r} is a directory.")
    probe = path.with_name(f".{path.name}.{os.getpid()}.probe")
    try:
        probe.open("xb").close()
        probe.unlink()
    except OSError as error:
        raise InputError(f"--output: cannot write {str(path)!r}: {error.strerror}.") from error
