"""The command line: ``zoomkern COMMAND``, one module of this package per command."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

import zoomkern

#: Each command is the module of that name, with ``add_arguments(parser)`` and ``run(args) -> int``.
COMMANDS = {
    "convert": "copy an image, with its coarser levels, into a format that is quick to read in patches, or OME-Zarr",
    "cross-validate": "train and test on every fold of a set, as a recipe says",
    "data": "sizes, classes and objects of an image set, and their share of the images",
    "demo": "train a small attention-sampling network, or sample your own picture, and write a figure",
    "info": "versions, backends and why each is on or off, processor features, memory limits",
    "view": "zoom into an image in the browser, with what a network looked at",
}
#: Commands that Lightning's own parser reads.
TRAINING = {
    "fit": "train a network as a recipe says",
    "validate": "figures of a trained network on the images that chose its epoch",
    "test": "figures of a trained network on the test images",
    "predict": "class probabilities of the test images, or of a folder (--images), and where the network looked",
}

#: Commands that only print, so that a broken pipe can be nothing but theirs.
PRINTING = ("data", "info")
#: What torch says where memory of the machine or of a GPU does not suffice.
_NO_MEMORY = ("can't allocate memory", "out of memory")
#: Commands whose unknown options are those of training.
PASSING = ("cross-validate",)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; only that command's module is imported.

    Args:
        argv: the words after ``zoomkern``; the process's own by default.

    Returns:
        The exit status. Where training fails for what it was given it is 2, after a line that says why; ``python -X
        dev`` shows the traceback instead.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="zoomkern", description="Patches of huge images, drawn by attention.")
    parser.add_argument("--version", action="store_true", help="print the version and end")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in (COMMANDS | TRAINING).items():
        command = commands.add_parser(name, help=summary, description=summary)
        if words[:1] == [name] and name in COMMANDS:
            module = importlib.import_module(f"zoomkern.cli.{name.replace('-', '_')}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    if words == ["--version"]:
        print(f"zoomkern {zoomkern.__version__}")
        return 0
    try:
        if words[:1] and words[0] in TRAINING:
            folder = words[0] == "predict" and any(word.split("=")[0] in ("--images", "--output") for word in words)
            if words[0] == "predict" and not folder and {"-h", "--help"} & set(words):
                print("These predict a recipe's test images. Of a folder's: zoomkern predict --images FOLDER --help.\n")
            return int(importlib.import_module(f"zoomkern.cli.{'predict_folder' if folder else 'train'}").main(words))
        args, others = parser.parse_known_args(words)
        if others and words[0] not in PASSING:
            parser.error(f"unrecognized arguments: {' '.join(others)}")
        args.others = others
        status = int(args.run(args))
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except ImportError as error:  # an optional library is missing; its sentence names the extra
        parser.exit(2, f"zoomkern {words[0]}: {error}\n")
    except (OSError, TypeError, ValueError) as error:  # what a recipe, a file or an option may cause
        if isinstance(error, BrokenPipeError) and words[0] in PRINTING:  # who read it has left, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed
            return 1
        if sys.flags.dev_mode or words[0] not in (*TRAINING, *PASSING):
            raise
        parser.exit(2, f"zoomkern {words[0]}: {_sentence(error)}\n")
    except RuntimeError as error:
        if sys.flags.dev_mode or not any(said in str(error) for said in _NO_MEMORY):
            raise
        cure = "Fewer --data.batch_size or samples, a smaller view, or images in their files (stored: true) take less"
        parser.exit(2, f"zoomkern {words[0]}: {_sentence(error).splitlines()[0]} {cure}.\n")


def _sentence(error: Exception) -> str:
    """What an error says; that of a worker process has it in the last line of its traceback, behind its class."""
    text = str(error)
    if not text.startswith("Caught "):
        return text
    last = text.rstrip().splitlines()[-1]
    return last.partition(": ")[2] or last


if __name__ == "__main__":
    sys.exit(main())
