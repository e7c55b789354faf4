"""The command line: ``zoomkern COMMAND``, one module of this package per command."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

#: Each command is the module of that name, with ``add_arguments(parser)`` and ``run(args) -> int``.
COMMANDS = {
    "demo": "train a small attention-sampling network, or sample your own picture, and write a figure",
    "info": "versions, backends and why each is on or off, processor features, memory limits",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; only that command's module is imported.

    Args:
        argv: the words after ``zoomkern``; the process's own by default.

    Returns:
        The exit status.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="zoomkern", description="Patches of huge images, drawn by attention.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if words[:1] == [name]:
            module = importlib.import_module(f"zoomkern.cli.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    args = parser.parse_args(words)
    try:
        return args.run(args)
    except ImportError as error:  # an optional library is missing; its sentence names the extra
        parser.exit(2, f"zoomkern {args.command}: {error}\n")


if __name__ == "__main__":
    sys.exit(main())
