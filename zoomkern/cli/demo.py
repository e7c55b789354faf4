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


class InputError(Exception):
    """The user asked for something that cannot be done; the message is one sentence that says what."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``zoomkern demo``."""
    parser.description = (
        "Train a one-stage attention-sampling classifier on megapixel canvases of handwritten digits, compare it with "
        "a dense network on the same low-resolution view, and draw where it looked; or, with --image, sample your own "
        "picture."
    )
    parser.add_argument("--image", metavar="FILE", help="sample this picture by its local contrast instead of training")
    parser.add_argument("--output", metavar="PNG", default="zoomkern-demo.png", help="picture to write (%(default)s)")
    parser.add_argument("--seconds", type=float, default=120.0, help="time to train (%(default)s)")
    parser.add_argument("--size", type=int, default=2048, help="side of the canvases in pixels (%(default)s)")
    parser.add_argument("--samples", type=int, default=10, help="patches to read per image (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of canvases, networks and draws (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Run the demo.

    Returns:
        0; 2 where the input is bad or a library is missing; 130 where it was interrupted.
    """
    try:
        _check(args)
        if args.image is None:
            from zoomkern.cli.demo_digits import train_and_draw

            train_and_draw(args.seconds, args.size, args.samples, args.seed, Path(args.output))
        else:
            from zoomkern.cli.demo_picture import draw_picture

            draw_picture(Path(args.image), args.samples, args.seed, Path(args.output))
    except (InputError, ImportError) as error:
        print(f"zoomkern demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("zoomkern demo: interrupted; no picture was written.", file=sys.stderr)
        return 130
    print(f"Picture: {args.output}")
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot work before any time is spent."""
    needed = {"matplotlib": "matplotlib"}
    needed |= {"PIL": "Pillow"} if args.image is not None else {"sklearn": "scikit-learn", "tqdm": "tqdm"}
    missing = [name for module, name in needed.items() if find_spec(module) is None]
    if missing:
        raise InputError(f"{' and '.join(missing)} missing; install with: pip install 'zoomkern[demo]'")
    if not 1 <= args.samples <= MAX_SAMPLES:
        raise InputError(f"--samples must lie between 1 and {MAX_SAMPLES}; got {args.samples}.")
    if not 0 <= args.seed < 2**63:
        raise InputError(f"--seed must lie between 0 and 2**63 - 1; got {args.seed}.")
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


def _check_training(seconds: float, size: int) -> None:
    from zoomkern.data.digits import CELL, MIN_SIZE

    if not (math.isfinite(seconds) and seconds > 0):
        raise InputError(f"--seconds must be a positive number; got {seconds:g}.")
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
