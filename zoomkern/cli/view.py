"""``zoomkern view``: an image in the browser, zoomed like a map, with what a network looked at."""

from __future__ import annotations

import argparse
import signal
import sys
import webbrowser
from pathlib import Path
from types import FrameType


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``zoomkern view``."""
    parser.add_argument("image", type=Path, metavar="IMAGE", help="any image that zoomkern.open_image reads")
    parser.add_argument(
        "--run", type=Path, dest="looks", metavar="DIR", help="output folder of zoomkern predict, to show its looks"
    )
    parser.add_argument("--mpp", type=float, help="microns per pixel, where the file does not tell")
    parser.add_argument("--port", type=int, default=0, help="of 127.0.0.1 (default: any that is free)")
    parser.add_argument("--no-browser", action="store_true", help="print the address only")


def run(args: argparse.Namespace) -> int:
    """Serves the page until Ctrl-C or SIGTERM.

    Returns:
        0, or 2 where the input is bad or a library is missing.
    """
    from zoomkern import open_image
    from zoomkern.viewer import Picture, ViewServer, find_look

    try:
        if not 0 <= args.port < 1 << 16:
            raise ValueError(f"--port must be between 0 and 65535; got {args.port}.")
        reader = open_image(args.image, mpp=args.mpp)
        look = None if args.looks is None else find_look(args.looks, args.image, reader.dimensions)
        server = ViewServer(Picture(reader), look, args.port)
    except (ImportError, OSError, ValueError) as error:
        print(f"zoomkern view: {error}", file=sys.stderr)
        return 2
    with server:
        try:
            signal.signal(signal.SIGTERM, _stop)
            print(f"{args.image}: {server.url}\nCtrl-C ends it.", flush=True)
            if not args.no_browser:
                webbrowser.open(server.url)
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
